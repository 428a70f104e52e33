"""Derivatives of gramian.torch: difference quotients, closed forms, zero, ties, scale, dtypes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
gt = pytest.importorskip("gramian.torch")

pytestmark = pytest.mark.thread_unsafe

DTYPES = [torch.float64, torch.complex128]
SHAPES = [(4, 6), (6, 4), (5, 5), (1, 3), (2, 3, 4)]


def sample(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def hermitian(x):
    return x + x.mH


def positive(x):
    return x @ x.mH + 0.3 * torch.eye(x.shape[-2], dtype=x.dtype)


def check(function, x, *, second=True, **tolerances):
    x = x.clone().requires_grad_()
    assert torch.autograd.gradcheck(function, (x,), **tolerances)
    if second:
        assert torch.autograd.gradgradcheck(function, (x,), **tolerances)


def slope(function, x, d, h=1e-6):
    """The derivative along d, by differences."""
    return (function(x + h * d) - function(x - h * d)) / (2 * h)


def gradient(function, x):
    x = x.clone().requires_grad_()
    function(x).backward()
    return x.grad


# ---- newton_schulz ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("normalization", ["schatten", "frobenius", 6.0])
def test_newton_schulz(shape, normalization, dtype):
    def function(x):
        return gt.newton_schulz(x, 3, normalization=normalization)

    check(function, sample(*shape, dtype=dtype), second=shape == (4, 6))


@pytest.mark.parametrize("options", [
    {"coefficients": "muon", "steps": 5},
    {"coefficients": [(1.5, -0.5, 0.0)], "steps": 4},
    {"coefficients": "taylor", "steps": 1},
    {"method": "gram", "steps": 4},
])  # fmt: skip
def test_newton_schulz_with_options(options):
    check(lambda x: gt.newton_schulz(x, **options), sample(3, 5), second=False)


@pytest.mark.parametrize("normalization", ["schatten", "frobenius"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("exponent", [-1, 1])
def test_newton_schulz_far_from_one(exponent, dtype, normalization):
    """The result does not depend on the scale, so the gradient falls with it, bit for bit."""
    steps = 900 if dtype == torch.float64 else 90
    scale = 2.0 ** (exponent * steps)
    x, g = sample(4, 6, dtype=dtype), sample(4, 6, dtype=dtype, seed=1)

    def pulled(x):
        x = x.clone().requires_grad_()
        gt.newton_schulz(x, normalization=normalization).backward(g)
        return x.grad

    # A gradient that is too small for its dtype is 0.
    reach = 2.0**20 if exponent > 0 else 1.0
    wanted = pulled(x)
    found = pulled(x * (scale / reach))
    assert bool(torch.isfinite(found).all())
    assert torch.equal(found * (scale / reach), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_newton_schulz_in_half_precision(dtype):
    """Computed in float32: what is lost is the rounding of the gradient."""
    x, g = sample(6, 9, dtype=torch.float32), sample(6, 9, dtype=torch.float32, seed=1)
    x, g = x.to(dtype), g.to(dtype)
    truth = x.float().requires_grad_()
    gt.newton_schulz(truth).backward(g.float())
    x.requires_grad_()
    gt.newton_schulz(x).backward(g)
    assert x.grad.dtype == dtype
    torch.testing.assert_close(x.grad, truth.grad.to(dtype))


def test_newton_schulz_keeps_its_argument_alone():
    x = sample(8, 8).requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        gt.newton_schulz(x)
    assert len(saved) == 1
    assert saved[0].data_ptr() == x.data_ptr()


# ---- Norms --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_iter", [0, 1, 4])
def test_gram_bound(shape, n_iter, dtype):
    check(lambda x: gt.gram_bound(x, n_iter), sample(*shape, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_iter", [0, 1, 6, 100])
def test_gram_bounds_gradient_is_the_same_by_either_way(n_iter, dtype):
    """The core's, and the one that can be differentiated again."""
    x = sample(3, 5, 7, dtype=dtype).requires_grad_()
    bound = gt.gram_bound(x, n_iter).sum()
    core = torch.autograd.grad(bound, x, retain_graph=True)[0]
    products = torch.autograd.grad(bound, x, create_graph=True)[0]
    torch.testing.assert_close(core, products, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_norms(shape, dtype):
    x = sample(*shape, dtype=dtype)
    check(lambda x: gt.spectral_norm(x, rtol=1e-10), x, second=False)
    check(lambda x: gt.spectral_norm_bounds(x, rtol=1e-10)[:2], x, second=False)
    check(gt.stable_rank, x, second=False, eps=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-4])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_singular_vectors_of_the_norm(gap, scale, dtype):
    """u v^H as an SVD has it, wherever the gap is well above rtol."""
    u, _, vh = torch.linalg.svd(sample(40, 60, dtype=dtype).to(torch.complex128))
    if not dtype.is_complex:
        u, vh = torch.linalg.qr(u.real)[0], torch.linalg.qr(vh.real.mT)[0].mT
    s = torch.linspace(1 - gap, 0.1, 40, dtype=torch.float64)
    s[0] = 1
    a = ((u * s) @ vh[:40] * scale).to(dtype)
    found = gradient(lambda x: gt.spectral_norm(x).sum(), a)
    truth = torch.linalg.svd(a.to(torch.complex128) / scale)
    wanted = truth.U[:, :1] @ truth.Vh[:1]
    assert torch.linalg.matrix_norm(found.to(torch.complex128) - wanted) < 1e-5


