"""conv_spectral_norm_bounds: arrays in and out, the ends of the range, bad arguments."""

from __future__ import annotations

import math
import re

import gramian as gm
import numpy as np
import pytest

from tests.reference import conv

bounds = gm.conv_spectral_norm_bounds


# ---- Arrays -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("size", [None, 6, 40])
def test_results_are_of_the_input_s_library_and_rounded_outwards(owner, dtype, size):
    rng = np.random.default_rng(8)
    weight = rng.standard_normal((6, 2, 3, 3))
    x = owner.array(weight, dtype)
    found = bounds(x, input_size=size, groups=2, rtol=1e-3)
    real = "float64" if dtype in ("float64", "complex128") else "float32"
    for value in (found.lower, found.upper):
        owner.check_result(value, (), real)
    exact = bounds(owner.numpy(x), input_size=size, groups=2, rtol=1e-3)
    assert float(found.lower) <= float(exact.upper)
    assert float(exact.lower) <= float(found.upper)
    if size == 6:
        truth = conv.norm(conv.dense(owner.numpy(x), 6, groups=2))
        assert float(found.lower) <= truth <= float(found.upper)
    assert found.certificate == "rounding"


def test_bfloat16_of_torch():
    torch = pytest.importorskip("torch")
    weight = torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = bounds(weight, input_size=20)
    truth = conv.norm(conv.dense(weight.double().numpy(), 20))
    assert found.lower.dtype == torch.float32
    assert float(found.lower) <= truth <= float(found.upper)


def test_strided_read_only_input_is_left_alone():
    weight = np.random.default_rng(9).standard_normal((3, 3, 4, 5))
    view = weight.transpose(1, 0, 3, 2)[::-1, ::2]
    view.flags.writeable = False
    before = view.copy()
    found = bounds(view, input_size=7)
    same = bounds(np.ascontiguousarray(view), input_size=7)
    assert (found.lower, found.upper) == (same.lower, same.upper)
    np.testing.assert_array_equal(view, before)


@pytest.mark.parametrize("size", [None, 6, 30])
@pytest.mark.parametrize("exponent", [-990, -300, 77, 980])
def test_scaling_by_a_power_of_two_scales_the_bounds(size, exponent):
    weight = np.random.default_rng(10).standard_normal((8, 4, 3, 3))
    plain = bounds(weight, input_size=size)
    scaled = bounds(weight * 2.0**exponent, input_size=size)
    assert float(scaled.lower) == math.ldexp(float(plain.lower), exponent)
    assert float(scaled.upper) == math.ldexp(float(plain.upper), exponent)


@pytest.mark.parametrize("size", [None, 6, 40])
def test_ends_of_the_range(size):
    weight = np.full((4, 4, 3), np.finfo(float).max)
    found = bounds(weight, input_size=size)
    assert np.isfinite(found.lower)
    assert found.upper == np.inf
    tiny = bounds(np.full((4, 4, 3), 5e-324), input_size=size)
    ones = bounds(np.ones((4, 4, 3)), input_size=size)
    assert tiny.lower <= math.floor(ones.upper) * 5e-324
    assert tiny.upper >= math.ceil(ones.lower) * 5e-324
    single = np.full((1, 1, 1), np.finfo(np.float32).max, np.float32)
    one = bounds(single, input_size=size)
    assert one.lower <= single.max() <= one.upper


@pytest.mark.parametrize("size", [None, 5, 2000])
def test_zero_and_empty_weights_have_norm_zero(size):
    for weight in (np.zeros((2, 2, 3)), np.zeros((0, 2, 3)), np.zeros((2, 0, 3))):
        found = bounds(weight, input_size=size)
        assert (found.lower, found.upper) == (0, 0)
        assert found.converged
    assert bounds(np.ones((1, 1, 2)), input_size=1, padding=4, stride=9).upper == 0


def test_same_call_gives_the_same_bits():
    weight = np.random.default_rng(11).standard_normal((16, 16, 3, 3))
    first, second = (bounds(weight, input_size=20) for _ in range(2))
    assert (first.lower, first.upper, first.n_iter) == (second.lower, second.upper, second.n_iter)


# ---- Errors -------------------------------------------------------------------------------------

