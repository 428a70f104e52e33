"""What a stream's state on a GPU says about the top eigenvector: docs/streaming.md#on-a-gpu.

M = AᵀA, Z the vectors that never change, W = M Z as it was added up. From W alone comes B with
-below <= M - BᵀB <= above, and from B all that the Frequent Directions sketch gives on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._streaming_gpu import Reading
from ._streaming_gpu_host import (
    ENERGY,
    EXPONENT,
    LARGEST,
    LINEAR_ERROR,
    NORM,
    RATE,
    ROWS,
    ROWS_BEFORE,
    SQUARE_ERROR,
    SQUARES,
    SQUARES_BEFORE,
    START,
)

_U = 2.0**-53

# All operations that are not counted one by one, relative.
_SLOP = 1e-13

# Bounds from here on say nothing: where the top eigenvalue is repeated none is below sqrt(1/2).
_VACUOUS = 0.7

# Directions of the fixed vectors' span with less than this part of the energy are left out.
_CUT = 2.0**-16

# More than underflow does to all sums of squares of rows below 2^250, and than the least factor of
# a decayed row does: with less energy nothing is certified.
_LOST = 2.0**-470

# By how much more centring magnifies roundings: docs/streaming.md#steps-beside-the-kernels.
_CENTRED = 24.0

# Rows of B: slack is proved for as many as 20.
_MOST_ROWS = 16


def _g(roundings: float) -> float:
    """Error of a sum whose terms pass through so many roundings, of their magnitudes' sum."""
    return 1.01 * _U * roundings


@dataclass(frozen=True, slots=True)
class Sketch:
    """BᵀB beside M, and what follows for M's top eigenvector."""

    direction: Any  # of norm 1; 0 where B is
    top: float
    second: float
    slack: float
    above: float
    below: float
    squares: float  # at least |A|_F^2

    def bound(self) -> float:
        """Of the sine of the angle between the direction and the top eigenvector."""
        half = (self.above + self.below) / 2 * (1 + _SLOP)
        gap = self.top - self.second - half - 3 * self.slack - _SLOP * self.top
        if not gap > 0:
            return math.inf
        return (half + 2 * self.slack) / gap * (1 + _SLOP) + _g(self.direction.size + 16)

    def second_bound(self) -> float:
        """At least M's second largest eigenvalue."""
        by_sketch = self.second + self.slack + self.above
        by_trace = self.squares - (self.top - self.slack - self.below)
        return max(min(by_sketch, by_trace), 0.0) + _SLOP * self.squares


