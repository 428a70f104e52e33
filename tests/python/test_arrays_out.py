"""``out=``: what is filled, what is refused and left alone, and what may overlap the input."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.conftest import OWNER_PAIRS
from tests.host_arrays import SHAPES, STRIDES, sample, strided


def poisoned(shape=(5, 8), dtype=np.float64):
    return np.full(shape, 7.25, dtype)


@pytest.mark.parametrize(("owner", "dtype"), OWNER_PAIRS, indirect=["owner"])
@pytest.mark.parametrize("shape", SHAPES)
def test_out_is_filled_and_returned(owner, dtype, shape):
    x = owner.array(sample(shape, dtype), dtype)
    out = owner.array(np.full(shape, 7.0), dtype)
    q = gm.newton_schulz(x, out=out)
    assert q is out
    np.testing.assert_array_equal(owner.numpy(q), owner.numpy(gm.newton_schulz(x)))
    again, info = gm.newton_schulz(x, out=out, return_info=True)
    assert again is out
    assert info.steps == 5


@pytest.mark.parametrize(
    "kind", [k for k in STRIDES if "broadcast" not in k and k not in ("row-major", "read-only")]
)
@pytest.mark.parametrize("shape", [(14, 20), (20, 14), (2, 3, 9, 7), (150, 140)])
def test_out_of_any_strides_is_filled_and_nothing_beside_it(kind, shape):
    x = sample(shape)
    out = strided(kind, np.full(shape, 7.0))
    base = out
    while base.base is not None:
        base = base.base
    q = gm.newton_schulz(x, out=out)
    assert q is out
    np.testing.assert_allclose(out, gm.newton_schulz(x), atol=1e-12)
    if kind in ("sliced", "padded rows", "padded columns"):  # what lies between stays as it was
        assert np.isnan(base).sum() == base.size - x.size


def test_empty_out_is_returned():
    out = np.empty((0, 3, 4))
    assert gm.newton_schulz(np.empty((0, 3, 4)), out=out) is out


# ---- What is refused -----------------------------------------------------------------------------


def self_overlapping(shape, strides):
    base = poisoned((64,))
    return np.lib.stride_tricks.as_strided(base, shape, strides), base


BAD_OUT = {
    "shape": lambda: (poisoned((8, 5)), ValueError),
    "broadcastable": lambda: (poisoned((1, 5, 8)), ValueError),
    "larger": lambda: (poisoned((6, 8)), ValueError),
    "dtype": lambda: (poisoned(dtype=np.float32), ValueError),
    "wider dtype": lambda: (poisoned(dtype=np.complex128), ValueError),
    "zero stride": lambda: (self_overlapping((5, 8), (0, 8))[0], ValueError),
    "rows over rows": lambda: (self_overlapping((5, 8), (8, 8))[0], ValueError),
    "partial overlap": lambda: (self_overlapping((5, 8), (16, 8))[0], ValueError),
    "masked": lambda: (np.ma.masked_array(poisoned(), False), TypeError),
}


@pytest.mark.parametrize("case", BAD_OUT)
def test_bad_out_is_refused_and_left_alone(case):
    out, error = BAD_OUT[case]()
    before = np.array(out)
    with pytest.raises(error, match=r"\bout\b"):
        gm.newton_schulz(sample((5, 8)), out=out)
    np.testing.assert_array_equal(np.array(out), before)


def test_read_only_out_is_refused():
    out = poisoned()
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"(?i)out.*(writ|read-only|readonly)"):
        gm.newton_schulz(sample((5, 8)), out=out)
    assert (out == 7.25).all()


def test_two_libraries_in_one_call_are_refused(torch):
    x, out = sample((5, 8)), torch.full((5, 8), 7.25, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"\bout\b"):
        gm.newton_schulz(x, out=out)
    assert bool((out == 7.25).all())
    other = poisoned()
    with pytest.raises(TypeError, match=r"\bout\b"):
        gm.newton_schulz(torch.from_numpy(x), out=other)
    assert (other == 7.25).all()


@pytest.mark.parametrize("kwargs", [
    {"steps": 0}, {"steps": 2.5}, {"method": "svd"}, {"coefficients": "moun"},
    {"coefficients": [(1, 2)]}, {"normalization": -1.0}, {"normalization": "l2"},
    {"compute_dtype": "float16"}, {"check_finite": True}, {"check_finite": None},
])  # fmt: skip
@pytest.mark.parametrize("shape", [(6, 5, 8), (2, 130, 140), (2, 300, 260)])
def test_nothing_is_written_when_an_error_is_raised(kwargs, shape):
    x = sample(shape)
    x[-1, -1, -1] = np.nan  # in the last matrix, so that the others are already good
    out = poisoned(shape)
    with pytest.raises(TypeError if kwargs == {"steps": 2.5} else ValueError):
        gm.newton_schulz(x, out=out, **kwargs)
    assert (out == 7.25).all()


def test_failed_call_in_place_leaves_the_input():
    x = sample((3, 6, 9))
    x[2, 0, 0] = np.inf
    before = x.copy()
    with pytest.raises(ValueError, match=r"^x contains NaN or infinity"):
        gm.newton_schulz(x, out=x)
    np.testing.assert_array_equal(x, before)


# ---- torch ---------------------------------------------------------------------------------------


def test_bad_torch_out_is_refused(torch):
    x = torch.from_numpy(sample((5, 8), "complex128"))
    base = torch.full((8,), 7.25, dtype=torch.complex128)
    with pytest.raises(ValueError, match=r"\bout\b"):
        gm.newton_schulz(x, out=base.expand(5, 8))
    assert bool((base == 7.25).all())
    for wrong in (torch.zeros(8, 5, dtype=x.dtype), torch.zeros(5, 8)):
        with pytest.raises(ValueError, match=r"\bout\b"):
            gm.newton_schulz(x, out=wrong)
    with pytest.raises(TypeError, match=r"\bout\b"):
        gm.newton_schulz(x, out=torch.zeros(5, 8, dtype=x.dtype, requires_grad=True))
    with pytest.raises(TypeError, match=r"\bout\b"):
        gm.newton_schulz(x, out=torch.zeros(5, 8, dtype=x.dtype, device="meta"))


def test_torch_out_with_the_conjugate_bit_is_refused(torch):
    """Such a tensor's memory is not its values."""
    x = torch.from_numpy(sample((5, 8), "complex128"))
    base = torch.full((5, 8), 7.25 + 1j, dtype=x.dtype)
    before = base.clone()
    assert base.conj().is_conj()
    with pytest.raises(ValueError, match=r"\bout\b"):
        gm.newton_schulz(x, out=base.conj())
    assert torch.equal(base, before)


