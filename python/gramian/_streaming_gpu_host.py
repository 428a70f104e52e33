"""What the kernels of cuda/src/streaming*.cu do, by NumPy: for states that have come to the host.

The same blocks, steps and figures; sums are in another order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_U = 2.0**-53
RATES, FIGURES = 8, 9

# Columns of "figures" of Oja's method: StreamLayout::OjaFigure.
RATE, NORM, START, LINEAR_ERROR, SQUARE_ERROR, EXPONENT, ENERGY, ROWS_BEFORE, SQUARES_BEFORE = (
    range(9)
)
# Entries of "totals": StreamLayout::Total.
SQUARES, BLOCK_SQUARES, LARGEST, ROWS, BLOCK_ROWS = range(5)

Position = tuple[int, int, int, int, int]


def stream_block(rows: int, features: int) -> int:
    """Rows in the block that begins after so many."""
    most = min(max(1 << max((2**26 // features).bit_length() - 1, 0), 256), 65536)
    eighth = 1 << max((rows // 8).bit_length() - 1, 0)
    return min(max(eighth, 64), most)


def stream_depth(rows: int, features: int) -> int:
    """Additions that an entry of Xᵀ Y passes through at most within one read."""
    blocks = 1 << max(-(-features // 512) - 1, 0).bit_length()
    groups = max(1, 128 // blocks)
    return rows + groups + 8


def stream_update(*, step: str, features: int, live: int, decay: float, vectors: Any,
                  gathered: Any, figures: Any, totals: Any, position: Position, rows: Any,
                  weights: Any) -> Position:  # fmt: skip
    """Goes on with rows; the arrays of the state are changed."""
    done, held, block_reads, reads, depth = position
    first = 0
    while first < len(rows):
        block = stream_block(done, features)
        taken = min(len(rows) - first, block - held)
        x = np.asarray(rows[first : first + taken], np.float64)
        w = np.ones(taken) if weights is None else weights[first : first + taken]
        _add(x, w, decay, vectors, gathered, totals)
        depth = max(depth, stream_depth(taken, features))
        held, block_reads, reads, first = held + taken, block_reads + 1, reads + 1, first + taken
        if held == block:
            _take_step(step, live, decay, depth + 10 * block_reads, vectors, gathered, figures,
                       totals)  # fmt: skip
            done, held, block_reads = done + held, 0, 0
    return done, held, block_reads, reads, depth


def stream_finish(*, step: str, features: int, live: int, decay: float, vectors: Any,
                  gathered: Any, figures: Any, totals: Any,
                  position: Position) -> Position:  # fmt: skip
    """Ends a block that is not full."""
    done, held, block_reads, reads, depth = position
    if held:
        _take_step(step, live, decay, depth + 10 * block_reads, vectors, gathered, figures, totals)
    return done + held, 0, 0, reads, depth


def _add(x: Any, w: Any, decay: float, vectors: Any, gathered: Any, totals: Any) -> None:
    squares = w * np.einsum("ij,ij->i", x, x)
    present = float((w > 0).sum())
    past = 1.0 if decay == 1 else decay**present
    gathered *= past
    gathered += ((x @ vectors.T) * w[:, None]).T @ x
    totals[SQUARES] = past * totals[SQUARES] + squares.sum()
    totals[BLOCK_SQUARES] = past * totals[BLOCK_SQUARES] + squares.sum()
    totals[LARGEST] = np.maximum(totals[LARGEST], squares.max())
    totals[ROWS] += present
    totals[BLOCK_ROWS] += present


def _take_step(step: str, live: int, decay: float, roundings: float, vectors: Any, gathered: Any,
               figures: Any, totals: Any) -> None:  # fmt: skip
    w, product = vectors[:live], gathered[:live]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if step == "adaoja":
            w[...] = _adaoja(w, product, figures, totals, decay)
        else:
            w[...] = _oja(w, product, figures, totals, roundings, step == "grid")
    product[...] = 0
    totals[[BLOCK_SQUARES, BLOCK_ROWS]] = 0


def _adaoja(q: Any, g: Any, figures: Any, totals: Any, decay: float) -> Any:
    past = 1.0 if decay == 1 else decay ** totals[BLOCK_ROWS]
    sums, values = figures
    sums[...] = past * sums + np.einsum("ij,ij->i", g, g)
    values[...] = past * values + np.maximum(0, np.einsum("ij,ij->i", q, g))
    steps = np.where(sums == 0, 0, 1 / np.sqrt(sums))
    moved = q + np.where(steps[:, None] == 0, 0, steps[:, None] * g)
    gram = moved @ moved.T
    scale = np.where(gram.diagonal() == 0, 1, 1 / np.sqrt(gram.diagonal()))
    shift = 1e-15 * len(q)
    lower = gram * scale[:, None] * scale + shift * np.eye(len(q))
    for c in range(len(q)):
        lower[c, c] = np.sqrt(np.maximum(shift, lower[c, c]))
        lower[c + 1 :, c] /= lower[c, c]
        rest = lower[c + 1 :, c]
        lower[c + 1 :, c + 1 :] -= np.outer(rest, rest)
    inverse = np.zeros_like(lower)
    for j in range(len(q)):
        inverse[j] = (np.eye(len(q))[j] - lower[j, :j] @ inverse[:j]) / lower[j, j]
    return (inverse * scale) @ moved


class _Rates:
    """Which vectors the rates go on from, and with which factors."""

    def __init__(self, figures: Any, start: float) -> None:
        self.figures, self.start = figures, start
        self.source = list(range(RATES))
        self.of_vector, self.of_product = np.ones(RATES), np.zeros(RATES)

    def next(self, norm: float, rows: float, squares: float) -> None:
        """Leaves out the largest rate and begins one half the smallest."""
        self.figures[:-1] = self.figures[1:].copy()
        self.source = [*self.source[1:], self.source[-1]]
        for factors in (self.of_vector, self.of_product):
            factors[:-1] = factors[1:].copy()
            factors[-1] /= norm
        last = self.figures[-1]
        last[RATE] /= 2
        last[[NORM, START]] = 1, self.start
        last[[LINEAR_ERROR, SQUARE_ERROR, EXPONENT]] = 0
        last[[ROWS_BEFORE, SQUARES_BEFORE]] = rows, squares


def _error(count: float) -> float:
    return 1.01 * _U * count


def _oja(w: Any, product: Any, figures: Any, totals: Any, roundings: float, grid: bool) -> Any:
    features = w.shape[1]
    r = _Rates(figures, 1 + 4 * _error(features + 64))
    squares = np.einsum("ij,ij->i", w, w)
    energies = np.einsum("ij,ij->i", w, product)
    lengths = np.einsum("ij,ij->i", product, product)
    _choose(r, totals, squares, grid)
    for i in range(RATES):
        f = figures[i]
        eta, scale, s = f[RATE], r.of_vector[i], r.source[i]
        if eta == 0:
            continue
        norm2, energy, square = scale**2 * np.array([squares[s], energies[s], lengths[s]])
        norm = np.sqrt(norm2)
        after = np.sqrt(norm2 + 2 * eta * np.maximum(0, energy) + eta * eta * square)
        error = 1.01 * (
            eta * _error(features + roundings + 16) * totals[BLOCK_SQUARES] * norm
            + 8 * _U * (norm + eta * np.sqrt(square))
        )
        f[LINEAR_ERROR] += error
        f[SQUARE_ERROR] += 4 * error * (1.01 * after + error)
        f[ENERGY] += energy / norm2
        unit = 1.0
        if after > 2.0**40:
            shift = math.frexp(after)[1] - 1 if np.isfinite(after) else 0
            unit = math.ldexp(1.0, -shift)
            after *= unit
            f[START] = max(f[START] * unit, 1e-300)
            f[LINEAR_ERROR] *= unit
            f[SQUARE_ERROR] *= unit * unit
            f[EXPONENT] += shift
        f[NORM] = after
        r.of_vector[i], r.of_product[i] = scale * unit, eta * scale * unit
    last = figures[-1]
    if grid and last[RATE] != 0 and np.log(last[NORM]) + last[EXPONENT] * math.log(2) > 1:
        r.next(last[NORM], totals[ROWS], totals[SQUARES])
    step = np.where(r.of_product[:, None] == 0, 0, r.of_product[:, None] * product[r.source])
    return r.of_vector[:, None] * w[r.source] + step


def _choose(r: _Rates, totals: Any, squares: Any, grid: bool) -> None:
    """Rates whose product with the largest squared norm is at most 1."""
    largest, figures = totals[LARGEST], r.figures
    if not grid:
        if figures[0, RATE] * largest > 1:
            figures[0, RATE] = 0
    elif figures[0, RATE] == 0:
        # Below, a rate would be infinite, and so would its half.
        if not largest <= 2.0**-1000:
            top = 2.0 ** -(math.frexp(largest)[1]) if np.isfinite(largest) else math.nan
            figures[:, RATE] = top / 2.0 ** np.arange(RATES)
    else:
        rows = totals[ROWS] - totals[BLOCK_ROWS]
        before = totals[SQUARES] - totals[BLOCK_SQUARES]
        while figures[0, RATE] * largest > 1:
            r.next(r.of_vector[-1] * np.sqrt(squares[r.source[-1]]), rows, before)