@pytest.mark.parametrize("rtol", [0.5, 1e-2, 1e-12])
def test_any_rtol_gives_a_subgradient_to_rtol(rtol):
    """With <g, a> = sigma_1 (1 - e) and ||g||_* <= 1 it is an e-subgradient."""
    for seed in range(20):
        a = sample(30, 20, seed=seed)
        g = gradient(lambda x: gt.spectral_norm(x, rtol=rtol), a)
        norm = torch.linalg.matrix_norm(a, 2)
        assert torch.linalg.matrix_norm(g, "nuc") <= 1 + 1e-10
        assert (g * a).sum() >= norm * (1 - rtol - 1e-10)


@pytest.mark.parametrize("n", [1, 2, 30, 300])
def test_ties_give_one_of_the_subgradients(n):
    q = torch.linalg.qr(sample(n, n))[0]
    for a in (torch.eye(n, dtype=torch.float64), q, torch.cat([q, q], 1)):
        g = gradient(gt.spectral_norm, a)
        assert torch.linalg.matrix_norm(g, "nuc") <= 1 + 1e-9
        assert (g * a).sum() >= torch.linalg.matrix_norm(a, 2) * (1 - 1e-6)
        assert torch.equal(g, gradient(gt.spectral_norm, a))


# ---- Functions of singular values and eigenvalues -----------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", ["right", "left"])
def test_polar(shape, side, dtype):
    x = sample(*shape, dtype=dtype)
    check(lambda x: gt.polar(x, side=side), x, second=shape == (5, 5))
    check(lambda x: gt.polar(x, compute_hermitian=False), x, second=shape != (2, 3, 4))


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrix_sign(dtype):
    check(lambda x: gt.matrix_sign(hermitian(x)), sample(4, 4, dtype=dtype))
    check(lambda x: gt.matrix_sign(hermitian(x)), sample(2, 3, 3, dtype=dtype), second=False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_spectral_clip(shape, kind, dtype):
    for max_norm in (1e-2, 1.7, 1e2):
        check(lambda x, c=max_norm: gt.spectral_clip(x, c, kind=kind), sample(*shape, dtype=dtype),
              second=False, atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_inverse_root(p, ridge, dtype):
    for shape in ((4, 4), (2, 3, 3)):
        check(lambda x: gt.inverse_root(positive(x), p, ridge=ridge), sample(*shape, dtype=dtype),
              second=False)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_sqrt_psd(dtype):
    for shape in ((4, 4), (2, 3, 3)):
        check(lambda x: gt.sqrt_psd(positive(x)), sample(*shape, dtype=dtype))


@pytest.mark.parametrize("function", [
    lambda a: gt.polar(a)[0], lambda a: gt.polar(a)[1], gt.matrix_sign, lambda a: gt.sqrt_psd(a)[0],
    lambda a: gt.sqrt_psd(a)[1], lambda a: gt.inverse_root(a, 2),
    lambda a: gt.inverse_root(a, 4, ridge=0.1), lambda a: gt.spectral_clip(a, 1.5),
    lambda a: gt.spectral_clip(a, 1.5, kind="soft"),
])  # fmt: skip
def test_equal_eigenvalues_do_no_harm(function):
    """2 twice and 1 twice; along d, which splits them, it is the difference quotient."""
    q = torch.linalg.qr(sample(4, 4))[0]
    a = (q * torch.tensor([2.0, 2.0, 1.0, 1.0])) @ q.mT
    a = hermitian(a) / 2
    w = hermitian(sample(4, 4, seed=1))
    found = gradient(lambda a: (w * function(a)).sum(), a)
    # The largest eigenvalue, by which the ridge goes, must not split.
    d = hermitian(sample(4, 4, seed=2)) if function.__code__.co_consts.count(0.1) == 0 else a @ a
    wanted = slope(lambda a: (w * function(a)).sum(), a, d)
    assert abs((found * d).sum() - wanted) < 1e-7


# ---- Zero, and no rank --------------------------------------------------------------------------

EVERYWHERE = {
    "newton_schulz": lambda x: gt.newton_schulz(x),
    "newton_schulz frobenius": lambda x: gt.newton_schulz(x, normalization="frobenius"),
    "newton_schulz bound": lambda x: gt.newton_schulz(x, normalization=9.0),
    "gram_bound": lambda x: gt.gram_bound(x),
    "gram_bound 0": lambda x: gt.gram_bound(x, 0),
    "spectral_norm": lambda x: gt.spectral_norm(x),
    "spectral_norm_bounds": lambda x: gt.spectral_norm_bounds(x).upper,
    "stable_rank": lambda x: gt.stable_rank(x),
    "polar": lambda x: torch.cat(gt.polar(x), -2),
    "matrix_sign": lambda x: gt.matrix_sign(x[..., :4]),
    "clip": lambda x: gt.spectral_clip(x, 1.0),
    "soft clip": lambda x: gt.spectral_clip(x, 1.0, kind="soft"),
    "conv": lambda x: gt.conv_spectral_norm_bounds(x[..., None], input_size=3).upper,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("kind", ["zero", "rank one", "identity"])
def test_gradients_are_finite_everywhere(name, kind, dtype):
    x = torch.zeros(4, 5, dtype=dtype)
    if kind == "rank one":
        x[:] = 1
    if kind == "identity":
        x[:, :4] = torch.eye(4)
    if name == "matrix_sign":
        x = torch.cat([hermitian(x[:, :4]), x[:, 4:]], 1)
    g = gradient(lambda x: EVERYWHERE[name](x).abs().square().sum(), x)
    assert bool(torch.isfinite(g).all())
    jumps = ("norm", "bound", "rank", "conv", "schulz", "sign", "polar")
    if kind == "zero" and any(j in name for j in jumps):
        assert not g.any()  # the least of the subgradients, or none at a jump


@pytest.mark.parametrize("rank", [1, 3])
def test_polar_of_a_matrix_without_full_rank(rank):
    """The gradient of the partial isometry, along directions that keep the rank."""
    y, z = sample(7, rank), sample(5, rank, seed=1)
    w = sample(7, 5, seed=2)
    dy, dz = sample(7, rank, seed=3), sample(5, rank, seed=4)

    def loss(x):
        return (w * gt.polar(x, compute_hermitian=False)).sum()

    found = gradient(loss, y @ z.mT)
    h = 1e-6
    ahead, back = ((y + s * dy) @ (z + s * dz).mT for s in (h, -h))
    quotient = (loss(ahead) - loss(back)) / (2 * h)
    assert abs((found * (dy @ z.mT + y @ dz.mT)).sum() - quotient) < 1e-6


# ---- Batches, memory layout, dtypes -------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in EVERYWHERE if n not in ("conv", "matrix_sign")])
def test_each_matrix_of_a_batch_has_its_own_gradient(name):
    x = sample(3, 4, 5)
    x[1] *= 1e-6
    together = gradient(lambda x: EVERYWHERE[name](x).sum(), x)
    for i in range(3):
        alone = gradient(lambda x: EVERYWHERE[name](x).sum(), x[i])
        torch.testing.assert_close(together[i], alone, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("name", [n for n in EVERYWHERE if n not in ("conv", "matrix_sign")])
def test_views_have_the_gradients_of_copies(name):
    z = sample(5, 4, dtype=torch.complex128)
    wanted = gradient(lambda x: EVERYWHERE[name](x).abs().sum(), z.mH.contiguous().resolve_conj())
    base = z.clone().requires_grad_()
    EVERYWHERE[name](base.mH).abs().sum().backward()
    torch.testing.assert_close(base.grad.mH.resolve_conj(), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.complex64])
@pytest.mark.parametrize("name", EVERYWHERE)
def test_narrow_dtypes_have_the_gradient_of_double_precision(name, dtype):
    wide = torch.complex128 if dtype.is_complex else torch.float64
    x = sample(4, 5, dtype=wide)
    if name == "matrix_sign":
        x = torch.cat([hermitian(x[:, :4]), x[:, 4:]], 1)
    x = x.to(dtype)
    found = gradient(lambda x: EVERYWHERE[name](x).abs().sum(), x)
    wanted = gradient(lambda x: EVERYWHERE[name](x).abs().sum(), x.to(wide))
    assert found.dtype == dtype
    unit = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}.get(dtype, 2.0**-23)
    allowed = 50 * unit * torch.linalg.norm(wanted)
    if "schulz" in name:  # whose steps enlarge what is small, by how much tells a rounding of x
        moved = x.to(wide) * (1 + unit * torch.sgn(sample(4, 5, seed=1)))
        change = gradient(lambda x: EVERYWHERE[name](x).abs().sum(), moved) - wanted
        allowed = allowed + 10 * torch.linalg.norm(change)
    assert torch.linalg.norm(found.to(wide) - wanted) < allowed


def test_gradient_through_a_large_matrix():
    """Against the SVD's formula for the polar factor, 200 x 120, condition 1e4."""
    u = torch.linalg.qr(sample(200, 120))[0]
    v = torch.linalg.qr(sample(120, 120, seed=1))[0]
    s = torch.logspace(0, -4, 120, dtype=torch.float64)
    x, g = (u * s) @ v.mT, sample(200, 120, seed=2)
    t = x.clone().requires_grad_()
    gt.polar(t, compute_hermitian=False).backward(g)
    k = u.mT @ g @ v
    inner = (k - k.mT) / (s[:, None] + s[None, :])
    beyond = (g @ v - u @ k) / s
    wanted = (u @ inner + beyond) @ v.mT
    assert torch.linalg.norm(t.grad - wanted) < 1e-9 * torch.linalg.norm(wanted)
    assert np.isfinite(float(t.grad.sum()))


@pytest.mark.parametrize("name", ["newton_schulz", "gram_bound", "spectral_norm", "stable_rank",
                                  "polar", "clip", "soft clip", "sign", "root"])  # fmt: skip
def test_nan_stays_in_its_matrix(name):
    functions = {
        "newton_schulz": gt.newton_schulz,
        "gram_bound": gt.gram_bound,
        "spectral_norm": gt.spectral_norm,
        "stable_rank": gt.stable_rank,
        "polar": lambda x, **o: torch.cat(gt.polar(x, **o), -2),
        "clip": lambda x, **o: gt.spectral_clip(x, 1.0, **o),
        "soft clip": lambda x, **o: gt.spectral_clip(x, 1.0, kind="soft", **o),
        "sign": gt.matrix_sign,
        "root": lambda x, **o: gt.inverse_root(x, 2, **o),
    }
    x = positive(sample(3, 4, 4)) if name in ("sign", "root") else sample(3, 4, 6)
    bad = x.clone()
    bad[1, 2, 2] = torch.nan

    def loss(x):
        return functions[name](x, check_finite=False).sum()

    found, wanted = gradient(loss, bad), gradient(loss, x)
    assert bool(found[1].isnan().all())
    torch.testing.assert_close(found[[0, 2]], wanted[[0, 2]])
