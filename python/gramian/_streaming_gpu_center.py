"""Rows of Frequent Directions on a GPU less the mean of those before: Welford's, many at a time.

Rows come in chunks, whose running means are sums over the rows before, each in the same order by
every library: by the caller's, in float64, without waiting. What rounding does to the means is
bounded on the way: docs/streaming_frequent_directions.md#centring-on-a-gpu.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays
from ._streaming_gpu_batch import cast

if TYPE_CHECKING:
    from ._streaming_base import State

# Entries of "center": the sum of weights, bounds on the error of the mean and on the squared norm
# of what such errors did to the rows.
WEIGHT, ERROR, OFFSETS = range(3)

_U = 2.0**-53
_CHUNK = 256
_LEAST = 2.0**-1000

# Covers the rounding of the bounds themselves.
_UP = 1 + 1e-6


def empty(features: int) -> State:
    return {"mean": np.zeros(features), "center": np.zeros(3), "chunks": 0}


def weight_error(chunks: int) -> float:
    """How far the sum of weights can be off, relative: each chunk adds, and decays twice."""
    return 24 * _U * chunks


def chunks(
    state: State, batch: _arrays.Array, weights: Any, decay: float
) -> Iterator[tuple[_arrays.Array, Any, Any]]:
    """Centred rows, their weights, and how many rows of weight above 0 they stand for.

    The state's mean goes on with each.
    """
    step = _CHUNK
    if decay != 1:
        # Powers of the decay within a chunk are numbers.
        step = max(1, min(_CHUNK, int(150 / -math.log(decay))))
    for first in range(0, batch.shape[0], step):
        own = None if weights is None else weights[first : first + step]
        yield _chunk(state, batch, batch.value[first : first + step], own, decay)


def _chunk(
    state: State, batch: _arrays.Array, rows: Any, weights: Any, decay: float
) -> tuple[_arrays.Array, Any, Any]:
    module, (count, d) = batch.module, rows.shape
    mean, center = state["mean"], state["center"]
    x = cast(batch, rows, "float64")
    w = 0 * x[:, 0] + 1 if weights is None else weights
    present = cast(batch, w != 0, "float64")
    seen = running(module, present)
    grown = w if decay == 1 else w * decay ** (-seen)
    off = x - mean
    # Sums of weights up to a row in units of the decay there, and before it.
    before = center[WEIGHT : WEIGHT + 1]
    sums = before + running(module, grown)
    past = module.concatenate((before, sums[:-1]))
    inverse = 1 / (sums + (sums == 0))
    moves = running(module, grown[:, None] * off) * inverse[:, None]
    behind = module.concatenate((0 * moves[:1], moves[:-1]))
    y = off - behind
    factors = w * past * inverse
    kept = (past > 0) & (w > 0)
    # What vanishes beside the rest still decays what came before.
    factors = module.where(kept & (factors < _LEAST), _LEAST + 0 * factors, factors)

    # Bounds on the errors of the means, after each row and before it.
    lengths = running(module, grown * (off * off).sum(1) ** 0.5)
    sizes = (mean * mean).sum() ** 0.5 + (moves * moves).sum(1) ** 0.5
    share = 2 * _U * 64 + 2 * weight_error(state["chunks"] + 1)
    error = center[ERROR : ERROR + 1]
    errors = (before * error + share * lengths) * inverse + 4 * _U * sizes
    error_before = module.concatenate((error, errors[:-1]))
    left = 1.0 if decay == 1 else decay ** (seen[-1:] - seen)
    offsets = (factors * left * error_before * error_before).sum()
    fade = 1.0 if decay == 1 else decay ** seen[-1:]
    added = [
        sums[-1:] * fade,
        errors[-1:] * _UP,
        (fade * center[OFFSETS : OFFSETS + 1] + offsets) * _UP,
    ]
    state["mean"] = mean + moves[-1]
    state["center"] = module.concatenate(added)
    state["chunks"] += 1
    return _arrays.Array(y, batch.library, (count, d), "float64", batch.device), factors, seen[-1]


def running(module: Any, x: Any) -> Any:
    """Sums of the first rows, by doubling: no term meets more than log2 of their number."""
    step = 1
    while step < x.shape[0]:
        x = module.concatenate((x[:step], x[step:] + x[:-step]))
        step *= 2
    return x


def joined(module: Any, mine: State, theirs: State, fade: Any) -> tuple[Any, Any, State]:
    """What stands between two means, as a row and its weight, and the mean of both."""
    (w, error, offsets), (v, its_error, its_offsets) = (
        [s["center"][i : i + 1] for i in (WEIGHT, ERROR, OFFSETS)] for s in (mine, theirs)
    )
    w = w * fade
    total = w + v
    part = v / (total + (total == 0))
    gap = theirs["mean"] - mine["mean"]
    mean = mine["mean"] + part * gap
    between = w * part
    chunks = mine["chunks"] + theirs["chunks"] + 1
    size, length = ((x * x).sum() ** 0.5 for x in (mean, gap))
    bound = (1 - part) * error + part * its_error
    bound = bound + (8 * _U + 2 * weight_error(chunks)) * part * length + 4 * _U * size
    offsets = offsets * fade + its_offsets + between * (error + its_error) ** 2
    center = module.concatenate((total, bound * _UP, offsets * _UP))
    return gap[None], between, {"mean": mean, "center": center, "chunks": chunks}
