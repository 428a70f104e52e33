"""gramian.torch as operators: torch's own checks, one graph, vmap, tracers, what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

import gramian as gm
import pytest

torch = pytest.importorskip("torch")
gt = pytest.importorskip("gramian.torch")

pytestmark = pytest.mark.thread_unsafe  # tracers and transforms are global


def sample(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def positive(x):
    return x @ x.mH + torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)


def symmetric(x):
    square = x[..., : x.shape[-2]]
    return square + square.mH


@dataclass(frozen=True)
class Case:
    """A function of x of shape (..., 4, 6), by gramian's or gramian.torch's name for it."""

    function: str
    options: dict = field(default_factory=dict)
    of: object = staticmethod(lambda x: x)

    def __call__(self, module, x):
        return getattr(module, self.function)(self.of(x), **self.options)

    def __repr__(self):
        return "-".join([self.function, *map(str, self.options.values())])


BOTH = [  # gramian's function and gramian.torch's return the same
    Case("newton_schulz"),
    Case("newton_schulz", {"steps": 3, "coefficients": ((1.5, -0.5, 0.0),), "normalization": 9.0}),
    Case("newton_schulz", {"compute_dtype": torch.float64, "method": "gram"}),
    Case("gram_bound", {"n_iter": 3}),
    Case("spectral_norm"),
    Case("spectral_norm", {"rtol": 1e-3, "rng": 2**64 - 1}),
    Case("stable_rank"),
    Case("polar"),
    Case("polar", {"side": "left"}),
    Case("polar", {"compute_hermitian": False}),
    Case("matrix_sign", {}, symmetric),
    Case("spectral_clip", {"max_norm": 1.0}),
    Case("spectral_clip", {"max_norm": 1.0, "kind": "soft"}),
    Case("inverse_root", {"p": 2, "ridge": 0.1}, positive),
    Case("sqrt_psd", {}, positive),
]
OWN = [
    Case("spectral_norm_bounds", {"rtol": 1e-4}),
    Case("rsvd", {"rank": 2, "rng": 1}),
    Case("rsvd", {"rank": 2, "passes": 2, "center": True}),
]
DIFFERENTIABLE = [*BOTH, OWN[0]]


def parts(result):
    return (result,) if isinstance(result, torch.Tensor) else tuple(result)


def close(found, wanted):
    for f, w in zip(parts(found), parts(wanted), strict=True):
        torch.testing.assert_close(f, w)


def total(result):
    return sum(p.abs().sum() for p in parts(result) if p.is_floating_point() or p.is_complex())


def gradient(case, module, x):
    x = x.clone().requires_grad_()
    total(case(module, x)).backward()
    return x.grad


@pytest.fixture(autouse=True)
def fresh_graphs():
    torch._dynamo.reset()


# ---- torch's own checks -------------------------------------------------------------------------

CONV = ([6, 5], [1, 1], [], "same", "zeros", [1, 1], 1, False, 1e-4)
OPERATORS = {
    "newton_schulz": lambda x: (x, 3, "muon", [], "schatten", 1.0, "auto", None, None),
    "_newton_schulz_derivative": lambda x: (x, 2 * x, 3, "muon", [], "", 9.0, False, True),
    "gram_bound": lambda x: (x, 4, None),
    "_gram_bound_gradient": lambda x: (x, 4),
    "spectral_norm": lambda x: (x, 1e-6, 0, None),
    "_spectral_norm_gradient": lambda x: (x, torch.linalg.matrix_norm(x.detach(), 2), 1e-6),
    "spectral_norm_bounds": lambda x: (x, 1e-6, "auto", 0, None),
    "stable_rank": lambda x: (x, None),
    "polar": lambda x: (x, None, "left", "auto", None),
    "polar_factor": lambda x: (x, None, "auto", None),
    "_lyapunov": lambda x: (positive(x), positive(2 * x), 1e-16),
    "matrix_sign": lambda x: (symmetric(x), None, None),
    "spectral_clip": lambda x: (x, 1.0, "soft", None, None),
    "_spectral_clip_backward": lambda x: (x, 2 * x, 1.0, "hard"),
    "inverse_root": lambda x: (positive(x), 3, 0.1, None, None),
    "_inverse_root_derivative": lambda x: (positive(x), positive(2 * x), 3, 0.1, True),
    "sqrt_psd": lambda x: (positive(x), None, None),
    "rsvd": lambda x: (x.detach(), 2, 3, 0, "auto", False, 0, None),
    "conv_spectral_norm_bounds": lambda x: (x[..., None].detach().requires_grad_(), *CONV),
    "_conv_norm_gradient": lambda x: (x[..., None].detach(), *CONV),
}


def test_every_operator_is_checked():
    names = {n.removeprefix("gramian::") for n in torch._C._dispatch_get_all_op_names()
             if n.startswith("gramian::")}  # fmt: skip
    assert names == set(OPERATORS)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(name, requires_grad):
    """Schema, fake kernel against the real one, autograd's registration, AOT with unknown sizes."""
    if requires_grad and name.startswith("_") and name != "_lyapunov":
        pytest.skip("no derivative")
    shape = (2, 4, 6) if "conv" not in name else (3, 2, 3)
    x = sample(*shape).requires_grad_(requires_grad)
    arguments = OPERATORS[name](x)
    results = torch.library.opcheck(getattr(torch.ops.gramian, name).default, arguments)
    assert set(results.values()) == {"SUCCESS"}