W = np.ones((4, 2, 3, 3))
ERRORS = {
    "two dimensions": (np.ones((3, 3)), {}, ValueError, ["weight", r"\(3, 3\)"]),
    "six dimensions": (np.ones((1,) * 6), {}, ValueError, ["weight", "1 to 3"]),
    "no taps": (np.ones((2, 2, 0)), {}, ValueError, ["weight", "tap"]),
    "list": ([[[1.0]]], {}, TypeError, ["weight", "list"]),
    "integers": (np.ones((1, 1, 3), int), {}, TypeError, ["weight", "int64"]),
    "nan": (np.full((1, 1, 3), np.nan), {}, ValueError, ["weight", "NaN"]),
    "inf": (np.full((1, 1, 3), np.inf), {}, ValueError, ["weight", "infinity"]),
    "groups": (W, {"groups": 3}, ValueError, ["groups", "3", "4"]),
    "groups zero": (W, {"groups": 0}, ValueError, ["groups", "0"]),
    "groups float": (W, {"groups": 2.0}, TypeError, ["groups", "2.0"]),
    "stride zero": (W, {"stride": 0, "padding": 1}, ValueError, ["stride", "0"]),
    "stride length": (W, {"stride": (1, 2, 1), "padding": 1}, ValueError, ["stride", "2"]),
    "stride text": (W, {"stride": "1"}, TypeError, ["stride", "'1'"]),
    "dilation": (W, {"dilation": -1}, ValueError, ["dilation", "-1"]),
    "padding negative": (W, {"padding": -1}, ValueError, ["padding", "-1"]),
    "padding word": (W, {"padding": "full"}, ValueError, ["padding", "full", "same", "valid"]),
    "padding float": (W, {"padding": 1.5}, TypeError, ["padding", "1.5"]),
    "same with stride": (W, {"stride": 2}, ValueError, ["padding", "same", "stride"]),
    "same transposed": (W, {"transposed": True}, ValueError, ["padding", "same", "transposed"]),
    "reflect": (W, {"padding_mode": "reflect"}, ValueError, ["padding_mode", "reflect", "zeros"]),
    "replicate": (W, {"padding_mode": "replicate"}, ValueError, ["padding_mode", "replicate"]),
    "mode": (W, {"padding_mode": "constant"}, ValueError, ["padding_mode", "constant", "zeros"]),
    "mode type": (W, {"padding_mode": 0}, TypeError, ["padding_mode", "0"]),
    "circular transposed": (W, {"padding_mode": "circular", "transposed": True, "padding": 1},
                            ValueError, ["padding_mode", "circular", "transposed"]),
    "circular too wide": (W, {"padding_mode": "circular", "padding": 5, "input_size": 4},
                          ValueError, ["padding", "5", "4"]),
    "too small": (W, {"padding": "valid", "input_size": (5, 2)}, ValueError, ["input_size", "2"]),
    "transposed too small": (W, {"padding": 2, "input_size": 1, "transposed": True}, ValueError,
                             ["input_size", "1"]),
    "size zero": (W, {"input_size": 0}, ValueError, ["input_size", "0"]),
    "size length": (W, {"input_size": (5,)}, ValueError, ["input_size", "5"]),
    "size bool": (W, {"input_size": True}, TypeError, ["input_size", "True"]),
    "transposed int": (W, {"transposed": 1}, TypeError, ["transposed", "1"]),
    "rtol zero": (W, {"rtol": 0.0}, ValueError, ["rtol", "0"]),
    "rtol nan": (W, {"rtol": np.nan}, ValueError, ["rtol", "nan"]),
    "rtol text": (W, {"rtol": "1"}, TypeError, ["rtol", "'1'"]),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_message_names_argument_value_and_what_is_allowed(case):
    weight, options, error, words = ERRORS[case]
    with pytest.raises(error) as caught:
        bounds(weight, **options)
    for word in words:
        assert re.search(word, str(caught.value)), f"{word!r} not in {str(caught.value)!r}"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["real", "imag"])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_weight_that_is_not_finite_in_one_part_is_refused(owner, dtype, part, bad):
    weight = np.full((2, 1, 3), 1 + 2j, dtype)
    getattr(weight, part)[1, 0, 1] = bad
    for size in (None, 5):
        with pytest.raises(ValueError, match="weight holds NaN or infinity"):
            bounds(owner.array(weight, dtype), input_size=size)


def test_tensor_that_requires_grad_gets_it():
    torch = pytest.importorskip("torch")
    weight = torch.ones(1, 1, 3, requires_grad=True)
    found = bounds(weight)
    found.upper.backward()
    torch.testing.assert_close(weight.grad, torch.ones(1, 1, 3), atol=1e-3, rtol=0)
    assert found.method == bounds(weight.detach()).method
