"""gramian.torch on tensors without values: the meta device, and fake tensors."""

from __future__ import annotations

import gramian as gm
import pytest

torch = pytest.importorskip("torch")
gt = pytest.importorskip("gramian.torch")
fake_tensor = pytest.importorskip("torch._subclasses.fake_tensor")

pytestmark = pytest.mark.thread_unsafe  # modes are global


def square(x):
    side = min(x.shape[-2:])
    x = x[..., :side, :side]
    return x @ x.mH + torch.eye(side, dtype=x.dtype, device=x.device)


FUNCTIONS = {
    "newton_schulz": (lambda m, x: m.newton_schulz(x, 3), gt, gm),
    "newton_schulz bound": (lambda m, x: m.newton_schulz(x, normalization=9.0), gt, gm),
    "gram_bound": (lambda m, x: m.gram_bound(x, 3), gt, gm),
    "spectral_norm": (lambda m, x: m.spectral_norm(x), gt, gm),
    "spectral_norm_bounds": (lambda m, x: m.spectral_norm_bounds(x), gt),
    "stable_rank": (lambda m, x: m.stable_rank(x), gt, gm),
    "polar": (lambda m, x: m.polar(x), gt, gm),
    "polar left": (lambda m, x: m.polar(x, side="left"), gt, gm),
    "polar factor": (lambda m, x: m.polar(x, compute_hermitian=False), gt, gm),
    "matrix_sign": (lambda m, x: m.matrix_sign(square(x)), gt, gm),
    "spectral_clip": (lambda m, x: m.spectral_clip(x, 1.0), gt, gm),
    "inverse_root": (lambda m, x: m.inverse_root(square(x), 2, ridge=0.1), gt, gm),
    "sqrt_psd": (lambda m, x: m.sqrt_psd(square(x)), gt, gm),
    "rsvd": (lambda m, x: m.rsvd(x, 2), gt),
    "conv": (lambda m, x: m.conv_spectral_norm_bounds(x.flatten(0, -3)), gt),
}
PAIRS = [(name, module) for name, (_, *modules) in FUNCTIONS.items() for module in modules]


def parts(result):
    return (result,) if isinstance(result, torch.Tensor) else tuple(result)


def total(result):
    return sum(p.abs().sum() for p in parts(result) if p.is_floating_point() or p.is_complex())


def alike(found, wanted):
    for f, w in zip(parts(found), parts(wanted), strict=True):
        assert (f.shape, f.dtype, f.stride()) == (w.shape, w.dtype, w.stride())


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128, torch.bfloat16])
@pytest.mark.parametrize(("name", "module"), PAIRS, ids=lambda v: getattr(v, "__name__", v))
def test_shapes_and_dtypes_without_values(name, module, dtype):
    function = FUNCTIONS[name][0]
    x = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = function(module, x)
    found = function(module, x.to("meta"))
    assert all(p.is_meta for p in parts(found))
    alike(found, wanted)
    with fake_tensor.FakeTensorMode() as mode:
        made_inside = torch.empty(2, 4, 6, dtype=dtype)
        for fake in (made_inside, mode.from_tensor(x)):
            result = function(module, fake)
            assert all(type(p) is fake_tensor.FakeTensor for p in parts(result))
            alike(result, wanted)
    if name != "rsvd":
        y = torch.empty(2, 4, 6, dtype=dtype, device="meta", requires_grad=True)
        total(function(module, y)).backward()
        assert y.grad.is_meta
        alike(y.grad, y)


def test_every_operator_has_shapes_without_values():
    """By torch's names, so that none is forgotten."""
    from test_torch_operators import OPERATORS, sample

    for name, arguments in OPERATORS.items():
        x = sample(3, 2, 3) if "conv" in name else sample(2, 4, 6)
        given = arguments(x)
        operator = getattr(torch.ops.gramian, name).default
        wanted = operator(*given)
        alike(operator(*(g.to("meta") if isinstance(g, torch.Tensor) else g for g in given)),
              wanted)  # fmt: skip


def test_bad_options_are_refused_without_values_too():
    x = torch.empty(3, 3, device="meta")
    with pytest.raises(ValueError, match=r"\bmethod\b"):
        gm.newton_schulz(x, method="nope")
    with pytest.raises(ValueError, match=r"\bcoefficients is 'nope'"):
        gm.newton_schulz(x, coefficients="nope")
    with pytest.raises(TypeError, match=r"x has dtype int32"):
        gt.newton_schulz(x.int())
    with pytest.raises(ValueError, match=r"\ba has shape"):
        gt.matrix_sign(x[:2])
    for package in (gm.spectral_norm_bounds, gm.rsvd):
        with pytest.raises(TypeError, match=r"\ba\b.* meta device"):
            package(x, **({} if package is gm.spectral_norm_bounds else {"rank": 1}))


def layers():
    from gramian.torch.parametrizations import spectral_norm

    return torch.nn.Sequential(
        spectral_norm(torch.nn.Conv2d(1, 4, 3, padding=1), bound=0.5),
        torch.nn.Flatten(),
        spectral_norm(torch.nn.Linear(4 * 64, 10), bound=0.5),
    )


@pytest.mark.parametrize("assign", [True, False])
def test_modules_made_on_the_meta_device(assign):
    """As large models are: shapes first, values from a state dict."""
    trained = layers()
    with torch.device("meta"):
        net = layers()
    assert all(p.is_meta for p in net.parameters())
    assert net(torch.empty(2, 1, 8, 8, device="meta")).shape == (2, 10)
    if not assign:
        net.to_empty(device="cpu")
    net.load_state_dict(trained.state_dict(), assign=assign)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(net(x), trained(x))
    with torch.no_grad():
        assert gm.spectral_norm_bounds(net[2].weight).upper <= 0.5
