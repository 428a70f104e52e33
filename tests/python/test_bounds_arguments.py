"""Bounds on dense matrices: NaN, options, errors, and the object that is returned."""

from __future__ import annotations

import dataclasses

import gramian as gm
import numpy as np
import pytest

FUNCTIONS = (gm.gram_bound, gm.spectral_norm, gm.spectral_norm_bounds, gm.stable_rank)
X = np.eye(3)
BAD = {
    "a list": (lambda: gm.gram_bound([[1.0]]), TypeError, "a is a list"),
    "a vector": (lambda: gm.spectral_norm_bounds(np.ones(3)), ValueError, r"a has shape \(3,\)"),
    "integers": (lambda: gm.stable_rank(np.eye(3, dtype=int)), TypeError, "a has dtype int64"),
    "n_iter": (lambda: gm.gram_bound(X, -1), ValueError, "n_iter is -1; .* at least 0"),
    "n_iter float": (lambda: gm.gram_bound(X, 2.0), TypeError, "n_iter is 2.0; .* int"),
    "n_iter bool": (lambda: gm.gram_bound(X, True), TypeError, "n_iter is True"),
    "rtol zero": (lambda: gm.spectral_norm(X, rtol=0), ValueError, "rtol is 0; .* positive"),
    "rtol nan": (lambda: gm.spectral_norm(X, rtol=np.nan), ValueError, "rtol is nan"),
    "rtol huge": (lambda: gm.spectral_norm(X, rtol=10**400), ValueError, "rtol is 1000"),
    "rtol str": (lambda: gm.spectral_norm(X, rtol="1"), TypeError, "rtol is '1'"),
    "rtol none": (lambda: gm.spectral_norm_bounds(X, rtol=None), TypeError, "rtol is None"),
    "method": (lambda: gm.spectral_norm_bounds(X, method="svd"), ValueError,
               "method is 'svd'; .*'auto', 'gram', 'cholesky', 'eigh'"),
    "method none": (lambda: gm.spectral_norm_bounds(X, method=None), TypeError, "method is None"),
    "certify": (lambda: gm.spectral_norm_bounds(X, certify="no"), ValueError,
                "certify is 'no'; .*'rounding'"),
    "rng": (lambda: gm.spectral_norm(X, rng="x"), TypeError, "rng is 'x'"),
    "rng negative": (lambda: gm.spectral_norm(X, rng=-1), ValueError, "rng is -1"),
    "check": (lambda: gm.gram_bound(X, check_finite=1), TypeError, "check_finite is 1"),
    "out shape": (lambda: gm.gram_bound(X, out=np.empty(3)), ValueError,
                  r"out has shape \(3,\); it must be \(\), for 3x3 input of float64"),
    "out dtype": (lambda: gm.spectral_norm(X, out=np.empty((), np.float32)), ValueError,
                  "out has dtype float32; it must be float64"),
    "out list": (lambda: gm.stable_rank(X, out=[0.0]), TypeError, "out is a list"),
}  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_or_stay_in_their_matrix(bad):
    x = np.ones((3, 4, 4), np.float32)
    x[1, 2, 3] = bad
    for f in FUNCTIONS:
        for check in (None, True):
            with pytest.raises(ValueError, match="a contains NaN or infinity"):
                f(x, check_finite=check)
    b = gm.spectral_norm_bounds(x, check_finite=False)
    assert np.isnan(b.lower).tolist() == np.isnan(b.upper).tolist() == [False, True, False]
    assert b.converged.tolist() == [True, False, True]
    for f in (gm.gram_bound, gm.spectral_norm, gm.stable_rank):
        assert np.isnan(f(x, check_finite=False)).tolist() == [False, True, False]


@pytest.mark.parametrize("case", BAD)
def test_errors_name_argument_value_and_what_is_allowed(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_bounds_are_frozen():
    b = gm.spectral_norm_bounds(X)
    assert [f.name for f in dataclasses.fields(b)][:6] == [
        "lower", "upper", "converged", "n_iter", "method", "certificate"]  # fmt: skip
    assert b.confidence == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        b.upper = 0


@pytest.mark.thread_unsafe
def test_seed_decides_and_the_global_state_stays():
    x = np.random.default_rng(0).standard_normal((200, 200))

    def bits(rng):
        return gm.spectral_norm_bounds(x, rng=rng).lower.tobytes()

    assert bits(None) == bits(None)
    assert bits(3) == bits(np.int64(3)) == bits(3)
    assert len({bits(seed) for seed in range(8)}) > 1
    assert bits(np.random.default_rng(5)) == bits(np.random.default_rng(5))
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    gm.spectral_norm(x)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002
