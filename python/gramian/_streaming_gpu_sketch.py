"""Frequent Directions on a GPU: the rows held lie there, as columns; only reading waits.

`partial_fit` queues the rows and, by counting them, whole shrinkings; what those cost is added up
on the device. Proof and limits: docs/streaming_frequent_directions.md#on-a-gpu. A reading brings
the state to the host and puts it into the form that the CPU's sketch has, which then proves what it
proves of its own; so does a stream that goes on on the CPU.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays, _backend, _streaming_gpu, _streaming_gpu_center
from ._frequent_directions_state import (
    DELTA as CPU_DELTA,
)
from ._frequent_directions_state import (
    EXPONENT,
    FILLED,
    SQUARES,
    SQUARES_LOW,
    open_sketch,
    power,
    rounded_up,
)
from ._rsvd_rows import entries, is_sparse
from ._streaming_batch import compute_name
from ._streaming_gpu_batch import checked, copy, must_match, weights_of

if TYPE_CHECKING:
    from ._frequent_directions import FrequentDirections
    from ._streaming_base import State

# SketchLayout in cuda/include/gramian/cuda/streaming.hpp.
_MOST_HELD, _MOST_SIZE = 144, 128
DELTA, ROUNDING, LOST, ROWS, DROPPED = range(5)

_WEIGHT = 8  # in the CPU's figures, the first of four of the mean

_U = 2.0**-53
_CPU = ("cpu", 0)  # where a state of the CPU's is, which does not say so
_LEAST_FACTOR = 2.0**-1000


def held_rows(size: int) -> int:
    """Rows held at most; with so many they are shrunk to `size`."""
    return min(2 * size, _MOST_HELD)


def check(estimator: FrequentDirections) -> None:
    """Raises for parameters that a GPU does not take."""
    if operator.index(estimator.sketch_size) > _MOST_SIZE:
        raise ValueError(
            f"sketch_size is {estimator.sketch_size}; on a GPU it is {_MOST_SIZE} at most"
        )


def fit(estimator: FrequentDirections, x: Any, sample_weight: Any) -> State:
    """The state after a batch, where the batch lies."""
    if goes_to_cpu(estimator._state, x):
        moved: State = on_cpu(estimator, host_state).partial_fit(x, sample_weight)._state
        return moved
    return partial_fit(estimator, x, sample_weight)


def goes_to_cpu(state: State | None, x: Any) -> bool:
    """Whether rows on the CPU follow a state that lies nowhere yet."""
    loaded = state is not None and _streaming_gpu.is_here(state) and state["device"] is None
    return loaded and not _streaming_gpu.takes(None, x)


def on_cpu(estimator: Any, read: Callable[[Any], State | None]) -> Any:
    """A copy that goes on with rows on the CPU; `read` gives its state there."""
    new = type(estimator)(**estimator.get_params())
    if estimator._state is not None:
        new._state = read(estimator)
        if new._state is None:
            raise ValueError("rows seen on a GPU contained NaN or infinity")
    return new


def partial_fit(estimator: FrequentDirections, x: Any, sample_weight: Any) -> State:
    """The state after a batch; raises before anything is changed."""
    check(estimator)
    size, decay = operator.index(estimator.sketch_size), float(estimator.decay)
    batch, weights = checked_call(estimator, x, sample_weight)
    state = estimator._state
    if state is None:
        fresh = empty(batch, size)
        if estimator.center:
            fresh |= _streaming_gpu_center.empty(batch.shape[1])
        state = _streaming_gpu.placed(fresh, batch)
    elif not _streaming_gpu.is_here(state):
        state = _streaming_gpu.moved(from_cpu(state, size, decay), batch)
    elif state["device"] is None:
        state = _streaming_gpu.moved(state, batch)
    if estimator.center:
        with batch.library.current(batch.device):
            _append_centred(state, batch, weights, size, decay)
    else:
        _append(state, batch, weights, size, decay, decay != 1)
    return state


def _append_centred(
    state: State, batch: _arrays.Array, weights: Any, size: int, decay: float
) -> None:
    for rows, own, count in _streaming_gpu_center.chunks(state, batch, weights, decay):
        # The first row of all has no weight beside the mean, but is one.
        seen = state["totals"][ROWS : ROWS + 1] + count
        _append(state, rows, own, size, decay, decay != 1)
        state["totals"][ROWS : ROWS + 1] = seen


def checked_call(estimator: Any, x: Any, sample_weight: Any) -> tuple[_arrays.Array, Any]:
    """Rows and weights; raises where they cannot follow the estimator's state."""
    if is_sparse(x):
        raise TypeError("X is a sparse matrix; a stream that began on a GPU takes dense arrays")
    batch = checked(x, operator.index(estimator.n_features))
    if estimator._state is not None:
        must_match(batch, {"device": None} | estimator._state)
    weights = weights_of(batch, sample_weight)
    if batch.device[0] == "cpu" and not np.isfinite(entries(batch)).all():
        raise ValueError("X contains NaN or infinity")
    return batch, weights


