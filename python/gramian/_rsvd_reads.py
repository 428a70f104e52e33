"""Complete reads of a matrix that comes in pieces: Y = A Z and W = A^H Y from each piece in turn.

As cpp/src/two_sided_pass.hpp does for dense arrays; what is said of scale and centering in
docs/rsvd.md holds here too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _rsvd_thin
from ._rsvd_pieces import Pieces, Whole
from ._rsvd_rows import Rows, scaled, sum_of_squares, wide_dtype
from ._sketch import sketch

# Exponents of ||A|| up to this are left as they are: nothing overflows, and powers of two
# commute with rounding, so that results scale exactly all the same.
_MODERATE = 32

# Random vectors multiplied in the first read of an operator, to know its Frobenius norm and the
# error by. The relative variance of the square of an estimate is at most 2 / 10.
PROBES = 10


@dataclass(frozen=True)
class Arithmetic:
    """A sum of j products errs by at most unit (j + extra) sum |a| |b| (docs/rsvd.md)."""

    unit: float
    extra: int


# Lemma 1 of docs/bounds.md: any order, roundings to nearest, complex products of four.
IEEE_REAL = Arithmetic(1.01 * 2.0**-53, 4)
IEEE_COMPLEX = Arithmetic(3 * 2.0**-53, 4)


class Reader:
    """Reads of 2^-exponent (A - means), with what the first one finds out.

    Attributes
    ----------
    exponent : int
        0 unless the norm of A is beyond 2^-32 to 2^32.
    squares : float
        Sum of squares of what is read; NaN where only products are known.
    lost : float
        Sum of squares of the means that were taken off products, not off entries.
    late_centers : bool
        Whether they were taken off Y and W only once these were complete.
    finite : bool
    reads : int
        Complete ones so far.
    thin : _rsvd_thin or its like
        What computes where Y and W lie.
    arithmetic : Arithmetic
        Of products in double.
    """

    thin: Any = _rsvd_thin

    def __init__(
        self,
        pieces: Pieces,
        *,
        centering: str = "none",
        check_finite: bool = True,
        seed: int = 0,
        moderate: int = _MODERATE,
    ) -> None:
        self.pieces = pieces
        self.dtype = pieces.dtype
        self.wide = wide_dtype(pieces.dtype)
        self.columns = pieces.columns
        self.rows = pieces.rows if pieces.rows is not None else -1
        self.is_operator = isinstance(pieces, Whole) and pieces.is_operator
        self.exponent = 0
        self.squares = 0.0
        self.lost = 0.0
        self.late_centers = False
        self.finite = True
        self.reads = 0
        self.arithmetic = IEEE_COMPLEX if self.dtype.kind == "c" else IEEE_REAL
        self.probes: Any = None
        self.probed: Any = None
        self._centering = centering
        self._check = check_finite
        self._seed = seed
        self._moderate = moderate
        self._started = False
        # Of the columns of A; or of its rows, where A is the adjoint of what was given.
        self._means: Any = None

    @property
    def is_uncentered(self) -> bool:
        return self._centering == "none"

    @property
    def squares_or_estimate(self) -> float:
        """Sum of squares; of an operator, an estimate from the probes."""
        if not self.is_operator:
            return self.squares
        return float(np.vdot(self.probed, self.probed).real) / PROBES

    def read(self, z: Any, *, adjoint: bool = True) -> tuple[Any, Any]:
        """Y = A z in the dtype of A and W = A^H Y in double (None unless `adjoint`)."""
        z = z.astype(self.dtype, copy=False)
        return self._later(z, adjoint) if self.reads else self._first(z, adjoint)

    def _later(self, z: Any, adjoint: bool) -> tuple[Any, Any]:
        y = np.empty((self.rows, z.shape[1]), self.dtype)
        w = np.zeros((self.columns, z.shape[1]), self.wide) if adjoint else None
        row = 0
        self.reads += 1
        for name, piece in self.pieces(z.shape[1], self.reads):
            means = self._means_of(row, piece.shape[0])
            less = piece.less(means) if self._centering == "columns" else None
            part = (less or piece).times(z)
            if means is not None and less is None:
                part = self._less_means(part, means, z)
            part = scaled(part, -self.exponent)
            self._require_finite(part, name)
            y[row : row + piece.shape[0]] = part
            if w is not None:
                back = (less or piece).adjoint_times(part)
                if means is not None and less is None:
                    back = self._adjoint_less_means(back, means, part)
                w += scaled(back, -self.exponent)
            row += piece.shape[0]
            del piece, less
        return y, w

    def _first(self, z: Any, adjoint: bool) -> tuple[Any, Any]:
        width = z.shape[1]
        if self.is_operator:
            shift = -(-width // 128) * 128  # entries that no sketch of this width has
            self.probes = sketch(self._seed, self.columns, PROBES, self.dtype, first_column=shift)
            z = np.c_[z, self.probes]
        parts: list[Any] = []
        w = np.zeros((self.columns, width), self.wide) if adjoint else None
        centers = _Centers(self)
        self.reads += 1
        for name, piece in self.pieces(z.shape[1], self.reads):
            source = centers.begin(piece)
            if self._centering == "rows":
                part, total = source.times_and_sums(z)
                centers.add_rows(total)
            else:
                part = source.times(z)
            if centers.here is not None:
                part = self._less_means(part, centers.here, z)
            norm = self._measure(source, part[:, :width], name)
            self._require_finite(part, name)
            if norm is not None:
                w = self._rescale(*norm, w)
            if w is not None:
                here = scaled(part[:, :width], -self.exponent)
                back = source.adjoint_times(here)
                if centers.here is not None:
                    back = self._adjoint_less_means(back, centers.here, here)
                w += scaled(back, -self.exponent)
            parts.append(part)
            del piece, source
        y = np.concatenate(parts) if len(parts) > 1 else parts[0] if parts else z[:0]
        del parts
        self.rows = y.shape[0]
        y = scaled(y, -self.exponent)
        left = centers.finish()
        if left is not None:
            # A = A_p - 1 d^T, and A^H 1 = 0 (docs/rsvd.md).
            row = left @ z.astype(self.wide)
            y = (y - row).astype(self.dtype, copy=False)
            if w is not None:
                w -= self.rows * np.outer(left.conj(), row[:width])
        if self.is_operator:
            y, self.probed = np.ascontiguousarray(y[:, :width]), y[:, width:]
            self.squares = math.nan
        return y, w

    def gram(self) -> Any:
        """A^H A in double precision: the first read."""
        h = np.zeros((self.columns, self.columns), self.wide)
        centers = _Centers(self, sparse_means=False)
        nothing = np.zeros((self.columns, 0), self.dtype)
        rows = 0
        self.reads += 1
        for name, piece in self.pieces(max(1, self.columns // 2), self.reads):
            rows += piece.shape[0]
            source = centers.begin(piece)
            norm = self._measure(source, nothing, name)
            if norm is not None:
                h = self._rescale(*norm, h)
            h += source.gram(self.exponent)
            if self._centering == "rows":
                centers.add_rows(source.times_and_sums(nothing)[1])
                mean = scaled(centers.here, -self.exponent)
                side = scaled(
                    source.adjoint_times(mean[:, None].astype(self.dtype)), -self.exponent
                )
                h += np.vdot(mean, mean) - side - side.conj().T
            del piece, source
        self.rows = rows
        left = centers.finish()
        if left is not None:
            h -= rows * np.outer(left.conj(), left)
        return (h + h.conj().T) / 2

    # ---- Scale ----------------------------------------------------------------------------------

    def _measure(self, source: Rows, part: Any, name: str) -> tuple[float, int] | None:
        """Sum of squares of a piece; None where it is zero or not finite."""
        return self._accept(source.squares() or sum_of_squares(part), name)

    def _accept(self, figures: tuple[float, int], name: str) -> tuple[float, int] | None:
        if not math.isfinite(figures[0]):
            self._not_finite(name)
            return None
        return figures if figures[0] > 0 else None

    def _rescale(self, square: float, exponent: int, w: Any) -> Any:
        own = math.frexp(math.sqrt(square))[1] + exponent
        own = own if abs(own) > self._moderate else 0
        if not self._started or own > self.exponent:
            down = self.exponent - own
            if self._started and w is not None:
                w = self.thin.scaled(w, 2 * down)
            self.squares = math.ldexp(self.squares, 2 * down) if self._started else 0.0
            self.exponent = own
            self._started = True
        self.squares += math.ldexp(square, 2 * (exponent - self.exponent))
        return w

    def _require_finite(self, part: Any, name: str) -> None:
        if not np.isfinite(part).all():
            self._not_finite(name)

    def _not_finite(self, name: str) -> None:
        if self._check:
            self._refuse(name)
        self.finite = False

    def _refuse(self, name: str) -> None:
        if self.is_operator:
            raise ValueError(f"{name} gave NaN or infinity for finite vectors")
        raise ValueError(f"{name} contains NaN or infinity, or its norm overflows")

    # ---- Centering ------------------------------------------------------------------------------

    def _means_of(self, row: int, count: int) -> Any:
        if self._means is None:
            return None
        return self._means[row : row + count] if self._centering == "rows" else self._means

    def _less_means(self, y: Any, means: Any, z: Any) -> Any:
        """(A - M) z of y = A z."""
        if self._centering == "rows":
            return y - np.outer(means, z.sum(axis=0, dtype=self.wide)).astype(self.dtype)
        return y - (means @ z.astype(self.wide)).astype(self.dtype)

    def _adjoint_less_means(self, w: Any, means: Any, y: Any) -> Any:
        """(A - M)^H y of w = A^H y."""
        if self._centering == "rows":
            return w - means.conj() @ y.astype(self.wide)
        return w - np.outer(means.conj(), y.sum(axis=0, dtype=self.wide))


class _Centers:
    """What the first read learns of the means, and takes off while it does."""

    def __init__(self, reader: Reader, *, sparse_means: bool = True) -> None:
        self._reader = reader
        self._at_once = sparse_means and isinstance(reader.pieces, Whole)
        self._provisional: Any = None
        self._sums: Any = 0
        self._rows: list[Any] = []
        # Means to be taken off the products of the piece at hand.
        self.here: Any = None

    def begin(self, piece: Rows) -> Rows:
        reader = self._reader
        if reader._centering != "columns" or piece.shape[0] == 0:
            return piece
        if self._at_once:
            # All rows are at hand: Y is centered before W = A^H Y is formed of it.
            self.here = reader._means = piece.column_sums() / piece.shape[0]
            return piece
        if self._provisional is None:
            # What the means of the first rows leave is small beside the entries, as a rule.
            self._provisional = piece.column_sums() / piece.shape[0]
        source = piece.less(self._provisional) or piece
        if source is piece:
            self._provisional = np.zeros(reader.columns, reader.wide)
        self._sums = self._sums + source.column_sums()
        return source

    def add_rows(self, sums: Any) -> None:
        self.here = sums / max(1, self._reader.columns)
        self._rows.append(self.here)

    def finish(self) -> Any:
        """The scaled means that are still to be taken off, None if there are none."""
        reader = self._reader
        if reader._centering == "none" or reader.rows == 0:
            return None
        left = None
        count = reader.columns
        reader.late_centers = reader._centering == "columns" and not self._at_once
        if reader._centering == "rows":
            reader._means = np.concatenate(self._rows)
            lost = scaled(reader._means, -reader.exponent)
        else:
            count = reader.rows
            if self._at_once:
                lost = scaled(reader._means, -reader.exponent)
            else:
                reader._means = self._provisional + self._sums / reader.rows
                lost = left = scaled(self._sums / reader.rows, -reader.exponent)
        reader.lost = count * float(np.vdot(lost, lost).real)
        reader.squares = max(0.0, reader.squares - reader.lost)
        return left
