"""Randomized SVD of sparse matrices, operators and row blocks: scales, zeros, entries twice."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from gramian._rsvd_thin import inverse_of_upper

from tests.reference.row_kinds import KINDS, methods_of
from tests.reference.svd import METHODS, check_orthonormal, eps, frobenius_error

scipy_sparse = pytest.importorskip("scipy.sparse")


@pytest.mark.parametrize("kind", ["csr", "blocks", "operator"])
@pytest.mark.parametrize("exponent", [-1000, -900, -20, 3, 40, 900])
def test_scaling_by_a_power_of_two_is_exact(exponent, kind):
    a = np.random.default_rng(0).standard_normal((90, 60))
    for method in methods_of(kind):
        one = gm.rsvd(KINDS[kind](a), 5, method=method)
        scaled = gm.rsvd(KINDS[kind](np.ldexp(a, exponent)), 5, method=method)
        np.testing.assert_array_equal(scaled.U, one.U)
        np.testing.assert_array_equal(scaled.Vh, one.Vh)
        np.testing.assert_array_equal(scaled.S, np.ldexp(one.S, exponent))
        assert scaled.info.error_estimate == one.info.error_estimate


@pytest.mark.parametrize("kind", ["csr", "blocks"])
@pytest.mark.parametrize("method", METHODS)
def test_extreme_scales_side_by_side_keep_the_accuracy(method, kind):
    """Rows that come to a scale which the first rows do not show."""
    for dtype, size in (("float32", 1e30), ("float64", 1e300)):
        a = np.random.default_rng(0).standard_normal((400, 40)) / size
        a[300:] *= size
        a[300:] *= size
        a = a.astype(dtype)
        passes = {"gram": 2, "single_pass": 1}.get(method, 3)
        result = gm.rsvd(KINDS[kind](a), 5, method=method, passes=passes)
        sigma = np.linalg.svd((a / size).astype(np.float64), compute_uv=False)[:5]
        slack = {"single_pass": 0.2, "gram": 1e-5}.get(method, 0.06)
        np.testing.assert_allclose(result.S.astype(np.float64) / size, sigma, rtol=slack)
        assert 0 < result.info.error_estimate < 1


@pytest.mark.parametrize("rows", [1, 128, 129])
def test_small_entries_are_seen_however_many_are_stored(rows):
    """Sums of squares are taken of 128 at a time, and of the rest, which may be none or zero."""
    for last in (0.0, 2.0**-900):
        a = scipy_sparse.csr_array(np.full((rows, 1), 2.0**-900))
        a.data[128:] = last
        norm = 2.0**-900 * np.sqrt(np.count_nonzero(a.data))
        result = gm.rsvd(a, 1)
        np.testing.assert_allclose(result.S, norm, rtol=1e-14)
        np.testing.assert_allclose(result.info.error_estimate, np.sqrt(2 * eps("float64")))


# ---- Edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_zero_has_values_zero_and_orthonormal_factors(kind):
    for method in methods_of(kind):
        result = gm.rsvd(KINDS[kind](np.zeros((30, 20))), 4, method=method)
        assert not result.S.any()
        check_orthonormal(result.U, result.Vh, "float64")
        assert result.info.error_estimate == 0


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_without_entries_the_rank_is_zero(shape):
    for kind in ("csr", "blocks"):
        result = gm.rsvd(KINDS[kind](np.zeros(shape)), tol=0.1)
        assert (result.U.shape, result.S.shape) == ((shape[0], 0), (0,))
        assert result.Vh.shape == (0, shape[1])
    with pytest.raises(ValueError, match="a has no row blocks"):
        gm.rsvd([], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_zero_on_the_diagonal_spoils_nothing_before_it(kind):
    """Whole numbers and a start of unit vectors: Y has rank 1 exactly, R a zero, no rounding."""
    a = np.outer(np.arange(1.0, 7.0), np.ones(3))
    for method in ("single_pass", "subspace", "krylov"):
        result = gm.rsvd(KINDS[kind](a), 1, oversample=1, method=method, v0=np.eye(3)[:, :2])
        np.testing.assert_allclose(result.S, [np.linalg.norm(a)], rtol=1e-14)
        assert frobenius_error(a, result) <= 1e-14 * np.linalg.norm(a)


def test_inverse_of_a_singular_triangle_is_right_before_the_zero():
    r = np.triu(np.random.default_rng(0).standard_normal((5, 5)))
    r[2, 2] = 0
    inverse = inverse_of_upper(r)
    np.testing.assert_allclose(inverse[:2, :2] @ r[:2, :2], np.eye(2), atol=1e-14)
    assert not np.isfinite(inverse[:, 2:]).all(axis=0).any()


def test_entries_stored_twice_are_added():
    twice = scipy_sparse.coo_array(
        (np.array([3.0, 1.0, 2.0]), (np.array([0, 0, 1]), np.array([0, 0, 1]))), shape=(3, 2)
    )
    assert np.allclose(gm.rsvd(twice, 2).S, [4, 2])
    unsorted = scipy_sparse.csr_array(
        (np.array([3.0, 1.0, 2.0]), np.array([0, 0, 1]), np.array([0, 2, 3, 3])), shape=(3, 2)
    )
    kept = unsorted.data.copy()
    result = gm.rsvd(unsorted, 2)
    assert np.allclose(result.S, [4, 2])
    assert result.info.error_estimate < 1e-7
    np.testing.assert_array_equal(unsorted.data, kept)
