"""Randomized SVD with centering: blocks of rows of quite other sizes than the means."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.reference import matrices
from tests.reference.svd import DTYPES, METHODS, check_orthonormal, eps, wide

PASSES = {"gram": 2, "single_pass": 1, "krylov": 3, "subspace": 6}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(300, 40), (40, 300)])
def test_centering(shape, method, dtype):
    rng = np.random.default_rng(0)
    a = matrices.power_law(rng, -1, *shape) + 100 * rng.standard_normal(shape[1])
    a = (a * (1 - 2j) if "complex" in dtype else a).astype(dtype)
    centered = a.astype(np.result_type(a, np.float64))
    centered = centered - centered.mean(axis=0)
    result = gm.rsvd(a, 5, method=method, center=True)
    direct = gm.rsvd(centered.astype(dtype), 5, method=method)
    # The centered matrix itself is known to eps of the entries that were taken off.
    atol = 30 * eps(dtype) * np.abs(a).max()
    np.testing.assert_allclose(result.S, direct.S, rtol=1e-4, atol=atol)
    check_orthonormal(result.U, result.Vh, dtype)
    assert result.info.passes == direct.info.passes


def block_of_zeros(a):
    a[len(a) // 4 : len(a) // 2] = 0


def first_rows_zero(a):
    a[: len(a) // 3] = 0


def tiny_block(a):
    a[len(a) // 4 : len(a) // 2] *= 1e-30


def tiny_first_half(a):
    a[: len(a) // 2] *= 1e-20


def sampled_rows_zero(a):
    """The rows from which the means are guessed."""
    a[[len(a) * s // 16 for s in range(16)]] = 0


def only_sampled_rows(a):
    kept = a[[len(a) * s // 16 for s in range(16)]]
    a[:] = 0
    a[[len(a) * s // 16 for s in range(16)]] = kept


BLOCKS = (
    block_of_zeros,
    first_rows_zero,
    tiny_block,
    tiny_first_half,
    sampled_rows_zero,
    only_sampled_rows,
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", BLOCKS)
def test_blocks_that_are_far_from_the_means(change, method, dtype):
    """Zero rows become minus the means: a scale from the entries alone would not do for them."""
    rng = np.random.default_rng(0)
    single = np.dtype(dtype).itemsize // (2 if "complex" in dtype else 1) == 4
    passes = PASSES[method]
    for shape in ((400, 40), (40, 400), (300, 250)):
        for size in (1.0, 1e6, 1e30 if single else 1e300, 1e-30 if single else 1e-300):
            a = rng.standard_normal(shape) + rng.standard_normal(shape[1]) + 3
            change(a)
            a = (a * size * (1 - 2j) if "complex" in dtype else a * size).astype(dtype)
            centered = wide(a) / size
            centered -= centered.mean(axis=0)
            result = gm.rsvd(a, 5, method=method, center=True, passes=passes)
            u, s, vh = map(wide, result)
            s /= size
            norm = np.linalg.norm(centered)
            error = np.linalg.norm(centered - (u * s) @ vh)
            best = np.linalg.norm(np.linalg.svd(centered, compute_uv=False)[5:])
            # A itself is known to eps of its entries, before anything is taken off.
            known = 100 * eps(dtype) * np.linalg.norm(wide(a) / size)
            assert error <= (1.5 if method == "single_pass" else 1.05) * best + known
            assert result.info.error_estimate * norm == pytest.approx(
                error, rel=0.02, abs=3 * float(eps(dtype)) ** 0.5 * norm
            )
            # Hundreds of equal rows, whose squares round all one way.
            check_orthonormal(result.U, result.Vh, dtype, units=256)
            assert result.info.passes == passes


@pytest.mark.parametrize("method", METHODS)
def test_means_far_larger_than_what_they_leave(method):
    """float64: 1e6 of the spread; what is left is known to 1e-10 of itself."""
    rng = np.random.default_rng(1)
    passes = PASSES[method]
    spread = matrices.power_law(rng, -1, 500, 60)
    a = spread + 1e6 * rng.standard_normal(60)
    centered = a - a.mean(axis=0)
    sigma = np.linalg.svd(centered, compute_uv=False)
    s = gm.rsvd(a, 5, method=method, center=True, passes=passes).S
    np.testing.assert_allclose(s, sigma[:5], rtol=0.2 if method == "single_pass" else 1e-6)
