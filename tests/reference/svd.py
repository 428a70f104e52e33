"""What the tests of truncated SVDs share: errors in double, and what is asked of factors."""

from __future__ import annotations

import mpmath
import numpy as np

METHODS = ("subspace", "krylov", "gram", "single_pass")
DTYPES = ("float32", "float64", "complex64", "complex128")


def wide(x):
    return np.asarray(x).astype(np.complex128)


def eps(dtype):
    return np.finfo(dtype).eps


def residual(a, result):
    u, s, vh = map(wide, result)
    return wide(a) - (u * s) @ vh


def frobenius_error(a, result):
    return np.linalg.norm(residual(a, result))


def spectral_error(a, result):
    return np.linalg.norm(residual(a, result), 2)


def least_rank(sigma, tol):
    """The least rank whose best approximation errs by at most tol, a part of the norm."""
    tails = np.sqrt(np.cumsum(sigma[::-1] ** 2))[::-1]
    return max(1, int(np.sum(tails > tol * np.sqrt(np.sum(sigma**2)))))


def error_in_60_digits(a, result):
    """||A - U S Vh||_F / ||A||_F of NumPy's arrays."""
    with mpmath.workdps(60):
        a, u, s, vh = (mpmath.matrix(x.tolist()) for x in (a, *result))
        return mpmath.norm(a - u * mpmath.diag(list(s)) * vh, 2) / mpmath.norm(a, 2)


def check_orthonormal(u, vh, dtype, units=40):
    """40: measured on random matrices. What is sure is a Gram matrix's rounding, 256 of float64."""
    for q in (wide(u), wide(vh).conj().T):
        assert np.abs(q.conj().T @ q - np.eye(q.shape[1])).max() <= units * eps(dtype)
