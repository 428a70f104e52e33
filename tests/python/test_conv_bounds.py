"""conv_spectral_norm_bounds against the explicit matrix and exact norms; how tight it is."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from gramian import _conv_ends, _conv_geometry, _conv_symbol
from gramian._conv_operator import Operator

from tests.conv_layers import (
    MODES,
    ROADS,
    SVD_ERROR,
    bounds,
    layers,
    options_without_size,
    random_weight,
    take_road,
    violations,
)
from tests.reference import conv


@pytest.mark.thread_unsafe(reason="changes the module")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("seed", range(3))
def test_no_norm_is_outside_its_bracket(monkeypatch, road, seed):
    take_road(monkeypatch, road)
    assert violations(seed, 60) == []


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
def test_reference_agrees_with_torch():
    pytest.importorskip("torch")
    for weight, options in layers(100, 80):
        arguments = (weight, options["input_size"])
        ours = conv.dense(*arguments, **options_without_size(options))
        theirs = conv.torch_dense(*arguments, **options_without_size(options))
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


# ---- Wrong constants are found out --------------------------------------------------------------


def smaller_torus(monkeypatch):
    right = _conv_geometry.Axis.torus.func

    def torus(self):
        lags = int(np.ptp(self.shifts))
        return right(self) if self.circular else max(1, right(self) - lags - 1)

    monkeypatch.setattr(_conv_geometry.Axis, "torus", property(torus))


def no_repeats(monkeypatch):
    monkeypatch.setattr(_conv_geometry.Axis, "repeats", property(lambda self: 1))
    rows = _conv_geometry.Axis.rows.func
    monkeypatch.setattr(_conv_geometry.Axis, "rows", property(lambda self: np.unique(rows(self))))


def short_window(monkeypatch):
    window = _conv_ends.window_bound

    def wrong(*arguments):
        return window(*arguments) * (1 - 1e-3)

    monkeypatch.setattr(_conv_ends, "window_bound", wrong)


def generous_lower(monkeypatch):
    right = Operator.lower_bound
    monkeypatch.setattr(Operator, "lower_bound", lambda self, x: right(self, x) * (1 + 1e-3))


@pytest.mark.thread_unsafe(reason="changes the module")
@pytest.mark.parametrize(
    ("mutation", "road"),
    [
        (smaller_torus, "symbol"),
        (no_repeats, "symbol"),
        (short_window, "window"),
        (generous_lower, "window"),
    ],
)
def test_wrong_constant_is_found_out(monkeypatch, mutation, road):
    take_road(monkeypatch, road)
    mutation(monkeypatch)
    assert violations(0, 60, also_every_size=False) != []


def waves_outside_their_brackets():
    """exp(i phi t) for k taps: the supremum is k, at the angle -phi, between all grid points."""
    wrong = []
    for k, phi in itertools.product((2, 3, 5, 8), np.linspace(0.01, 3, 17)):
        taps = np.exp(1j * phi * np.arange(k))
        for weight in (taps, np.outer(taps, taps.conj())):
            found = bounds(weight[None, None], rtol=0.3)
            top = float(k**weight.ndim)
            if not found.lower <= top * (1 + SVD_ERROR) or not top <= found.upper * (1 + SVD_ERROR):
                wrong.append((k, phi, float(found.lower), float(found.upper)))
    return wrong


def test_every_angle_is_between_its_bounds():
    assert waves_outside_their_brackets() == []


@pytest.mark.thread_unsafe(reason="changes the module")
def test_bound_between_angles_needs_its_cosine(monkeypatch):
    class Math:
        cos = staticmethod(lambda angle: 1.0)

    monkeypatch.setattr(_conv_symbol, "math", Math)
    assert waves_outside_their_brackets() != []


# ---- Exact norms --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("exponent", [-1000, -100, 0, 3, 1000])
def test_permuting_shift_by_a_power_of_two(mode, axes, exponent):
    weight = np.zeros((4, 4, *[3] * axes))
    for row, column in enumerate([2, 0, 3, 1]):
        weight[(row, column, *[2] * axes)] = 2.0**exponent
    found = bounds(weight, input_size=5, padding_mode=mode, rtol=1e-10)
    assert found.lower <= 2.0**exponent <= found.upper
    assert found.converged


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(20))
def test_integer_outer_product_in_exact_arithmetic(mode, seed):
    """One tap in reach of every output: the norm is |a| |b|, a square root of an integer."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-9, 10, 5), rng.integers(-9, 10, 3)
    a[0], b[0] = 7, 5
    weight = np.zeros((5, 3, 3, 1))
    weight[:, :, 1, 0] = np.outer(a, b)
    square = Fraction(int(a @ a) * int(b @ b))
    for size in (None, (4, 6), (1, 1), (40, 30)):
        found = bounds(weight, input_size=size, padding_mode=mode, rtol=1e-9)
        assert Fraction(float(found.lower)) ** 2 <= square <= Fraction(float(found.upper)) ** 2
        assert found.converged


