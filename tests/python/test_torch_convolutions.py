"""The derivative of convolutions' bounds: difference quotients, large layers, subgradients."""

from __future__ import annotations

import gramian as gm
import pytest

torch = pytest.importorskip("torch")
gt = pytest.importorskip("gramian.torch")

pytestmark = pytest.mark.thread_unsafe


def sample(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


ONE_SIZE = [
    ((3, 2, 3), {"input_size": 8}),
    ((3, 2, 3), {"input_size": 8, "padding_mode": "circular"}),
    ((3, 2, 5), {"input_size": 3, "padding_mode": "circular"}),
    ((4, 3, 3, 3), {"input_size": (5, 6)}),
    ((4, 3, 3, 3), {"input_size": 6, "stride": 2, "padding": 1}),
    ((4, 2, 3, 3), {"input_size": 6, "groups": 2, "padding": "valid", "dilation": 2}),
    ((4, 2, 3, 3), {"input_size": 5, "stride": 2, "padding": 1, "transposed": True, "groups": 2}),
    ((2, 2, 2, 3, 2), {"input_size": 4}),
    ((3, 2, 2, 2), {"input_size": 8, "stride": 2, "padding": "valid"}),
    ((3, 2, 3, 3), {"input_size": 6, "stride": 2, "padding": 1, "padding_mode": "circular"}),
    ((3, 2, 3, 3), {"input_size": 7, "stride": 2, "padding": 1, "padding_mode": "circular"}),
]
EVERY_SIZE = [
    ((3, 2, 3), {}),
    ((3, 2, 3), {"stride": 2, "padding": 1}),
    ((3, 2, 3, 3), {}),
    ((4, 1, 3), {"groups": 4}),
    ((3, 2, 3), {"padding_mode": "circular"}),
]


def upper(options, rtol):
    return lambda w: gt.conv_spectral_norm_bounds(w, rtol=rtol, **options).upper


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("shape", "options"), ONE_SIZE)
def test_one_size(shape, options, dtype):
    w = sample(*shape, dtype=dtype).requires_grad_()
    assert bool(gt.conv_spectral_norm_bounds(w.detach(), rtol=1e-9, **options).converged)
    # The bound moves within its tolerance: 1e-9 over a step of 1e-4.
    assert torch.autograd.gradcheck(upper(options, 1e-9), (w,), eps=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("shape", "options"), EVERY_SIZE)
def test_every_size(shape, options, dtype):
    """The frequency is known to about the root of rtol, and so is the gradient."""
    w = sample(*shape, dtype=dtype).requires_grad_()
    assert torch.autograd.gradcheck(upper(options, 1e-7), (w,), eps=1e-4, atol=3e-3)


@pytest.mark.parametrize(("shape", "options"), [
    ((16, 16, 3, 3), {"input_size": 16}),
    ((16, 16, 3, 3), {"input_size": 32, "stride": 2, "padding": 1}),
    ((24, 1, 3, 3), {"input_size": 20, "groups": 24}),
    ((16, 16, 3, 3), {"input_size": 32, "padding_mode": "circular"}),
    ((16, 8, 4, 4), {"input_size": 14, "stride": 2, "padding": 1, "transposed": True}),
    ((16, 16, 3, 3), {}),
])  # fmt: skip
def test_large_layers_have_a_subgradient_to_the_tolerance(shape, options):
    """``||A(v)|| >= <g, v>`` for any kernel v, up to what is between the bounds, and ``<g, w>`` is
    the bound at w itself: that is what a subgradient is."""
    w = sample(*shape)
    t = w.clone().requires_grad_()
    found = gt.conv_spectral_norm_bounds(t, **options)
    found.upper.backward()
    torch.testing.assert_close((t.grad * w).sum(), found.upper.detach())
    slack = float(found.upper.detach() / found.lower.detach()) + 1e-3
    for seed in range(4):
        for v in (sample(*shape, seed=seed + 1), w + 0.1 * sample(*shape, seed=seed + 9), t.grad):
            norm = gm.conv_spectral_norm_bounds(v, **options).upper
            assert (t.grad * v).sum() <= norm * slack


def test_taps_without_weight_have_a_derivative():
    w = torch.zeros(2, 2, 3, 3, dtype=torch.float64)
    w[:, :, 1, 1] = sample(2, 2)
    for options in ({"input_size": 4}, {"input_size": 4, "padding_mode": "circular"}, {}):
        t = w.clone().requires_grad_()
        gt.conv_spectral_norm_bounds(t, **options).upper.backward()
        assert bool((t.grad[:, :, 0, 1] != 0).any())


def test_taps_that_are_never_read_have_none():
    t = sample(2, 2, 5).requires_grad_()
    gt.conv_spectral_norm_bounds(t, input_size=2).upper.backward()
    assert not t.grad[..., [0, 4]].any()
    assert bool((t.grad[..., 1:4] != 0).any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [-1, 1])
def test_scale(dtype, exponent):
    """The norm is homogeneous, its gradient does not depend on the scale."""
    scale = 2.0 ** (exponent * (100 if dtype == torch.float32 else 1000))
    w = sample(3, 2, 3, dtype=dtype)
    grads = []
    for t in (w.clone().requires_grad_(), (w * scale).requires_grad_()):
        gt.conv_spectral_norm_bounds(t, input_size=7).upper.backward()
        grads.append(t.grad)
    torch.testing.assert_close(*grads)


def test_zero_kernel_has_the_gradient_zero():
    for options in ({}, {"input_size": 5}):
        t = torch.zeros(2, 2, 3, requires_grad=True)
        gt.conv_spectral_norm_bounds(t, **options).upper.backward()
        assert not t.grad.any()


def test_gramians_own_function_has_the_gradient_too():
    w = sample(3, 2, 3)
    grads = []
    for module in (gm, gt):
        t = w.clone().requires_grad_()
        module.conv_spectral_norm_bounds(t, stride=2, padding=1).upper.backward()
        grads.append(t.grad)
    assert torch.equal(*grads)
