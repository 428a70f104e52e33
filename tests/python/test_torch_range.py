"""Derivatives of gramian.torch at the ends of the range, under autocast, by accurate norms; of
Hermitian matrices, by threads."""

from __future__ import annotations

import gramian as gm
import pytest

torch = pytest.importorskip("torch")
gt = pytest.importorskip("gramian.torch")

pytestmark = pytest.mark.thread_unsafe


def sample(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def gradient(function, x):
    x = x.clone().requires_grad_()
    function(x).backward()
    return x.grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("scale", [2.0**-1000, 1.0, 2.0**1000])
def test_stable_rank_by_the_svd(scale, dtype):
    """To rounding, not only to the 1e-9 that the norm on the way is known to."""
    a = sample(40, 30, dtype=dtype)
    found = gradient(gt.stable_rank, a * scale) * scale
    u, s, vh = torch.linalg.svd(a)
    wanted = 2 * (a / s[0] - (s / s[0]).square().sum() * torch.outer(u[:, 0], vh[0])) / s[0]
    error = torch.linalg.norm(found - wanted) / torch.linalg.norm(wanted)
    # Of the SVD's vectors: rounding over the gap, of which there is 0.04 here.
    gap = float(1 - s[1] / s[0])
    assert error < 200 * torch.finfo(dtype).eps / gap


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [[[3, 1], [0, 1]], [[1, 1], [0, 1]], [[3, 1], [1, 2]]])
def test_subnormal_norms_give_a_subgradient(rows, dtype):
    """The norm is rounded to a whole number here, which may be far below what it was."""
    limits = torch.finfo(dtype)
    a = torch.tensor(rows, dtype=torch.float64)
    g = gradient(gt.spectral_norm, (a * limits.smallest_normal * limits.eps).to(dtype)).double()
    norm = torch.linalg.matrix_norm(a, 2)
    assert torch.linalg.matrix_norm(g, "nuc") <= 1 + limits.eps
    assert (g * a).sum() >= norm - 0.5  # to half of the least number


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("max_norm", [1.0, 1e-200])
def test_clipping_far_above_the_bound(max_norm, kind):
    """Of the values of a diagonal matrix far above c only the vectors' turning is left."""
    s = torch.tensor([3e200, 2e200, 1e200], dtype=torch.float64)
    w = sample(3, 3)
    found = gradient(lambda x: (w * gt.spectral_clip(x, max_norm, kind=kind)).sum(), torch.diag(s))
    wanted = max_norm * (w - w.mT) / (s[:, None] + s)  # 2 c K / (s + t), K = (w - w^T) / 2
    # What is below the least normal number counts as 0.
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("function", [
    lambda x: gt.newton_schulz(x).square().sum(dtype=torch.float32),
    lambda x: gt.newton_schulz(x, normalization=9.0)[0, 1],
    gt.gram_bound,
    gt.stable_rank,
    lambda x: gt.polar(x)[0][0, 1],
])  # fmt: skip
def test_autocast_does_not_narrow_the_backward_pass(function, create_graph):
    x = sample(12, 20, dtype=torch.float32)
    results = []
    for narrows in (False, True):
        y = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrows):
            (found,) = torch.autograd.grad(function(y), y, create_graph=create_graph)
        results.append(found.detach())
    wanted, found = results
    assert torch.linalg.norm(found - wanted) < 1e-6 * torch.linalg.norm(wanted)


@pytest.mark.parametrize("call", [
    lambda a, r: gt.inverse_root(a, 2, ridge=r),
    lambda a, r: gt.spectral_norm(a, rtol=r),
    lambda a, r: gt.spectral_norm_bounds(a, rtol=r),
    lambda a, r: gt.sqrt_psd(a, tol=r),
])  # fmt: skip
@pytest.mark.parametrize("requires_grad", [False, True])
def test_numbers_that_require_grad_are_refused(call, requires_grad):
    """They would get none."""
    a = torch.eye(3).requires_grad_(requires_grad)
    number = torch.tensor(0.1, requires_grad=True)
    with pytest.raises(TypeError, match=r"^(ridge|rtol|tol) requires grad"):
        call(a, number)
    call(a, number.detach())


def hermitian(x):
    return x + x.mH


def positive(x):
    return x @ x.mH + 0.3 * torch.eye(x.shape[-2], dtype=x.dtype)


def slope(function, x, d, h=1e-6):
    """The derivative along d, by differences."""
    return (function(x + h * d) - function(x - h * d)) / (2 * h)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
@pytest.mark.parametrize("function", [
    lambda a: gt.inverse_root(a, 3), lambda a: gt.inverse_root(a, 2, ridge=0.2), gt.matrix_sign,
    lambda a: gt.sqrt_psd(a)[0], lambda a: gt.sqrt_psd(a)[1],
])  # fmt: skip
def test_gradients_by_hermitian_matrices_are_hermitian(function, dtype):
    """To the last bit, and what they should be in every Hermitian direction, but no other part."""
    a = positive(sample(5, 5, dtype=dtype))
    a = hermitian(a) / 2
    w = sample(5, 5, dtype=dtype, seed=1)  # the loss prefers no symmetry
    found = gradient(lambda a: (w * function(a)).sum().real, a)
    assert torch.equal(found, found.mH.resolve_conj())
    if dtype == torch.float32:
        return
    for seed in range(3):
        d = hermitian(sample(5, 5, dtype=dtype, seed=2 + seed))
        wanted = slope(lambda a: (w * function(a)).sum().real, a, d)
        torch.testing.assert_close((found.conj() * d).sum().real, wanted, rtol=1e-6, atol=1e-7)
    # One entry with its mirror image: twice what stands there.
    d = torch.zeros_like(a)
    d[3, 1] = d[1, 3] = 1
    wanted = slope(lambda a: (w * function(a)).sum().real, a, d)
    torch.testing.assert_close(2 * found[3, 1].real, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(300, 310), (5, 40, 30), (3, 30, 90), (270, 600)])
def test_newton_schulz_gradient_does_not_depend_on_threads(shape):
    """To the last bit; whether threads share a matrix or a batch."""
    x, g = sample(*shape), sample(*shape, seed=1)
    found = []
    threads = gm.get_num_threads()
    try:
        for count in (1, 3):
            gm.set_num_threads(count)
            y = x.clone().requires_grad_()
            gt.newton_schulz(y).backward(g)
            found.append(y.grad)
    finally:
        gm.set_num_threads(threads)
    assert torch.equal(*found)
    # Entries without memory of their own, and another order of dimensions.
    y = x.mT.clone().mT.requires_grad_()
    gt.newton_schulz(y).sum().backward()
    wanted = x.clone().requires_grad_()
    gt.newton_schulz(wanted).backward(torch.ones_like(x))
    assert torch.equal(y.grad, wanted.grad)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("name", ["float64", "complex128", torch.complex128])
def test_newton_schulz_gradient_in_double_precision_by_either_name(name, again):
    x, g = (sample(5, 7, dtype=torch.complex128, seed=s).to(torch.complex64) for s in (0, 1))
    y = x.clone().requires_grad_()
    result = gt.newton_schulz(y, compute_dtype=name)
    found = torch.autograd.grad(result, y, g, create_graph=again)[0].to(torch.complex128)
    z = x.to(torch.complex128).requires_grad_()
    wanted = torch.autograd.grad(gt.newton_schulz(z), z, g.to(torch.complex128))[0]
    assert torch.linalg.norm(found - wanted) < 2.0**-22 * torch.linalg.norm(wanted)
