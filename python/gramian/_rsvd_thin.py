"""Tall thin matrices and small ones: Gram matrices, rotations, orthonormal bases, in double.

On the host; `_rsvd_gpu_thin.py` has the same names for a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._rsvd_rows import scaled as scaled
from ._rsvd_rows import wide_dtype
from ._sketch import sketch as sketch

# Sums over rows are of few rows, and then in double.
sums_in_cache = True

# Rows of a tall thin matrix that are converted to double precision at a time.
_BAND = 4096


def _bands(y: Any) -> list[slice]:
    step = max(_BAND, 4 * y.shape[1])
    return [slice(i, i + step) for i in range(0, y.shape[0], step)]


def gram(y: Any, x: Any = None) -> Any:
    """y^H x (x = y by default) in double precision."""
    other = y if x is None else x
    wide = wide_dtype(y.dtype)
    total = np.zeros((y.shape[1], other.shape[1]), wide)
    for band in _bands(y):
        left = y[band].astype(wide, copy=False)
        right = left if x is None else other[band].astype(wide, copy=False)
        total += left.conj().T @ right
    return total


def rotate(y: Any, e: Any, out: Any = None) -> Any:
    """y e, rounded to y's dtype once; `out` may be y where e is square."""
    out = np.empty((y.shape[0], e.shape[1]), y.dtype) if out is None else out
    for band in _bands(y):
        out[band] = y[band].astype(e.dtype, copy=False) @ e
    return out


def orthonormalize(y: Any) -> tuple[Any, Any, bool]:
    """Q, R with y = Q R, Q orthonormal to a few units of y's dtype; whether it took Householder QR.

    CholeskyQR2 in double precision on columns scaled to length 1 (Yamamoto, Nakatsukasa,
    Yanagisawa, Fukaya, ETNA 44, 2015), by products alone. They take an inverse, which costs a
    factor of the condition number in y - Q R: where a pivot says that it is over about 10,
    Householder QR.
    """
    wide = wide_dtype(y.dtype)
    q, r = y, np.eye(y.shape[1], dtype=wide)
    # One round leaves u kappa^2 of double, which is nothing in single precision.
    for turn in range(2 if y.dtype == wide else 1):
        g = gram(q)
        lengths = np.sqrt(np.abs(np.diagonal(g)))
        if not (np.all(lengths > 0) and np.isfinite(lengths).all()):
            return *_householder(y), True
        try:
            upper = np.linalg.cholesky(g / lengths / lengths[:, None]).conj().T
        except np.linalg.LinAlgError:
            return *_householder(y), True
        if not np.abs(np.diagonal(upper)).min(initial=1) >= 0.1:
            return *_householder(y), True
        q = rotate(q, np.linalg.inv(upper) / lengths[:, None], out=q if turn else None)
        r = (upper * lengths) @ r
    return q, r, False


def _householder(y: Any) -> tuple[Any, Any]:
    """Q, R in double precision: of bands of rows, then of their R together, whatever y is.

    Demmel, Grigori, Hoemmen, Langou, "Communication-optimal parallel and sequential QR and LU
    factorizations", SIAM J. Sci. Comput. 34, 2012.
    """
    wide = wide_dtype(y.dtype)
    rows, columns = y.shape
    bands = _bands(y)
    if len(bands) > 1 and rows - bands[-1].start < columns:  # too few rows to be a band
        bands[-2:] = [slice(bands[-2].start, rows)]
    if len(bands) <= 1:
        q, r = np.linalg.qr(y.astype(wide, copy=False))
        return q.astype(y.dtype, copy=False), r
    q = np.empty_like(y)
    parts = []
    for band in bands:
        q[band], part = np.linalg.qr(y[band].astype(wide, copy=False))
        parts.append(part)
    turn, r = np.linalg.qr(np.concatenate(parts))
    for i, band in enumerate(bands):
        q[band] = q[band].astype(wide, copy=False) @ turn[i * columns : (i + 1) * columns]
    return q, r


def eigen(h: Any) -> tuple[Any, Any]:
    """Eigenvalues, descending, and eigenvectors of a Hermitian matrix."""
    values, vectors = np.linalg.eigh(h)
    return values[::-1], vectors[:, ::-1]


def inverse_of_upper(r: Any) -> Any:
    """Columns that a zero on the diagonal spoils are not finite."""
    n = r.shape[0]
    x = np.zeros_like(r)
    with np.errstate(all="ignore"):
        for i in range(n - 1, -1, -1):
            right = -(r[i, i + 1 :] @ x[i + 1 :, i:])
            right[0] += 1
            x[i, i:] = right / r[i, i]
    return x


# ---- What NumPy and a GPU's library call differently --------------------------------------------


def cast(x: Any, dtype: Any) -> Any:
    return x.astype(dtype, copy=False)


def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    return np.zeros(shape, dtype)


def contiguous(x: Any) -> Any:
    """Row by row."""
    return np.ascontiguousarray(x)


def joined(x: Any, y: Any, axis: int = 1) -> Any:
    return np.concatenate((x, y), axis=axis)


def qr(y: Any) -> tuple[Any, Any]:
    """Q, R by Householder reflections."""
    q, r = np.linalg.qr(y)
    return q, r


def svd(r: Any) -> tuple[Any, Any, Any]:
    """U, S, V of a small matrix."""
    left, s, vh = np.linalg.svd(r)
    return left, s, vh.conj().T


def eye(size: int) -> Any:
    return np.eye(size)


def to_host(x: Any) -> Any:
    return x


def from_host(x: Any, dtype: Any) -> Any:
    return x.astype(dtype, copy=False)


def stacked(parts: list[Any], shape: tuple[int, int], dtype: Any) -> Any:
    """All rows, of `shape` if there are none."""
    return np.concatenate(parts) if parts else np.empty(shape, dtype)


def is_finite(x: Any) -> bool:
    return bool(np.isfinite(x).all())


def only(x: Any, kept: Any) -> Any:
    """The columns `kept`, the others 0, also of x that is not finite."""
    return np.where(kept, x, 0)


def top(x: Any) -> float:
    """The largest modulus."""
    return float(np.abs(x).max(initial=0))


def dots(x: Any, y: Any) -> Any:
    """Re x_j^H y_j of each column."""
    return np.einsum("ij,ij->j", x.conj(), y).real