def empty(batch: _arrays.Array, size: int) -> State:
    """The state of a sketch before any rows, by NumPy."""
    held = held_rows(size)
    return {
        "dtype": batch.dtype,
        "library": batch.library.name,
        "device": batch.device,
        "position": (0,),  # rows held
        "held": np.zeros((batch.shape[1], held)),
        "factors": np.ones(held),
        "totals": np.zeros(5),
        "stages": [],
    }


def _append(
    state: State, batch: _arrays.Array, weights: Any, size: int, decay: float, decayed: bool
) -> None:
    """Queues rows; `decay` is that of these rows, `decayed` says whether any rows have one."""
    library = batch.library
    arrays = {name: library.capsule(state[name], "float64") for name in ("held", "factors")}
    filled = _backend.for_device(batch.device).sketch_update(
        features=batch.shape[1],
        size=size,
        decay=decay,
        decayed=decayed,
        **arrays,
        totals=library.capsule(state["totals"], "float64"),
        filled=state["position"][0],
        rows=batch.capsule(),
        dtype=batch.dtype,
        weights=None if weights is None else library.capsule(weights, "float64"),
        device=batch.device[1],
        stream=batch.stream(),
        allocate=batch.scratch,
    )
    state["position"] = (filled,)


def merged(estimator: FrequentDirections, other: FrequentDirections) -> State | None:
    """The state of this one's rows followed by the other's; neither is changed."""
    mine, theirs = estimator._state, other._state
    given = [state for state in (mine, theirs) if state is not None]
    if all(_streaming_gpu.is_here(s) and s["device"] is None for s in given):
        both: State | None
        both = on_cpu(estimator, host_state).merge(on_cpu(other, host_state))._state
        return both
    if theirs is not None:
        return _merge(estimator, mine, theirs)
    assert mine is not None
    library = _streaming_gpu.library_of(mine)
    with library.current(mine["device"]):
        return _copied(mine, library)


def _copied(state: State, library: _arrays.Library) -> State:
    return state | {name: copy(library, state[name]) for name in _streaming_gpu._names(state)}


def _merge(estimator: FrequentDirections, mine: State | None, theirs: State) -> State:
    check(estimator)
    if mine is None:
        mine = {name: theirs[name] for name in ("dtype", "library", "device")}
        mine["position"] = None
    for name in ("dtype", "library"):
        if mine[name] != theirs[name]:
            raise TypeError(
                f"other is of rows of {theirs['library']} and {theirs['dtype']}; here they are of "
                f"{mine['library']} and {mine['dtype']}"
            )
    if mine.get("device", _CPU) != theirs.get("device", _CPU):
        raise ValueError(
            f"other lies on {_place(theirs)}; this one lies on {_place(mine)}. state_dict() and "
            "load_state_dict() move an estimator"
        )
    library, device = _streaming_gpu.library_of(theirs), theirs["device"]
    filled = theirs["position"][0]
    with library.current(device):
        held = theirs["held"].T[:filled]
        rows = _arrays.Array(held, library, (filled, held.shape[1]), "float64", device)
        if mine["position"] is None:
            fresh = empty(rows, int(estimator.sketch_size)) | {"dtype": mine["dtype"]}
            if estimator.center:
                fresh |= _streaming_gpu_center.empty(rows.shape[1])
            mine = _streaming_gpu.placed(fresh, rows)
        else:
            mine = _copied(mine, library)
        decay = float(estimator.decay)
        totals, other = mine["totals"], theirs["totals"]
        past = 1.0
        if decay != 1:
            past = decay ** other[ROWS : ROWS + 1]
            mine["factors"] *= past**0.5
            past = rows.module.where(past > _LEAST_FACTOR, past, _LEAST_FACTOR + 0 * past)
            totals[:ROWS] *= past * (1 + 1e-14)
        seen = totals[ROWS:] + other[ROWS:]
        if estimator.center:
            gap, between, center = _streaming_gpu_center.joined(rows.module, mine, theirs, past)
            apart = _arrays.Array(gap, library, (1, gap.shape[1]), "float64", device)
            _append(mine, apart, between, int(estimator.sketch_size), 1.0, decay != 1)
            mine |= center
        weights = theirs["factors"][:filled] ** 2
        _append(mine, rows, weights, int(estimator.sketch_size), 1.0, decay != 1)
        totals[:ROWS] += other[:ROWS]
        totals[:ROWS] *= 1 + 1e-14
        totals[ROWS] = seen[0]
        totals[DROPPED] += other[DROPPED]
    return mine


