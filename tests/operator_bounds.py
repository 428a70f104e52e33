"""What the tests of operator_norm_bounds share: operators, their truth, what is asked of bounds.

Truth is the norm by construction where it can be, else 40-digit arithmetic, else a float64 SVD,
which is given 1e-14 of room.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

DTYPES = ("float32", "float64", "complex64", "complex128")
SVD_ERROR = 1e-14


def random_sparse(rng, m, n, *, density, dtype="float64", signed=True):
    mask = rng.random((m, n)) < density
    values = rng.standard_normal((m, n))
    if not signed:
        values = np.abs(values)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal((m, n))
    return sp.coo_array(np.where(mask, values, 0).astype(dtype))


def as_operator(a, how):
    dense = a.toarray() if sp.issparse(a) else a
    parts = {
        "matvec": lambda v: dense @ v,
        "rmatvec": lambda u: dense.conj().T @ u,
        "shape": dense.shape,
        "dtype": dense.dtype,
    }
    if how == "tuple":
        return tuple(parts.values())
    if how == "object":
        return type(
            "Operator", (), {k: staticmethod(v) if callable(v) else v for k, v in parts.items()}
        )()
    return spla.aslinearoperator(dense)


def svd_norm(a):
    dense = a.toarray()
    return np.linalg.norm(dense.astype(np.complex128 if dense.dtype.kind == "c" else float), 2)


def check_bracket(bounds, truth, *, error=0.0):
    """The truth is known up to a relative error; comparisons are in double precision."""
    assert float(bounds.lower) <= truth * (1 + error)
    assert float(bounds.upper) >= truth * (1 - error)


def check_fields(bounds, *, rtol, dtype="float64", certificate="rounding"):
    assert bounds.certificate == certificate
    assert (bounds.confidence == 1) == (certificate != "probabilistic")
    real = (
        np.float32
        if np.dtype(dtype).itemsize // (1 + (np.dtype(dtype).kind == "c")) == 4
        else float
    )
    assert bounds.lower.dtype == bounds.upper.dtype == real
    assert bounds.lower.shape == bounds.upper.shape == bounds.converged.shape == ()
    low, high = float(bounds.lower), float(bounds.upper)
    assert low <= high
    assert bool(bounds.converged) == (high == 0 or (low > 0 and high / low - 1 <= rtol))
