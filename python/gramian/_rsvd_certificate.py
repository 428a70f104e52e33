"""The least rank whose error is proved to be at most a tolerance, of what a `Reader` reads.

In double precision whatever the input. The proof, line for line: docs/rsvd.md; what is different
about NumPy's products: docs/rsvd_operators.md; about a GPU's: docs/rsvd.md, "On a GPU". As
cpp/src/rsvd_certified.hpp.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._arrays import real_dtype
from ._rsvd_iteration import Factors, Iteration, Options
from ._rsvd_reads import Reader

# Up to here A^H A and all its eigenvectors are cheaper than growing a basis.
GRAM_SIDE = 2048

_U = 2.0**-53

# Of the dtype that is returned: unit roundoff, and half its least positive number.
_SINGLE = (2.0**-24, 2.0**-150)
_RETURNED = {
    "float16": (2.0**-11, 2.0**-25),
    "bfloat16": (2.0**-8, 2.0**-134),
    "float32": _SINGLE,
    "complex64": _SINGLE,
}


@dataclass
class Certified:
    """`floor` is the least that could have been proved; `certified` whether the error is proved."""

    factors: Factors
    floor: float
    reached: bool
    certified: bool


def certified(
    reader: Reader, options: Options, tolerance: float, dtype: str, *, least_rank: int = 1
) -> Certified | None:
    """Of rank `least_rank` or more. None if the matrix is not finite."""
    search = _Search(reader, options, tolerance, least_rank)
    if not search.run():
        return None
    cap = min(options.rank, reader.rows, reader.columns)
    options.rank = cap if reader.rows else options.rank
    for more in (1, 2, 4, 8):
        found = search.attempt(dtype)
        enough = search.rank >= cap or found.floor > tolerance
        if found.reached or enough or more == 8:
            break
        search.rank = min(cap, search.rank + more, cap if search.by_gram else search.width)
    return found


class _Search:
    def __init__(self, reader: Reader, options: Options, tolerance: float, least_rank: int) -> None:
        self.reader = reader
        self.least_rank = least_rank
        self.options = options
        self.tolerance = tolerance
        self.rank = 1
        self.by_gram = options.method == "gram" or (
            options.method == "auto" and reader.columns <= GRAM_SIDE
        )
        self.iteration = Iteration(reader, dataclasses.replace(options))
        self.iteration.method = "gram" if self.by_gram else "krylov"

    @property
    def width(self) -> int:
        return int(self.iteration.z.shape[1])

    def run(self) -> bool:
        if not self.by_gram:
            return self._grow()
        if not self.iteration.whole_gram():
            return False
        self._choose()
        return True

    def _cap(self) -> int:
        return min(self.options.rank, self.reader.rows, self.reader.columns)

    def _choose(self) -> bool:
        """The least rank that Ritz values promise to be enough; whether there is one."""
        squares = self.reader.squares
        target = 0.999 * self.tolerance**2 * squares
        ritz = self.iteration.ritz[: self._cap()]
        left = squares - np.cumsum(np.maximum(ritz, 0.0))
        enough = np.flatnonzero(left <= target)
        rank = max(self.least_rank, int(enough[0]) + 1 if enough.size else ritz.size)
        self.rank = max(1, min(rank, self._cap()))
        return bool(enough.size) and ritz.size >= self.rank

    def _grow(self) -> bool:
        """Block Krylov with a basis that doubles, until the rank asked for stays the same."""
        it, reader, thin = self.iteration, self.reader, self.reader.thin
        n = reader.columns
        block = min(n, 32)
        z = it.first_block(block)
        before = -1
        while True:
            y, w = reader.read(z)
            if not reader.finite:
                return False
            if it.z is None:
                it.z, it.y, it.w, it.gram = z, y, w, thin.gram(y)
            else:
                it.append(z, y, w)
            it.ritz, it.vectors = thin.eigen(it.gram)
            settled = self._choose()
            width = self.width
            enough = settled or width >= self._cap() + self.options.oversample
            if (enough and before >= 0 and before - self.rank <= 1) or width >= n:
                return True
            before = self.rank if enough else -1
            # All of W so far may be taken: twice the basis for one more read.
            block = min(n - width, min(width, 2 * block) if enough else width)
            z = it.next_krylov(block)

    def attempt(self, dtype: str) -> Certified:
        """Factors of the rank chosen, and what is proved of them."""
        it, options = self.iteration, self.options
        if self.by_gram:
            # Of as many eigenvectors as wanted: one more read.
            z = self.reader.thin.qr(it.vectors[:, : self.rank])[0]
            y, _ = self.reader.read(z, adjoint=False)
        else:
            z, y = it.z, it.y
        one = Iteration(self.reader, dataclasses.replace(options, rank=self.rank))
        one.z, one.y, one.vectors, one.method = z, y, it.vectors, it.method
        one.householder = it.householder
        columns = z.shape[1]
        bases, turns = [z], []
        if not self.by_gram:
            size = min(columns, self.reader.rows, self.rank + options.oversample)
            one.compress(size)
            bases, turns = [z, one.z], [it.vectors[:, :size]]
        factors, right = one.finish_without_half_step()
        found = self._certify(factors, right, one.y, one.z, columns, dtype)
        found.certified = self.reader.is_uncentered and self._as_proved(bases, [*turns, right])
        return found

    def _as_proved(self, bases: list[Any], turns: list[Any]) -> bool:
        """What the proof takes of Z: lengths of columns; of E and C: their spectral norms too."""
        thin = self.reader.thin
        lengths = [float(thin.dots(x, x).sum()) / max(1, x.shape[1]) for x in bases]
        skews = [float((abs(thin.gram(x) - thin.eye(x.shape[1])) ** 2).sum()) for x in turns]
        return max(lengths) <= 1.02 and max(skews) <= 0.02**2

    def _certify(
        self, factors: Factors, right: Any, product: Any, z: Any, columns: int, dtype: str
    ) -> Certified:
        """The steps 1 to 6 of the proof, with the numbers that are returned."""
        reader, thin = self.reader, self.reader.thin
        is_complex = reader.dtype.kind == "c"
        unit, extra = reader.arithmetic.unit, reader.arithmetic.extra
        m, n, k, r = reader.rows, reader.columns, factors.s.size, z.shape[1]
        slip = (
            1.1
            * unit
            * (
                math.sqrt(columns) * (n + extra + 2 * (columns + extra) * math.sqrt(r))
                + 2 * (r + extra) * math.sqrt(r) * math.sqrt(k)
            )
        )
        p = thin.rotate(product, right)
        inner = float(factors.s @ thin.dots(factors.u, p))
        x2 = float(factors.s**2 @ thin.dots(factors.u, factors.u))
        p2 = float(thin.dots(p, p).sum())
        v = thin.gram(factors.v)
        skew = float((abs(v - thin.eye(k)) ** 2).sum()) ** 0.5 + 1.1 * unit * (n + 8) * k
        whole, x = reader.squares, math.sqrt(x2)
        # A sum of squares: along a row, over a chunk by pairs, over the pieces of the rows. It is
        # no matrix product, so rounded to nearest on a GPU too.
        sums = 1.1 * (3 if is_complex else 1.01) * _U * (m + n + k + 512)
        slack = (
            sums * whole
            + (skew + sums) * x2
            + 2 * slip * x * math.sqrt(whole)
            + 2 * sums * x * math.sqrt(p2)
        )
        squares = max(whole - 2 * inner + x2, 0.0) + slack
        # Rounding U, S and V to the dtypes returned, where they may over- or underflow; and of
        # complex factors, making the largest entries real.
        roundoff, least = _RETURNED.get(dtype, (0.0, 0.0))
        rounding = (
            (2.1 * roundoff + 1.1 * least * (math.sqrt(m) + math.sqrt(n))) * x
            + 1.1 * _moved(factors.s, reader.exponent, dtype)
            + (20 * _U * x if is_complex else 0.0)
        )
        norm = math.sqrt(whole)
        error = 1.000001 * (math.sqrt(squares) + rounding) / norm if whole > 0 else 0.0
        floor = 1.000001 * (math.sqrt(slack) + rounding) / norm if whole > 0 else 0.0
        factors.error = error
        return Certified(factors, floor, error <= self.tolerance, certified=True)


def _moved(s: Any, exponent: int, dtype: str) -> float:
    """||S - S as returned||, infinite where that has infinities."""
    with np.errstate(all="ignore"):
        returned = np.ldexp(s, exponent).astype(real_dtype(dtype)).astype(np.float64)
        return float(np.linalg.norm(s - np.ldexp(returned, -exponent)))
