"""Tall thin matrices and small ones on a GPU, under the names of `_rsvd_thin.py`.

So that one iteration and one certificate serve row blocks on both: `_rsvd_iteration.py`,
`_rsvd_certificate.py`. Eigenvalues and singular values are NumPy's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _arrays, _backend
from ._device_vectors import Fallbacks, Vectors
from ._rsvd_thin import inverse_of_upper

# Singular value decompositions up to this side are LAPACK's.
_HOST_SIDE = 768

# Entries whose products are held at a time.
_BAND = 2**22


class DeviceThin:
    """Operations on arrays of one library and device.

    Parameters
    ----------
    like : _arrays.Array
        Of the library and on the device.
    dtype : numpy.dtype
        What products with A are computed in.
    """

    # Sums over rows are the library's, in the dtype itself.
    sums_in_cache = False

    def __init__(self, like: _arrays.Array, dtype: np.dtype[Any]) -> None:
        self.like = like
        self.vectors = Vectors(like, dtype.name)
        self.fallbacks = Fallbacks()

    # ---- In, out, types -------------------------------------------------------------------------

    def cast(self, x: Any, dtype: Any) -> Any:
        return self.vectors.cast(x, np.dtype(dtype).name)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.vectors.empty(shape, np.dtype(dtype).name)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        x = self.empty(shape, dtype)
        x[...] = 0
        return x

    def to_host(self, x: Any) -> Any:
        """Waits for the device."""
        return self.vectors.down(x)

    def from_host(self, x: Any, dtype: Any) -> Any:
        return self.cast(self.vectors.up(x), dtype)

    def sketch(
        self, seed: int, rows: int, columns: int, dtype: Any, *, first_column: int = 0
    ) -> Any:
        name = np.dtype(dtype).name
        z = self.empty((rows, columns), dtype)
        if columns:
            device = self.like.device
            capsule = self.vectors.capsule(z, name)
            backend = _backend.for_device(device)
            backend.sketch(capsule, name, seed, first_column, device[1], self.like.stream())
        return z

    def contiguous(self, x: Any) -> Any:
        """Results are put into arrays that are."""
        return x

    def scaled(self, x: Any, exponent: int) -> Any:
        """x 2^exponent; exact unless the result overflows or underflows."""
        if exponent == 0:
            return x
        half = exponent // 2
        return x * math.ldexp(1.0, half) * math.ldexp(1.0, exponent - half)

    # ---- Tall thin matrices ---------------------------------------------------------------------

    def gram(self, y: Any, x: Any = None) -> Any:
        return self.vectors.gram(y, x)

    def rotate(self, y: Any, e: Any, out: Any = None) -> Any:
        turned = self.cast(self.vectors.times(y, e), _name(y))
        if out is None:
            return turned
        out[...] = turned
        return out

    def joined(self, x: Any, y: Any, axis: int = 1) -> Any:
        return self.vectors.joined(x, y, axis)

    def stacked(self, parts: list[Any], shape: tuple[int, int], dtype: Any) -> Any:
        """All rows, of `shape` if there are none."""
        if len(parts) < 2:
            return parts[0] if parts else self.empty(shape, dtype)
        return self.like.module.concatenate(tuple(parts), axis=0)

    def orthonormalize(self, y: Any) -> tuple[Any, Any, bool]:
        own = Fallbacks()
        q, r = self.vectors.orthonormal(y, own)
        self.fallbacks.shifted += own.shifted
        return self.cast(q, _name(y)), r, own.householder > 0

    def qr(self, y: Any) -> tuple[Any, Any]:
        return self.vectors.qr(y)

    def dots(self, x: Any, y: Any) -> Any:
        """Re x_j^H y_j of each column."""
        step = max(1, _BAND // max(1, x.shape[1]))
        total = np.zeros(x.shape[1])
        for i in range(0, x.shape[0], step):
            total += self.to_host((x[i : i + step].conj() * y[i : i + step]).sum(0).real)
        return total

    def is_finite(self, x: Any) -> bool:
        # Of what is not finite neither the sum nor the product with 0 is.
        return math.isfinite(float(abs((x * 0).sum())))

    # ---- Small ones -----------------------------------------------------------------------------

    def eye(self, size: int) -> Any:
        return self.vectors.eye(size)

    def eigen(self, h: Any) -> tuple[Any, Any]:
        return self.vectors.eigen(h)

    def svd(self, r: Any) -> tuple[Any, Any, Any]:
        if max(r.shape) <= _HOST_SIDE:
            left, s, vh = np.linalg.svd(self.to_host(r))
            return self.vectors.up(left), s, self.vectors.up(vh.conj().T)
        left, s, vh = self.like.module.linalg.svd(r)
        return left, self.to_host(s), vh.conj().T

    def inverse_of_upper(self, r: Any) -> Any:
        return self.vectors.up(inverse_of_upper(self.to_host(r)))

    def only(self, x: Any, kept: Any) -> Any:
        """The columns `kept`, the others 0, also of x that is not finite."""
        mask = self.like.library.from_host(np.asarray(kept), self.like.device)
        return self.vectors.only(x, mask)

    def top(self, x: Any) -> float:
        return float(abs(x).max()) if 0 not in x.shape else 0.0


def _name(x: Any) -> str:
    return str(x.dtype).removeprefix("torch.")


# ---- Results ------------------------------------------------------------------------------------


def fix_signs(thin: DeviceThin, u: Any, v: Any, dtype: str) -> tuple[Any, Any]:
    """Makes the largest entry of each column of u, as rounded to `dtype`, real and positive."""
    if 0 in u.shape:
        return u, v
    size = abs(thin.vectors.wide(thin.vectors.cast(u, dtype) if _knows(thin, dtype) else u))
    largest = size.argmax(0)
    columns = list(range(u.shape[1]))
    top = u[largest, columns]
    length = abs(top)
    turn = (top / (length + (length == 0))).conj() + (length == 0)
    # u s v^H stays what it is: both factors turn by the same number of modulus 1.
    u, v = u * turn, v * turn
    u.real[largest, columns] = length
    if dtype.startswith("complex"):
        u.imag[largest, columns] = 0
    return u, v


def _knows(thin: DeviceThin, dtype: str) -> bool:
    """CuPy has no bfloat16 of its own."""
    return hasattr(thin.like.module, dtype)


def put(thin: DeviceThin, values: Any, dtype: str) -> Any:
    """A result's array, row-major, of numbers of the device's or of NumPy's."""
    like = thin.like
    if isinstance(values, np.ndarray):
        values = like.library.from_host(values, like.device)
    out = like.library.empty(tuple(values.shape), dtype, like.device)
    if 0 not in values.shape:
        out[...] = values
    return out
