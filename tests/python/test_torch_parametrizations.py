"""gramian.torch.parametrizations.spectral_norm: the norm of the layer is under the bound."""

from __future__ import annotations

import copy
import io

import gramian as gm
import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn = pytest.importorskip("torch.nn")
spectral_norm = pytest.importorskip("gramian.torch.parametrizations").spectral_norm

from torch.nn.utils import parametrize  # noqa: E402

pytestmark = pytest.mark.thread_unsafe

ORIGINAL = "parametrizations.weight.original"

# Layer, options of the parametrization, and the size of an input that the layer takes.
LAYERS = {
    "linear": (lambda: nn.Linear(20, 30), {}, (20,)),
    "linear, wide": (lambda: nn.Linear(50, 3, bias=False), {}, (50,)),
    "1-D": (lambda: nn.Conv1d(3, 4, 3, padding=1), {}, (3, 9)),
    "2-D": (lambda: nn.Conv2d(3, 5, 3), {}, (3, 8, 7)),
    "3-D": (lambda: nn.Conv3d(2, 3, 2, stride=2), {}, (2, 4, 4, 6)),
    "same, groups": (lambda: nn.Conv2d(4, 6, 3, padding="same", groups=2), {"input_size": 7},
                     (4, 7, 7)),
    "dilated": (lambda: nn.Conv2d(2, 3, 3, dilation=2, padding=2), {"input_size": (6, 8)},
                (2, 6, 8)),
    "strided": (lambda: nn.Conv2d(3, 6, 3, stride=2, padding=1), {}, (3, 9, 8)),
    "depthwise": (lambda: nn.Conv1d(6, 6, 5, groups=6), {}, (6, 11)),
    "circular": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
                 {"input_size": 6}, (3, 6, 6)),
    "transposed": (lambda: nn.ConvTranspose1d(4, 2, 4, stride=2, padding=1), {"input_size": 5},
                   (4, 5)),
    "output padding": (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1),
                       {}, (3, 4, 5)),
    "transposed 3-D": (lambda: nn.ConvTranspose3d(2, 4, 2, groups=2), {}, (2, 3, 3, 3)),
}  # fmt: skip


def layer(name, bound=0.7, gain=5.0, dtype=torch.float32):
    torch.manual_seed(0)
    make, options, size = LAYERS[name]
    module = make().to(dtype)
    with torch.no_grad():
        module.weight.mul_(gain)
    return module, options, size, bound


def true_norm(module, size):
    """Of the layer as torch applies it, in double precision: from its dense matrix by an SVD."""
    alone = copy.deepcopy(module).double()
    zero = torch.zeros(1, *size, dtype=torch.float64)
    with torch.no_grad():
        unit = torch.eye(zero.numel(), dtype=torch.float64).reshape(-1, *size)
        matrix = (alone(unit) - alone(zero)).reshape(len(unit), -1)
    return float(torch.linalg.matrix_norm(matrix, 2))


@pytest.mark.parametrize("bound", [0.7, 3.0])
@pytest.mark.parametrize("name", LAYERS)
def test_the_norm_of_the_layer_is_at_most_the_bound(name, bound):
    module, options, size, _ = layer(name)
    before = true_norm(module, size)
    assert spectral_norm(module, bound=bound, **options) is module
    weight = module.weight.detach()
    parametrize.remove_parametrizations(module, "weight")  # keeps the weight
    assert torch.equal(module.weight, weight)
    after = true_norm(module, size)
    assert after <= bound
    # And not much less; the supremum over all sizes is above the norm of a small one.
    if name.startswith("linear") or "input_size" in options:
        assert after >= min(before, bound) * (1 - 3e-3)