@pytest.mark.parametrize("size", [1, 2, 7, 100, 1000, 1500])
@pytest.mark.parametrize(("taps", "middle"), [([1.0, 0, 1], 0), ([1.0, 3, 1], 3)])
def test_tridiagonal_matrix(size, taps, middle):
    """Eigenvalues middle + 2 cos(pi j / (n + 1)); their largest magnitude is the norm."""
    with mpmath.workdps(40):
        truth = middle + 2 * mpmath.cospi(mpmath.mpf(1) / (size + 1))
        found = bounds(np.array(taps)[None, None], input_size=size, rtol=1e-6)
        assert mpmath.mpf(float(found.lower)) <= truth <= mpmath.mpf(float(found.upper))
    assert found.converged or size > 1024


@pytest.mark.parametrize("kernel", [(3,), (4,), (3, 5), (2, 3, 4)])
def test_box_reaches_the_sum_of_its_taps(kernel):
    weight = np.ones((1, 1, *kernel))
    total = math.prod(kernel)
    circular = bounds(weight, input_size=9, padding_mode="circular", rtol=1e-10)
    every = bounds(weight, rtol=1e-6)
    for found in (circular, every):
        assert found.lower <= total <= found.upper
        assert found.converged


def test_stride_that_does_not_divide_a_circular_size_is_no_polyphase_symbol():
    weight = np.ones((1, 1, 3))
    options = {"stride": 2, "padding": 1, "padding_mode": "circular"}
    one = bounds(weight, input_size=1, **options)
    assert one.lower <= 3 <= one.upper <= 3.01
    assert bounds(weight, **options).upper >= 3
    even = bounds(weight, input_size=8, rtol=1e-9, **options)
    with mpmath.workdps(30):  # rows (1, 1, 1) at 0, 2, 4, 6: w w^H is 3 and 1 beside it
        assert mpmath.mpf(float(even.lower)) <= mpmath.sqrt(5) <= mpmath.mpf(float(even.upper))
    assert even.converged


def test_circular_stride_is_within_the_norm_without_stride():
    rng = np.random.default_rng(0)
    for size, stride in ((33, 2), (35, 3), (21, 4)):
        weight = rng.standard_normal((8, 8, 3, 3))
        options = {"input_size": size, "padding": 1, "padding_mode": "circular"}
        strided = bounds(weight, stride=stride, **options)
        assert strided.upper <= 1.05 * bounds(weight, **options).upper


# ---- Tightness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rtol", [1e-1, 1e-3, 1e-6])
def test_converges_up_to_a_smaller_side_of_1024(rtol):
    rng = np.random.default_rng(1)
    cases = [
        ((8, 8, 3, 3), {"input_size": 11}),
        ((4, 4, 5, 3), {"input_size": (9, 14), "padding_mode": "circular", "padding": (4, 1)}),
        ((64, 3, 7, 7), {"input_size": 16, "stride": 2, "padding": 3}),
        ((16, 1, 3, 3), {"input_size": 8, "groups": 16}),
        ((2, 200, 9), {"input_size": 700, "stride": 3, "padding": 4}),  # the Gram matrix alone
        ((6, 4, 3, 3, 3), {"input_size": (4, 5, 6), "transposed": True, "padding": 1}),
    ]
    for shape, options in cases:
        found = bounds(rng.standard_normal(shape), rtol=rtol, **options)
        assert found.converged, (shape, options, found)