def _place(state: State) -> str:
    device = state.get("device", _CPU)
    return "no device yet" if device is None else f"{device[0]}:{device[1]}"


def from_cpu(given: State, size: int, decay: float) -> State:
    """A state of the CPU's as it goes on on a GPU; lies nowhere yet."""
    state: State = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in given.items()}
    sketch, figures = open_sketch(state), state["figures"]
    sketch.settle(decay)
    most = held_rows(size)
    if figures[FILLED] >= most:
        sketch.shrink(decay)
    unit: int = int(figures[EXPONENT]) + state["exponent"]
    filled = int(figures[FILLED])
    held = np.zeros((state["rows"].shape[1], most))
    with np.errstate(over="ignore"):
        held[:, :filled] = np.ldexp(state["rows"][:filled], unit).T
        energy = float(np.einsum("ij,ij->", held, held))
    # Rows have been rounded on the CPU as often as may be until they are shrunk.
    rounding = rounded_up(figures[CPU_DELTA + 1], 2 * unit) + 33 * _U * energy
    squares = power(float(figures[SQUARES] + figures[SQUARES_LOW]), 2 * unit)
    totals = [
        rounded_up(figures[CPU_DELTA], 2 * unit),
        rounding * (1 + 1e-14),
        max(squares - energy, 0.0),
        float(state["n_samples"]),
        0.0,
    ]
    moved: State = {
        "dtype": state["dtype"],
        "library": state["library"],
        "device": None,
        "position": (filled,),
        "held": held,
        "factors": np.ones(most),
        "totals": np.array(totals),
        "stages": [],
    }
    if "mean" in state:
        weight, low, error, offsets = figures[_WEIGHT : _WEIGHT + 4]
        bounds = rounded_up(error, unit), rounded_up(offsets, 2 * unit)
        with np.errstate(over="ignore"):
            moved["mean"] = np.ldexp(state["mean"], unit)
        moved |= {"center": np.array([weight + low, *bounds]), "chunks": 1}
    return moved


def host_state(estimator: Any) -> State | None:
    """The state as the CPU has it; None where rows were no numbers. Waits for the device."""
    assert estimator._state is not None
    initial: State = estimator._initial(0)
    decay = float(getattr(estimator, "decay", 1.0))
    state = _streaming_gpu.on_host(estimator._state)
    filled = state["position"][0]
    with np.errstate(invalid="ignore", over="ignore"):
        rows = (state["held"][:, :filled] * state["factors"][:filled]).T
        energy = float(np.einsum("ij,ij->", rows, rows))
    totals = state["totals"]
    if not (np.isfinite(energy) and np.isfinite(totals).all()):
        return None
    rows = rows[rows.any(axis=1)]
    count = int(totals[ROWS])
    initial["rows"][: len(rows)] = rows
    initial["stamps"][: len(rows)] = count
    # Decays since the last shrinking; all else the CPU's proof counts.
    rounding = 0.0 if decay == 1 else 13 * state["held"].shape[1] * _U * 1.0001 * energy
    rounding = (totals[ROUNDING] + rounding + 1e-290) * (1 + 1e-14)
    # As in cpp/include/gramian/frequent_directions.hpp.
    squares = totals[LOST] + energy
    figures = [count, count, len(rows), 0, totals[DELTA], rounding, squares]
    if "mean" in state:
        if not (np.isfinite(state["mean"]).all() and np.isfinite(state["center"]).all()):
            return None
        # Weights that sum up to something else are other weights.
        off = _streaming_gpu_center.weight_error(state["chunks"] + 1)
        figures[-2] += 1.01 * off * squares
        initial["mean"][:] = state["mean"]
        weight, error, offsets = state["center"]
        figures += [0.0, weight, 0.0, error, offsets]
    initial["figures"][: len(figures)] = figures
    return initial | {
        "dtype": state["dtype"],
        "library": state["library"],
        "n_samples": count,
        "exponent": 0,
        "any": energy > 0 or ("mean" in state and bool(state["mean"].any())),
        "pending": np.zeros((1, state["held"].shape[0]), compute_name(state["dtype"])),
        "pending_weights": np.ones(1),
        "n_pending": 0,
    }


def nbytes_bound(features: int, size: int, batch: int, center: bool = False) -> int:
    """Device memory of the state, of a call and of a merge."""
    held = held_rows(size)
    state = features * held + held + 5
    tiles = (-(-held // 64)) ** 2
    parts = 4096 * min(-(-max(features, held) // 64) * tiles, 2 * 160 + tiles)
    shrink = 7 * held**2 + held * size + features * size + 2 * held + parts
    chunk = 12 * 256 * (features + 4) if center else 0
    return 8 * (2 * state + shrink + chunk) + 40 * batch + 2**16
