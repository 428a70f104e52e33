"""gm.spectral_clip against an SVD in float64, and its laws.

Errors are at most 2 default_tolerance(x) max(c, sigma_1): rounding x changes the result by as much.
"""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.python.test_polar import FLOATS, default_tolerance
from tests.reference import matrices
from tests.reference import polar as reference

KINDS = {
    "hard": lambda s, c: np.minimum(s, c),
    "soft": lambda s, c: s / np.hypot(1, s / c),
}


@pytest.mark.concurrent
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", matrices.HARD)
def test_agrees_with_an_svd_on_hard_inputs(name, dtype, kind):
    x = matrices.build(name, 0, dtype)
    s = reference.svd(x)[1]
    bound = default_tolerance(x)
    for fraction in (4.0, 1.0, 0.5, 0.05, 1e-3):
        c = float(fraction * s[0]) or 1.0
        y, info = gm.spectral_clip(x, c, kind=kind, return_info=True)
        truth = reference.function(x, lambda v, c=c: KINDS[kind](v, c))
        size = max(c, s[0])
        assert y.dtype == x.dtype
        assert np.linalg.norm(y - truth, 2) <= 2 * bound * size
        assert info.residual <= bound
        if fraction == 4.0 and kind == "hard":
            assert np.array_equal(x, y)
            assert info.method == "unchanged"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", matrices.HARD)
def test_hard_never_raises_a_singular_value_and_is_idempotent(name, dtype):
    x = matrices.build(name, 1, dtype)
    eps, r = reference.unit(dtype), min(x.shape)
    s = reference.svd(x)[1]
    for fraction in (0.9, 0.5, 0.1, 0.01):
        c = float(fraction * s[0]) or 1.0
        y = gm.spectral_clip(x, c)
        after = reference.svd(y)[1]
        # The largest by c alone; below, what rounding x may add to any singular value.
        assert after[0] <= c * (1 + 16 * (r**0.5 + 2) * eps)
        assert np.all(after <= np.minimum(s, c) + 2 * default_tolerance(x) * max(c, s[0]))
        again, info = gm.spectral_clip(y, c, return_info=True)
        assert np.array_equal(again, y)
        assert info.method == "unchanged"


def test_methods_are_told():
    x = np.random.default_rng(0).standard_normal((40, 60))
    s = np.linalg.norm(x, 2)
    for kind, ratio, method in [("hard", 0.9, "unchanged"), ("hard", 2, "eigenvectors"),
                                ("hard", 100, "svd"), ("soft", 2, "gram"), ("soft", 100, "svd"),
                                ("soft", 1e-12, "unchanged")]:  # fmt: skip
        assert gm.spectral_clip(x, s / ratio, kind=kind, return_info=True)[1].method == method


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(8, 8), (40, 40), (300, 20)])
def test_many_singular_values_just_below_four_times_the_bound(shape, dtype):
    # Clipping by eigenvectors of the Gram matrix misses the default tolerance in most of these.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, *shape)).astype(dtype)
    if dtype == "complex128":
        x += 1j * rng.standard_normal(x.shape)
    x = gm.polar(x, compute_hermitian=False)
    for c in (0.2501, 0.3):
        y, info = gm.spectral_clip(x, c, return_info=True)
        assert np.all(info.residual <= default_tolerance(x[0]))
        assert np.linalg.norm(y - c * x, 2, axis=(-2, -1)).max() <= 2 * default_tolerance(x[0])
        assert np.array_equal(gm.spectral_clip(y, c), y)


@pytest.mark.parametrize("ratio", [4.1, 7, 50, 1e4])
def test_none_of_many_small_matrices_misses_the_default_tolerance(ratio):
    # One in some thousands misses that of polar.
    rng = np.random.default_rng(0)
    for shape in ((4000, 2, 2), (4000, 3, 3), (4000, 5, 2)):
        x = rng.standard_normal(shape)
        x /= np.linalg.norm(x, 2, axis=(-2, -1), keepdims=True)
        for kind in KINDS:
            gm.spectral_clip(x, 1 / ratio, kind=kind)


shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from(FLOATS), st.sampled_from(sorted(KINDS)),
       st.integers(-40, 40), st.floats(0.1, 20))  # fmt: skip
def test_scaling_both_by_a_power_of_two_scales_the_result(shape, seed, dtype, kind, power, ratio):
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    factor = x.real.dtype.type(2.0**power)
    c = float(np.linalg.norm(x, 2)) / ratio
    y = gm.spectral_clip(x, c, kind=kind)
    z = gm.spectral_clip(x * factor, c * float(factor), kind=kind)
    assert np.array_equal(y * factor, z)


