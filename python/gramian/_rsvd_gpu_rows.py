"""Reads of a matrix whose rows lie on a GPU, all at once or block by block.

As `_rsvd_reads.py` does on the host; docs/rsvd.md, "On a GPU", says what differs. Without a
certificate a block is multiplied by gramian's own read, which never uses tf32; with one, by the
caller's library in float64, whose rounding the proof counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from . import _arrays, _backend
from ._cublas import require_own_double
from ._rsvd_gpu_thin import DeviceThin
from ._rsvd_pieces import Pieces
from ._rsvd_reads import Arithmetic, Reader

# Entries that are converted to double at a time: 128 MiB.
_TILE = 2**24

# Rows of which provisional means are taken.
_FIRST_ROWS = 256

# Entries of a block's first row by which it is recognized.
_PRINT = 64

# What cuBLAS is taken for: sums that tensor cores may round to zero, complex products that may be
# made of three (docs/conv_bounds.md, "Roundings").
_DEVICE_REAL = Arithmetic(2.02 * 2.0**-53, 8)
_DEVICE_COMPLEX = Arithmetic(8 * 2.0**-53, 8)


def figures(thin: DeviceThin, x: Any) -> tuple[float, int]:
    """Sum of squares s and exponent e of a matrix in double: s 4^e. NaN if it is not finite.

    Row by row and then over the rows: no term is in more sums than a column and a row have entries.
    """

    def squares(x: Any) -> float:
        if _is_complex(x):
            return squares(x.real) + squares(x.imag)
        return float(thin.to_host((x * x).sum(1).sum()))

    total = squares(x)
    if math.isfinite(total) and total > 1e-250:
        return total, 0
    top = max(thin.top(x.real), thin.top(x.imag)) if _is_complex(x) else thin.top(x)
    if not math.isfinite(top):
        return math.nan, 0
    exponent = math.frexp(top)[1]
    return squares(thin.scaled(x, -exponent)), exponent


def _is_complex(x: Any) -> bool:
    return "complex" in str(x.dtype)


class DeviceReader(Reader):
    """Reads of 2^-exponent (A - means).

    Parameters
    ----------
    pieces : Pieces
        Arrays on a device.
    certified : bool
        Whether errors are to be proved: in float64, by the caller's library.
    """

    def __init__(
        self,
        pieces: Pieces,
        like: _arrays.Array,
        *,
        center: bool = False,
        check_finite: bool = True,
        seed: int = 0,
        certified: bool = False,
    ) -> None:
        super().__init__(
            pieces,
            centering="columns" if center else "none",
            check_finite=check_finite,
            seed=seed,
        )
        if certified:
            require_own_double("tol on a GPU needs")
        self.thin: DeviceThin = DeviceThin(like, self.dtype)
        self.arithmetic = _DEVICE_COMPLEX if self.dtype.kind == "c" else _DEVICE_REAL
        self._own = certified
        self._prints: dict[int, Any] = {}
        self._provisional: Any = None
        self._sums: Any = None

    # ---- Reads ----------------------------------------------------------------------------------

    def read(self, z: Any, *, adjoint: bool = True) -> tuple[Any, Any]:
        """Y = A z in the dtype of A and W = A^H Y in double (None unless `adjoint`)."""
        thin, first = self.thin, self.reads == 0
        z = thin.vectors.narrow(z)
        width = z.shape[1]
        w = thin.zeros((self.columns, width), self.wide) if adjoint else None
        y: Any = None if first else thin.empty((self.rows, width), self.dtype)
        parts: list[tuple[Any, int]] = []
        self.reads += 1
        row = 0
        for name, tile in self._tiles():
            rows = tile.shape[0]
            if first:
                part, back, w = self._first_products(tile, z, w, name)
                parts.append((part, self.exponent))
            else:
                place = y[row : row + rows]
                place[...], back = self._products(tile, z, adjoint=adjoint)
            if w is not None:
                w += back
            row += rows
            del tile  # else it would keep its block while the next is made
        if first:
            self.rows = row
            scaled = [thin.scaled(part, e - self.exponent) for part, e in parts]
            y = thin.stacked(scaled, (0, width), self.dtype)
            y, w = self._centered(y, w, z)
        if not thin.is_finite(y):
            self._not_finite("a")
        return y, w

    def gram(self) -> Any:
        """A^H A in double precision: the first read."""
        thin = self.thin
        h = thin.zeros((self.columns, self.columns), self.wide)
        self.reads += 1
        self.rows = 0
        for name, tile in self._tiles():
            self.rows += tile.shape[0]
            wide = self._less_provisional(tile)
            h = self._accept_and_rescale(figures(thin, wide), name, h)
            wide = thin.scaled(wide, -self.exponent)
            h += self._adjoint_times(wide, wide)
            del tile, wide
        left = self._left()
        if left is not None:
            h -= self.rows * left.conj()[:, None] * left
        return (h + h.conj().T) / 2

    def _tiles(self) -> Iterator[tuple[str, Any]]:
        """Rows that are multiplied at once; finds a change of order at the end of a read."""
        row = 0
        changed: list[tuple[str, Any]] = []
        for name, block in self.pieces(1, self.reads):
            rows = block.shape[0]
            if rows:
                head = block.value[:1, :_PRINT]
                if row in self._prints:
                    changed.append((name, (head != self._prints[row]).any()))
                elif self.reads == 1:
                    # A sum, as a copy would be: what is given may be overwritten later.
                    self._prints[row] = head + 0
                del head
            row += rows
            step = max(1, _TILE // max(1, self.columns)) if self._own else max(1, rows)
            for i in range(0, rows, step):
                yield name, block.value[i : i + step]
            del block
        if changed and bool(sum(flag for _, flag in changed)):
            name = next(name for name, flag in changed if bool(flag))
            raise ValueError(
                f"{name} is another on read {self.reads} than at first; a must give the same rows "
                "in the same order each time it is iterated over"
            )

    # ---- Products -------------------------------------------------------------------------------

    def _first_products(self, tile: Any, z: Any, w: Any, name: str) -> tuple[Any, Any, Any]:
        thin, adjoint = self.thin, w is not None
        if self._own:
            wide = self._less_provisional(tile)
            w = self._accept_and_rescale(figures(thin, wide), name, w)
            return *self._own_products(thin.scaled(wide, -self.exponent), z, adjoint=adjoint), w
        means = self._provisional_of(tile)
        sums = None
        if means is not None:
            backend = _backend.for_device(self.thin.like.device)
            sums = thin.empty((backend.sum_parts, self.columns), self.wide)
        square = thin.empty((1,), "float64")
        part, back = self._kernel(tile, z, means, sums, square, adjoint=adjoint)
        if sums is not None:
            self._sums = self._sums + sums.sum(0)
        found = float(thin.to_host(square)[0]), 0
        if not (math.isfinite(found[0]) and found[0] > 1e-250):
            wide = thin.vectors.wide(tile)
            found = figures(thin, wide if means is None else wide - means)
        w = self._accept_and_rescale(found, name, w)
        if self.exponent and self.finite:
            part, back = self._scaled_products(tile, z, means, adjoint=adjoint)
        return part, back, w

    def _products(self, tile: Any, z: Any, *, adjoint: bool) -> tuple[Any, Any]:
        thin, means = self.thin, self._means
        if self._own:
            wide = thin.vectors.wide(tile)
            wide = wide if means is None else wide - means
            return self._own_products(thin.scaled(wide, -self.exponent), z, adjoint=adjoint)
        if self.exponent:
            return self._scaled_products(tile, z, means, adjoint=adjoint)
        return self._kernel(tile, z, means, None, None, adjoint=adjoint)

    def _scaled_products(self, tile: Any, z: Any, means: Any, *, adjoint: bool) -> tuple[Any, Any]:
        thin = self.thin
        wide = thin.vectors.wide(tile)
        wide = thin.scaled(wide if means is None else wide - means, -self.exponent)
        return self._kernel(thin.vectors.narrow(wide), z, None, None, None, adjoint=adjoint)

    def _kernel(
        self, tile: Any, z: Any, means: Any, sums: Any, squares: Any, *, adjoint: bool
    ) -> tuple[Any, Any]:
        """By gramian's read of a dense matrix: cuda/src/rsvd.cpp."""
        thin, like = self.thin, self.thin.like
        vectors, width = thin.vectors, z.shape[1]
        computed, wide = self.dtype.name, self.wide.name
        stored = _arrays.array(tile, "a")
        y = thin.empty((tile.shape[0], width), computed)
        w = thin.empty((self.columns, width), wide) if adjoint else None
        if 0 in (*tile.shape, width):
            for x in (y, w, sums, squares):
                if x is not None:
                    x[...] = 0
            return y, w

        def capsule(x: Any, dtype: str) -> object:
            return None if x is None else vectors.capsule(x, dtype)

        _backend.for_device(like.device).two_sided_read(
            stored.capsule(),
            stored.dtype,
            computed,
            wide,
            capsule(z, computed),
            capsule(y, computed),
            capsule(w, wide),
            capsule(means, wide),
            capsule(sums, wide),
            capsule(squares, "float64"),
            like.device[1],
            like.stream(),
            like.scratch,
        )
        return y, w

    def _own_products(self, x: Any, z: Any, *, adjoint: bool) -> tuple[Any, Any]:
        y = x @ z
        return y, self._adjoint_times(x, y) if adjoint else None

    @staticmethod
    def _adjoint_times(x: Any, y: Any) -> Any:
        if not _is_complex(x):
            return x.T @ y
        # The smaller one is conjugated, not the rows.
        return (x.T @ y.conj()).conj()

    # ---- Scale and centering --------------------------------------------------------------------

    def _accept_and_rescale(self, found: tuple[float, int], name: str, w: Any) -> Any:
        norm = self._accept(found, name)
        return w if norm is None else self._rescale(*norm, w)

    def _provisional_of(self, tile: Any) -> Any:
        if self._centering == "columns" and self._provisional is None:
            # What the means of the first rows leave is small beside the entries, as a rule.
            self._provisional = self.thin.vectors.wide(tile[:_FIRST_ROWS]).mean(0)
            self._sums = 0.0
        return self._provisional

    def _less_provisional(self, tile: Any) -> Any:
        wide = self.thin.vectors.wide(tile)
        means = self._provisional_of(tile)
        if means is None:
            return wide
        wide = wide - means
        self._sums = self._sums + wide.sum(0)
        return wide

    def _left(self) -> Any:
        """The scaled means still to be taken off once the first read is complete."""
        if self._provisional is None:
            return None
        left = self._sums / self.rows
        self._means = self._provisional + left
        left = self.thin.scaled(left, -self.exponent)
        self.late_centers = True
        self.lost = self.rows * float((left.conj() * left).real.sum())
        self.squares = max(0.0, self.squares - self.lost)
        return left

    def _centered(self, y: Any, w: Any, z: Any) -> tuple[Any, Any]:
        left = self._left()
        if left is None:
            return y, w
        # A = A_p - 1 d^T, and A^H 1 = 0 (docs/rsvd.md).
        vectors = self.thin.vectors
        row = left @ vectors.wide(z)
        y = vectors.narrow(vectors.wide(y) - row)
        if w is not None:
            w -= self.rows * left.conj()[:, None] * row
        return y, w
