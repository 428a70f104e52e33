"""The randomized SVD of dense matrices on a GPU.

Steps, constants and choices are those of cpp/src/rsvd_matrix.hpp, explained in docs/rsvd.md; what
differs is said there under "On a GPU". Reads of A and the sketch are kernels (cuda/src/rsvd.cpp);
tall thin matrices are the caller's library's, in double (`_device_vectors.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays
from ._bounds import gram_bound
from ._device_vectors import Fallbacks
from ._rsvd_gpu_reads import Options, Reads
from ._rsvd_thin import inverse_of_upper

# Of what Ritz values may still grow by, beside the error that is left (cpp/src/rsvd_plan.hpp).
_STAGNATION = 0.08

# Exponents of the norm up to this are left as they are: nothing overflows.
_MODERATE = 32

# A read costs more than the eigenproblems of a growing basis beyond so many operations.
_LARGE_READ = 1.5e11


@dataclass
class Factors:
    """2^exponent u diag(s) v^H, u and v in double on the device, s on the host."""

    u: Any
    s: np.ndarray
    v: Any
    exponent: int
    error: float
    method: str
    passes: int
    fallbacks: Fallbacks


class NotFinite(Exception):
    """The matrix holds NaN or infinity."""


def decompose(a: _arrays.Array, options: Options) -> Factors:
    """Of one matrix. Raises `NotFinite`."""
    found: Factors = _in_range(a, options, _Iteration.factors)
    return found


def basis(a: _arrays.Array, options: Options, *, of_rows: bool) -> Any:
    """An orthonormal basis of the approximate range of a, or of a^H, in double."""
    return _in_range(a, options, lambda iteration: iteration.basis(of_rows))


def _in_range(a: _arrays.Array, options: Options, run: Callable[[_Iteration], Any]) -> Any:
    try:
        return run(_Iteration(Reads(a, options), options))
    except _BeyondRange as found:
        exponent, reads = found.exponent, found.reads
    # Another read, of a scaled copy. Outside of the handler, which keeps the first try's arrays.
    half = exponent // 2
    scaled = _arrays.matrices(a.value * 2.0**-half * 2.0 ** (half - exponent), "a")
    return run(_Iteration(Reads(scaled, options, reads, exponent), options))


def most_passes(options: Options, short: int) -> int:
    """As many powers as the usual rule (7 iterations for small ranks, else 4), at most."""
    if options.method == "single_pass":
        return 1
    return options.passes or (8 if options.rank * 10 < short else 5)


def krylov_pays(passes: int, block: int, rows: int, columns: int) -> bool:
    """Of "auto": whether fewer, larger reads are cheaper than a small basis."""
    large = 4.0 * rows * columns * block > _LARGE_READ
    return large and min(passes, 4) * block <= columns / 2


class _BeyondRange(Exception):
    def __init__(self, exponent: int, reads: int) -> None:
        super().__init__()
        self.exponent = exponent
        self.reads = reads


class _Iteration:
    """Z, Y = A Z and W = A^H Y, with the eigenvalues of Y^H Y."""

    def __init__(self, reads: Reads, options: Options) -> None:
        self.reads = reads
        self.options = options
        self.vectors = reads.vectors
        self.fallbacks = Fallbacks()
        self.z: Any = None
        self.y: Any = None
        self.w: Any = None
        self.gram: Any = None
        self.ritz: Any = None
        self.rotation: Any = None
        self.own_reads = 0  # not those before a restart
        self._plan()

    def _plan(self) -> None:
        o, m, n = self.options, self.reads.rows, self.reads.columns
        short = min(m, n)
        self.block = min(short, o.rank + o.oversample)
        self.passes = most_passes(o, short)
        self.method = o.method
        if o.method == "gram" and m < n:
            # Means and start vectors fix the side, and A^H A would be the larger Gram matrix.
            self.method = "subspace"
        if o.passes == 0 and self.block == n and self.method != "gram":
            self.passes = 1  # a sketch as wide as A holds all of it
        if o.method != "auto":
            return
        if self.passes == 1:
            self.method = "subspace" if self.block == n else "single_pass"
        elif krylov_pays(self.passes, self.block, m, n):
            self.method = "krylov"
        else:
            self.method = "subspace"

    # ---- Iteration ------------------------------------------------------------------------------

    def _first_block(self) -> Any:
        """The start vectors and as much of the sketch as is wanted, orthonormal."""
        given = self.options.start
        used = 0 if given is None else min(given.shape[1], self.block)
        z = self.reads.sketch(self.block - used, used)
        if used:
            z = self.vectors.joined(self.vectors.cast(given[:, :used], self.vectors.computed), z)
        return self._orthonormal(z)

    def _orthonormal(self, z: Any) -> Any:
        """As products with A are computed, so that Y is A times what is kept."""
        return self.vectors.narrow(self.vectors.orthonormal(z, self.fallbacks)[0])

    def _read(self, z: Any, *, adjoint: bool = True) -> tuple[Any, Any]:
        y, w = self.reads.read(z, adjoint=adjoint)
        self.own_reads += 1
        if self.own_reads == 1 and not self.reads.exponent:
            self._check_range()
        return y, w

    def _check_range(self) -> None:
        square = self.reads.squares
        if 4.0**-_MODERATE <= square <= 4.0**_MODERATE:
            return
        a, vectors = self.reads.a, self.vectors
        norm = float(vectors.down(gram_bound(vectors.wide(a.value), 0)))
        exponent = math.frexp(norm)[1]
        if not math.isfinite(norm):
            # The norm may overflow where no entry does.
            top = float(vectors.down(abs(vectors.wide(a.value)).max()))
            if not math.isfinite(top):
                raise NotFinite
            exponent = math.frexp(top)[1] + math.ceil(math.log2(a.shape[0] * a.shape[1]) / 2)
        if norm > 0 and abs(exponent) > _MODERATE:
            raise _BeyondRange(exponent, self.reads.reads)

    def build(self) -> None:
        if self.method == "gram":
            self._by_gram()
            return
        grow = self.method == "krylov"
        z = self._first_block()
        before: Any = None
        read = 0
        while True:
            read += 1
            y, w = self._read(z)
            if grow and self.z is not None:
                self._append(z, y, w)
            else:
                self.z, self.y, self.w, self.gram = z, y, w, self.vectors.gram(y)
            last = read >= self.passes
            # Ritz values tell when to stop; their vectors, what to keep of a growing basis.
            if grow or self.options.passes == 0 or (last and read == 1):
                self.ritz, self.rotation = self.vectors.eigen(self.gram)
            settled = before is not None and self._stagnated(before, read)
            before = self.ritz
            if last or (self.options.passes == 0 and settled):
                return
            if grow and self.z.shape[1] == self.reads.columns:
                return  # all of A
            if grow:
                z = self._next_krylov(min(self.block, self.reads.columns - self.z.shape[1]))
            else:
                z = self._orthonormal(self._turned_w())

    def _turned_w(self) -> Any:
        """W times what makes the columns of Y orthogonal: the powers of A then stay apart."""
        vectors = self.vectors
        if self.rotation is None:
            triangle = vectors.triangle(self.gram)
            if triangle is not None:
                return vectors.times(self.w, triangle.inverse)
            self.ritz, self.rotation = vectors.eigen(self.gram)
        # In descending order: the columns of the next Y are graded.
        turned = vectors.times(self.w, self.rotation)
        if self.options.passes:
            self.rotation = None
        return turned

    def _stagnated(self, before: np.ndarray, read: int) -> bool:
        wanted = min(self.options.rank, before.size, self.ritz.size)
        still = (read - 1) ** 2 / (2 * read - 1) if self.method == "krylov" else read - 1
        noise = 16 * self.vectors.unit * max(self.ritz[0], 0.0)
        growth = self.ritz[:wanted] - before[:wanted]
        following = self.ritz[min(wanted, self.ritz.size - 1)]
        if np.any(still * growth > _STAGNATION * following + noise):
            return False
        left = max(self.reads.squares - float(self.ritz[:wanted].sum()), 0.0)
        grown = float(np.maximum(growth, 0).sum())
        return bool(still * grown <= _STAGNATION * left + wanted * noise)

    def _next_krylov(self, block: int) -> Any:
        """The part of the newest W that is orthogonal to all of Z, orthonormal."""
        vectors = self.vectors
        z = self.w[:, self.w.shape[1] - block :]
        for turn in range(3):
            c = vectors.gram(self.z, z)
            if turn > 0 and np.abs(vectors.down(c)).max(initial=0) < 50 * vectors.unit:
                return z
            z = self._orthonormal(vectors.wide(z) - vectors.times(self.z, c))
        # W holds nothing new, and what QR fills in lies anywhere: so all columns together.
        self.fallbacks.householder += 1
        everything = vectors.joined(vectors.wide(self.z), vectors.wide(z))
        return vectors.narrow(vectors.qr(everything)[0][:, self.z.shape[1] :])

    def _append(self, z: Any, y: Any, w: Any) -> None:
        vectors = self.vectors
        side = vectors.gram(self.y, y)
        above = vectors.joined(self.gram, side)
        below = vectors.joined(side.conj().T, vectors.gram(y))
        self.gram = vectors.joined(above, below, axis=0)
        self.z, self.y, self.w = (
            vectors.joined(old, new) for old, new in ((self.z, z), (self.y, y), (self.w, w))
        )

    def _by_gram(self) -> None:
        """Top eigenvectors of A^H A, and a half step with W where it cannot tell them apart."""
        h = self.reads.gram()
        self.own_reads += 1
        if not self.reads.exponent:
            self._check_range()
        values, eigenvectors = self.vectors.eigen(h)
        self.ritz = values
        last = min(self.options.rank, self.reads.columns) - 1
        half_step = values[last] < 1e-9 * values[0]
        size = min(self.reads.columns, self.block if half_step else self.options.rank)
        self.z = self._orthonormal(eigenvectors[:, :size])
        self.y, self.w = self.reads.read(self.z, adjoint=bool(half_step))

    # ---- Factors --------------------------------------------------------------------------------

    def _rotate(self, size: int) -> None:
        """Z, Y and W onto the Ritz vectors with the largest values, in descending order."""
        if self.rotation is None:
            self.ritz, self.rotation = self.vectors.eigen(self.gram)
        e = self.rotation[:, :size]
        self.z, self.y = self.vectors.times(self.z, e), self.vectors.times(self.y, e)
        self.w = None if self.w is None else self.vectors.times(self.w, e)
        self.gram = self.rotation = None

    def basis(self, of_rows: bool) -> Any:
        self.build()
        if self.method != "gram":
            self._rotate(min(self.options.rank, self.y.shape[1]))
        found = self.y if not of_rows else self.z if self.w is None else self.w
        return self.vectors.orthonormal(found, self.fallbacks)[0]

    def factors(self) -> Factors:
        """U, S, V of Q B with Y = Q R, B = R Z^H + (R^-H W_perp^H): see rsvd_matrix.hpp."""
        self.build()
        vectors, reads = self.vectors, self.reads
        most = min(reads.rows, self.options.rank + self.options.oversample)
        columns = self.y.shape[1]
        if columns > reads.rows or (columns > most and self.ritz[most - 1] > 1e-10 * self.ritz[0]):
            self._rotate(min(most, columns))
        size = self.y.shape[1]
        k = min(self.options.rank, size)
        u, s, v = self._by_triangle(k) or self._by_steps(k)
        if float(s @ s) > reads.squares * (1 + 1e4 * vectors.unit):
            # More than all of A: noise has come in by the half step.
            u, s, v = self._by_steps(k, half_step=False)
        return Factors(
            u, s, v, reads.exponent, self._error(s), self.method, reads.reads, self.fallbacks
        )

    def _by_triangle(self, k: int) -> tuple[Any, np.ndarray, Any] | None:
        """In few operations, where Y is far from singular and its type single; else None."""
        vectors = self.vectors
        size = self.y.shape[1]
        if vectors.unit < 1e-10 or self.w is None or size >= self.reads.columns:
            return None
        t = vectors.triangle(vectors.gram(self.y) if self.gram is None else self.gram)
        if t is None or t.left > 0.01 * vectors.unit:
            return None
        b = self._right_side(t.r, t.inverse)
        # B B^H = b^H b, of which the square roots of the eigenvalues are the singular values.
        values, turn = vectors.eigen(vectors.gram(b))
        if not values[k - 1] > 1e-7 * values[0]:
            return None
        s = np.sqrt(values[:k])
        turn = turn[:, :k]
        return vectors.times(self.y, t.inverse @ turn), s, vectors.times(b, turn / vectors.up(s))

    def _by_steps(self, k: int, *, half_step: bool = True) -> tuple[Any, np.ndarray, Any]:
        vectors = self.vectors
        if self.gram is not None and (self.own_reads == 1 or self.rotation is None):
            # In order: a column that is all rounding would spoil every row of R^-1.
            self._rotate(self.y.shape[1])
        size = self.y.shape[1]
        q, r = vectors.orthonormal(self.y, self.fallbacks)
        right = vectors.wide(self.z)
        if half_step and self.w is not None and size < self.reads.columns:
            inverse = vectors.up(inverse_of_upper(vectors.down(r)))
            b = self._right_side(r, inverse)
            right, r = vectors.orthonormal(b, self.fallbacks)
            r = r.conj().T
        left, s, turned = vectors.small_svd(r, k)
        return vectors.times(q, left), s, vectors.times(right, turned)

    def _right_side(self, r: Any, inverse: Any) -> Any:
        """b with B = b^H, rows that are rounding alone left out of the half step."""
        vectors = self.vectors
        sums = abs(inverse).sum(0)
        inner, whole = vectors.gram(self.z, self.w), vectors.gram(self.y)
        # At least the largest eigenvalue of Y^H Y, which is Z^H W but for the rounding of W: what
        # that is worth is seen there.
        top = abs(whole).sum(0).max()
        seen = (abs(inner - whole) ** 2).sum() ** 0.5
        seen = seen * math.sqrt(self.reads.columns / inner.shape[0])
        usable = sums * top**0.5 < 0.1 / vectors.unit
        # A row of the second term must stand above that rounding, divided by R.
        rest = self.w - vectors.times(self.z, inner)
        b = vectors.times(rest, vectors.only(inverse, usable))
        noise = (24 * vectors.unit * top + 3 * seen) * sums
        kept = usable & ((abs(b) ** 2).sum(0) ** 0.5 > noise)
        return vectors.only(b, kept) + vectors.times(self.z, r.conj().T)

    def _error(self, s: np.ndarray) -> float:
        whole = self.reads.squares
        if whole <= 0:
            return 0.0
        square = max(whole - float(s @ s), 0.0) + 4 * self.vectors.unit * whole
        return math.sqrt(square / whole)
