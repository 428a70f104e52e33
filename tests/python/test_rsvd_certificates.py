"""Randomized SVD: error estimates, certified errors, tolerances."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.reference import matrices
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

INPUTS = tuple(matrices.HARD)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_estimate_is_the_error(method, dtype):
    rng = np.random.default_rng(0)
    for exponent in (-0.5, -1, -2):
        x = matrices.power_law(rng, exponent, 150, 100)
        a = (x * (1 + 1j) if "complex" in dtype else x).astype(dtype)
        result = gm.rsvd(a, 10, method=method)
        true = frobenius_error(a, result) / np.linalg.norm(wide(a))
        assert result.info.error_kind == "estimate"
        assert result.info.error_estimate == pytest.approx(
            true, rel=0.02, abs=3 * float(eps(dtype)) ** 0.5
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in INPUTS if n != "zero"])
def test_certified_error_holds_and_the_rank_is_near_the_least(name, dtype):
    a = matrices.build(name, 0, dtype)
    sigma = np.linalg.svd(wide(a), compute_uv=False)
    norm = np.sqrt(np.sum(sigma**2))
    for tol in (0.5, 0.1, 1e-2, 1e-4):
        for method in ("gram", "krylov"):
            result = gm.rsvd(a, tol=tol, method=method, rng=2)
            assert result.info.error_kind == "upper bound"
            assert result.info.error_estimate <= tol
            # The truth to 1e-15 of the norm, which is 1e-11 of the least tolerance.
            true = frobenius_error(a, result) / norm
            assert true <= result.info.error_estimate + 1e-14
            assert result.info.rank <= least_rank(sigma, tol) + 15
            check_orthonormal(result.U, result.Vh, dtype)


def test_certificate_in_exact_arithmetic():
    """The bound against 60 digits, at the edge of what can be certified."""
    rng = np.random.default_rng(1)
    for trial in range(12):
        a = matrices.geometric(rng, 1e-9, 12, 9) * 2.0 ** rng.integers(-30, 30)
        tol = 10.0 ** -rng.uniform(1, 6)
        result = gm.rsvd(a, tol=tol, rng=trial)
        assert error_in_60_digits(a, result) <= result.info.error_estimate


def test_a_tolerance_beyond_rounding_says_what_is_possible():
    a = np.random.default_rng(0).standard_normal((60, 40))
    with pytest.raises(gm.ConvergenceError, match=r"tol is 1e-12.*at least") as caught:
        gm.rsvd(a, tol=1e-12)
    assert 1e-12 < caught.value.residual < 1e-5
    assert caught.value.best.info.rank == 40


def test_rank_caps_a_tolerance():
    a = np.random.default_rng(0).standard_normal((60, 40))
    result = gm.rsvd(a, 7, tol=1e-3)
    assert result.S.shape == (7,)
    assert result.info.error_estimate >= frobenius_error(a, result) / np.linalg.norm(a) > 1e-3


@pytest.mark.parametrize(
    ("value", "dtype"), [(2e37, "float32"), (1.6e308, "float64"), (1e308, "complex128")]
)
def test_nothing_is_certified_of_singular_values_that_overflow(value, dtype):
    a = np.full((100, 100), value, dtype)
    with pytest.raises(gm.ConvergenceError, match=r"largest singular value overflows") as caught:
        gm.rsvd(a, tol=0.01)
    assert np.isinf(caught.value.best.S).all()
    assert caught.value.residual == np.inf


def test_certificate_counts_singular_values_that_underflow():
    """Subnormal S in float32: their rounding is part of the error."""
    rng = np.random.default_rng(0)
    held = missed = 0
    for exponent in np.linspace(-46, -37, 37):
        a = matrices.geometric(rng, 1e-3, 50, 30) * 10.0**exponent
        a = a.astype(np.float32)
        if not a.any():
            continue
        try:
            result = gm.rsvd(a, tol=1e-2)
            held += 1
            assert result.info.error_estimate <= 1e-2
        except gm.ConvergenceError as error:
            result = error.best
            missed += 1
        scale = 2.0**140
        u, s, vh = (np.asarray(x, np.float64) for x in result)
        wanted = a.astype(np.float64) * scale
        true = np.linalg.norm(wanted - (u * (s * scale)) @ vh) / np.linalg.norm(wanted)
        assert true <= result.info.error_estimate
    assert held > 5
    assert missed > 5
