"""Streams of rows on a GPU: state on the device, large blocks; only reading a result waits.

`partial_fit` of an estimator comes here with arrays on a GPU. The kernels take rows in blocks that
are an eighth of the stream so far; what a block has gathered is part of the state, so that no rows
are kept. `docs/streaming.md#on-a-gpu` has the mathematics, `_streaming_gpu_proof.py` the
certificate. A state that has come to the host by `state_dict` goes on there by
`_streaming_gpu_host.py`, with arrays of either.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays, _backend, _streaming_gpu_general, _streaming_gpu_host
from ._arrays_numpy import numpy_dtype
from ._options import seed_of
from ._rsvd_rows import entries, is_sparse
from ._streaming_gpu_batch import cast, checked, copy, decayed, must_match, weights_of

if TYPE_CHECKING:
    from ._streaming_base import State, StreamingEstimator

_ARRAYS = ("vectors", "gathered", "figures", "totals")
_SKETCH_ARRAYS = ("held", "factors", "totals")  # of Frequent Directions
HEAVY_ARRAYS = ("heavy", "heavy_squares", "vectors", "stream")  # of rows in random order
_ROWS = 3  # in "totals"

# Stages end after 512 rows, 8 times as many, and so on: some fixed vectors give way to what the
# steps have found, and all their products begin anew. So the proof has, of all but a small part of
# the rows, products with vectors near the top.
_FIRST_STAGE, _STAGE_GROWTH = 512, 8
_ANCHORS = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """What an estimator asks of the kernels: cuda/include/gramian/cuda/streaming.hpp."""

    step: str  # "grid", "rate", "adaoja" or "history"
    live: int
    decay: float
    figures: Any  # NumPy's, to start from
    general: bool = False  # whether steps are those of _streaming_gpu_general.py
    center: bool = False

    @property
    def columns(self) -> int:
        return -(-(self.live + 8) // 16) * 16


def oja_layout(rate: float | None) -> Layout:
    """Of Oja's method with one rate, or with the grid of them."""
    host = _streaming_gpu_host
    figures = np.zeros((host.RATES, host.FIGURES))
    figures[:, [host.NORM, host.START]] = 1
    if rate is not None:
        figures[0, host.RATE] = rate
    return Layout("grid" if rate is None else "rate", host.RATES, 1.0, figures)


def block_layout(k: int, step: str, decay: float, center: bool) -> Layout:
    """Of k vectors; raises for what a GPU does not take."""
    if step == "history" and k > _streaming_gpu_general.MOST_HISTORY:
        raise NotImplementedError(
            f"n_components is {k}; on a GPU step='history' takes at most "
            f"{_streaming_gpu_general.MOST_HISTORY} so far"
        )
    general = center or step == "history" or k > _streaming_gpu_general.MOST_KERNEL
    return Layout(step, k, decay, np.zeros((2, k)), general, center)


@dataclass(frozen=True, slots=True)
class Reading:
    """A state at the end of its block, on the host."""

    vectors: Any
    gathered: Any
    figures: Any
    totals: Any
    roundings: float  # that an entry of "gathered" has passed through, at most
    reads: int
    stages: list[tuple[Any, Any]]  # fixed vectors and their products, of stages that have ended
    sums: Any = None  # of the rows and weights where they are centred


def is_here(state: State | None) -> bool:
    """Whether a state is one of this file's."""
    return state is not None and "position" in state


def takes(state: State | None, x: Any) -> bool:
    """Whether rows go on here: those on a GPU, and all that follow a state of this file's."""
    if is_here(state):
        return True
    if isinstance(x, np.ndarray) or is_sparse(x):
        return False
    device = _arrays.array(x, "X").device
    if device[0] == "cpu":
        return False
    # What a sketch of the CPU's knows can go to a GPU; steps in other blocks cannot go on there.
    if state is not None and "rows" not in state:
        raise ValueError(
            f"X lies on {device[0]}:{device[1]}; the rows before lay on the CPU. A stream begins "
            "where it goes on"
        )
    return True


def partial_fit(estimator: StreamingEstimator, x: Any, sample_weight: Any) -> State:
    """The state after a batch; raises before anything is changed."""
    layout = estimator._on_gpu()
    if is_sparse(x):
        raise TypeError("X is a sparse matrix; a stream that began on a GPU takes dense arrays")
    batch = checked(x, operator.index(estimator.n_features))
    state = estimator._state
    if state is not None:
        must_match(batch, state)
    weights = weights_of(batch, sample_weight)
    if batch.device[0] == "cpu" and not np.isfinite(entries(batch)).all():
        raise ValueError("X contains NaN or infinity")
    if state is None:
        state = _fresh(layout, batch, seed_of(estimator.rng))
    elif state["device"] is None:
        state = moved(state, batch)
    first = 0
    while first < batch.shape[0]:
        rows, held = state["position"][:2]
        if layout.decay == 1:
            until = _stage_end(state) - rows
        else:
            until = _streaming_gpu_host.stream_block(rows, batch.shape[1])
        count = min(batch.shape[0] - first, until - held)
        part = _arrays.Array(batch.value[first : first + count], batch.library,
                             (count, batch.shape[1]), batch.dtype, batch.device)  # fmt: skip
        own = None if weights is None else weights[first : first + count]
        if layout.decay != 1:
            own = decayed(part, own, layout.decay)
        _update(layout, state, part, own)
        if layout.decay == 1 and state["position"][0] == _stage_end(state):
            _end_stage(layout, state, batch)
        first += count
    return state


