"""Reads of a dense matrix on a GPU, with what the first one finds out: norm and means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import _arrays, _backend
from ._device_vectors import Vectors

# Rows of which provisional means are taken.
_FIRST_ROWS = 256


@dataclass(frozen=True)
class Options:
    """Checked arguments; `passes` is 0 for "auto"."""

    rank: int
    oversample: int
    passes: int
    method: str
    center: bool
    seed: int
    start: Any = None  # n x j


class Reads:
    """Reads of 2^-exponent A, or of that less the means of its columns."""

    def __init__(self, a: _arrays.Array, options: Options, reads: int = 0, exponent: int = 0):
        if a.library.name == "torch":  # once, not at every read
            value = a.value.resolve_conj().resolve_neg()
            a = _arrays.Array(value, a.library, a.shape, a.dtype, a.device)
        self.a = a
        self.rows, self.columns = a.shape
        computed = a.dtype if a.dtype not in ("float16", "bfloat16") else "float32"
        self.vectors = Vectors(a, computed)
        self.exponent = exponent
        self.reads = reads
        self.squares = 0.0
        self._options = options
        self._first = True
        self._means: Any = None
        self.backend = _backend.for_device(a.device)

    @staticmethod
    def direct_limit(a: _arrays.Array) -> int:
        """Most vectors that the road without waits takes (_rsvd_gpu_direct.py)."""
        limit: int = _backend.for_device(a.device).direct_limit(a.device[1])
        return limit

    def sketch(self, width: int, first: int) -> Any:
        vectors = self.vectors
        z = vectors.empty((self.columns, width), vectors.computed)
        if width:
            self.backend.sketch(
                vectors.capsule(z, vectors.computed),
                vectors.computed,
                self._options.seed,
                first,
                self.a.device[1],
                self.a.stream(),
            )
        return z

    def read(self, z: Any, *, adjoint: bool = True) -> tuple[Any, Any]:
        """Y = A z as it is computed, and W = A^H Y in double (None unless `adjoint`)."""
        center = self._options.center
        if not self._first:
            return self._call(z, adjoint, self._means, None, None)
        self._first = False
        vectors = self.vectors
        squares = vectors.empty((1,), "float64")
        sums: Any = None
        if center:
            # What the means of the first rows leave is small beside the entries, as a rule.
            self._means = vectors.wide(self.a.value[:_FIRST_ROWS]).mean(0)
            sums = vectors.empty((self.backend.sum_parts, self.columns), vectors.wide_name)
        y, w = self._call(z, adjoint, self._means, sums, squares)
        self.squares = float(vectors.down(squares)[0])
        if center:
            # A = A_p - 1 d^T, and A^H 1 = 0 (docs/rsvd.md).
            left = sums.sum(0) / self.rows
            row = left @ vectors.wide(z)
            y = vectors.narrow(vectors.wide(y) - row)
            if w is not None:
                w -= self.rows * left.conj()[:, None] * row
            self._means = self._means + left
            lost = self.rows * float(vectors.down((left * left.conj()).sum().real))
            self.squares = max(self.squares - lost, 0.0)
        return y, w

    def _call(self, z: Any, adjoint: bool, means: Any, sums: Any, squares: Any) -> tuple[Any, Any]:
        vectors = self.vectors
        width = z.shape[1]
        computed, wide = vectors.computed, vectors.wide_name
        y = vectors.empty((self.rows, width), computed)
        w = vectors.empty((self.columns, width), wide) if adjoint else None

        def capsule(x: Any, dtype: str) -> object:
            return None if x is None else vectors.capsule(x, dtype)

        self.backend.two_sided_read(
            self.a.capsule(),
            self.a.dtype,
            computed,
            wide,
            capsule(z, computed),
            capsule(y, computed),
            capsule(w, wide),
            capsule(means, wide),
            capsule(sums, wide),
            capsule(squares, "float64"),
            self.a.device[1],
            self.a.stream(),
            self.a.scratch,
        )
        self.reads += 1
        return y, w

    def gram(self) -> Any:
        """A^H A in double, on the device: a read."""
        vectors = self.vectors
        total: Any = 0
        means: Any = None
        if self._options.center:
            means = vectors.wide(self.a.value[:_FIRST_ROWS]).mean(0)
        sums: Any = 0
        step = max(1, 2**24 // max(1, self.columns))
        for row in range(0, self.rows, step):
            block = vectors.wide(self.a.value[row : row + step])
            if means is not None:
                block = block - means
                sums = sums + block.sum(0)
            total = total + block.conj().T @ block
        self.reads += 1
        self._first = False
        if means is not None:
            left = sums / self.rows
            total = total - self.rows * left.conj()[:, None] * left
            self._means = means + left
        self.squares = float(vectors.down(total.diagonal().real.sum()))
        return total