# ---- One graph ----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [gt, gm], ids=["gramian.torch", "gramian"])
@pytest.mark.parametrize("case", BOTH, ids=repr)
def test_compile_keeps_one_graph(case, module):
    check_compiled(case, module)


@pytest.mark.parametrize("case", OWN, ids=repr)
def test_compile_keeps_one_graph_with_results_of_its_own(case):
    check_compiled(case, gt)


def check_compiled(case, module):
    x = sample(2, 4, 6)
    compiled = torch.compile(lambda x: case(module, x), fullgraph=True, backend="aot_eager")
    close(compiled(x), case(gt, x))
    if case in DIFFERENTIABLE:
        y = x.clone().requires_grad_()
        total(compiled(y)).backward()
        torch.testing.assert_close(y.grad, gradient(case, gt, x))


def test_compile_with_sizes_unknown():
    compiled = torch.compile(lambda x: 2 * gt.polar(x + 1)[1], fullgraph=True, dynamic=True,
                             backend="aot_eager")  # fmt: skip
    for shape in ((3, 5), (7, 4), (2, 6, 6)):
        x = sample(*shape)
        torch.testing.assert_close(compiled(x), 2 * gm.polar(x + 1)[1])


def test_export_and_make_fx_record_the_operator():
    from torch.fx.experimental.proxy_tensor import make_fx

    class Layer(torch.nn.Module):
        def forward(self, x):
            return gt.newton_schulz(x)

    x = sample(4, 6)
    program = torch.export.export(Layer(), (x,))
    assert "gramian.newton_schulz" in str(program.graph)
    torch.testing.assert_close(program.module()(x), gm.newton_schulz(x))
    # A tensor under a tracer's mode looks plain: its result must not become a constant.
    traced = make_fx(lambda t: gm.newton_schulz(t))(x)
    torch.testing.assert_close(traced(2 * x + 1), gm.newton_schulz(2 * x + 1))


# ---- Transforms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BOTH, ids=repr)
def test_vmap_maps_onto_the_batch(case):
    x = sample(3, 4, 6)
    wanted = case(gm, x)
    for module in (gt, gm):
        close(torch.func.vmap(lambda t, m=module: case(m, t))(x), wanted)
    close(torch.func.vmap(lambda t: case(gt, t), in_dims=2)(x.movedim(0, 2)), wanted)
    nested = torch.func.vmap(torch.func.vmap(lambda t: case(gt, t)))(x[:, None])
    close(tuple(p[:, 0] for p in parts(nested)), wanted)


@pytest.mark.parametrize("case", OWN, ids=repr)
def test_vmap_of_results_of_its_own(case):
    x = sample(3, 4, 6)
    close(torch.func.vmap(lambda t: case(gt, t))(x), case(gt, x))


def test_vmap_of_convolutions():
    w = sample(4, 3, 2, 3)
    found = torch.func.vmap(lambda t: gt.conv_spectral_norm_bounds(t, input_size=5))(w)
    for i in range(4):
        alone = gt.conv_spectral_norm_bounds(w[i], input_size=5)
        close(tuple(part[i] for part in found), alone)
    with pytest.raises(ValueError, match="weight has no kernel"):
        torch.func.vmap(gt.conv_spectral_norm_bounds)(w[:0])


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=repr)
def test_gradients_of_each_sample(case):
    x = sample(3, 4, 6)
    wanted = gradient(case, gt, x)
    of_one = torch.func.grad(lambda t: total(case(gt, t)))
    torch.testing.assert_close(torch.func.vmap(of_one)(x), wanted)
    torch.testing.assert_close(torch.func.grad(lambda t: total(case(gt, t)))(x), wanted)


