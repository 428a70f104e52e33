"""conv_spectral_norm_bounds: what its means cost, and the constants of its rounding errors."""

from __future__ import annotations

import math
import time

import gramian as gm
import numpy as np
import pytest
from gramian import _arrays
from gramian._conv_geometry import combinations
from gramian._conv_layer import checked_layer
from gramian._conv_operator import Operator
from gramian._conv_symbol import UNIT, Kernel
from gramian._conv_window import block_cost

from tests.reference import conv

# Ten times what the slowest call below takes; uncapped they take minutes or never end.
SECONDS = 60


def kernel_of(weight, shifts):
    """weight of shape (taps, groups, outputs, inputs)."""
    return Kernel(_arrays.array(weight, "weight"), shifts, np.zeros_like(shifts))


@pytest.mark.parametrize("sizes", [(14, 14), (14, 15), (9, 9, 9)])
def test_blocks_count_the_frequencies_of_every_axis_that_is_left(sizes):
    """Axes of the same size are equal; each has its own torus all the same."""
    kernel_size = (3,) * len(sizes)
    layer = checked_layer((4, 2, *kernel_size), sizes, 1, "same", "zeros", 1, 1, False)
    axes = layer.axes(sizes)
    weight = np.ones((3 ** len(sizes), 1, 4, 2))
    kernel = kernel_of(weight, combinations([a.shifts for a in axes]))
    for exact in range(len(axes)):
        points = math.prod(a.torus for number, a in enumerate(axes) if number != exact)
        assert block_cost(kernel, axes, (exact,)) == points * (2.0 * sizes[exact]) ** 3


@pytest.mark.parametrize("taps", [1, 9, 49, 301])
@pytest.mark.parametrize("is_complex", [False, True])
def test_errors_of_products_are_those_of_lemma_1(is_complex, taps):
    """docs/bounds.md: sqrt(2) gamma_2k for complex sums of k products; gamma_k for real ones."""
    weight = np.ones((taps, 1, 3, 2), complex if is_complex else float)
    kernel = kernel_of(weight, np.arange(taps)[:, None])
    layer = checked_layer((3, 2, taps), (2 * taps,), 1, "same", "zeros", 1, 1, False)
    operator = Operator(np.moveaxis(weight, 0, 1), layer.axes((2 * taps,)))

    def each(k):
        gamma = [n * UNIT / (1 - n * UNIT) for n in (k, 2 * k)]
        return math.sqrt(2) * gamma[1] if is_complex else gamma[0]

    size = float(np.linalg.norm(np.abs(weight).sum(axis=0)))
    assert kernel.error[0] >= (each(taps) * (1 + 40 * UNIT) + 40 * UNIT) * size
    assert operator.product_error() >= each(3 * taps) * size


def dirac(*kernel_size, noise=0.0):
    weight = noise * np.random.default_rng(0).standard_normal((1, 1, *kernel_size))
    weight[(0, 0, *[k // 2 for k in kernel_size])] += 1
    return weight


def opposite_shifts():
    """Every symbol is unitary."""
    weight = np.zeros((2, 2, 3, 3))
    weight[0, 0, 0, 0] = weight[1, 1, 2, 2] = 1
    return weight


NEARLY_CONSTANT = {
    "Dirac in 3-D": (dirac(3, 3, 3), 32, 1e-3, 1e-3),
    "Dirac in 2-D": (dirac(3, 3), 64, 1e-6, 1e-6),
    "nearly Dirac in 3-D": (dirac(3, 3, 3, noise=1e-7), 32, 1e-3, 1e-3),
    "nearly Dirac in 2-D": (dirac(3, 3, noise=1e-9), 64, 1e-6, 1e-6),
    "nearly Dirac, many positions": (dirac(3, 3, 3, noise=1e-7), 120, 1e-3, 0.02),
    "nearly Dirac in 3-D, every size": (dirac(3, 3, 3, noise=1e-7), None, 1e-3, 0.02),
    "nearly Dirac in 2-D, every size": (dirac(3, 3, noise=1e-9), None, 1e-6, 1e-4),
    "opposite shifts": (opposite_shifts(), 64, 1e-6, 1e-6),
    "opposite shifts, every size": (opposite_shifts(), None, 1e-6, 1e-4),
}


@pytest.mark.parametrize("case", NEARLY_CONSTANT)
def test_symbols_of_nearly_constant_norm_take_seconds(case):
    """No box can be discarded; the norm is 1 up to the noise."""
    weight, size, rtol, reached = NEARLY_CONSTANT[case]
    start = time.perf_counter()
    found = gm.conv_spectral_norm_bounds(weight, input_size=size, rtol=rtol)
    assert time.perf_counter() - start < SECONDS
    middle = 1.0 if weight.shape[0] == 2 else float(weight.max())
    noise = float(np.abs(weight[weight != weight.max()]).sum()) if weight.shape[0] == 1 else 0.0
    assert found.lower <= middle + noise
    assert found.upper >= middle  # an entry of the matrix
    assert found.upper <= (middle + noise) * (1 + reached)
    assert found.converged or reached > rtol


@pytest.mark.parametrize("kernel_size", [(3, 3), (5,), (3, 4, 3)])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_taps_without_weight_may_be_anywhere(kernel_size, mode):
    rng = np.random.default_rng(5)
    for _ in range(20):
        keep = rng.random(kernel_size) < 0.2
        weight = rng.standard_normal((3, 2, *kernel_size)) * keep
        sizes = tuple(int(n) for n in rng.integers(3, 7, len(kernel_size)))
        options = {"padding": tuple(k // 2 for k in kernel_size), "padding_mode": mode,
                   "stride": int(rng.integers(1, 3))}  # fmt: skip
        truth = conv.norm(conv.dense(weight, sizes, **options))
        found = gm.conv_spectral_norm_bounds(weight, input_size=sizes, **options)
        assert found.lower <= truth * (1 + 1e-12)
        assert found.upper >= truth * (1 - 1e-12)
        assert found.converged


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("dilation", [1, 2])
def test_patches_that_do_not_overlap(mode, padding, dilation):
    """With whole patches the norm is that of one matrix; else the ends count."""
    weight = np.random.default_rng(6).standard_normal((4, 3, 2, 3))
    whole = np.linalg.norm(weight.reshape(4, -1), 2)
    options = {"stride": 5, "padding": padding, "padding_mode": mode, "dilation": dilation}
    for sizes in ((5, 5), (6, 7), (5, 13), (12, 11)):
        truth = conv.norm(conv.dense(weight, sizes, **options))
        found = gm.conv_spectral_norm_bounds(weight, input_size=sizes, rtol=1e-6, **options)
        assert found.lower <= truth * (1 + 1e-12)
        assert found.upper >= truth * (1 - 1e-12)
        assert found.converged
        if padding == 0:
            assert found.method == "symbol"
            assert found.lower <= whole <= found.upper


def test_patches_of_a_vision_transformer_take_one_matrix():
    weight = np.random.default_rng(7).standard_normal((192, 3, 16, 16))
    start = time.perf_counter()
    found = gm.conv_spectral_norm_bounds(weight, input_size=224, stride=16, padding="valid")
    assert time.perf_counter() - start < SECONDS
    assert found.lower <= np.linalg.norm(weight.reshape(192, -1), 2) <= found.upper
    assert found.converged
