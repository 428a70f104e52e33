"""gm.spectral_clip on a GPU: what test_spectral_clip.py holds on the CPU."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.conftest import FLOATS
from tests.cuda_arrays import same_bits, sample, wide
from tests.python.test_polar import default_tolerance
from tests.python.test_spectral_clip import KINDS
from tests.reference import matrices
from tests.reference import polar as reference

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]

SHAPES = [(20, 33), (100, 140)]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", matrices.HARD)
def test_agrees_with_an_svd_on_hard_inputs(torch, name, dtype, kind):
    x = matrices.build(name, 0, dtype)
    s = reference.svd(x)[1]
    bound = default_tolerance(x)
    for fraction in (4.0, 1.0, 0.5, 0.05, 1e-3):
        c = float(fraction * s[0]) or 1.0
        given = torch.from_numpy(x).cuda()
        y, info = gm.spectral_clip(given, c, kind=kind, return_info=True)
        y = y.cpu().numpy()
        truth = reference.function(x, lambda v, c=c: KINDS[kind](v, c))
        size = max(c, s[0])
        assert y.dtype == x.dtype
        assert np.linalg.norm(y - truth, 2) <= 2 * bound * size
        assert float(info.residual) <= 4 * bound
        if fraction == 4.0 and kind == "hard":
            assert np.array_equal(x, y)
            assert info.method == "unchanged"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", matrices.HARD)
def test_hard_never_raises_a_singular_value_and_is_idempotent(torch, name, dtype):
    x = matrices.build(name, 1, dtype)
    eps, r = reference.unit(dtype), min(x.shape)
    s = reference.svd(x)[1]
    for fraction in (0.9, 0.5, 0.1, 0.01):
        c = float(fraction * s[0]) or 1.0
        y = gm.spectral_clip(torch.from_numpy(x).cuda(), c)
        after = reference.svd(y.cpu().numpy())[1]
        assert after[0] <= c * (1 + 16 * (r**0.5 + 2) * eps)
        assert np.all(after <= np.minimum(s, c) + 2 * default_tolerance(x) * max(c, s[0]))
        again, info = gm.spectral_clip(y, c, return_info=True)
        assert info.method == "unchanged"
        assert same_bits(again, y)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(8, 8), (40, 40), (300, 20), (90, 100)])
def test_many_singular_values_just_below_four_times_the_bound(torch, shape, dtype):
    x = sample(torch, (12, *shape), dtype)
    x = gm.polar(x, compute_hermitian=False)
    tolerance = default_tolerance(np.empty(shape, dtype))
    for c in (0.2501, 0.3):
        y, info = gm.spectral_clip(x, c, return_info=True)
        assert float(info.residual.max()) <= 4 * tolerance
        assert np.linalg.norm(wide(y - c * x), 2, axis=(-2, -1)).max() <= 2 * tolerance
        assert same_bits(gm.spectral_clip(y, c), y)


@pytest.mark.parametrize("ratio", [4.1, 7, 50, 1e4])
def test_none_of_many_small_matrices_misses_the_default_tolerance(torch, ratio):
    for shape in ((4000, 2, 2), (4000, 3, 3), (4000, 5, 2)):
        x = sample(torch, shape, "float64")
        x /= torch.linalg.matrix_norm(x, 2, keepdim=True)
        for kind in KINDS:
            gm.spectral_clip(x, 1 / ratio, kind=kind, return_info=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_scaling_both_by_a_power_of_two_scales_the_result(torch, shape, dtype, kind):
    x = sample(torch, shape, dtype)
    for c in (2.5, 11.0):
        y = gm.spectral_clip(x, c, kind=kind)
        for power in (-30, 3, 25):
            z = gm.spectral_clip(x * 2.0**power, c * 2.0**power, kind=kind)
            assert same_bits(y * 2.0**power, z)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(50, 30), (100, 140)])
def test_batches_strides_and_out(torch, cupy, shape, kind):
    scales = torch.tensor([1e-9, 1, 1e9], dtype=torch.float64, device="cuda")[:, None, None]
    x = sample(torch, (3, *shape), "float64") * scales
    y, info = gm.spectral_clip(x, 5.0, kind=kind, return_info=True)
    assert info.residual.shape == info.method.shape == (3,)
    assert info.method[0] == ("unchanged" if kind == "hard" else info.method[1])
    for one, result in zip(x, y, strict=True):
        assert same_bits(gm.spectral_clip(one, 5.0, kind=kind), result)
    turned = x.mT.contiguous().mT
    out = torch.empty_like(x)
    assert gm.spectral_clip(turned, 5.0, kind=kind, out=out) is out
    assert same_bits(out, y)
    memory = x.clone()
    gm.spectral_clip(memory, 5.0, kind=kind, out=memory)
    assert same_bits(memory, y)
    shifted = torch.zeros(4, *shape, dtype=x.dtype, device="cuda")
    shifted[:3] = x
    gm.spectral_clip(shifted[:3], 5.0, kind=kind, out=shifted[1:])
    assert same_bits(shifted[1:], y)
    z = gm.spectral_clip(cupy.asarray(x), 5.0, kind=kind)
    assert np.array_equal(z.get(), y.cpu().numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(20, 20), (80, 100)])
def test_bounds_far_from_the_matrix(torch, shape, kind):
    x = sample(torch, shape, "float64")
    assert same_bits(gm.spectral_clip(x, 1e308, kind=kind), x)
    tiny = gm.spectral_clip(x, 1e-300, kind=kind)
    want = gm.polar(x, compute_hermitian=False)
    assert float(torch.linalg.matrix_norm(tiny * 1e300 - want, 2)) <= 1e-11
    zero = torch.zeros(shape, device="cuda")
    assert not bool(gm.spectral_clip(zero, 2.0, kind=kind).any())
    empty = gm.spectral_clip(torch.empty(2, 0, 3, device="cuda"), 2.0, kind=kind, return_info=True)
    assert tuple(empty[0].shape) == (2, 0, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_beside_a_bound_that_is_not_felt(torch, shape, kind, value):
    x = sample(torch, (2, *shape), "float64")
    x[1, 3, 4] = value
    y = gm.spectral_clip(x, 1e30, kind=kind)
    assert same_bits(y[0], x[0])
    assert bool(torch.isnan(y[1]).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(64, 256), (128, 200)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_half_precision(torch, shape, dtype, kind):
    x = sample(torch, shape, dtype)
    y = gm.spectral_clip(x, 10.0, kind=kind)
    assert y.dtype == x.dtype
    eps = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 2.0**-18)
    truth = reference.function(wide(x), lambda v: KINDS[kind](v, 10.0))
    assert np.abs(wide(y) - truth).max() <= 1.1 * eps * np.abs(truth).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_nan_and_capture(torch, shape, kind):
    x = sample(torch, (3, *shape), "float64")
    good = gm.spectral_clip(x, 3.0, kind=kind)
    bad = x.clone()
    bad[1, 3, 4] = float("inf")
    with pytest.raises(ValueError, match="x contains NaN or infinity"):
        gm.spectral_clip(bad, 3.0, kind=kind, check_finite=True)
    y = gm.spectral_clip(bad, 3.0, kind=kind)
    assert bool(torch.isnan(y[1]).all())
    assert same_bits(y[0], good[0])
    assert same_bits(y[2], good[2])
    graph = torch.cuda.CUDAGraph()
    given = torch.zeros_like(x)
    with torch.cuda.graph(graph):
        captured = gm.spectral_clip(given, 3.0, kind=kind)
    given.copy_(x)
    graph.replay()
    assert same_bits(captured, good)
    with pytest.raises(gm.ConvergenceError, match="spectral_clip reached a residual"):
        gm.spectral_clip(x, 3.0, kind=kind, tol=1e-30)