def test_other_transforms():
    x = sample(3, 4)
    wanted = gm.newton_schulz(x)
    torch.testing.assert_close(torch.func.functionalize(gt.newton_schulz)(x), wanted)
    batch = sample(5, 3, 4)
    torch.testing.assert_close(torch.func.vmap(gt.newton_schulz, chunk_size=2)(batch),
                               gm.newton_schulz(batch))  # fmt: skip
    for function in (lambda x: gt.gram_bound(x, 2), lambda x: gt.polar(x)[1][0, 1]):
        twice = torch.func.jacrev(torch.func.jacrev(function))(x)
        torch.testing.assert_close(twice, torch.autograd.functional.hessian(function, x))
    recomputed = x.clone().requires_grad_()
    torch.utils.checkpoint.checkpoint(gt.gram_bound, recomputed, use_reentrant=False).backward()
    torch.testing.assert_close(recomputed.grad, gradient(Case("gram_bound"), gt, x))


def test_second_derivatives_that_are_not_offered_are_an_error():
    x = sample(3, 4).requires_grad_()
    for function in (gt.spectral_norm, gt.stable_rank, lambda x: gt.spectral_clip(x, 1.0).sum()):
        first = torch.autograd.grad(function(x), x, create_graph=True)[0]
        with pytest.raises(RuntimeError, match="differentiable once"):
            first.sum().backward()


# ---- What is refused, and what is not ------------------------------------------------------------


@pytest.mark.parametrize("function", ["rsvd", "range_finder", "nystrom_eigh"])
def test_no_derivative_is_an_error_and_not_a_detached_result(function):
    a = positive(sample(5, 5)).requires_grad_()
    with pytest.raises(TypeError, match=r"\ba requires grad.*a\.detach\(\)"):
        getattr(gm, function)(a, 2)
    with torch.no_grad():
        getattr(gm, function)(a, 2)
    with pytest.raises(TypeError, match="rsvd is not differentiable"):
        gt.rsvd(a, 2)


@pytest.mark.parametrize("case", BOTH, ids=repr)
def test_gradients_reach_gramians_own_functions(case):
    x = sample(4, 6)
    torch.testing.assert_close(gradient(case, gm, x), gradient(case, gt, x))
    with torch.no_grad():
        assert not any(p.requires_grad for p in parts(case(gm, x.clone().requires_grad_())))


def test_bounds_keep_what_they_tell_with_gradients():
    x = sample(3, 4, 6)
    plain = gm.spectral_norm_bounds(x, method="gram")
    found = gm.spectral_norm_bounds(x.clone().requires_grad_(), method="gram")
    assert (found.method, found.n_iter, found.certificate) == (
        plain.method, plain.n_iter, "rounding")  # fmt: skip
    assert torch.equal(found.upper, plain.upper)
    assert found.lower.requires_grad
    with pytest.raises(TypeError, match=r"gramian\.torch\.spectral_norm_bounds"):
        torch.func.vmap(lambda t: gm.spectral_norm_bounds(t).upper)(x)


def test_out_and_info_are_refused_with_a_gradient():
    x = sample(4, 6).requires_grad_()
    out = torch.full((4, 6), 7.25, dtype=torch.float64)
    with pytest.raises(TypeError, match="no out="):
        gm.newton_schulz(x, out=out)
    with pytest.raises(TypeError, match="no return_info="):
        gm.polar(x, return_info=True)
    with pytest.raises(TypeError, match="normalization requires grad"):
        gm.newton_schulz(x.detach(), normalization=torch.tensor(3.0, requires_grad=True))
    assert bool((out == 7.25).all())