def _stage_end(state: State) -> int:
    return int(_FIRST_STAGE * _STAGE_GROWTH ** len(state["stages"]))


def _end_stage(layout: Layout, state: State, batch: _arrays.Array) -> None:
    """Keeps the products of the fixed vectors, and puts the steps' vectors in some's place."""
    live = layout.live
    with batch.library.current(batch.device):
        vectors, gathered = state["vectors"], state["gathered"]
        copies = [copy(batch.library, x[live:]) for x in (vectors, gathered)]
        if layout.general:
            copies[1] = _streaming_gpu_general.end_stage(layout, state, batch.module, *copies)
        state["stages"] = [*state["stages"], tuple(copies)]
        step = 2 if layout.step == "grid" else 1  # rates side by side are alike
        found = vectors[:live][1 if step == 2 else 0 :: step][:_ANCHORS]
        vectors[live : live + len(found)] = found / _lengths(batch.module, found)
        gathered[live:] = 0


def _lengths(module: Any, vectors: Any) -> Any:
    """Norms, in a column."""
    return module.sqrt(_streaming_gpu_general.row_sums(module, vectors * vectors))


# ---- State --------------------------------------------------------------------------------------


def _fresh(layout: Layout, batch: _arrays.Array, seed: int) -> State:
    d = batch.shape[1]
    random = np.random.default_rng(seed)
    vectors = np.zeros((layout.columns, d))
    if layout.step in ("adaoja", "history"):
        start = random.standard_normal((layout.live, d))
        vectors[: layout.live] = np.linalg.qr(start.T)[0].T
    else:
        one = random.standard_normal(d)
        vectors[: layout.live] = one / np.linalg.norm(one)
    fixed = min(layout.columns - layout.live, d)
    basis = np.linalg.qr(random.standard_normal((d, fixed)))[0]
    vectors[layout.live : layout.live + fixed] = basis.T
    state: State = {
        "dtype": batch.dtype,
        "library": batch.library.name,
        "device": batch.device,
        "position": (0, 0, 0, 0, 0),
        "vectors": vectors,
        "gathered": np.zeros_like(vectors),
        "figures": layout.figures,
        "totals": np.zeros(5),
        "stages": [],
    }
    if layout.general:
        state["sums"] = np.zeros((3, d + 1))
    return placed(state, batch)


def _names(state: State) -> tuple[str, ...]:
    if "held" not in state:
        return _ARRAYS + (("sums",) if "sums" in state else ())
    if "heavy" in state:
        return _SKETCH_ARRAYS + HEAVY_ARRAYS
    return _SKETCH_ARRAYS + (("mean", "center") if "mean" in state else ())


def placed(state: State, batch: _arrays.Array) -> State:
    """The state's arrays in the batch's library, on its device."""

    def up(value: Any) -> Any:
        return batch.library.from_host(np.array(value, np.float64, order="C"), batch.device)

    arrays = {name: up(state[name]) for name in _names(state)}
    stages = [(up(z), up(w)) for z, w in state["stages"]]
    return state | arrays | {"stages": stages}


def moved(state: State, batch: _arrays.Array) -> State:
    """A state of the host's where the next rows lie."""
    return placed(state | {"device": batch.device, "library": batch.library.name}, batch)


def on_host(state: State) -> State:
    """A copy that is nowhere yet: NumPy's arrays. Waits for the device."""
    down = _down(state)
    arrays = {name: down(state[name]) for name in _names(state)}
    stages = [(down(z), down(w)) for z, w in state["stages"]]
    name = "numpy" if state["library"] == "cupy" else state["library"]
    return state | arrays | {"stages": stages, "device": None, "library": name}


def _down(state: State) -> Callable[[Any], Any]:
    """NumPy's copies of the state's arrays."""
    if state["device"] is None:
        return np.array
    library = library_of(state)
    return lambda x: np.array(library.to_host(x))


def library_of(state: State) -> _arrays.Library:
    return next(k for k in _arrays.LIBRARIES if k.name == state["library"])


# ---- Kernels ------------------------------------------------------------------------------------


def _kernels(device: _arrays.Device) -> Any:
    return _streaming_gpu_host if device[0] == "cpu" else _backend.for_device(device)


def _capsules(state: State, library: _arrays.Library) -> dict[str, object]:
    return {name: library.capsule(state[name], "float64") for name in _ARRAYS}


def _options(layout: Layout, features: int) -> dict[str, Any]:
    return {
        "step": layout.step,
        "features": features,
        "live": layout.live,
        "decay": float(layout.decay),
    }


