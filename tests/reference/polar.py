"""Functions of singular values by their definition: an SVD in float64, or mpmath's."""

from __future__ import annotations

import numpy as np


def wide(x):
    """In double, complex where x is."""
    x = np.asarray(x)
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def unit(dtype):
    """Unit roundoff of the precision computed in."""
    name = np.dtype(dtype).name
    return 2.0**-53 if name in ("float64", "complex128") else 2.0**-24


def svd(x):
    u, s, vh = np.linalg.svd(wide(x), full_matrices=False)
    return u, s, vh


def cutoff(x):
    """What a singular value must exceed, relative to the largest."""
    return max(x.shape) * unit(x.dtype)


def ranks(x):
    """Least and most singular values that may be counted as above the cutoff in rounding."""
    s = svd(x)[1]
    top = s[0] if s.size else 0.0
    return [int((s > factor * cutoff(x) * top).sum()) for factor in (1.25, 0.8)]


def polar(x, rank, side="right"):
    """The partial isometry of the first `rank` singular vectors, p, and its condition number.

    That is sigma_1 over the last singular value kept, less the first one dropped: a perturbation
    turns their vectors into each other by as much.
    """
    u, s, vh = svd(x)
    factor = u[:, :rank] @ vh[:rank]
    p = (vh.conj().T * s) @ vh if side == "right" else (u * s) @ u.conj().T
    gap = s[rank - 1] - (s[rank] if rank < s.size else 0.0) if rank else 1.0
    return factor, p, s[0] / gap if rank else 1.0


def function(x, f):
    """Singular values s to f(s)."""
    u, s, vh = svd(x)
    return (u * f(s)) @ vh


def sign(a):
    """Of a Hermitian matrix, and the condition number of its nonzero part."""
    w, v = np.linalg.eigh(wide(a))
    top = np.abs(w).max(initial=0.0)
    kept = np.where(np.abs(w) > cutoff(a) * top, np.sign(w), 0.0)
    least = np.abs(w[kept != 0]).min(initial=top or 1.0)
    return (v * kept) @ v.conj().T, (top / least if top else 1.0), int((kept != 0).sum())


def polar_mpmath(x, digits=60):
    """Of a square real matrix without small determinant in that many digits."""
    import mpmath

    with mpmath.workdps(digits):
        u, _, vh = mpmath.svd_r(mpmath.matrix(np.asarray(x, np.float64).tolist()))
        return np.array((u * vh).tolist(), dtype=np.float64)
