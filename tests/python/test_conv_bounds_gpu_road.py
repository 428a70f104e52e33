"""The road that conv_spectral_norm_bounds takes for arrays on a GPU, on the host.

All of it but where the library computes: torch's CPU tensors and NumPy's arrays stand for theirs.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import gramian as gm
import numpy as np
import pytest
from gramian import _arrays, _arrays_torch, _conv_operator, _conv_road, _conv_symbol
from gramian._conv_geometry import combinations
from gramian._conv_operator import Operator
from gramian._conv_symbol import UNIT, Kernel, TransformedKernel

from tests.conv_layers import (
    CASES,
    ROADS,
    assert_as_on_the_host,
    bounds,
    case_layer,
    same,
    take_gpu_road,
    take_road,
    violations,
)
from tests.reference import conv

pytestmark = pytest.mark.thread_unsafe(reason="changes the module")


@pytest.fixture(params=["numpy", "torch"])
def array(request):
    if request.param == "numpy":
        yield np.asarray
        return
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine they wait for each other, at thousands of calls
    yield torch.from_numpy
    torch.set_num_threads(threads)


@pytest.mark.parametrize("road", ROADS)
def test_no_norm_is_outside_its_bracket(monkeypatch, array, road):
    take_road(monkeypatch, road)
    take_gpu_road(monkeypatch)
    assert violations(7, 60, array=array) == []


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 9])
def test_the_search_for_a_vector_may_run_past_the_whole_space(monkeypatch, array, size, dtype):
    """Looked at every fourth step, it goes on where the basis is full."""
    take_gpu_road(monkeypatch)
    rng = np.random.default_rng(size)
    for scale in (1.0, 1e3):
        weight = scale * rng.standard_normal((1, 1, size, size)).astype(dtype)
        if dtype == "complex128":
            weight += scale * 1j * rng.standard_normal(weight.shape)
        top = np.linalg.norm(weight[0, 0], 2)
        layer = gm._conv_layer.checked_layer((size, size, 1), 1, 1, 0, "zeros", 1, 1, False)
        operator = Operator(array(weight), layer.axes(layer.sizes))
        start = array(rng.standard_normal((1, size, 1)).astype(dtype))
        vector, _ = operator.ritz_vector(start, top * (1 - 1e-9), 1e-7, 30)
        reached = np.linalg.norm(np.asarray(operator.apply(vector)))
        assert reached >= (1 - 1e-8) * top * np.linalg.norm(np.asarray(vector))


@pytest.mark.parametrize("factor", [0.999, 1.001])
@pytest.mark.parametrize("road", ["symbol", "default"])
def test_brackets_of_other_norms_are_found_out(monkeypatch, array, road, factor):
    def wrong(matrices, rtol):
        return tuple(figure * factor for figure in norms(matrices, rtol))

    norms = _conv_symbol.norms
    for module in (_conv_symbol, _conv_operator):
        monkeypatch.setattr(module, "norms", wrong)
    take_road(monkeypatch, road)
    take_gpu_road(monkeypatch)
    assert violations(7, 30, also_every_size=False, array=array) != []


@pytest.mark.parametrize("entries", [60, 1 << 10])
def test_no_norm_is_outside_its_bracket_in_small_batches(monkeypatch, array, entries):
    """The Gram matrix instead of the dense one, and many batches of everything."""
    take_gpu_road(monkeypatch)
    road = dataclasses.replace(
        _conv_road.DEVICE, batch_entries=entries, least_entries=1, dense_entries=entries
    )
    monkeypatch.setattr(_conv_road, "HOST", road)
    assert violations(8, 25, also_every_size=False, array=array) == []


@pytest.mark.parametrize("case", CASES)
def test_bounds_are_those_of_the_host(monkeypatch, array, case):
    weight, options = case_layer(case)
    host = bounds(weight, **options)
    take_gpu_road(monkeypatch)
    found = bounds(array(weight), **options)
    assert_as_on_the_host(found, host)


def test_the_largest_frequency_is_as_tight_as_on_the_host(monkeypatch, array):
    """Only what lies under the largest lower bound may be coarse."""
    weight = np.random.default_rng(4).standard_normal((16, 16, 3, 3))
    take_gpu_road(monkeypatch)
    for rtol in (1e-1, 1e-3, 1e-8):
        found = bounds(array(weight), input_size=12, padding_mode="circular", rtol=rtol)
        symbols = np.fft.fft2(weight, (12, 12)).reshape(16, 16, -1)
        truth = np.linalg.svd(np.moveaxis(symbols, -1, 0), compute_uv=False).max()
        assert found.lower <= truth * (1 + 1e-12)
        assert truth * (1 - 1e-12) <= found.upper <= found.lower * (1 + min(rtol, 1.1e-5))


def test_most_matrices_are_bracketed_coarsely_and_few_once_more(monkeypatch):
    calls = []

    def norms(matrices, rtol):
        calls.append((math.prod(matrices.shape[:-2]), rtol))
        return found(matrices, rtol)

    found = _conv_symbol.norms
    monkeypatch.setattr(_conv_symbol, "norms", norms)
    take_gpu_road(monkeypatch)
    weight = np.random.default_rng(5).standard_normal((32, 32, 3, 3))
    bounds(weight, input_size=24, padding_mode="circular")
    (many, coarse), (few, fine) = calls
    assert (many, coarse) == (24 * 13, 1e-3)
    assert fine == 1e-5
    assert few <= 10


def test_nothing_is_transformed(monkeypatch):
    take_gpu_road(monkeypatch)
    weight = _arrays.array(np.ones((301, 1, 2, 3)), "weight")
    shifts = combinations([np.arange(301)])
    kernel = _conv_symbol.on_grid(Kernel(weight, shifts, np.zeros_like(shifts)), np.array([1080]))
    assert not isinstance(kernel, TransformedKernel)


@pytest.mark.parametrize("taps", [1, 9, 49, 301])
@pytest.mark.parametrize("is_complex", [False, True])
def test_errors_of_products_are_those_of_the_gpu_s_proof(monkeypatch, is_complex, taps):
    """docs/bounds.md: 2 gamma_(k+1) for real sums of k products, 8.01 (k + 8) u for complex."""
    take_gpu_road(monkeypatch)
    weight = np.ones((taps, 1, 3, 2), complex if is_complex else float)
    shifts = np.arange(taps)[:, None]
    kernel = Kernel(_arrays.array(weight, "weight"), shifts, np.zeros_like(shifts))
    operator = Operator(np.moveaxis(weight, 0, 1), [])

    def each(k):
        gamma = (k + 1) * UNIT / (1 - (k + 1) * UNIT)
        return 8.01 * (k + 8) * UNIT if is_complex else 2 * gamma

    size = float(np.linalg.norm(np.abs(weight).sum(axis=0)))
    assert kernel.error[0] >= (each(taps) * (1 + 40 * UNIT) + 40 * UNIT) * size
    assert operator.product_error() >= each(3 * taps) * size


def test_the_weight_stays_where_it_is(monkeypatch):
    """The host gets figures and taps' indices, never the weight."""
    torch = pytest.importorskip("torch")
    largest = 0

    def to_host(self, value):
        nonlocal largest
        largest = max(largest, value.numel())
        return given(self, value)

    given = _arrays_torch.Torch.to_host
    monkeypatch.setattr(_arrays_torch.Torch, "to_host", to_host)
    take_gpu_road(monkeypatch)
    weight = torch.randn(40, 40, 3, 3, generator=torch.Generator().manual_seed(0))
    for mode in ("zeros", "circular"):
        bounds(weight, input_size=12, padding_mode=mode)
    assert largest < weight.numel()