def largest_singular_value(weight, size, **options):
    """By Lanczos on torch's convolution; from below, to 1e-7."""
    import scipy.sparse.linalg as linalg
    import torch

    axes = weight.ndim - 2
    kernel = torch.from_numpy(weight)
    layer = getattr(torch.nn.functional, f"conv{axes}d")
    shape = (1, weight.shape[1] * options.get("groups", 1), *conv.per_axis(size, axes))

    def normal(v):
        x = torch.from_numpy(np.ascontiguousarray(v)).reshape(shape).requires_grad_(True)
        y = layer(x, kernel, **options)
        (gradient,) = torch.autograd.grad((y * y).sum() / 2, x)
        return gradient.numpy().ravel()

    side = math.prod(shape)
    operator = linalg.LinearOperator((side, side), matvec=normal, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(side)
    top = linalg.eigsh(operator, k=1, which="LA", tol=1e-7, ncv=40, v0=start,
                       return_eigenvectors=False)  # fmt: skip
    return math.sqrt(top[0])


def corners(rng, channels, kernel):
    return random_weight(rng, (channels, channels, *kernel), "gaps")


LARGE = {
    "random": lambda rng: (rng.standard_normal((16, 16, 3, 3)), 9, {}),
    "many channels": lambda rng: (rng.standard_normal((64, 64, 3, 3)), 9, {}),
    "box": lambda rng: (np.ones((16, 16, 3, 3)), 9, {}),
    "corners": lambda rng: (corners(rng, 16, (3, 3)), 9, {}),
    "corners, many channels": lambda rng: (corners(rng, 64, (3, 3)), 9, {}),
    "wide corners": lambda rng: (corners(rng, 4, (7, 7)), 21, {}),
    "corners in 3-D": lambda rng: (corners(rng, 8, (3, 3, 3)), 9, {}),
    "box in 3-D": lambda rng: (np.ones((8, 8, 3, 3, 3)), 9, {}),
    "long kernel": lambda rng: (rng.standard_normal((8, 8, 301)), 1000, {}),
    "1-D corners": lambda rng: (corners(rng, 2, (401,)), 1203, {}),
    "wide kernel": lambda rng: (rng.standard_normal((4, 4, 7, 7)), 21, {}),
    "dilated": lambda rng: (rng.standard_normal((8, 8, 5, 5)), 27, {"dilation": 2}),
    "strided": lambda rng: (rng.standard_normal((32, 16, 3, 3)), 16, {"stride": 2, "padding": 1}),
    "first layer": lambda rng: (rng.standard_normal((64, 3, 7, 7)), 48,
                                {"stride": 2, "padding": 3}),
    "depthwise": lambda rng: (rng.standard_normal((64, 1, 3, 3)), 16, {"groups": 64}),
    "valid": lambda rng: (rng.standard_normal((16, 16, 3, 3)), 14, {"padding": "valid"}),
    "even": lambda rng: (rng.standard_normal((12, 12, 4, 2)), (12, 12), {}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("case", LARGE)
def test_large_operators_are_within_5_percent(case):
    pytest.importorskip("torch")
    weight, size, options = LARGE[case](np.random.default_rng(2))
    options = {"padding": "same"} | options
    truth = largest_singular_value(weight, size, **options)
    found = bounds(weight, input_size=size, **options)
    assert found.upper >= truth * (1 - 1e-9)
    assert found.upper <= 1.05 * truth
    assert 0.95 * truth <= found.lower <= truth * (1 + 1e-6)


def test_every_size_converges_in_three_dimensions():
    weight = np.random.default_rng(4).standard_normal((16, 24, 3, 3, 3))
    assert bounds(weight).converged


def test_every_size_is_the_limit_of_the_sizes():
    rng = np.random.default_rng(3)
    for stride in (1, 2):
        weight = rng.standard_normal((3, 2, 4))
        found = bounds(weight, stride=stride, padding=2)
        assert found.converged
        truths = [conv.norm(conv.dense(weight, n, stride=stride, padding=2)) for n in (5, 20, 200)]
        assert truths == sorted(truths)
        assert truths[-1] <= found.upper
        assert truths[-1] >= found.lower * 0.999