def sketch(reading: Reading, live: int, decay: float) -> Sketch:
    """Of the fixed vectors' products."""
    stages = [*reading.stages, (reading.vectors[live:], reading.gathered[live:])]
    d = reading.vectors.shape[1]
    raw = float(reading.totals[SQUARES])
    finite = math.isfinite(raw) and all(np.isfinite(w).all() for _, w in stages)
    if not finite or 0 < raw < _LOST:
        return Sketch(np.zeros(d), 0.0, 0.0, 0.0, math.inf, math.inf, math.inf)
    raw *= 1 + _g(d + reading.roundings + 32)
    if raw == 0:
        return Sketch(np.zeros(d), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    squares, more = raw, 1.0
    if reading.sums is not None:
        more = _CENTRED
        squares = scatter(reading.totals[SQUARES], reading.sums)
        squares += more * _g(d + reading.roundings + 64) * raw
    # Factors of the decay, each read's and each row's, are off by 8u; that moves M.
    moved = 0.0 if decay == 1 else more * _g(8.0 * (reading.reads + 1)) * raw + _LOST
    rows, below = [], moved
    for z, w in stages:
        size = float(np.linalg.norm(z)) * (1 + 1e-9)
        error = more * _g(d + reading.roundings + 24) * raw * size  # of W, in Frobenius norm
        part, part_below = _rows(z, w, size, error)
        rows.append(part)
        below += part_below
    b = np.concatenate(rows)
    # Without some of its rows B proves less, but nothing wrong.
    lengths = np.einsum("ij,ij->i", b, b)
    b = b[np.argsort(-lengths, kind="stable")[:_MOST_ROWS]]
    norm2 = float(np.einsum("ij,ij->", b, b)) * (1 - _g(b.size + 16))
    above = (max(squares - norm2, 0.0) + len(b) * below + moved) * (1 + _SLOP)
    return _read(b, above, below, squares)


def _rows(z: Any, w: Any, size: float, error: float) -> tuple[Any, float]:
    """B and `below`: B = c RᵀWᵀ with c so small that BᵀB <= M + below, for any R."""
    count, d = z.shape
    length = float(np.linalg.norm(w)) * (1 + 1e-9)
    inner = z @ w.T
    inner = (inner + inner.T) / 2
    inner_error = size * error + _g(d + 8) * size * length
    values, vectors = np.linalg.eigh(inner)
    # Mostly the constant, so that what is kept does not depend on how the stream was cut.
    ratio = max(_CUT, math.sqrt(inner_error / max(float(values[-1]), inner_error)))
    kept = np.flatnonzero(values > max(ratio * float(values[-1]), inner_error))[-_MOST_ROWS:]
    if not kept.size:
        return np.zeros((1, d)), 0.0
    r = vectors[:, kept] / np.sqrt(values[kept])
    r_norm2 = float(np.einsum("ij,ij->", r, r)) * (1 + 1e-9)
    left = r.T @ inner @ r - np.eye(kept.size)
    largest = 1 + float(np.linalg.norm(left)) * (1 + 1e-9)
    largest += r_norm2 * (inner_error + _g(4 * count + 8) * float(np.linalg.norm(inner)))
    scale2 = 1 / ((1 + ratio) * largest) * (1 - _SLOP)
    b = math.sqrt(scale2) * (r.T @ w)
    b_error = _g(count + 12) * math.sqrt(scale2 * r_norm2) * length
    below = (1 + 1 / ratio) * error**2 * r_norm2 * scale2
    below += (2 * float(np.linalg.norm(b)) + b_error) * b_error
    return b, below * (1 + 1e-6)


def scatter(squares: float, sums: Any) -> float:
    """Sum of squares of rows about their mean."""
    weight = float(sums[-1])
    about = float(sums[:-1] @ sums[:-1]) / weight if weight > 0 else 0.0
    return max(float(squares) - about, 0.0)


def _read(b: Any, above: float, below: float, squares: float) -> Sketch:
    """Eigenvalues of BᵀB with the error of every step: as detail::GramEigen of the CPU."""
    n, d = b.shape
    gram = b @ b.T
    gram = (gram + gram.T) / 2
    values, v = np.linalg.eigh(gram)
    values, v = values[::-1], v[:, ::-1]
    trace = float(gram.trace()) * (1 + 1e-6)
    residual = float(np.linalg.norm(gram @ v - v * values))
    skew = float(np.linalg.norm(v.T @ v - np.eye(n)))
    slack = 2 * residual + (5 * skew + _g(d + 10 * n * (n + 4))) * trace
    direction = v[:, 0] @ b
    norm = float(np.linalg.norm(direction))
    if norm > 0:
        direction = direction / norm
    second = max(float(values[1]), 0.0) if n > 1 else 0.0
    return Sketch(direction, max(float(values[0]), 0.0), second, slack, above, below, squares)


@dataclass(frozen=True, slots=True)
class Top:
    """The vector with the best bound."""

    vector: Any
    certificate: float
    eigenvalue: float
    grew: bool


def top(reading: Reading) -> Top:
    """Of Oja's rates and the sketch."""
    w, figures, totals = reading.vectors[: len(reading.figures)], reading.figures, reading.totals
    d = w.shape[1]
    found = sketch(reading, len(figures), 1.0)
    if not (np.isfinite(figures).all() and np.isfinite(w).all() and np.isfinite(totals).all()):
        return Top(np.full(d, math.nan), math.inf, math.nan, False)
    best, chosen, grown = found.bound(), -1, -1
    second = found.second_bound()
    for i, f in enumerate(figures):
        if f[RATE] == 0:
            continue
        if _grew_enough(f, totals, d):
            grown = i  # the smallest in the end
        norm = float(np.linalg.norm(w[i])) * (1 - _g(d + 16))
        turned = f[RATE] / 2 * second * (1 + f[SQUARE_ERROR] / norm**2)
        bound = (f[START] + f[LINEAR_ERROR]) / norm + math.sqrt(turned)
        bound = float(bound * (1 + _SLOP) + _g(d + 16))
        if bound < best:
            best, chosen = bound, i
    if not best < _VACUOUS:
        best, chosen = math.inf, grown
    vector = w[chosen] if chosen >= 0 else found.direction
    norm = float(np.linalg.norm(vector))
    vector = vector / norm if norm > 0 else np.eye(1, d)[0]
    in_use = figures[figures[:, RATE] != 0]
    energy = float(in_use[:, ENERGY].max(initial=0.0))
    eigenvalue = min(max(energy, found.top), found.top + found.above)
    return Top(vector, best, eigenvalue, grown >= 0)


def _grew_enough(f: Any, totals: Any, d: int) -> bool:
    """Beyond what isotropic rows would have done: docs/streaming.md#no-growth."""
    growth = math.log(f[NORM]) + f[EXPONENT] * math.log(2)
    rows = totals[ROWS] - f[ROWS_BEFORE]
    if growth < math.log(d) + 2 or not rows > 0:
        return False
    rest = max(totals[SQUARES] - f[SQUARES_BEFORE] - growth / f[RATE], 0.0)
    rest = rest / (d - 1) if d > 1 else 0.0
    edge = 1 + math.sqrt(d / rows)
    factor = 1.25 * edge**2 * (1 + f[RATE] * totals[LARGEST] / 2)
    return bool(growth / f[RATE] > factor * rest)


@dataclass(frozen=True, slots=True)
class Several:
    """Orthonormal rows by falling value, and the bound on the first one's angle."""

    vectors: Any
    values: Any
    certificate: float


def several(reading: Reading, live: int, decay: float) -> Several:
    """Of BlockOja's vectors and the sketch."""
    q, values = reading.vectors[:live], reading.figures[1]
    d = q.shape[1]
    if not (np.isfinite(q).all() and np.isfinite(reading.figures).all()):
        return Several(np.full_like(q, math.nan), np.full_like(values, math.nan), math.inf)
    order = np.argsort(-values, kind="stable")
    values, q = values[order], _orthonormal(q[order])
    found = sketch(reading, live, decay)
    bound, f = found.bound(), found.direction
    # Angles add up, and the sine of a sum is at most the sum of the sines.
    across = q[0] - (q[0] @ f) * f
    across -= (across @ f) * f
    off, error = float(np.linalg.norm(across)), _g(4.0 * (d + 16))
    certificate = bound + off + error
    if off > 2 * bound:
        # The sketch's direction is nearer to the top eigenvector than the steps' for certain.
        q = _orthonormal(np.concatenate([f[None], q[1:]]))
        values = np.concatenate([[max(values[0], found.top)], values[1:]])
        certificate = bound + error
    return Several(q, values, certificate if certificate < _VACUOUS else math.inf)


def _orthonormal(q: Any) -> Any:
    """Rows made orthonormal one after the other, each keeping its side."""
    basis, turn = np.linalg.qr(q.T)
    signs = np.where(turn.diagonal() < 0, -1.0, 1.0)
    return np.ascontiguousarray((basis * signs).T)
