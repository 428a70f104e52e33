"""Bounds on convolutions, on a GPU: the host's cases, libraries, streams, devices.

The road itself is tested without a GPU in test_conv_bounds_gpu_road.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import FLOATS, HALVES
from tests.conv_layers import (
    CASES,
    ROADS,
    assert_as_on_the_host,
    bounds,
    case_layer,
    same,
    take_road,
    violations,
)
from tests.reference import conv

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


@pytest.fixture(params=["torch", "cupy"])
def array(request):
    """Makes the argument from a NumPy array."""
    if request.param == "torch":
        torch = request.getfixturevalue("cuda_torch")
        return lambda x: torch.from_numpy(np.ascontiguousarray(x)).cuda()
    return request.getfixturevalue("cupy").asarray


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("seed", range(2))
def test_no_norm_is_outside_its_bracket(monkeypatch, array, road, seed):
    take_road(monkeypatch, road)
    assert violations(seed, 60, array=array) == []


@pytest.mark.parametrize("case", CASES)
def test_bounds_are_those_of_the_host(array, case):
    weight, options = case_layer(case)
    assert_as_on_the_host(bounds(array(weight), **options), bounds(weight, **options))


@pytest.mark.parametrize("dtype", [*HALVES, *FLOATS])
@pytest.mark.parametrize("size", [None, 6, 40])
def test_results_lie_beside_the_weight(torch, dtype, size):
    generator = torch.Generator("cuda").manual_seed(8)
    kind = torch.complex128 if dtype.startswith("complex") else torch.float64
    weight = torch.randn(6, 2, 3, 3, dtype=kind, device="cuda", generator=generator)
    weight = weight.to(getattr(torch, dtype))
    before = weight.clone()
    found = bounds(weight, input_size=size, groups=2)
    real = torch.float64 if dtype in ("float64", "complex128") else torch.float32
    assert found.lower.dtype == found.upper.dtype == real
    assert found.converged.dtype == torch.bool
    for figure in (found.lower, found.upper, found.converged):
        assert figure.device == weight.device
        assert tuple(figure.shape) == ()
    assert bool((weight == before).all())
    given = weight.cpu()
    host = bounds(given.to(torch.float32) if dtype in HALVES else given, input_size=size, groups=2)
    assert float(found.lower) <= float(host.upper)
    assert float(host.lower) <= float(found.upper)
    assert found.converged or not host.converged  # the search may go some steps further


@pytest.mark.parametrize("shape", [(64, 64, 3, 3, 56), (128, 128, 3, 3, 28), (256, 256, 3, 3, 14),
                                   (512, 512, 3, 3, 7), (64, 3, 7, 7, 32)])  # fmt: skip
def test_layers_of_resnet18_on_their_circular_grid(torch, shape):
    *kernel, size = shape
    generator = torch.Generator("cuda").manual_seed(1)
    weight = torch.randn(kernel, device="cuda", generator=generator)
    found = bounds(weight, input_size=size, padding_mode="circular")
    symbols = torch.fft.rfft2(weight.double(), (size, size)).flatten(2).permute(2, 0, 1)
    truth = float(torch.linalg.svdvals(symbols).max())
    assert float(found.lower) <= truth * (1 + 1e-11)
    assert truth * (1 - 1e-11) <= float(found.upper) <= truth * (1 + 1.2e-5)
    assert bool(found.converged)
    # Zeros around it take a little off; the lower bound is not far below either.
    zeros = bounds(weight, input_size=size)
    assert 0.9 * truth < float(zeros.lower) <= float(zeros.upper) < 1.05 * truth


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("exponent", [-1000, -100, 0, 3, 1000])
def test_permuting_shift_by_a_power_of_two(array, mode, exponent):
    weight = np.zeros((4, 4, 3, 3))
    for row, column in enumerate([2, 0, 3, 1]):
        weight[row, column, 2, 2] = 2.0**exponent
    found = bounds(array(weight), input_size=5, padding_mode=mode, rtol=1e-10)
    assert float(found.lower) <= 2.0**exponent <= float(found.upper)
    assert bool(found.converged)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [float, complex])
def test_weight_that_is_not_finite_is_refused(array, kind, bad):
    weight = np.ones((2, 2, 3), kind)
    weight[1, 0, 1] = bad
    with pytest.raises(ValueError, match="weight holds NaN or infinity"):
        bounds(array(weight), input_size=5)


def test_zero_and_empty_weights(array):
    for shape in [(2, 3, 3), (0, 3, 3), (2, 0, 3)]:
        for size in (None, 9):
            found = bounds(array(np.zeros(shape)), input_size=size)
            assert float(found.upper) == float(found.lower) == 0
            assert bool(found.converged)
            assert found.method == "zero"


def test_strides_views_and_conjugates(torch, cupy):
    rng = np.random.default_rng(9)
    base = rng.standard_normal((8, 6, 4, 5)) + 1j * rng.standard_normal((8, 6, 4, 5))
    host = bounds(base[::2, ::3].transpose(1, 0, 3, 2).conj().copy(), input_size=7)
    there = torch.from_numpy(base).cuda()[::2, ::3].transpose(0, 1).transpose(2, 3).conj()
    assert_as_on_the_host(bounds(there, input_size=7), host)
    there = cupy.asarray(base)[::2, ::3].transpose(1, 0, 3, 2).conj()
    assert_as_on_the_host(bounds(there[::-1], input_size=7), host)  # outputs in another order


def test_work_follows_the_current_stream(torch):
    given = torch.randn(16, 16, 3, 3, device="cuda", generator=torch.Generator("cuda"))
    options = {"input_size": 14, "padding_mode": "circular"}
    truth = bounds(given, **options)
    weight = torch.full_like(given, float("nan"))
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        weight.copy_(given)
        late = bounds(weight, **options)
    stream.synchronize()
    assert same(late, truth)


def test_work_follows_the_current_stream_of_cupy(cupy):
    given = np.random.default_rng(2).standard_normal((8, 8, 3, 3))
    truth = bounds(cupy.asarray(given), input_size=14)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        late = bounds(cupy.asarray(given), input_size=14)
        stream.synchronize()
    assert same(late, truth)


def test_device_need_not_be_current(torch, cupy):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    weight = np.random.default_rng(3).standard_normal((8, 8, 3, 3))
    for mode in ("zeros", "circular"):
        host = bounds(weight, input_size=20, padding_mode=mode)
        found = bounds(torch.from_numpy(weight).to("cuda:1"), input_size=20, padding_mode=mode)
        assert found.upper.device.index == 1
        assert_as_on_the_host(found, host)
        with cupy.cuda.Device(1):
            there = cupy.asarray(weight)
        found = bounds(there, input_size=20, padding_mode=mode)
        assert found.upper.device.id == 1
        assert_as_on_the_host(found, host)


def test_torch_s_modes_do_not_matter(torch):
    """Half precision, default devices, gradients: none reaches the arithmetic."""
    weight = torch.randn(16, 16, 3, 3, device="cuda", generator=torch.Generator("cuda"))
    for options in ({"input_size": 14}, {"input_size": 8}, {}):
        truth = bounds(weight, **options)
        with torch.autocast("cuda"):
            found = bounds(weight, **options)
        assert same(found, truth)
        with torch.no_grad():
            found = bounds(torch.nn.Parameter(weight), **options)
        assert same(found, truth)
        assert not found.upper.requires_grad
        with torch.inference_mode(), torch.device("cuda"):
            found = bounds(weight, **options)
        assert same(found, truth)
        allowed = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            found = bounds(weight, **options)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = allowed
        assert same(found, truth)


def test_memory_is_given_back(torch):
    weight = torch.randn(64, 64, 3, 3, device="cuda", generator=torch.Generator("cuda"))
    bounds(weight, input_size=20)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for mode in ("zeros", "circular"):
        bounds(weight, input_size=20, padding_mode=mode)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before


def test_small_operator_against_its_svd(array):
    weight = np.random.default_rng(4).standard_normal((4, 3, 3, 3))
    for padding in (0, 1, 2):
        truth = conv.norm(conv.dense(weight, 9, stride=2, padding=padding))
        found = bounds(array(weight), input_size=9, stride=2, padding=padding, rtol=1e-9)
        assert found.method == "dense"
        assert float(found.lower) <= truth * (1 + 1e-12)
        assert truth * (1 - 1e-12) <= float(found.upper) <= float(found.lower) * (1 + 1e-9)


@pytest.mark.parametrize("shape", ["(8, 8, 3, 3)", "(8, 1, 3, 3)"])
def test_emulated_float64_is_refused(run_python, shape):
    """In a process of its own: what the environment said at import is remembered."""
    code = f"""
import torch, gramian as gm
weight = torch.randn(*{shape}, device="cuda")
try:
    gm.conv_spectral_norm_bounds(weight, input_size=40, groups=8 if weight.shape[1] == 1 else 1,
                                 padding_mode="circular")
except RuntimeError as error:
    print("CUBLAS_EMULATE_DOUBLE_PRECISION" in str(error))
"""
    assert run_python(code, CUBLAS_EMULATE_DOUBLE_PRECISION="1").strip() == "True"