@pytest.mark.parametrize("bad", [
    lambda x: gt.newton_schulz(x, coefficients="nope"),
    lambda x: gt.newton_schulz(x, method="nope"),
    lambda x: gt.newton_schulz(x, normalization=-1.0),
    lambda x: gt.newton_schulz(x[0]),
    lambda x: gt.gram_bound(x, -1),
    lambda x: gt.spectral_norm(x, rtol=0.0),
    lambda x: gt.spectral_norm_bounds(x, method="nope"),
    lambda x: gt.polar(x, side="nope"),
    lambda x: gt.matrix_sign(x),
    lambda x: gt.spectral_clip(x, 0.0),
    lambda x: gt.inverse_root(positive(x), 0),
    lambda x: gt.sqrt_psd(positive(x), tol=-1.0),
    lambda x: gt.conv_spectral_norm_bounds(x[None], stride=2),
])  # fmt: skip
@pytest.mark.parametrize("requires_grad", [False, True])
def test_bad_arguments_are_named_by_either_way(bad, requires_grad):
    with pytest.raises(ValueError, match=r"\b(x|a|coefficients|method|normalization|n_iter|rtol|"
                                         r"side|max_norm|p|tol|padding)\b"):  # fmt: skip
        bad(sample(4, 6).requires_grad_(requires_grad))


SQUARE = positive(sample(3, 3))
KERNEL = sample(2, 2, 3)


@pytest.mark.parametrize("bad", [
    lambda r: gt.newton_schulz(r(SQUARE), "3"),
    lambda r: gt.newton_schulz(r(SQUARE), True),
    lambda r: gt.newton_schulz(r(SQUARE), method=3),
    lambda r: gt.newton_schulz(r(SQUARE), check_finite=1),
    lambda r: gt.newton_schulz(r(SQUARE), coefficients=3),
    lambda r: gt.gram_bound(r(SQUARE), 2.0),
    lambda r: gt.spectral_norm(r(SQUARE), rng="a"),
    lambda r: gt.spectral_norm_bounds(r(SQUARE), method=3),
    lambda r: gt.stable_rank(r(SQUARE), check_finite="x"),
    lambda r: gt.polar(r(SQUARE), compute_hermitian=1),
    lambda r: gt.polar(r(SQUARE), method=3),
    lambda r: gt.matrix_sign(r(SQUARE), tol="x"),
    lambda r: gt.spectral_clip(r(SQUARE), "x"),
    lambda r: gt.inverse_root(r(SQUARE), "x"),
    lambda r: gt.sqrt_psd(r(SQUARE), check_finite=1),
    lambda r: gt.conv_spectral_norm_bounds(r(KERNEL), stride=True),
    lambda r: gt.conv_spectral_norm_bounds(r(KERNEL), groups="x"),
    lambda r: gt.conv_spectral_norm_bounds(r(KERNEL), rtol="x"),
    lambda r: gt.conv_spectral_norm_bounds(r(KERNEL), padding_mode=3),
])  # fmt: skip
def test_wrong_types_are_refused_alike_by_either_way(bad):
    """The operators' schemas would take True for 1."""
    messages = []
    for requires_grad in (False, True):
        with pytest.raises(TypeError) as caught:
            bad(lambda x, r=requires_grad: x.clone().requires_grad_(r))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_numpys_numbers_are_numbers():
    import numpy as np

    x = sample(4, 6).requires_grad_()
    assert torch.equal(gt.newton_schulz(x, np.int64(3)), gt.newton_schulz(x, 3))
    w = KERNEL.clone().requires_grad_()
    found = gt.conv_spectral_norm_bounds(w, stride=np.int64(1), rtol=np.float32(1e-3))
    assert found.upper.requires_grad


def test_nan_is_refused_with_a_gradient_too():
    x = torch.full((3, 3), float("nan"), requires_grad=True)
    with pytest.raises(ValueError, match="NaN"):
        gt.newton_schulz(x)
    q = gt.newton_schulz(x, check_finite=False)
    q.sum().backward()
    assert bool(x.grad.isnan().all())


@pytest.mark.parametrize("x", [torch.ones(0, 3), torch.ones(3, 0), torch.ones(0, 3, 4)],
                         ids=["0x3", "3x0", "empty batch"])  # fmt: skip
def test_nothing_in_nothing_out(x):
    for case in (Case("newton_schulz"), Case("gram_bound"), Case("spectral_norm"),
                 Case("stable_rank"), Case("polar"), Case("spectral_clip", {"max_norm": 1.0}),
                 OWN[0]):  # fmt: skip
        assert gradient(case, gt, x).shape == x.shape