@pytest.mark.parametrize("options", [{"input_size": 14}, {"input_size": 8}, {}])
def test_torch_s_modes_do_not_matter(monkeypatch, options):
    """Half precision, default devices, gradients: none reaches the arithmetic."""
    torch = pytest.importorskip("torch")
    take_gpu_road(monkeypatch)
    weight = torch.randn(8, 8, 3, 3, generator=torch.Generator().manual_seed(1))
    truth = bounds(weight, **options)
    with torch.autocast("cpu"):
        assert same(bounds(weight, **options), truth)
    with torch.inference_mode(), torch.device("meta"):
        assert same(bounds(weight, **options), truth)
    with torch.no_grad():
        found = bounds(torch.nn.Parameter(weight), **options)
    assert same(found, truth)
    assert not found.upper.requires_grad


def test_search_for_a_vector_is_in_double_precision(monkeypatch):
    monkeypatch.setattr(_conv_operator.Operator, "single", functools.partial(pytest.fail, "single"))
    take_gpu_road(monkeypatch)
    weight = np.random.default_rng(6).standard_normal((16, 16, 3, 3)).astype(np.float32)
    assert bounds(weight, input_size=16).n_iter > 0


@pytest.mark.parametrize("exponent", [-1000, -100, 0, 3, 1000])
def test_permuting_shift_by_a_power_of_two(monkeypatch, array, exponent):
    take_gpu_road(monkeypatch)
    weight = np.zeros((4, 4, 3, 3))
    for row, column in enumerate([2, 0, 3, 1]):
        weight[row, column, 2, 2] = 2.0**exponent
    for mode in ("zeros", "circular"):
        found = bounds(array(weight), input_size=5, padding_mode=mode, rtol=1e-10)
        assert found.lower <= 2.0**exponent <= found.upper
        assert bool(found.converged)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weight_that_is_not_finite_is_refused(monkeypatch, array, bad):
    take_gpu_road(monkeypatch)
    weight = np.ones((2, 2, 3))
    weight[1, 0, 1] = bad
    with pytest.raises(ValueError, match="weight holds NaN or infinity"):
        bounds(array(weight), input_size=5)


def test_dense_operator_of_torch_is_the_convolution():
    torch = pytest.importorskip("torch")
    weight = np.random.default_rng(0).standard_normal((3, 2, 3, 2))
    layer = gm._conv_layer.checked_layer(weight.shape, 5, 2, 1, "circular", 1, 1, False)
    flat = torch.from_numpy(np.moveaxis(weight.reshape(3, 2, -1), 2, 0)[None].copy())
    matrix = Operator(flat, layer.axes(layer.sizes)).dense()[0].numpy()
    truth = conv.dense(weight, 5, stride=2, padding=1, padding_mode="circular")
    np.testing.assert_allclose(matrix, truth, atol=1e-14)
