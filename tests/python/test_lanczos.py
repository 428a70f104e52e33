"""Lanczos with a random start: its upper bound, how often that fails, and runs that go on."""

from __future__ import annotations

import numpy as np
import pytest
from gramian import _lanczos
from scipy.stats import binom

from tests.operator_bounds import SVD_ERROR


def test_continued_run_is_the_same_run():
    n = 300
    values = np.cos(np.arange(n) * np.pi / (2 * n)) ** 2

    def lanczos():
        return _lanczos.Lanczos(
            lambda v: values * v, n, is_complex=False, noise=1e-16, capacity=24,
            least=_lanczos.least_component(n, False, 1e-3),
            rng=np.random.default_rng(0))  # fmt: skip

    once, often = lanczos(), lanczos()
    whole = once.run(1e-300, 170)
    for most in (1, 24, 25, 60, 60, 170):
        part = often.run(1e-300, most)
        assert part.steps == often.steps == most
        assert part.ritz <= values[0] * (1 + SVD_ERROR)
    assert (part.ritz, part.upper) == (whole.ritz, whole.upper)
    np.testing.assert_array_equal(part.vector, whole.vector)


@pytest.mark.parametrize(
    ("is_complex", "size"), [(False, 2), (False, 3), (False, 50), (True, 2), (True, 50)]
)
@pytest.mark.parametrize("failure", [0.4, 0.05])
def test_probability_is_not_given_away(is_complex, size, failure):
    """With a rank-one operator and one step the bound fails just when the component is short."""
    trials = 3000
    x = np.zeros(size)
    x[0] = 1.0
    failed = 0
    for seed in range(trials):
        found = _lanczos.largest_eigenvalue(
            lambda v: v[0] * x, size, is_complex=is_complex, rtol=1e-6, noise=1e-16, capacity=8,
            least=_lanczos.least_component(size, is_complex, failure), max_steps=1,
            rng=np.random.default_rng(seed))  # fmt: skip
        failed += found.upper < 1 - SVD_ERROR
    assert binom.sf(failed - 1, trials, failure) > 1e-6
    assert binom.cdf(failed, trials, 0.6 * failure) > 1e-6, "the bound is looser than it says"


@pytest.mark.parametrize("spectrum", ["crowded", "flat", "gap"])
def test_upper_bound_is_never_looser_than_promised(spectrum):
    """At most cosh(log(2/tau) / 2k) times the norm after k steps, for whatever start vector."""
    n = 400
    values = {
        "crowded": np.cos(np.arange(n) * np.pi / (2 * n)) ** 2,
        "flat": np.r_[np.ones(n // 2), np.zeros(n // 2)],
        "gap": np.r_[1, np.linspace(0.5, 0, n - 1)],
    }[spectrum]
    least = _lanczos.least_component(n, False, 1e-3)
    for seed in range(10):
        for k in (1, 2, 5, 20, 60, 150):
            found = _lanczos.largest_eigenvalue(
                lambda v: values * v, n, is_complex=False, rtol=1e-300, noise=1e-16, capacity=n,
                least=least, max_steps=k, rng=np.random.default_rng(seed))  # fmt: skip
            promised = np.cosh(np.log(2 / least) / (2 * k))
            # The excess over the Ritz value is found to 4 %.
            assert np.sqrt(found.upper) - 1 <= (promised - 1) * 1.04 + 1e-9
            assert found.steps <= k