def _update(layout: Layout, state: State, batch: _arrays.Array, weights: Any) -> None:
    if layout.general:
        _streaming_gpu_general.update(layout, state, batch, weights)
        return
    options = _options(layout, batch.shape[1])
    if batch.device[0] == "cpu":
        arrays = {name: batch.library.to_numpy(state[name]) for name in _ARRAYS}
        own = None if weights is None else batch.library.to_numpy(weights)
        state["position"] = _streaming_gpu_host.stream_update(
            **options, **arrays, position=state["position"], rows=entries(batch), weights=own
        )
        return
    library = batch.library
    state["position"] = tuple(
        _kernels(batch.device).stream_update(
            **options,
            **_capsules(state, library),
            position=state["position"],
            rows=batch.capsule(),
            dtype=batch.dtype,
            weights=None if weights is None else library.capsule(weights, "float64"),
            device=batch.device[1],
            stream=batch.stream(),
            allocate=batch.scratch,
        )
    )


def reading(layout: Layout, state: State, features: int) -> Reading:
    """The state as it is once its block has ended; waits for the device."""
    if layout.general:
        return _general_reading(layout, state)
    options = _options(layout, features)
    if state["device"] is None or state["device"][0] == "cpu":
        host = {name: _down(state)(state[name]) for name in _ARRAYS}
        position = _streaming_gpu_host.stream_finish(**options, **host, position=state["position"])
    else:
        library, device = library_of(state), state["device"]
        with library.current(device):
            copies = {name: copy(library, state[name]) for name in _ARRAYS}
        like = _arrays.Array(copies["totals"], library, (5,), "float64", device)
        position = _kernels(device).stream_finish(
            **options,
            **_capsules(copies, library),
            position=state["position"],
            device=device[1],
            stream=like.stream(),
            allocate=like.scratch,
        )
        host = {name: library.to_host(value) for name, value in copies.items()}
    reads, depth = position[3:]
    # Each read adds what it found, and multiplies by the decay.
    roundings = float(depth + 10 * reads)
    down = _down(state)
    stages = [(down(z), down(w)) for z, w in state["stages"]]
    return Reading(**host, roundings=roundings, reads=reads, stages=stages)


def _general_reading(layout: Layout, state: State) -> Reading:
    host = on_host(state)
    arrays = _streaming_gpu_general.finished(layout, host)
    reads, depth = host["position"][3:]
    return Reading(**arrays, roundings=float(depth + 10 * reads), reads=reads,
                   stages=host["stages"])  # fmt: skip


def samples(state: State) -> int:
    """Rows of nonzero weight; waits for the device."""
    if state["device"] is None:
        return _count(state["totals"][_ROWS])
    return _count(library_of(state).to_host(state["totals"])[_ROWS])


def _count(rows: float) -> int:
    return int(rows) if np.isfinite(rows) else 0


def as_given(state: State, values: Any, dtype: str) -> Any:
    """NumPy's numbers as an array like the caller's, of a dtype."""
    library, device = library_of(state), state["device"]
    if device is None or device[0] == "cpu":
        return library.from_numpy(values, dtype)
    with library.current(device):
        if isinstance(values, np.ndarray):
            values = library.from_host(values, device)
        if library.name == "torch":
            return values.to(getattr(sys.modules["torch"], dtype))
        return values.astype(numpy_dtype(dtype), copy=False)


def transform(state: State, x: Any, vectors: Any, mean: Any = None) -> Any:
    """Coordinates of rows, less a mean, along vectors of the host's, where the rows lie."""
    batch = checked(x, vectors.shape[1])
    must_match(batch, state)
    turned = np.ascontiguousarray(vectors.T)
    if batch.device[0] == "cpu":
        wide = entries(batch).astype(np.float64)
        return batch.library.from_numpy((wide if mean is None else wide - mean) @ turned,
                                        batch.dtype)  # fmt: skip
    with batch.library.current(batch.device):
        wide = cast(batch, batch.value, "float64")
        if mean is not None:
            wide = wide - batch.library.from_host(mean, batch.device)
        turned = batch.library.from_host(turned, batch.device)
        return as_given(state, wide @ turned, state["dtype"])


def nbytes_bound(layout: Layout, features: int, batch: int) -> int:
    """Device memory of the state, of a call and of a reading."""
    stages = 2 * (layout.columns - layout.live) * features * 20  # of 8^20 rows
    state = 8 * (2 * layout.columns * features + stages + layout.figures.size + 5)
    blocks = 1 << max(0, -(-features // 512) - 1).bit_length()
    parts = 8 * max(1, 128 // blocks) * (layout.columns * features + 3)
    products = 8 * min(batch, 65536) * (layout.columns + 1)
    gram = 8 * 4 * layout.live**2 * 66
    if layout.general:
        # Sums, their parts, and what a step of the caller's library makes on the way.
        parts += 8 * (features + 1) * (64 + 6)
        gram = 8 * (10 * layout.columns * features + 20 * layout.live**2)
    return int(2 * state + parts + products + gram + 40 * batch + 2**16)
