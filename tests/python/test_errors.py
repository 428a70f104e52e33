"""Bad arguments: the message names the argument, its value and what is allowed instead."""

from __future__ import annotations

import re

import gramian as gm
import numpy as np
import pytest

X = np.arange(12.0).reshape(3, 4)
PRESETS = ["polar_express", "polar_express_paper", "muon", "you", "taylor"]

# (keyword arguments, exception, words that the message must hold)
CASES = {
    "steps zero": ({"steps": 0}, ValueError, ["steps", "0", "1"]),
    "steps negative": ({"steps": -3}, ValueError, ["steps", "-3", "1"]),
    "steps float": ({"steps": 5.0}, TypeError, ["steps", "5.0|float", "int"]),
    "steps string": ({"steps": "5"}, TypeError, ["steps", "5|str", "int"]),
    "steps none": ({"steps": None}, TypeError, ["steps", "None", "int"]),
    "unknown preset": ({"coefficients": "moun"}, ValueError, ["coefficients", "moun", *PRESETS]),
    "no rows": ({"coefficients": []}, ValueError, ["coefficients", r"\[\]|\(\)|empty"]),
    "short row": ({"coefficients": [(1.0, 2.0)]}, ValueError, ["coefficients", "2", "3|a, b, c"]),
    "long row": ({"coefficients": [(1, 2, 3, 4)]}, ValueError, ["coefficients", "4", "3|a, b, c"]),
    "ragged rows": ({"coefficients": [(1, 2, 3), (1, 2)]}, ValueError, ["coefficients"]),
    "nan in rows": ({"coefficients": [(1, np.nan, 3)]}, ValueError, ["coefficients", "nan"]),
    "inf in rows": ({"coefficients": [(np.inf, 0, 3)]}, ValueError, ["coefficients", "inf"]),
    "huge integer in rows": ({"coefficients": [(1, 10**400, 3)]}, ValueError, ["coefficients"]),
    "rows a number": ({"coefficients": 1.5}, TypeError, ["coefficients", "1.5"]),
    "rows strings": ({"coefficients": [("a", "b", "c")]}, TypeError, ["coefficients", "a"]),
    "rows none": ({"coefficients": None}, TypeError, ["coefficients", "None"]),
    "unknown norm": ({"normalization": "spectral"}, ValueError,
                     ["normalization", "spectral", "frobenius", "schatten"]),
    "zero norm": ({"normalization": 0.0}, ValueError, ["normalization", r"0\.0|0", "positive|> 0"]),
    "negative norm": ({"normalization": -1.0}, ValueError, ["normalization", "-1", "positive|> 0"]),
    "nan norm": ({"normalization": np.nan}, ValueError, ["normalization", "nan"]),
    "inf norm": ({"normalization": np.inf}, ValueError, ["normalization", "inf"]),
    "huge integer norm": ({"normalization": 10**400}, ValueError, ["normalization"]),
    "huge negative norm": ({"normalization": -(10**400)}, ValueError, ["normalization"]),
    "norm zero array": ({"normalization": np.array(0.0)}, ValueError, ["normalization"]),
    "norm nan array": ({"normalization": np.array(np.nan)}, ValueError, ["normalization", "nan"]),
    "norm none": ({"normalization": None}, TypeError, ["normalization", "None", "schatten"]),
    "norm complex": ({"normalization": 1j}, TypeError, ["normalization"]),
    "norm bool": ({"normalization": True}, TypeError, ["normalization", "True"]),
    "unknown method": ({"method": "svd"}, ValueError,
                       ["method", "svd", "auto", "standard", "gram"]),
    "method none": ({"method": None}, TypeError, ["method", "None", "auto"]),
    "check string": ({"check_finite": "yes"}, TypeError, ["check_finite", "yes", "True", "None"]),
    "check number": ({"check_finite": 1.0}, TypeError, ["check_finite", "1.0", "True", "None"]),
    "info string": ({"return_info": "no"}, TypeError, ["return_info", "no", "True", "False"]),
    "compute half": ({"compute_dtype": "float16"}, ValueError,
                     ["compute_dtype", "float16", "float32", "float64"]),
    "compute int": ({"compute_dtype": "int32"}, ValueError,
                    ["compute_dtype", "int32", "float32", "float64"]),
    "compute np int": ({"compute_dtype": np.int64}, ValueError, ["compute_dtype", "float32"]),
    "compute unknown": ({"compute_dtype": "double-ish"}, ValueError,
                        ["compute_dtype", "double-ish", "float32"]),
    "out shape": ({"out": np.empty((4, 3))}, ValueError,
                  ["out", r"\(4, 3\)", r"\(3, 4\)"]),
    "out batch": ({"out": np.empty((1, 3, 4))}, ValueError,
                  ["out", r"\(1, 3, 4\)", r"\(3, 4\)"]),
    "out dtype": ({"out": np.empty((3, 4), np.float32)}, ValueError,
                  ["out", "float32", "float64"]),
    "out complex": ({"out": np.empty((3, 4), complex)}, ValueError,
                    ["out", "complex128", "float64"]),
    "out list": ({"out": [[0.0] * 4] * 3}, TypeError, ["out", "list"]),
    "out int": ({"out": np.empty((3, 4), np.int64)}, ValueError, ["out", "int64", "float64"]),
    "out read-only": ({"out": np.broadcast_to(0.0, (3, 4))}, ValueError,
                      ["out", "writ|read-only|readonly"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_message_names_argument_value_and_what_is_allowed(case):
    kwargs, error, words = CASES[case]
    with pytest.raises(error) as caught:
        gm.newton_schulz(X, **kwargs)
    for word in words:
        assert re.search(word, str(caught.value)), f"{word!r} not in {str(caught.value)!r}"


INPUTS = {
    "list": ([[1.0, 2.0], [3.0, 4.0]], TypeError, ["x", "list", "NumPy", "torch", "dlpack"]),
    "tuple": (((1.0, 2.0),), TypeError, ["x", "tuple", "NumPy"]),
    "float": (1.5, TypeError, ["x", "float", "NumPy"]),
    "none": (None, TypeError, ["x", "None", "NumPy"]),
    "string": ("abc", TypeError, ["x", "str", "NumPy"]),
    "buffer": (memoryview(X), TypeError, ["x", "memoryview", "NumPy"]),
    "int64": (X.astype(np.int64), TypeError, ["x", "int64", "float32", "float64"]),
    "uint8": (X.astype(np.uint8), TypeError, ["x", "uint8", "float32"]),
    "bool": (X > 3, TypeError, ["x", "bool", "float32"]),
    "object": (X.astype(object), TypeError, ["x", "object", "float32"]),
    "text": (X.astype(str), TypeError, ["x", "str|U", "float32"]),
    "datetime": (X.astype("m8[s]"), TypeError, ["x", "timedelta|m8", "float32"]),
    "structured": (np.zeros((2, 2), [("a", "f4")]), TypeError, ["x", "float32"]),
    "masked": (np.ma.masked_array(X, X > 3), TypeError, ["x", "mask|Masked"]),
    "zero dimensions": (np.array(1.0), ValueError, ["x", r"0|\(\)", "2"]),
    "one dimension": (np.ones(5), ValueError, ["x", r"1|\(5,\)", "2"]),
    "nan": (np.array([[1.0, np.nan]]), ValueError, ["x", "NaN|nan", "finite"]),
    "inf": (np.array([[1.0, np.inf]]), ValueError, ["x", "inf", "finite"]),
}  # fmt: skip


@pytest.mark.parametrize("case", INPUTS)
def test_input_that_is_no_matrix(case):
    x, error, words = INPUTS[case]
    with pytest.raises(error) as caught:
        gm.newton_schulz(x)
    for word in words:
        assert re.search(rf"(?i){word}", str(caught.value)), (
            f"{word!r} not in {str(caught.value)!r}"
        )


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is double here")
@pytest.mark.parametrize("dtype", [np.longdouble, np.clongdouble])
def test_long_double_is_refused(dtype):
    with pytest.raises(TypeError, match=r"x.*float64"):
        gm.newton_schulz(X.astype(dtype))


def test_foreign_byte_order_is_refused():
    foreign = X.astype(X.dtype.newbyteorder())
    with pytest.raises(TypeError, match=r"\bx\b.*byte order.*[<>]f8"):
        gm.newton_schulz(foreign)
    with pytest.raises(ValueError, match=r"\bout\b.*[<>]f8.*byte order.*must be float64"):
        gm.newton_schulz(X, out=foreign)


@pytest.mark.parametrize("where", [(0, 0), (1, 3), (-1, -1)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, complex(0, np.nan), complex(1, -np.inf)])
@pytest.mark.parametrize("check", [None, True])
@pytest.mark.parametrize("shape", [(5, 7), (70, 90), (300, 200)])
def test_any_non_finite_entry_is_found(shape, check, bad, where):
    dtype = np.complex64 if isinstance(bad, complex) else np.float32
    x = np.ones((2, *shape), dtype)
    x[(1, *where)] = bad
    with pytest.raises(ValueError, match=r"(?i)x.*(nan|inf|finite)"):
        gm.newton_schulz(x, check_finite=check)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_check_finite_passes_finite(dtype):
    x = np.full((4, 6), np.finfo(dtype).max, dtype)
    assert np.isfinite(gm.newton_schulz(x, check_finite=True)).all()


def test_keywords_are_keywords():
    with pytest.raises(TypeError):
        gm.newton_schulz(X, 5, "muon")
    with pytest.raises(TypeError, match="nonsense"):
        gm.newton_schulz(X, nonsense=1)


def test_integer_like_steps():
    np.testing.assert_array_equal(gm.newton_schulz(X, np.int64(3)), gm.newton_schulz(X, 3))


def test_numpy_scalars_are_numbers():
    q = gm.newton_schulz(X, normalization=24.0)
    for number in (24, np.float64(24), np.float32(24), np.int32(24), np.int64(24),
                   np.array(24.0), np.array(24), np.array(24, np.float32)):  # fmt: skip
        np.testing.assert_array_equal(gm.newton_schulz(X, normalization=number), q)


def test_a_torch_scalar_is_a_number():
    torch = pytest.importorskip("torch")
    q = gm.newton_schulz(X, normalization=24.0)
    for number in (torch.tensor(24.0), torch.tensor(24), torch.tensor(24.0, dtype=torch.float64)):
        np.testing.assert_array_equal(gm.newton_schulz(X, normalization=number), q)


@pytest.mark.parametrize("flag", [True, False])
def test_numpy_bools_are_flags(flag):
    bad = np.where(X > 5, np.nan, X)
    np.testing.assert_array_equal(gm.newton_schulz(X, check_finite=np.bool_(flag)),
                                  gm.newton_schulz(X, check_finite=flag))  # fmt: skip
    if flag:
        with pytest.raises(ValueError, match=r"\bx\b"):
            gm.newton_schulz(bad, check_finite=np.True_)
    else:
        assert np.isnan(gm.newton_schulz(bad, check_finite=np.False_)).all()
