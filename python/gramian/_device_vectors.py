"""Tall thin matrices on a GPU, in the caller's library, and the small matrices between them.

Products are in double, whatever the matrices' type: tf32 is nowhere used, and what a Gram matrix
resolves is what its entries deserve. Small matrices stay on the device, but for eigenproblems that
LAPACK solves sooner.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays

_U = 2.0**-53

# Eigenproblems up to this side are solved on the host.
_HOST_SIDE = 96


@dataclass
class Fallbacks:
    """How often the plain form of Cholesky QR did not do, and all was begun anew for it."""

    shifted: int = 0
    householder: int = 0
    restarted: int = 0


@dataclass
class Triangle:
    """y = q r with r upper triangular, known by r and its inverse; `left`: of q^H q - 1."""

    r: Any
    inverse: Any
    left: float


class Vectors:
    """Operations on arrays of one library, device and type.

    Parameters
    ----------
    like : _arrays.Array
        Of the library and on the device.
    computed : str
        The type that products with A are computed in.
    """

    def __init__(self, like: _arrays.Array, computed: str) -> None:
        self._library = like.library
        self._module = sys.modules[like.library.name]
        self._is_torch = like.library.name == "torch"
        self._device = like.device
        self.computed = computed
        self.wide_name = "complex128" if computed.startswith("complex") else "float64"
        self.unit = float(np.finfo(computed).eps) / 2

    # ---- In, out, types -------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self._library.empty(shape, dtype, self._device)

    def up(self, x: np.ndarray) -> Any:
        """A small matrix of the host, in double."""
        return self._library.from_host(np.array(x, self.wide_name, order="C"), self._device)

    def down(self, x: Any) -> np.ndarray:
        """Waits for the device."""
        return self._library.to_host(x)

    def cast(self, x: Any, dtype: str) -> Any:
        kind = getattr(self._module, dtype)
        return x.to(kind) if self._is_torch else x.astype(kind, copy=False)

    def wide(self, x: Any) -> Any:
        return self.cast(x, self.wide_name)

    def narrow(self, x: Any) -> Any:
        """To what products with A are computed in, row by row without gaps."""
        x = self.cast(x, self.computed)
        return x.contiguous() if self._is_torch else self._module.ascontiguousarray(x)

    def joined(self, x: Any, y: Any, axis: int = 1) -> Any:
        return self._module.concatenate((x, y), axis=axis)

    def capsule(self, x: Any, dtype: str) -> object:
        return self._library.capsule(x, dtype)

    # ---- Products in double ---------------------------------------------------------------------

    def gram(self, y: Any, x: Any = None) -> Any:
        """y^H x (x = y by default)."""
        y = self.wide(y)
        return y.conj().T @ (y if x is None else self.wide(x))

    def times(self, y: Any, e: Any) -> Any:
        return self.wide(y) @ e

    # ---- Small matrices -------------------------------------------------------------------------

    def eye(self, size: int) -> Any:
        kind = getattr(self._module, self.wide_name)
        if self._is_torch:
            return self._module.eye(size, dtype=kind, device=f"{self._device[0]}:{self._device[1]}")
        return self._module.eye(size, dtype=kind)

    def only(self, x: Any, kept: Any) -> Any:
        """x where `kept`, else 0, also for x that is not finite."""
        return self._module.where(kept, x, 0 * self.eye(1)[0, 0])

    def eigen(self, h: Any) -> tuple[np.ndarray, Any]:
        """Eigenvalues, descending, on the host, and eigenvectors of a Hermitian matrix."""
        if h.shape[0] <= _HOST_SIDE:
            values, vectors = np.linalg.eigh(self.down(h))
            return values[::-1], self.up(vectors[:, ::-1])
        values, vectors = self._module.linalg.eigh(h)
        values = self.down(values)[::-1]
        return values, vectors.flip(1) if self._is_torch else vectors[:, ::-1]

    def triangle(self, g: Any, shift: float = 0.0) -> Triangle | None:
        """The Cholesky factor of a Gram matrix, its columns scaled to length 1 meanwhile.

        None where a pivot is too small to divide by.
        """
        size = g.shape[0]
        lengths = abs(g.diagonal()) ** 0.5
        scaled = g / lengths[:, None] / lengths
        eye = self.eye(size)
        if shift:
            scaled = scaled + shift * eye
        lower, inverse = self._cholesky(scaled, eye)
        pivots = self.down(lower.diagonal().real ** 2)
        # They are 1 at most; not finite for a column of zeros, or where there is no factor.
        if not np.all((pivots >= 1e3 * max(size, 1) * _U) & (pivots < 2)):
            return None
        left = shift + size * _U / float(np.min(pivots, initial=1.0))
        return Triangle(lower.conj().T * lengths, inverse.conj().T / lengths[:, None], left)

    def _cholesky(self, g: Any, eye: Any) -> tuple[Any, Any]:
        """L with g = L L^H, and its inverse; anything but positive pivots where there is none."""
        linalg = self._module.linalg
        if self._is_torch:
            lower, info = linalg.cholesky_ex(g)
            lower = lower / (info == 0)  # not finite if it failed
            return lower, linalg.solve_triangular(lower, eye, upper=False)
        from cupyx import errstate  # type: ignore[import-not-found,unused-ignore]
        from cupyx.scipy.linalg import (  # type: ignore[import-not-found,unused-ignore]
            solve_triangular,
        )

        try:
            with errstate(linalg="raise"):
                lower = linalg.cholesky(g)
        except np.linalg.LinAlgError:
            return 0 * eye, eye
        return lower, solve_triangular(lower, eye, lower=True)

    def orthonormal(self, y: Any, fallbacks: Fallbacks) -> tuple[Any, Any]:
        """Q in double and R with y = Q R.

        Cholesky QR (Yamamoto, Nakatsukasa, Yanagisawa, Fukaya, ETNA 44, 2015) in as many rounds as
        it takes; a Gram matrix with a pivot too small is shifted (Fukaya et al., SIAM J. Sci.
        Comput. 42, 2020); Householder QR where that does not do.
        """
        q = self.wide(y)
        size = q.shape[1]
        total: Any = None
        for _ in range(4):
            g = self.gram(q)
            t = self.triangle(g)
            if t is None:
                fallbacks.shifted += 1
                t = self.triangle(g, 4e3 * max(size, 1) * _U)
                if t is None:
                    break
            q = self.times(q, t.inverse)
            total = t.r if total is None else t.r @ total
            if t.left <= max(0.01 * self.unit, 8 * size * _U):
                return q, total
        fallbacks.householder += 1
        q, r = self.qr(q)
        return q, r if total is None else r @ total

    def qr(self, y: Any) -> tuple[Any, Any]:
        """Householder QR."""
        q, r = self._module.linalg.qr(y)
        return q, r

    def small_svd(self, r: Any, rank: int) -> tuple[Any, np.ndarray, Any]:
        """The leading singular vectors and values of a small matrix: U, S on the host, V.

        By way of r r^H, in a third of the time, where what that loses is far below the unit.
        """
        if self.unit > 1e-10:
            values, left = self.eigen(r @ r.conj().T)
            if values[rank - 1] > 1e-8 * values[0]:
                left = left[:, :rank]
                s = np.sqrt(values[:rank])
                return left, s, (r.conj().T @ left) / self.up(s)
        left, s, vh = np.linalg.svd(self.down(r))
        return self.up(left[:, :rank]), s[:rank], self.up(vh[:rank].conj().T)