def test_torch_out_with_the_negative_bit_is_refused(torch):
    x = torch.from_numpy(sample((5, 8)))
    base = torch.full((5, 8), 7.25 + 1j, dtype=torch.complex128)
    before = base.clone()
    out = base.conj().imag
    assert out.is_neg()
    with pytest.raises(ValueError, match=r"\bout\b"):
        gm.newton_schulz(x, out=out)
    assert torch.equal(base, before)


def test_autograd_sees_that_a_torch_out_was_written(torch):
    """A tensor saved for the backward pass and then overwritten must not give a wrong gradient."""
    x = torch.from_numpy(sample((3, 3)).astype(np.float32))
    out = torch.ones(3, 3)
    weight = torch.ones(3, 3, requires_grad=True)
    loss = (weight * out).sum()
    gm.newton_schulz(x, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_torch_out_made_in_inference_mode_is_filled(torch):
    """It counts no versions."""
    x = torch.from_numpy(sample((3, 5)))
    with torch.inference_mode():
        out = torch.zeros_like(x)
        assert gm.newton_schulz(x, out=out) is out
    assert torch.equal(out, gm.newton_schulz(x))


# ---- Overlaps ------------------------------------------------------------------------------------


OVERLAPS = {
    "same": lambda b: (b[:12, :12], b[:12, :12]),
    "transposed": lambda b: (b[:12, :12], b[:12, :12].T),
    "shifted down": lambda b: (b[:12, :10], b[1:13, :10]),
    "shifted up": lambda b: (b[1:13, :10], b[:12, :10]),
    "shifted right": lambda b: (b[:12, :9], b[:12, 1:10]),
    "rows reversed": lambda b: (b[:12, :9], b[:12, :9][::-1]),
    "columns reversed": lambda b: (b[:9, :12], b[:9, :12][:, ::-1]),
    "interleaved": lambda b: (b[:, :40:2], b[:, 1:40:2]),
    "corner": lambda b: (b[:12, :12], b[6:18, 6:18]),
}


@pytest.mark.parametrize("method", ["auto", "standard", "gram"])
@pytest.mark.parametrize("case", OVERLAPS)
def test_out_may_overlap_the_input(case, method):
    base = sample((20, 40))
    x, out = OVERLAPS[case](base)
    truth = gm.newton_schulz(x.copy(), method=method)
    assert gm.newton_schulz(x, method=method, out=out) is out
    np.testing.assert_allclose(out, truth, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 9, 12), (4, 130, 140)])
@pytest.mark.parametrize("case", ["same", "reversed", "shifted", "shifted back", "transposed"])
def test_out_may_overlap_the_input_across_a_batch(case, shape):
    n, rows, cols = shape
    base = sample((n + 1, rows, cols))
    x = base[:n]
    out = {"same": x, "reversed": x[::-1], "shifted": base[1:], "shifted back": x,
           "transposed": x}[case]  # fmt: skip
    if case == "shifted back":
        x = base[1:]
    if case == "transposed":
        x, out = x[:, :rows, :rows], x[:, :rows, :rows].swapaxes(-1, -2)
    truth = gm.newton_schulz(x.copy())
    assert gm.newton_schulz(x, out=out) is out
    np.testing.assert_allclose(out, truth, atol=1e-12)


def test_torch_out_may_be_the_input(torch):
    x = torch.from_numpy(sample((9, 12)))
    truth = gm.newton_schulz(x.clone())
    assert gm.newton_schulz(x, out=x) is x
    torch.testing.assert_close(x, truth, atol=1e-12, rtol=0)
