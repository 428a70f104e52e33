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
