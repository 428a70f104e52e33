"""Inverse roots by eigenvectors, in float64 or by mpmath: slow and obvious.

``allowed`` and ``allowed_root`` are the errors that docs/inverse_roots.md states,
``allowed_residual`` the residual.
"""

from __future__ import annotations

import mpmath
import numpy as np

from tests.reference import matrices


def lower_triangle(a: np.ndarray) -> np.ndarray:
    """The Hermitian matrix that the lower triangle of a stands for, in double precision."""
    a = a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)
    low = np.tril(a, -1)
    return low + low.conj().swapaxes(-1, -2) + np.real(a) * np.eye(a.shape[-1])


def function(a: np.ndarray, f) -> np.ndarray:
    """V f(w) V^H of one matrix."""
    w, v = np.linalg.eigh(lower_triangle(a))
    return (v * f(w)) @ v.conj().T


def inverse_root(a: np.ndarray, p: int, ridge: float = 0.0) -> np.ndarray:
    return function(a, lambda w: (w + ridge * w[-1]) ** (-1.0 / p))


def shifted_inverse_root(a: np.ndarray, p: int, shift: float) -> np.ndarray:
    return function(a, lambda w: (w + shift) ** (-1.0 / p))


def exact(a: np.ndarray, power: float, digits: int = 60) -> np.ndarray:
    """a^power of a real symmetric matrix, to far more digits than it is returned with."""
    with mpmath.workdps(digits):
        values, vectors = mpmath.eigsy(mpmath.matrix(lower_triangle(a).tolist()))
        powers = mpmath.diag([v ** mpmath.mpf(power) for v in values])
        found = vectors * powers * vectors.T
        return np.array(found.tolist(), dtype=np.float64)


def condition(a: np.ndarray, ridge: float = 0.0) -> float:
    w = np.linalg.eigvalsh(lower_triangle(a))
    return float((w[-1] + ridge * w[-1]) / (w[0] + ridge * w[-1]))


def unit_roundoff(dtype) -> float:
    return float(np.finfo(np.dtype(dtype)).eps) / 2


def allowed(n: int, kappa: float, p: int, dtype) -> float:
    """Relative error in the spectral norm."""
    return 8 * np.sqrt(n) * unit_roundoff(dtype) * (1 + kappa / p)


def allowed_root(n: int, kappa: float, dtype) -> float:
    return 32 * np.sqrt(n) * unit_roundoff(dtype) * (1 + np.sqrt(kappa))


def allowed_residual(n: int, kappa: float, p: int, dtype) -> float:
    return 32 * np.sqrt(n) * unit_roundoff(dtype) * (p + kappa)


def relative_error(x: np.ndarray, truth: np.ndarray) -> float:
    double = np.complex128 if x.dtype.kind == "c" else np.float64
    return float(np.linalg.norm(x.astype(double) - truth, 2) / np.linalg.norm(truth, 2))


def residual(x: np.ndarray, p: int, b: np.ndarray) -> float:
    n = len(b)
    return float(np.linalg.norm(np.linalg.matrix_power(x, p) @ b - np.eye(n)) / np.sqrt(n))


def with_eigenvalues(rng: np.random.Generator, values, dtype=np.float64) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    dtype = np.dtype(dtype)
    q = matrices.orthonormal(rng, len(values), len(values), cplx=dtype.kind == "c")
    a = (q * values) @ q.conj().T
    return ((a + a.conj().T) / 2).astype(dtype)


def spectra(n: int, kappa: float) -> dict[str, np.ndarray]:
    """Eigenvalues in [1/kappa, 1] that are hard in different ways."""
    one_small = np.r_[np.linspace(1, 0.5, n - 1), 1 / kappa] if n > 1 else np.ones(1)
    cliff = np.where(np.arange(n) < n // 2, 1.0, 1 / kappa)
    return {
        "geometric": np.geomspace(1, 1 / kappa, n),
        "one_small": one_small,
        "one_large": np.r_[1, np.linspace(2, 1, n - 1) / kappa] if n > 1 else np.ones(1),
        "cliff": cliff,
        "uniform": np.linspace(1, 1 / kappa, n),
        "power_law": np.maximum(np.arange(1.0, n + 1) ** -2, 1 / kappa),
    }
