"""polar where rounding is at its worst: sums of equal terms, and products from the Gram form."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.reference import matrices
from tests.reference import polar as reference

FLOATS = ("float32", "float64", "complex64", "complex128")


def default_tolerance(x):
    r, k = min(x.shape), max(x.shape)
    return (8 * r**0.5 + 2 * (min(k, 512) + -(-k // 256)) ** 0.5) * reference.unit(x.dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_equal_entries_are_no_reason_to_raise(dtype):
    # Their sums round to the same side each time, in LAPACK's QR too.
    for rows in (1, 2, 3):
        for cols in (512, 2000):
            for c in (0.1, 0.3, 0.7):
                x = (np.eye(rows, cols) - c * np.triu(np.ones((rows, cols)), 1)).astype(dtype)
                u, info = gm.polar(x, compute_hermitian=False, return_info=True)
                assert info.residual <= default_tolerance(x)
                # What is measured has such sums as well: k u instead of 2 sqrt(k) u.
                gram = u.astype(np.clongdouble) @ u.conj().T
                off = np.linalg.norm((gram - np.eye(rows)).astype(complex))
                most = min(cols, 512) + -(-cols // 256) + 8
                assert off <= most * rows**0.5 * reference.unit(x.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kappa", [5.0, 7.0, 9.0, 11.0, 14.0, 17.0, 19.0])
def test_the_product_is_x_where_the_gram_form_ends(kappa, dtype):
    # Its error grows with the square of the condition number.
    for seed in range(8):
        rng = np.random.default_rng(seed)
        for n in (2, 5, 16):
            sigma = np.where(np.arange(n) < n // 2, 1.0, 1 / kappa)
            a = matrices.orthonormal(rng, 4 * n, n) * sigma
            x = (a @ matrices.orthonormal(rng, n, n).T).astype(dtype)
            u, p = gm.polar(x)
            missing = np.linalg.norm(x.astype(np.longdouble) - u.astype(np.longdouble) @ p)
            assert missing <= default_tolerance(x) * np.linalg.norm(x.astype(float))


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_product_is_x_next_to_the_cutoff(dtype):
    """An SVD decides there; in few dimensions the tolerance has little room for its rounding."""
    unit = reference.unit(np.dtype(dtype))
    rng = np.random.default_rng(3)
    cplx = dtype.startswith("c")
    for n in (2, 3, 4, 8, 13, 16):
        for rows in (n, n + 2):
            a = []
            for _ in range(40):
                sigma = np.sort(10 ** rng.uniform(-3, 0, n))[::-1]
                below = int(rng.integers(1, n))
                sigma[-below:] = rows * unit * 10 ** rng.uniform(-1, 1.5, below)
                sigma[0] = 1
                left = matrices.orthonormal(rng, rows, n, cplx=cplx) * sigma
                a.append(left @ matrices.orthonormal(rng, n, n, cplx=cplx).conj().T)
            x = np.array(a).astype(dtype)
            u, p, info = gm.polar(x, return_info=True)
            wide = np.clongdouble if cplx else np.longdouble
            missing = u.astype(wide) @ p.astype(wide) - x
            for b in range(len(x)):
                dropped = np.linalg.norm(reference.svd(x[b])[1][int(info.rank[b]) :])
                allowed = default_tolerance(x[b]) * np.linalg.norm(x[b]) + dropped
                assert np.sqrt((abs(missing[b]) ** 2).sum()) <= allowed


def test_clipping_survives_what_divide_and_conquer_leaves():
    """LAPACK's divide and conquer was seen to return NaN for these."""
    for seed in (2225, 4679, 4966):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(66, 140))
        sigma = 10 ** rng.uniform(-3, 0, n)
        below = int(rng.integers(1, n))
        sigma[:below] = n * 2.0**-53 * 10 ** rng.uniform(-1.5, 1.5, below)
        sigma /= sigma.max()
        left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
        x = (left * sigma) @ right
        y = gm.spectral_clip(x, 1e-3)
        assert np.linalg.svd(y, compute_uv=False)[0] <= 1e-3 * (1 + 1e-11)
