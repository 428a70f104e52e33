"""gram_bound: the Schatten norm that it is, to rounding, and its gradient."""

from __future__ import annotations

import itertools

import gramian as gm
import numpy as np
import pytest
from hypothesis import given

from tests.conftest import FLOATS
from tests.norm_bounds import SMALL, real
from tests.reference import bounds as reference
from tests.reference import matrices


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 6, 10, 40, 10**9])
def test_gram_bound_is_the_schatten_norm(steps, dtype):
    """Within the documented rounding: an error of the Gram matrix counts half."""
    u = np.finfo(real(dtype)).eps / 2
    for name in ("gaussian_square", "gaussian_wide", "power_law_1", "clustered_top", "hilbert",
                 "kahan", "rank_1", "one_by_one", "row", "column", "odd_sizes"):  # fmt: skip
        x = matrices.build(name, 2, dtype)
        wanted = reference.gram_iteration(x, min(steps, 60))
        found = float(gm.gram_bound(x, steps))
        norm = float(np.linalg.norm(x.astype(np.complex128), 2))
        spread = (np.linalg.norm(x.astype(np.complex128)) / norm) ** 2
        allowed = u * (4 + 3 * max(x.shape) * spread)
        assert abs(found - wanted) <= allowed * wanted
        rank = min(x.shape)
        assert (
            norm * (1 - allowed)
            <= found
            <= rank**2.0 ** -(min(steps, 60) + 1) * norm * (1 + allowed)
        )
        # What is measured is far less than the worst case.
        assert found >= norm * (1 - 16 * u)


@given(SMALL)
def test_gram_bounds_fall_with_every_step(x):
    found = [float(gm.gram_bound(x, t)) for t in range(8)]
    for before, after in itertools.pairwise(found):
        assert after <= before * (1 + 1e-14)
    assert found[0] == pytest.approx(np.linalg.norm(x), rel=1e-14)


# ---- Gradient ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 6, 10, 61, 10**6])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 7), (2, 3, 20, 20), (300, 40), (40, 300)])
def test_gradient_of_gram_bound_is_that_of_the_singular_values(shape, steps, dtype):
    """Against the SVD's formula; also of transposed input, whose derivative is transposed."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    x = (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)
    x *= real(dtype).type(1e10)
    bound, gradient = gm._bounds._gram_bound_and_gradient(x, steps)
    assert np.array_equal(bound, gm.gram_bound(x, steps))
    assert gradient.dtype == x.dtype
    flipped = gm._bounds._gram_bound_and_gradient(x.swapaxes(-1, -2), steps)[1]
    u = np.finfo(dtype).eps
    for at in np.ndindex(shape[:-2]):
        truth = reference.gram_bound_gradient(x[at], steps)
        # The derivative of the derivative grows with the power, as long as several sigma count.
        allowed = 40 * u * min(2.0 ** min(steps + 1, 60), 1e4)
        assert np.linalg.norm(gradient[at] - truth) <= allowed
        assert np.linalg.norm(flipped[at].T - truth) <= allowed


def test_gradient_of_gram_bound_is_the_difference_quotient():
    rng = np.random.default_rng(1)
    x, d = rng.standard_normal((2, 12, 9))
    for steps in (0, 1, 4):
        gradient = gm._bounds._gram_bound_and_gradient(x, steps)[1]
        h = 1e-5
        quotient = (gm.gram_bound(x + h * d, steps) - gm.gram_bound(x - h * d, steps)) / (2 * h)
        assert abs(np.sum(gradient * d) - quotient) < 1e-8


def test_gradient_of_gram_bound_is_zero_at_zero_and_nan_at_nan():
    x = np.ones((3, 4, 5), dtype=np.float32)
    x[0], x[1, 2, 3] = 0, np.nan
    bound, gradient = gm._bounds._gram_bound_and_gradient(x, 6)
    assert bound[0] == 0
    assert not gradient[0].any()
    assert np.isnan(gradient[1]).all()
    assert np.allclose(gradient[2], 20**-0.5)
