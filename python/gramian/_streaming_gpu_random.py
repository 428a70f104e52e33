"""RandomOrderTopEigenvector on a GPU: heavy rows, the iteration and a sketch lie there.

`partial_fit` queues two things: the rows into a Frequent Directions sketch of eight rows
(_streaming_gpu_sketch.py), and one launch for each piece of them that keeps the heavy ones and lets
the others drive the power iteration, in the blocks of the CPU. How many are heavy is known on the
device alone. A reading brings everything to the host, where the CPU's state and proof take over.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays, _backend, _streaming_gpu, _streaming_gpu_sketch
from ._options import seed_of

if TYPE_CHECKING:
    from ._random_order import RandomOrderTopEigenvector
    from ._streaming_base import State

_SCALED_FIGURES = [0, 5, 6, 7]  # in "stream"; the others are counts
_ARRAYS = _streaming_gpu.HEAVY_ARRAYS


def fit(estimator: RandomOrderTopEigenvector, x: Any, sample_weight: Any, size: int) -> State:
    """The state after a batch, where the batch lies; raises before anything is changed."""
    sketch = _streaming_gpu_sketch
    if sketch.goes_to_cpu(estimator._state, x):
        moved: State = sketch.on_cpu(estimator, host_state).partial_fit(x, sample_weight)._state
        return moved
    batch, weights = sketch.checked_call(estimator, x, sample_weight)
    state = estimator._state
    if state is None:
        began = estimator._initial(seed_of(estimator.rng))
        fresh = sketch.empty(batch, size) | {name: began[name] for name in _ARRAYS}
        state = _streaming_gpu.placed(fresh, batch)
    elif not _streaming_gpu.is_here(state):
        state = _streaming_gpu.moved(_from_cpu(state, size), batch)
    elif state["device"] is None:
        state = _streaming_gpu.moved(state, batch)
    _take(state, batch, weights, operator.index(estimator.max_heavy_rows))
    sketch._append(state, batch, weights, size, 1.0, False)
    return state


def _take(state: State, batch: _arrays.Array, weights: Any, most: int) -> None:
    """Queues rows."""
    library = batch.library
    _backend.for_device(batch.device).heavy_update(
        features=batch.shape[1],
        most=most,
        heavy=library.capsule(state["heavy"], "float64"),
        heavy_squares=library.capsule(state["heavy_squares"], "float64"),
        vectors=library.capsule(state["vectors"], "float64"),
        figures=library.capsule(state["stream"], "float64"),
        rows=batch.capsule(),
        dtype=batch.dtype,
        weights=None if weights is None else library.capsule(weights, "float64"),
        device=batch.device[1],
        stream=batch.stream(),
        allocate=batch.scratch,
    )


def _from_cpu(state: State, size: int) -> State:
    """Out of the CPU's units."""
    unit = state["exponent"]
    vectors, stream = state["vectors"].copy(), state["stream"].copy()
    with np.errstate(over="ignore"):
        # The sums are of a^T a z, and z is a unit vector whatever the units.
        vectors[1:] = np.ldexp(vectors[1:], 2 * unit)
        stream[_SCALED_FIGURES] = np.ldexp(stream[_SCALED_FIGURES], 2 * unit)
        heavy = np.ldexp(state["heavy"], unit)
        squares = np.ldexp(state["heavy_squares"], 2 * unit)
    own = {"heavy": heavy, "heavy_squares": squares, "vectors": vectors, "stream": stream}
    return _streaming_gpu_sketch.from_cpu(state, size, 1.0) | own


def host_state(estimator: RandomOrderTopEigenvector) -> State | None:
    """The state as the CPU has it; None where rows were no numbers. Waits for the device."""
    assert estimator._state is not None
    state = _streaming_gpu.on_host(estimator._state)
    own = {name: state[name] for name in _ARRAYS}
    sketch = _streaming_gpu_sketch.host_state(estimator)
    if sketch is None or not all(np.isfinite(value).all() for value in own.values()):
        return None
    return sketch | own


def nbytes_bound(features: int, size: int, most: int, batch: int) -> int:
    """Device memory of the state and of a call."""
    state = (max(most, 1) + 3) * features + max(most, 1) + 8
    piece = 5 * (min(batch, 4096) + most + 1)
    sketch = _streaming_gpu_sketch.nbytes_bound(features, size, batch)
    return sketch + 8 * (2 * state + piece + 256)