@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from(sorted(KINDS)), st.floats(0.5, 15))
def test_rotations_carry_over(shape, seed, kind, ratio):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    left = matrices.orthonormal(rng, shape[0], shape[0])
    right = matrices.orthonormal(rng, shape[1], shape[1])
    norm = np.linalg.norm(x, 2)
    y = gm.spectral_clip(x, norm / ratio, kind=kind)
    z = gm.spectral_clip(left @ x @ right, norm / ratio, kind=kind)
    assert np.linalg.norm(left @ y @ right - z, 2) <= 8 * default_tolerance(x) * norm


@pytest.mark.parametrize("kind", KINDS)
def test_batches_strides_and_out(kind):
    scales = np.array([1e-9, 1, 1e9])[:, None, None]
    x = np.random.default_rng(0).standard_normal((3, 50, 30)) * scales
    y, info = gm.spectral_clip(x, 5.0, kind=kind, return_info=True)
    assert info.residual.shape == info.method.shape == (3,)
    for one, result in zip(x, y, strict=True):
        assert np.array_equal(gm.spectral_clip(one, 5.0, kind=kind), result)
    turned = np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    out = np.empty_like(x)
    assert gm.spectral_clip(turned, 5.0, kind=kind, out=out) is out
    assert np.array_equal(out, y)
    memory = x.copy()
    gm.spectral_clip(memory, 5.0, kind=kind, out=memory)
    assert np.array_equal(memory, y)


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_far_from_the_matrix(kind):
    x = np.random.default_rng(0).standard_normal((20, 20))
    assert np.array_equal(gm.spectral_clip(x, 1e308, kind=kind), x)
    tiny = gm.spectral_clip(x, 1e-300, kind=kind)
    assert np.linalg.norm(tiny * 1e300 - gm.polar(x, compute_hermitian=False), 2) <= 1e-11
    assert not gm.spectral_clip(np.zeros((3, 4)), 2.0, kind=kind).any()
    assert gm.spectral_clip(np.empty((2, 0, 3)), 2.0, kind=kind).shape == (2, 0, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_and_libraries(owner, kind):
    x = matrices.build("gaussian_wide", 0)
    for dtype in (*owner.halves, "float32"):
        given_x = owner.array(x, dtype)
        y = gm.spectral_clip(given_x, 10.0, kind=kind)
        owner.check_result(y, x.shape, dtype)
        eps = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 2.0**-18)
        truth = reference.function(owner.numpy(given_x), lambda v: KINDS[kind](v, 10.0))
        assert np.abs(owner.numpy(y) - truth).max() <= 1.1 * eps * np.abs(truth).max()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"max_norm": 0}, ValueError, "max_norm is 0"),
        ({"max_norm": float("inf")}, ValueError, "max_norm is inf"),
        ({"max_norm": 10**400}, ValueError, "finite and above 0"),
        ({"max_norm": "1"}, TypeError, "max_norm is '1'"),
        ({"kind": "medium"}, ValueError, "kind is 'medium'"),
        ({"tol": -1.0}, ValueError, "tol is -1.0"),
        ({"tol": 1e-30}, gm.ConvergenceError, "spectral_clip reached a residual"),
        ({"out": np.empty((3, 3))}, ValueError, "out has shape"),
    ],
)
def test_errors_name_the_argument(options, error, match):
    x = np.random.default_rng(0).standard_normal((9, 5))
    with pytest.raises(error, match=match):
        gm.spectral_clip(x, **({"max_norm": 1.0} | options))


def test_nan_is_found_or_let_through():
    x = np.random.default_rng(0).standard_normal((2, 20, 20))
    x[1, 3, 4] = np.inf
    with pytest.raises(ValueError, match="x contains NaN or infinity"):
        gm.spectral_clip(x, 1.0)
    y = gm.spectral_clip(x, 1.0, check_finite=False)
    assert np.isnan(y[1]).all()
    assert np.array_equal(y[0], gm.spectral_clip(x[0], 1.0))


def test_soft_clipping_of_flat_spectra_takes_no_svd():
    """The bound on the largest singular value must be close: sigma_1 is 2 to 3.2 of c here."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 128, 128))
    top = np.linalg.norm(x[0], 2)
    for fraction in (0.5, 0.35):
        y, info = gm.spectral_clip(x, fraction * top, kind="soft", return_info=True)
        assert set(info.method) == {"gram"}
        truth = reference.function(x[0], lambda s, c=fraction * top: s / np.hypot(1, s / c))
        assert np.linalg.norm(y[0] - truth, 2) <= 2 * default_tolerance(x[0]) * top