@pytest.mark.parametrize("name", ["linear", "linear, wide"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_bound_computed_anew_is_at_most_the_bound(name, dtype):
    for seed in range(20):
        module, _, _, bound = layer(name, dtype=dtype)
        with torch.no_grad():
            module.weight.copy_(
                torch.randn(module.weight.shape, generator=torch.Generator().manual_seed(seed))
            )
        spectral_norm(module, bound=bound)
        assert float(gm.spectral_norm_bounds(module.weight.detach().double()).upper) <= bound


def test_the_bound_of_a_convolution_computed_anew_is_at_most_the_bound():
    for seed in range(10):
        module, _, _, bound = layer("strided")
        with torch.no_grad():
            module.weight.copy_(
                torch.randn(module.weight.shape, generator=torch.Generator().manual_seed(seed))
            )
        spectral_norm(module, bound=bound)
        found = gm.conv_spectral_norm_bounds(module.weight.detach(), stride=2, padding=1)
        assert bool(found.converged)
        assert float(found.upper) <= bound


@pytest.mark.parametrize(("dtype", "gain", "bound"), [
    (torch.float16, 1.0, 1e-4),  # the scale is subnormal
    (torch.float16, 0.02, 0.01),  # most of the weights become subnormal
    (torch.float16, 3000.0, 1.0),  # the sums are beyond the range
    (torch.float32, 1.0, 1e-42),
    (torch.float32, 1e-36, 1e-38),
])  # fmt: skip
def test_the_bound_holds_at_the_ends_of_the_range(dtype, gain, bound):
    for seed in range(10):
        module = nn.Linear(60, 40, dtype=dtype)
        rng = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            module.weight.copy_(gain * torch.randn(module.weight.shape, generator=rng))
        assert bool(module.weight.isfinite().all())
        spectral_norm(module, bound=bound)
        norm = float(torch.linalg.matrix_norm(module.weight.detach().double(), 2))
        # What rounding each weight to the least number can take off, twice.
        spacing = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
        lost = 2 * spacing * (40 * 60) ** 0.5
        assert norm <= bound
        assert norm >= 0.9 * bound - lost


@pytest.mark.parametrize("name", LAYERS)
def test_weights_under_the_bound_stay_as_they_are(name):
    module, options, _, _ = layer(name, gain=0.01)
    weight = module.weight.detach().clone()
    spectral_norm(module, bound=1.0, **options)
    assert torch.equal(module.weight, weight)
    module.weight.sum().backward()
    assert torch.equal(module.parametrizations.weight.original.grad, torch.ones_like(weight))


@pytest.mark.parametrize("name", ["linear", "2-D", "circular", "transposed"])
def test_training_goes_through_the_bound(name):
    """The scaled weight does not change along the weight itself; elsewhere: difference quotient."""
    module, options, _, bound = layer(name, dtype=torch.float64)
    spectral_norm(module, bound=bound, rtol=1e-8, **options)
    scale = module.parametrizations.weight[0]
    w = module.parametrizations.weight.original.detach()
    rng = torch.Generator().manual_seed(1)
    c, d = (torch.randn(w.shape, dtype=w.dtype, generator=rng) for _ in range(2))
    t = w.clone().requires_grad_()
    (c * scale(t)).sum().backward()
    assert abs((t.grad * w).sum()) < 1e-9 * t.grad.norm() * w.norm()
    h = 1e-4
    quotient = (c * (scale(w + h * d) - scale(w - h * d))).sum() / (2 * h)
    assert abs((t.grad * d).sum() - quotient) < 2e-3 * t.grad.norm() * d.norm()


def test_a_step_of_training_lowers_the_loss_under_the_bound():
    module, _, size, bound = layer("linear")
    spectral_norm(module, bound=bound)
    x, y = torch.randn(64, *size), torch.randn(64, 30)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    losses = []
    for _ in range(10):
        loss = (module(x) - y).square().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert float(torch.linalg.matrix_norm(module.weight.detach().double(), 2)) <= bound
    assert losses[-1] < losses[0]


def test_parametrize_can_save_load_copy_assign_and_remove():
    module, options, _, bound = layer("same, groups")
    plain = set(module.state_dict())
    weight = module.weight.detach().clone()
    spectral_norm(module, bound=bound, **options)
    assert torch.equal(module.state_dict()[ORIGINAL], weight)
    assert "bound=0.7" in repr(module)
    other, _, _, _ = layer("same, groups", gain=1.0)
    spectral_norm(other, bound=bound, **options)
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer))
    assert torch.equal(other.weight, module.weight)
    assert torch.equal(copy.deepcopy(module).weight, module.weight)
    small = 1e-3 * weight
    module.weight = small  # the right inverse
    assert torch.equal(module.weight, small)
    module.weight = weight
    assert torch.equal(module.weight, other.weight)
    parametrize.remove_parametrizations(module, "weight")
    assert set(module.state_dict()) == plain
    assert torch.equal(module.weight, other.weight)
    spectral_norm(other, "weight", 0.1, **options)  # one over the other
    assert float(gm.conv_spectral_norm_bounds(other.weight.detach(), groups=2, padding="same",
                                              input_size=7).upper) <= 0.1  # fmt: skip


def test_numpys_numbers_are_numbers():
    module = spectral_norm(nn.Linear(3, 4), bound=np.float32(0.5), rtol=np.float64(1e-3))
    assert float(gm.spectral_norm(module.weight.detach())) <= 0.5


def test_other_parameters():
    module = spectral_norm(nn.GRUCell(3, 4), "weight_hh", 0.2)
    assert float(gm.spectral_norm_bounds(module.weight_hh.detach()).upper) <= 0.2


def test_compiled_networks_keep_one_graph():
    torch._dynamo.reset()
    net = nn.Sequential(spectral_norm(nn.Conv1d(2, 3, 3)), nn.ReLU(), nn.Flatten(),
                        spectral_norm(nn.Linear(18, 4)))  # fmt: skip
    x = torch.randn(5, 2, 8)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), net(x))
    compiled(x).square().sum().backward()
    assert bool(torch.isfinite(net[0].parametrizations.weight.original.grad).all())


@pytest.mark.parametrize(("make", "options", "error", "match"), [
    (lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), {}, ValueError, "reflect"),
    (lambda: nn.Linear(3, 3), {"input_size": 4}, ValueError, "input_size"),
    (lambda: nn.Linear(3, 3), {"name": "nothing"}, ValueError, "name"),
    (lambda: nn.Linear(3, 3), {"name": "bias"}, TypeError, "module"),
    (lambda: nn.Linear(3, 3), {"bound": 0.0}, ValueError, "bound"),
    (lambda: nn.Linear(3, 3), {"bound": float("nan")}, ValueError, "bound"),
    (lambda: nn.Linear(3, 3), {"bound": "1"}, TypeError, "bound"),
    (lambda: nn.Linear(3, 3), {"rtol": -1.0}, ValueError, "rtol"),
    (lambda: nn.Conv1d(2, 2, 5), {"input_size": 3}, ValueError, "input_size"),
    (lambda: nn.ConvTranspose1d(2, 2, 3, stride=2, output_padding=1), {"input_size": 3},
     ValueError, "output padding"),
    (lambda: "a module", {}, TypeError, "module"),
])  # fmt: skip
def test_bad_arguments_leave_the_module_as_it_was(make, options, error, match):
    module = make()
    with pytest.raises(error, match=match):
        spectral_norm(module, **options)
    if isinstance(module, nn.Module):
        assert not parametrize.is_parametrized(module)
