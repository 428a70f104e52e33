"""Forward mode of gramian.torch: difference quotients, adjoints, transforms in one another."""

from __future__ import annotations

import gramian as gm
import pytest

torch = pytest.importorskip("torch")
gt = pytest.importorskip("gramian.torch")
forward_ad = torch.autograd.forward_ad

pytestmark = [
    pytest.mark.thread_unsafe,
    # torch compiles rules of its own for forward mode by what it says is deprecated.
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning"),
]


def sample(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def positive(x):
    return x @ x.mH + 0.3 * torch.eye(x.shape[-2], dtype=x.dtype)


def hermitian(x):
    side = min(x.shape[-2:])
    square = x[..., :side, :side]
    return square + square.mH


FUNCTIONS = {
    "newton_schulz": lambda x: gt.newton_schulz(x, 3),
    "newton_schulz frobenius": lambda x: gt.newton_schulz(x, 3, normalization="frobenius"),
    "newton_schulz bound": lambda x: gt.newton_schulz(x, 3, normalization=9.0),
    "gram_bound": lambda x: gt.gram_bound(x, 3),
    "spectral_norm": lambda x: gt.spectral_norm(x, rtol=1e-10),
    "spectral_norm_bounds": lambda x: gt.spectral_norm_bounds(x, rtol=1e-10)[:2],
    "stable_rank": lambda x: gt.stable_rank(x),
    "polar": lambda x: gt.polar(x),
    "polar left": lambda x: gt.polar(x, side="left"),
    "polar factor": lambda x: gt.polar(x, compute_hermitian=False),
    "matrix_sign": lambda x: gt.matrix_sign(hermitian(x)),
    "spectral_clip": lambda x: gt.spectral_clip(x, 1.7),
    "soft spectral_clip": lambda x: gt.spectral_clip(x, 1.7, kind="soft"),
    "inverse_root": lambda x: gt.inverse_root(positive(x), 3),
    "inverse_root ridge": lambda x: gt.inverse_root(positive(x), 2, ridge=0.3),
    "sqrt_psd": lambda x: gt.sqrt_psd(positive(x)),
    "conv": lambda x: gt.conv_spectral_norm_bounds(
        x.reshape(2, -1, 2), input_size=5, rtol=1e-9
    )[:2],
}  # fmt: skip
ANY_ORDER = ("newton_schulz", "gram_bound", "polar", "matrix_sign", "sqrt_psd")


def parts(result):
    return (result,) if isinstance(result, torch.Tensor) else tuple(result)


def tangent(function, x, d):
    return parts(torch.func.jvp(lambda x: parts(function(x)), (x,), (d,))[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_in_a_direction(name, shape, dtype):
    """By difference quotients, and as the adjoint of the gradient to rounding."""
    if name == "conv" and shape == (5, 5):
        shape = (4, 4)
    function = FUNCTIONS[name]
    x, d = sample(*shape, dtype=dtype), sample(*shape, dtype=dtype, seed=1)
    found = tangent(function, x, d)
    h = 1e-4 if name in ("stable_rank", "conv") else 1e-6
    pairs = zip(parts(function(x + h * d)), parts(function(x - h * d)), strict=True)
    for f, (ahead, back) in zip(found, pairs, strict=True):
        torch.testing.assert_close(f, (ahead - back) / (2 * h), rtol=1e-6, atol=1e-6)

    y = x.clone().requires_grad_()
    results = parts(function(y))
    weights = [sample(*r.shape, dtype=r.dtype, seed=2) if r.ndim else torch.ones_like(r)
               for r in results]  # fmt: skip
    grad = torch.autograd.grad(results, y, weights)[0]
    one = sum((w.conj() * f).sum().real for w, f in zip(weights, found, strict=True))
    torch.testing.assert_close(one, (grad.conj() * d).sum().real, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("module", [gt, gm], ids=["gramian.torch", "gramian"])
def test_dual_tensors(module):
    """The older way into forward mode, which knows no transforms."""
    x, d = sample(4, 6), sample(4, 6, seed=1)
    names = ("newton_schulz", "gram_bound", "stable_rank")
    wanted = {name: tangent(getattr(gt, name), x, d)[0] for name in names}
    with forward_ad.dual_level():
        for name in names:
            result = getattr(module, name)(forward_ad.make_dual(x, d))
            found = forward_ad.unpack_dual(result).tangent
            torch.testing.assert_close(found, wanted[name])
        with pytest.raises((RuntimeError, TypeError), match="no derivative"):
            module.rsvd(forward_ad.make_dual(x, d), 2)
        # An operator called by torch's name has no rule; its kernel refuses.
        with pytest.raises(TypeError, match="a carries a forward-mode tangent"):
            torch.ops.gramian.gram_bound(forward_ad.make_dual(x, d), 3, None)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_mapped_and_in_batches(name):
    x, d = sample(3, 4, 6), sample(3, 4, 6, seed=1)
    function = FUNCTIONS[name]
    found = torch.func.vmap(lambda x, d: tangent(function, x, d))(x, d)
    for i in range(3):
        for part, wanted in zip(found, tangent(function, x[i], d[i]), strict=True):
            torch.testing.assert_close(part[i], wanted, rtol=1e-6, atol=1e-9)
    if name != "conv":  # takes one kernel
        for part, wanted in zip(found, tangent(function, x, d), strict=True):
            torch.testing.assert_close(part, wanted, rtol=1e-6, atol=1e-9)
    for ahead, back in zip(*(parts(jacobian(lambda x: parts(function(x)))(x[0]))
                             for jacobian in (torch.func.jacfwd, torch.func.jacrev)),
                           strict=True):  # fmt: skip
        torch.testing.assert_close(ahead, back, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_linearized(name):
    """torch computes what does not depend on the direction below the dispatch key of tangents."""
    x, d = sample(4, 6), sample(4, 6, seed=1)
    results, along = torch.func.linearize(lambda x: parts(FUNCTIONS[name](x)), x)
    for found, wanted in zip(results, parts(FUNCTIONS[name](x)), strict=True):
        torch.testing.assert_close(found, wanted)
    for found, wanted in zip(along(d), tangent(FUNCTIONS[name], x, d), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ANY_ORDER)
def test_second_derivatives_by_either_order(name):
    def loss(x):
        return sum(p.square().sum() ** 2 + p.flatten()[0] for p in parts(FUNCTIONS[name](x)))

    x = sample(3, 3)
    wanted = torch.autograd.functional.hessian(loss, x)
    for outer, inner in (("jacfwd", "jacrev"), ("jacrev", "jacfwd"), ("jacrev", "jacrev")):
        found = getattr(torch.func, outer)(getattr(torch.func, inner)(loss))(x)
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)
    y = x.clone().requires_grad_()
    assert torch.autograd.gradcheck(FUNCTIONS[name], (y,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(FUNCTIONS[name], (y,), check_fwd_over_rev=True)


def test_what_torch_would_lose_is_an_error():
    """Forward mode in itself, and inside torch.compile: both silently wrong otherwise."""
    x, d = sample(3, 4), sample(3, 4, seed=1)
    for module in (gt, gm):
        with pytest.raises(NotImplementedError, match="forward mode inside forward mode"):
            torch.func.jacfwd(torch.func.jacfwd(lambda x, m=module: m.gram_bound(x)))(x)

    def pushed(x, d):
        return torch.func.jvp(gt.newton_schulz, (x,), (d,))[1]

    torch._dynamo.reset()
    compiled = torch.compile(pushed, fullgraph=True, backend="aot_eager")
    with pytest.raises(torch._dynamo.exc.Unsupported, match="take it outside"):
        compiled(x, d)
    function = torch.compile(gt.newton_schulz, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(function(x), gt.newton_schulz(x))  # the graph is not to be kept
    with forward_ad.dual_level(), pytest.raises(Exception, match=r"take it outside|forward"):
        function(forward_ad.make_dual(x, d))


@pytest.mark.parametrize("name", ["spectral_norm", "stable_rank", "spectral_clip", "inverse_root"])
def test_second_derivatives_that_are_not_offered_are_an_error(name):
    x = sample(4, 4)
    for outer, inner in (("jacfwd", "jacrev"), ("jacrev", "jacfwd")):
        derivative = getattr(torch.func, inner)(FUNCTIONS[name])
        with pytest.raises(RuntimeError, match="differentiable once"):
            getattr(torch.func, outer)(derivative)(x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.complex64])
@pytest.mark.parametrize("name", ["newton_schulz", "gram_bound", "spectral_norm", "stable_rank",
                                  "polar", "spectral_clip"])  # fmt: skip
def test_narrow_dtypes(name, dtype):
    wide = torch.complex128 if dtype.is_complex else torch.float64
    x, d = (sample(5, 8, dtype=wide, seed=s).to(dtype) for s in (0, 1))
    unit = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}.get(dtype, 2.0**-23)
    results = parts(FUNCTIONS[name](x))
    pairs = zip(tangent(FUNCTIONS[name], x, d),
                tangent(FUNCTIONS[name], x.to(wide), d.to(wide)), strict=True)  # fmt: skip
    for result, (found, wanted) in zip(results, pairs, strict=True):
        assert found.dtype == result.dtype
        error = torch.linalg.vector_norm(found.to(wanted.dtype) - wanted)
        assert error < 200 * unit * torch.linalg.vector_norm(wanted)


@pytest.mark.parametrize(("name", "call"), [
    ("max_norm", lambda module, v: module.spectral_clip(sample(3, 4), v)),
    ("normalization", lambda module, v: module.newton_schulz(sample(3, 4), normalization=v)),
])  # fmt: skip
@pytest.mark.parametrize("module", [gt, gm], ids=["gramian.torch", "gramian"])
def test_tangents_of_numbers_are_not_lost_in_silence(module, name, call):
    number = torch.tensor(9.0, dtype=torch.float64)
    with pytest.raises(TypeError, match=f"{name} carries a forward-mode tangent"):
        torch.func.jvp(lambda v: call(module, v), (number,), (number,))
    with forward_ad.dual_level():
        with pytest.raises(TypeError, match=f"{name} carries a forward-mode tangent"):
            call(module, forward_ad.make_dual(number, number))
        assert call(module, number).shape == (3, 4)


def test_tangents_of_weights_are_not_lost_in_silence():
    with forward_ad.dual_level():
        weights = forward_ad.make_dual(torch.ones(3), torch.ones(3))
        with pytest.raises(TypeError, match="sample_weight carries a forward-mode tangent"):
            gm.FrequentDirections(4, 2).partial_fit(sample(3, 4), sample_weight=weights)
