"""gramian.torch on a GPU: the values and gradients of the CPU, one graph, the parametrization."""

from __future__ import annotations

import gramian as gm
import pytest

torch = pytest.importorskip("torch")
gt = pytest.importorskip("gramian.torch")

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]

FUNCTIONS = {
    "newton_schulz": lambda x: gt.newton_schulz(x),
    "gram_bound": lambda x: gt.gram_bound(x, 5),
    "spectral_norm": lambda x: gt.spectral_norm(x),
    "spectral_norm_bounds": lambda x: gt.spectral_norm_bounds(x).upper,
    "stable_rank": lambda x: gt.stable_rank(x),
}


def sample(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def gradient(function, x):
    x = x.clone().requires_grad_()
    function(x).sum().backward()
    return x.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(6, 9), (40, 30), (3, 17, 20)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_those_of_the_cpu(name, shape, dtype):
    x = sample(*shape, dtype=dtype)
    f = (lambda x: FUNCTIONS[name](x).abs()) if name == "newton_schulz" else FUNCTIONS[name]
    found, wanted = gradient(f, x.cuda()), gradient(f, x)
    assert found.device.type == "cuda"
    # Five steps enlarge what is small by up to 808 (docs/newton_schulz.md), errors too.
    allowed = 2000 * torch.finfo(dtype).eps
    assert torch.linalg.norm(found.cpu() - wanted) <= allowed * torch.linalg.norm(wanted)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("shape", [(6, 9), (40, 30), (3, 17, 60)])
@pytest.mark.parametrize("name", [*FUNCTIONS, "polar"])
def test_forward_mode_is_that_of_the_cpu(name, shape):
    function = FUNCTIONS.get(name, lambda x: gt.polar(x)[0])
    x, d = sample(*shape), sample(*shape, seed=1)
    found, wanted = (torch.func.jvp(function, (x.to(at), ), (d.to(at), ))[1]
                     for at in ("cuda", "cpu"))  # fmt: skip
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("normalization", ["schatten", "frobenius", 30.0])
@pytest.mark.parametrize("shape", [(24, 24), (16, 64), (90, 20)])
def test_newton_schulz_by_products_and_by_the_core(shape, normalization):
    """Two codes for one derivative; as an operator too, and inside torch.compile."""

    def function(x):
        return gt.newton_schulz(x, normalization=normalization)

    x, g = sample(*shape), sample(*shape, seed=1)
    results = []
    for at, compiles in (("cpu", False), ("cuda", False), ("cuda", True)):
        torch._dynamo.reset()
        f = torch.compile(function, fullgraph=True, backend="aot_eager") if compiles else function
        y = x.clone().to(at).requires_grad_()
        f(y).backward(g.to(at))
        results.append(y.grad.cpu())
    # The rows are those of double precision on either.
    for found in results[1:]:
        torch.testing.assert_close(found, results[0], rtol=1e-8, atol=1e-10)
    options = (5, "polar_express", [], "" if normalization == 30.0 else normalization, 30.0, False)
    for adjoint in (False, True):
        op = torch.ops.gramian._newton_schulz_derivative
        torch.testing.assert_close(op(x.cuda(), g.cuda(), *options, adjoint).cpu(),
                                   op(x, g, *options, adjoint), rtol=1e-8, atol=1e-10)  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compile_and_vmap(name):
    x = sample(3, 8, 12, dtype=torch.float32).cuda()
    torch._dynamo.reset()
    compiled = torch.compile(FUNCTIONS[name], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), FUNCTIONS[name](x))
    torch.testing.assert_close(torch.func.vmap(FUNCTIONS[name])(x), FUNCTIONS[name](x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_newton_schulz_in_half_precision(dtype):
    x, g = (sample(64, 96, dtype=torch.float32, seed=s).cuda().to(dtype) for s in (0, 1))
    t = x.clone().requires_grad_()
    gm.newton_schulz(t).backward(g)
    wide = x.double().requires_grad_()
    gt.newton_schulz(wide).backward(g.double())
    # The table of rows is that of the CPU and the GPU; only the gradient is rounded.
    error = torch.linalg.norm(t.grad.double() - wide.grad) / torch.linalg.norm(wide.grad)
    assert error < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("options", [
    {"input_size": 5}, {"input_size": 20}, {"input_size": 8, "padding_mode": "circular"}, {},
])  # fmt: skip
def test_convolutions(options):
    w = sample(8, 4, 3, 3)
    f = lambda w: gt.conv_spectral_norm_bounds(w, rtol=1e-6, **options).upper  # noqa: E731
    found = gradient(f, w.cuda())
    # At a tolerance of 1e-6 frequencies and vectors are known to its root.
    torch.testing.assert_close(found.cpu(), gradient(f, w), atol=5e-3, rtol=0)
    torch.testing.assert_close((found.cpu() * w).sum(), f(w), rtol=1e-5, atol=0)


def test_parametrization_trains_under_the_bound():
    from gramian.torch.parametrizations import spectral_norm

    net = torch.nn.Sequential(
        spectral_norm(torch.nn.Conv1d(2, 4, 3)), torch.nn.ReLU(), torch.nn.Flatten(),
        spectral_norm(torch.nn.Linear(24, 3)),
    ).cuda()  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    x, y = torch.randn(32, 2, 8, device="cuda"), torch.randn(32, 3, device="cuda")
    for _ in range(5):
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        weight = net[3].weight.detach()
        assert float(torch.linalg.matrix_norm(weight.double(), 2)) <= 1
        assert float(gm.conv_spectral_norm_bounds(net[0].weight.detach()).lower) <= 1
