"""Frequent Directions on a GPU: the rows held lie there, as columns; only reading waits.

`partial_fit` queues the rows and, by counting them, whole shrinkings; what those cost is added up
on the device. Proof and limits: docs/streaming_frequent_directions.md#on-a-gpu. A reading brings
the state to the host and puts it into the form that the CPU's sketch has, which then proves what it
proves of its own; so does a stream that goes on on the CPU.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays, _backend, _streaming_gpu
from ._rsvd_rows import entries, is_sparse
from ._streaming_batch import compute_name
from ._streaming_gpu_batch import checked, copy, must_match, weights_of

if TYPE_CHECKING:
    from ._frequent_directions import FrequentDirections
    from ._streaming_base import State

# SketchLayout in cuda/include/gramian/cuda/streaming.hpp.
_MOST_HELD, _MOST_SIZE = 144, 128
DELTA, ROUNDING, LOST, ROWS, DROPPED = range(5)

_U = 2.0**-53
_CPU = ("cpu", 0)  # where a state of the CPU's is, which does not say so
_LEAST_FACTOR = 2.0**-1000


def held_rows(size: int) -> int:
    """Rows held at most; with so many they are shrunk to `size`."""
    return min(2 * size, _MOST_HELD)


def check(estimator: FrequentDirections) -> None:
    """Raises for parameters that a GPU does not take."""
    if estimator.center:
        raise NotImplementedError(
            "center is True; FrequentDirections takes arrays on the CPU only then"
        )
    if operator.index(estimator.sketch_size) > _MOST_SIZE:
        raise ValueError(
            f"sketch_size is {estimator.sketch_size}; on a GPU it is {_MOST_SIZE} at most"
        )


def fit(estimator: FrequentDirections, x: Any, sample_weight: Any) -> State:
    """The state after a batch, where the batch lies."""
    state = estimator._state
    if state is None or state["device"] is not None or _streaming_gpu.takes(None, x):
        return partial_fit(estimator, x, sample_weight)
    moved = _on_cpu(estimator).partial_fit(x, sample_weight)._state
    assert moved is not None
    return moved


def _on_cpu(estimator: FrequentDirections) -> FrequentDirections:
    """A copy that goes on with rows on the CPU."""
    new = type(estimator)(**estimator.get_params())
    if estimator._state is not None:
        new._state = host_state(estimator)
        if new._state is None:
            raise ValueError("rows seen on a GPU contained NaN or infinity")
    return new


def partial_fit(estimator: FrequentDirections, x: Any, sample_weight: Any) -> State:
    """The state after a batch; raises before anything is changed."""
    check(estimator)
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
        state = _streaming_gpu.placed(_empty(estimator, batch), batch)
    elif state["device"] is None:
        state = _streaming_gpu.moved(state, batch)
    decay = float(estimator.decay)
    _append(state, batch, weights, int(estimator.sketch_size), decay, decay != 1)
    return state


def _empty(estimator: FrequentDirections, batch: _arrays.Array) -> State:
    held = held_rows(operator.index(estimator.sketch_size))
    return {
        "dtype": batch.dtype,
        "library": batch.library.name,
        "device": batch.device,
        "position": (0,),  # rows held
        "held": np.zeros((operator.index(estimator.n_features), held)),
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
        return _on_cpu(estimator).merge(_on_cpu(other))._state
    if theirs is not None:
        return _merge(estimator, mine, theirs)
    assert mine is not None
    library = _streaming_gpu.library_of(mine)
    with library.current(mine["device"]):
        return mine | {name: copy(library, mine[name]) for name in ("held", "factors", "totals")}


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
            fresh = _empty(estimator, rows)
            mine = _streaming_gpu.placed(fresh | {"dtype": mine["dtype"]}, rows)
        else:
            mine = mine | {k: copy(library, mine[k]) for k in ("held", "factors", "totals")}
        decay = float(estimator.decay)
        totals, other = mine["totals"], theirs["totals"]
        if decay != 1:
            past = decay ** other[ROWS : ROWS + 1]
            mine["factors"] *= past**0.5
            past = rows.module.where(past > _LEAST_FACTOR, past, _LEAST_FACTOR + 0 * past)
            totals[:ROWS] *= past * (1 + 1e-14)
        seen = totals[ROWS:] + other[ROWS:]
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


def host_state(estimator: FrequentDirections) -> State | None:
    """The state as the CPU has it; None where rows were no numbers. Waits for the device."""
    assert estimator._state is not None
    initial, decay = estimator._initial(0), float(estimator.decay)
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
    figures = [count, count, len(rows), 0, totals[DELTA], rounding, totals[LOST] + energy]
    initial["figures"][: len(figures)] = figures
    return initial | {
        "dtype": state["dtype"],
        "library": state["library"],
        "n_samples": count,
        "exponent": 0,
        "any": energy > 0,
        "pending": np.zeros((1, state["held"].shape[0]), compute_name(state["dtype"])),
        "pending_weights": np.ones(1),
        "n_pending": 0,
    }


def nbytes_bound(features: int, size: int, batch: int) -> int:
    """Device memory of the state, of a call and of a merge."""
    held = held_rows(size)
    state = features * held + held + 5
    tiles = (-(-held // 64)) ** 2
    parts = 4096 * min(-(-max(features, held) // 64) * tiles, 2 * 160 + tiles)
    shrink = 7 * held**2 + held * size + features * size + 2 * held + parts
    return 8 * (2 * state + shrink) + 40 * batch + 2**16
