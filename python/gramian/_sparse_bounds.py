"""Sure bounds on the norm of a sparse matrix: from its entries, every rounding error counted.

Everything here is computed in float64 from entries scaled by a power of two, so that the largest
magnitude lies in [1/2, 1). An inner product of k terms is off by at most (4k + 16) u times the same
product of magnitudes, complex ones included. The proofs, with the constants used below, are in
docs/operator_bounds.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._lanczos import UNIT_ROUNDOFF, Extreme, Lanczos, Vector, least_component

# Pays for whatever is not counted below: the last few operations, magnitudes of complex numbers
# (8 u each), underflow, which the scale keeps 200 orders of magnitude under the result.
_SLACK = 64 * UNIT_ROUNDOFF

_SMALLEST = 2.0**-300
_CONJUGATE_GRADIENT_STEPS = 8192

# Steps until the first look at what a doubling gains.
_FIRST_STAGE = 256

_WIDENINGS = 6  # of a shift that was too small, by a factor of 8 each


@dataclass(frozen=True)
class Entries:
    """A sparse matrix at least as tall as wide, in canonical CSR form, times 2**-exponent.

    Attributes
    ----------
    matrix, magnitude
        The scaled matrix in float64 or complex128, and its entries' magnitudes.
    distance
        Spectral norm of what is missing: entries that are sums of several stored numbers were
        rounded when they were summed.
    row_count, column_count
        Most entries in a row, in a column.
    """

    matrix: Any
    magnitude: Any
    exponent: int
    distance: float
    row_count: int
    column_count: int

    @property
    def is_nonnegative(self) -> bool:
        """Whether the magnitudes are the matrix itself, up to a sign in front."""
        data = self.matrix.data
        return data.dtype.kind != "c" and bool(np.all(data >= 0) or np.all(data <= 0))

    def gram(self, v: Vector) -> Vector:
        """A^H A v."""
        y = self.matrix @ v
        return np.asarray(np.conj(self.matrix.T @ np.conj(y)))

    def magnitude_gram(self, v: Vector) -> Vector:
        """|A|^T |A| v."""
        return np.asarray(self.magnitude.T @ (self.magnitude @ v))


def read(op: Any) -> Entries | None:
    """Entries of a scipy sparse matrix or array; None where all of them are zero."""
    m, n = op.shape
    coo = op.tocoo()
    is_complex = coo.dtype.kind == "c"
    coo = (coo if m >= n else coo.conj().T).astype(np.complex128 if is_complex else np.float64)
    if not np.all(np.isfinite(coo.data)):
        raise ValueError("op holds NaN or infinity; every entry must be finite")
    first = _scale(coo.data)
    if first is None:
        return None
    coo.data = _times_power_of_two(coo.data, -first)
    csr = coo.tocsr()
    csr.sum_duplicates()
    distance = 0.0
    if csr.nnz < coo.nnz:
        distance = _rounding_of_sums(coo, csr)
    csr.eliminate_zeros()
    second = _scale(csr.data)
    if second is None:
        second = 0
    csr.data = _times_power_of_two(csr.data, -second)
    rows = np.diff(csr.indptr)
    columns = np.bincount(csr.indices, minlength=1)
    return Entries(
        matrix=csr,
        magnitude=abs(csr),
        exponent=first + second,
        distance=math.ldexp(distance, -second),
        row_count=int(rows.max(initial=0)),
        column_count=int(columns.max(initial=0)),
    )


def _scale(data: Vector) -> int | None:
    """The exponent that brings the largest real or imaginary part into [1/2, 1)."""
    largest = 0.0
    for part in (data.real, data.imag) if data.dtype.kind == "c" else (data,):
        largest = max(largest, float(np.max(np.abs(part), initial=0.0)))
    return math.frexp(largest)[1] if largest else None


def _times_power_of_two(data: Vector, exponent: int) -> Vector:
    if data.dtype.kind != "c":
        return np.asarray(np.ldexp(data, exponent))
    result = np.empty_like(data)
    result.real, result.imag = np.ldexp(data.real, exponent), np.ldexp(data.imag, exponent)
    return result


def _rounding_of_sums(coo: Any, csr: Any) -> float:
    """Bound on the norm of the rounding in ``csr``, whose entries are sums of those of ``coo``."""
    # Not abs(coo), which would sum first.
    sizes, ones = coo.copy(), coo.copy()
    sizes.data, ones.data = np.abs(coo.data), np.ones(coo.nnz)
    sizes, most = sizes.tocsr(), ones.tocsr()
    sizes.sum_duplicates()
    most.sum_duplicates()
    repeats = float(most.data.max())
    return 4 * repeats * UNIT_ROUNDOFF * upper_from_norms(sizes)


def lower_from_vector(entries: Entries, v: Vector) -> float:
    """||A v|| / ||v||, less all rounding; not below the largest entry."""
    m, n = entries.matrix.shape
    norms: float = (2 * (m + n) + 16) * UNIT_ROUNDOFF
    products = (4 * entries.row_count + 16) * UNIT_ROUNDOFF
    lost = products * np.linalg.norm(entries.magnitude @ np.abs(v)) * (1 + 2 * products + norms)
    gained = float(np.linalg.norm(entries.matrix @ v)) * (1 - norms)
    quotient = (gained - float(lost)) / (float(np.linalg.norm(v)) * (1 + norms)) * (1 - _SLACK)
    entry = float(entries.magnitude.data.max(initial=0.0)) * (1 - _SLACK)
    return max(0.0, max(quotient, entry) - entries.distance)


def upper_from_norms(magnitude: Any) -> float:
    """The smaller of sqrt(||A||_1 ||A||_inf) and ||A||_F, rounding included."""
    counts: float = (magnitude.nnz + 16) * UNIT_ROUNDOFF
    # asarray: a scipy matrix, unlike an array, has sums that are numpy matrices.
    rows, columns = (float(np.max(np.asarray(magnitude.sum(axis=k)), initial=0.0)) for k in (1, 0))
    mixed = math.sqrt(rows) * math.sqrt(columns)
    frobenius = float(np.linalg.norm(magnitude.data))
    return min(mixed, frobenius) * (1 + 2 * counts + _SLACK)


def upper_from_vector(entries: Entries, x: Vector) -> float:
    """sqrt(max_i (|A|^T |A| x)_i / x_i) for x > 0, rounding included (Collatz, Wielandt)."""
    x = np.maximum(x / x.max(), _SMALLEST)
    ratio = float(np.max(entries.magnitude_gram(x) / x, initial=0.0))
    rounding = (4 * (entries.row_count + entries.column_count) + 32) * UNIT_ROUNDOFF
    return math.sqrt(ratio) * (1 + rounding + _SLACK)


def positive_vector(entries: Entries, shift: float) -> Vector:
    """About (shift I - |A|^T |A|)^-1 applied to ones, by conjugate gradients; every entry positive.

    With shift over the largest eigenvalue the exact solution is positive, in every block of a
    reducible matrix, and has all quotients under the shift. So has an approximate one, as soon as
    no entry of its residual reaches 1: only a rough solution is asked for.
    """
    size = entries.matrix.shape[1]
    x, r = np.zeros(size), np.ones(size)
    p, rr = r.copy(), float(size)
    for _ in range(min(_CONJUGATE_GRADIENT_STEPS, max(2000, size))):
        q = shift * p - entries.magnitude_gram(p)
        curvature = float(p @ q)
        if not curvature > 0:  # the shift was too small
            break
        step = rr / curvature
        x += step * p
        r -= step * q
        if r.max() <= 0.5 and x.min() > 0:
            break
        rr, old = float(r @ r), rr
        p *= rr / old
        p += r
    return x if x.max() > 0 else np.ones(size)


@dataclass(frozen=True)
class SureBounds:
    """Bounds of the scaled matrix."""

    lower: float
    upper: float
    steps: int


def bracket(
    entries: Entries, *, rtol: float, capacity: int, max_steps: int, rng: np.random.Generator
) -> SureBounds:
    """Sure bounds by Lanczos and Collatz-Wielandt quotients, within max_steps of Lanczos in all."""
    size = entries.matrix.shape[1]

    def lanczos(of_magnitude: bool) -> Lanczos:
        is_complex = entries.matrix.dtype.kind == "c" and not of_magnitude
        return Lanczos(
            entries.magnitude_gram if of_magnitude else entries.gram,
            size,
            is_complex=is_complex,
            least=least_component(size, is_complex, 1e-3),
            noise=(entries.row_count + entries.column_count) * UNIT_ROUNDOFF,
            capacity=capacity,
            rng=rng,
        )

    fine, coarse = rtol / 8, max(rtol / 8, 1e-3)
    signed = lanczos(False)
    magnitude, other = signed, None
    limit = max_steps
    if not entries.is_nonnegative:
        magnitude = lanczos(True)
        limit -= max_steps // 4

    def bounds() -> SureBounds:
        steps = signed.steps + (magnitude.steps if magnitude is not signed else 0)
        return SureBounds(lower, upper + entries.distance, steps)

    upper, root, stage = upper_from_norms(entries.magnitude), 0.0, _FIRST_STAGE
    while True:
        top = signed.run(fine, min(stage, limit))
        lower = lower_from_vector(entries, top.vector)
        if upper + entries.distance <= lower * (1 + rtol / 2):
            return bounds()
        if signed.exhausted or _is_within(top, fine) or signed.steps >= limit:
            break
        # Without a gap the error of the Ritz value falls with the square of the steps: a third of
        # what their doubling gained is left. That is far less than what `upper` leaves open.
        before, root = root, math.sqrt(top.ritz)
        left = (root - before) / 3
        if before and left * (signed.steps / limit) ** 2 > rtol / 4 * root:
            break
        if before and left <= rtol / 4 * root:
            if magnitude is not signed and other is None:
                other = magnitude.run(coarse, max_steps // 4)
            if other is None or other.ritz <= (lower * (1 + coarse)) ** 2:
                upper = min(upper, _upper_from_shift(entries, (lower * (1 + rtol / 2)) ** 2))
                if upper + entries.distance <= lower * (1 + rtol):
                    return bounds()
        stage = 2 * signed.steps

    # Where the magnitudes have a larger norm, a precise figure of it is of no use.
    tolerance = fine
    if magnitude is signed:
        other = top
    else:
        other = magnitude.run(coarse, max_steps - signed.steps)
        if other.ritz > (lower * (1 + rtol)) ** 2 or not (
            signed.exhausted or _is_within(top, fine)
        ):
            tolerance = coarse
        else:
            other = magnitude.run(fine, max_steps - signed.steps)
    known, margin, tries = max(lower, math.sqrt(other.ritz)), rtol / 2, _WIDENINGS
    if (magnitude.exhausted or _is_within(other, tolerance)) and (
        tolerance < coarse or known > lower * (1 + rtol)
    ):
        known, margin, tries = math.sqrt(other.upper), tolerance / 2, 3
    for _ in range(tries):
        shift = (known * (1 + margin)) ** 2
        bound = _upper_from_shift(entries, shift)
        upper = min(upper, bound)
        if bound <= math.sqrt(shift) * (1 + margin):
            break
        margin *= 8
    return bounds()


def _is_within(found: Extreme, rtol: float) -> bool:
    return found.upper <= found.ritz * (1 + rtol) ** 2


def _upper_from_shift(entries: Entries, shift: float) -> float:
    """At most about the shift's root, if that is over the norm of the magnitudes."""
    return upper_from_vector(entries, positive_vector(entries, shift))
