"""The parts of the proof of conv_spectral_norm_bounds: errors of symbols, transforms, products."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from gramian import _arrays, _conv_symbol
from gramian._conv_geometry import combinations
from gramian._conv_layer import checked_layer
from gramian._conv_operator import Operator
from gramian._conv_symbol import Kernel, TransformedKernel

from tests.conv_layers import MODES, layers, options_without_size
from tests.reference import conv


def exact_symbol(weight, shifts, index, sizes):
    """One entry's symbol in 40 digits."""
    with mpmath.workdps(40):
        total = mpmath.mpc(0)
        for tap, shift in zip(weight, shifts, strict=True):
            turn = sum(
                mpmath.mpf(int(j) * int(q)) / int(n)
                for j, q, n in zip(index, shift, sizes, strict=True)
            )
            total += mpmath.mpmathify(complex(tap)) * mpmath.expjpi(2 * turn)
        return total


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_error_of_symbols_is_bounded_and_the_bound_is_not_idle(axes, is_complex):
    rng = np.random.default_rng(axes)
    kernel_size = (5, 3, 2)[:axes]
    shifts = combinations([np.arange(k) for k in kernel_size])
    sizes = np.array([1013, 97, 30][:axes])
    taps = rng.standard_normal((len(shifts), 1, 1, 1))
    if is_complex:
        taps = taps + 1j * rng.standard_normal(taps.shape)
    kernel = Kernel(_arrays.array(taps, "weight"), shifts, np.zeros_like(shifts))
    indices = rng.integers(0, sizes, (200, axes))
    computed = kernel.symbols(indices, sizes)[:, 0, 0, 0]
    worst = 0.0
    for index, value in zip(indices, computed, strict=True):
        exact = exact_symbol(taps[:, 0, 0, 0], shifts, index, sizes)
        worst = max(worst, float(abs(mpmath.mpmathify(complex(value)) - exact)))
    bound = float(kernel.error[0])
    assert worst <= bound <= 2000 * worst


def test_long_kernels_are_transformed_and_short_ones_are_not():
    for taps, size, expected in ((301, 1080, True), (301, 1081, False), (9, 1080, False)):
        weight = _arrays.array(np.ones((taps, 1, 2, 3)), "weight")
        shifts = combinations([np.arange(taps)])
        kernel = _conv_symbol.on_grid(
            Kernel(weight, shifts, np.zeros_like(shifts)), np.array([size])
        )
        assert isinstance(kernel, TransformedKernel) is expected


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("grid", [(1080,), (20, 36), (8, 9, 10)])
def test_error_of_transforms_is_bounded_and_the_bound_is_not_idle(library, grid, is_complex):
    rng = np.random.default_rng(len(grid))
    kernel_size = {1: (301,), 2: (11, 9), 3: (4, 5, 3)}[len(grid)]
    shifts = combinations([np.arange(k) for k in kernel_size])
    taps = rng.standard_normal((len(shifts), 1, 2, 3))
    if is_complex:
        taps = taps + 1j * rng.standard_normal(taps.shape)
    given = pytest.importorskip("torch").from_numpy(taps) if library == "torch" else taps
    kernel = Kernel(_arrays.array(given, "weight"), shifts, np.zeros_like(shifts))
    fast = TransformedKernel(kernel.weight, kernel.shifts, kernel.phases, grid)
    sizes = np.array(grid)
    indices = _conv_symbol.half_grid(sizes, is_complex)
    computed = np.asarray(fast.symbols(indices, sizes))[:, 0]
    exact = np.asarray(kernel.symbols(indices, sizes))[:, 0]
    for point in rng.integers(0, len(indices), 20):
        entry = exact_symbol(taps[:, 0, 1, 2], shifts, indices[point], sizes)
        difference = abs(mpmath.mpmathify(complex(computed[point, 1, 2])) - entry)
        assert difference <= float(fast.error[0])
    worst = np.linalg.norm(computed - exact, axis=(1, 2)).max()
    assert worst <= fast.error[0] + kernel.error[0]
    assert fast.error[0] <= 2e4 * worst


@pytest.mark.parametrize("mode", MODES)
def test_lower_bound_of_a_vector_is_below_its_exact_quotient(mode):
    """Integers throughout: ||A x||^2 / ||x||^2 is a fraction."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        weight = rng.integers(-9, 10, (2, 3, 4)).astype(float)
        layer = checked_layer(weight.shape, 9, 2, 2, mode, 1, 1, False)
        axes = layer.axes(layer.sizes)
        operator = Operator(np.moveaxis(weight, 2, 0)[None], axes)
        x = rng.integers(-99, 100, (1, 3, 9)).astype(float)
        matrix = conv.dense(weight, 9, stride=2, padding=2, padding_mode=mode)
        image = [int(v) for v in matrix @ x.ravel()]
        exact = Fraction(sum(v * v for v in image), sum(int(v) ** 2 for v in x.ravel()))
        found = Fraction(operator.lower_bound(x)) ** 2
        assert exact * Fraction(1 - 1e-10) <= found <= exact


@pytest.mark.parametrize("mode", MODES)
def test_products_and_dense_matrix_are_the_convolution(mode):
    rng = np.random.default_rng(6)
    for weight, options in layers(7, 60):
        if options["groups"] > 1 or options["transposed"] or options["padding_mode"] != mode:
            continue
        layer = checked_layer(weight.shape, *[options[k] for k in (
            "input_size", "stride", "padding", "padding_mode", "dilation", "groups",
            "transposed")])  # fmt: skip
        flat = np.moveaxis(weight.reshape(*weight.shape[:2], -1), 2, 0)[None]
        flat = flat.astype(complex if weight.dtype.kind == "c" else float)
        operator = Operator(flat, layer.axes(layer.sizes))
        matrix = conv.dense(weight, options["input_size"], **options_without_size(options))
        x = rng.standard_normal((2, operator.in_channels, *operator.in_sizes))
        y = rng.standard_normal((3, operator.out_channels, *operator.out_sizes))
        np.testing.assert_allclose(operator.dense()[0], matrix, atol=1e-12)
        np.testing.assert_allclose(
            operator.apply(x).reshape(2, -1), x.reshape(2, -1) @ matrix.T, atol=1e-11
        )
        np.testing.assert_allclose(
            operator.apply_adjoint(y).reshape(3, -1), y.reshape(3, -1) @ matrix.conj(), atol=1e-11
        )
