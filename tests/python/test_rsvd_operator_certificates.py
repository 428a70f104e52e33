"""Randomized SVD of sparse matrices, operators and row blocks: estimates and certified errors."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.reference import matrices
from tests.reference.row_kinds import KINDS, Counted, cut
from tests.reference.svd import (
    DTYPES,
    METHODS,
    check_orthonormal,
    eps,
    error_in_60_digits,
    frobenius_error,
    least_rank,
    wide,
)

scipy_sparse = pytest.importorskip("scipy.sparse")
linalg = pytest.importorskip("scipy.sparse.linalg")


@pytest.mark.parametrize("kind", ["csr", "blocks"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_estimate_is_the_error(dtype, kind):
    rng = np.random.default_rng(0)
    for exponent in (-0.5, -1, -2):
        x = matrices.power_law(rng, exponent, 150, 100)
        a = (x * (1 + 1j) if "complex" in dtype else x).astype(dtype)
        for method in METHODS:
            result = gm.rsvd(KINDS[kind](a), 10, method=method)
            true = frobenius_error(a, result) / np.linalg.norm(wide(a))
            assert result.info.error_kind == "estimate"
            assert result.info.error_estimate == pytest.approx(
                true, rel=0.02, abs=3 * float(eps(dtype)) ** 0.5
            )


def test_estimate_of_an_operator_is_unbiased():
    """Unbiased in the square, with a relative variance of at most 2 / 10, whatever the spectrum."""
    rng = np.random.default_rng(0)
    for exponent, spread in ((0.0, 0.06), (-0.5, 0.2), (-2.0, 0.45)):
        a = matrices.power_law(rng, exponent, 60, 90)
        ratios = []
        for seed in range(100):
            result = gm.rsvd(linalg.aslinearoperator(a), 6, passes=2, rng=seed)
            true = frobenius_error(a, result) / np.linalg.norm(a)
            ratios.append((result.info.error_estimate / true) ** 2)
        # The denominator is estimated too, which takes from the spread. 4 deviations of the mean.
        assert abs(np.mean(ratios) - 1) <= 4 * np.sqrt(0.2 / 100)
        assert np.std(ratios) <= 1.5 * spread
        assert result.info.error_kind == "estimate"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in matrices.HARD if n != "zero"])
def test_certified_error_holds_and_the_rank_is_near_the_least(name, dtype):
    a = matrices.build(name, 0, dtype)
    sigma = np.linalg.svd(wide(a), compute_uv=False)
    norm = np.sqrt(np.sum(sigma**2))
    for tol in (0.5, 1e-2, 1e-4):
        least = least_rank(sigma, tol)
        for kind in ("csr", "blocks"):
            for method in ("gram", "krylov"):
                result = gm.rsvd(KINDS[kind](a), tol=tol, method=method, rng=2)
                assert result.info.error_kind == "upper bound"
                true = frobenius_error(a, result) / norm
                # The truth to 1e-15 of the norm, which is 1e-11 of the least tolerance.
                assert true <= result.info.error_estimate + 1e-14 <= tol + 1e-14
                assert result.info.rank <= least + 15
                check_orthonormal(result.U, result.Vh, dtype)


def test_certificate_holds_to_60_digits():
    """The bound against 60 digits, at the edge of what can be certified."""
    rng = np.random.default_rng(1)
    for trial in range(16):
        a = matrices.geometric(rng, 1e-9, 12, 9) * 2.0 ** rng.integers(-300, 300)
        tol = 10.0 ** -rng.uniform(1, 6)
        given = (cut(a, 5), scipy_sparse.csr_array(a))[trial % 2]
        result = gm.rsvd(given, tol=tol, rng=trial)
        true = error_in_60_digits(a, result)
        assert true <= result.info.error_estimate


def test_certificate_holds_where_no_gram_matrix_is_formed():
    """More than 2048 columns: the basis grows."""
    rng = np.random.default_rng(0)
    a = matrices.with_spectrum(rng, 0.9 ** np.arange(200), 2500, 2200)
    blocks = Counted(cut(a, 500))
    result = gm.rsvd(blocks, tol=0.02)
    assert result.info.method == "krylov"
    assert result.info.passes == blocks.ended
    true = frobenius_error(a, result) / np.linalg.norm(a)
    assert true <= result.info.error_estimate <= 0.02
    assert 37 <= result.info.rank <= 37 + 15  # 0.9^37 = 0.0203


def test_a_tolerance_beyond_rounding_says_what_is_possible():
    a = np.random.default_rng(0).standard_normal((60, 40))
    for given_as in (cut(a), scipy_sparse.csr_array(a)):
        with pytest.raises(gm.ConvergenceError, match=r"tol is 1e-12.*at least") as caught:
            gm.rsvd(given_as, tol=1e-12)
        assert 1e-12 < caught.value.residual < 1e-5
        assert caught.value.best.info.rank == 40
    result = gm.rsvd(cut(a), 7, tol=1e-3)  # the rank is a cap
    assert result.S.shape == (7,)
    assert result.info.error_estimate >= frobenius_error(a, result) / np.linalg.norm(a) > 1e-3
