"""Arrays of any strides, at odd addresses and in files: read as they lie, never changed."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import DLPackOnly
from tests.host_arrays import STRIDES, sample, strided
from tests.reference import newton_schulz as reference


@pytest.mark.parametrize("wrap", [np.asarray, DLPackOnly], ids=["numpy", "dlpack"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("shape", [(14, 20), (20, 14), (2, 3, 9, 7), (150, 140)])
@pytest.mark.parametrize("kind", STRIDES)
def test_strides_do_not_matter(kind, shape, dtype, wrap):
    x = strided(kind, sample(shape, dtype).astype(dtype))
    dense = np.array(x, order="C")
    q = gm.newton_schulz(wrap(x))
    assert q.flags.c_contiguous
    # A column-major matrix may be computed as its transpose: equal to rounding, not to the bit.
    # Rounding in five steps grows by less than 1e4 (amplification_standard of these inputs).
    compute = "float32" if dtype == "float16" else dtype
    allowed = 1e4 * reference.UNIT_ROUNDOFF[compute] + 2 * reference.UNIT_ROUNDOFF[dtype]
    truth = reference.to_double(gm.newton_schulz(dense))
    for index in np.ndindex(*shape[:-2]):
        assert reference.rms_distance(q[index], truth[index]) <= allowed
    np.testing.assert_array_equal(x, dense)


@pytest.mark.parametrize("shape", [(3, 9, 7), (3, 7, 9)])
def test_strides_of_a_batch_do_not_matter(shape):
    x = sample(shape)
    truth = gm.newton_schulz(x)
    views = {
        "reversed": (np.ascontiguousarray(x[::-1])[::-1], truth),
        "strided": (np.repeat(x, 2, axis=0)[::2], truth),
        "matrix axes first": (np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0),
                              truth),
        "broadcast": (np.broadcast_to(x[:1], x.shape), np.broadcast_to(truth[:1], x.shape)),
        "two axes": (np.broadcast_to(x[:, None], (3, 2, *x.shape[1:])),
                     np.broadcast_to(truth[:, None], (3, 2, *x.shape[1:]))),
    }  # fmt: skip
    for name, (view, expected) in views.items():
        np.testing.assert_allclose(gm.newton_schulz(view), expected, atol=1e-12, err_msg=name)


# Memory whose entries lie at odd addresses, or a fraction of an element apart: (array, its base).
def packed_record(shape):
    record = np.zeros(shape, [("a", "u1"), ("b", "f4")])
    return record["b"], record


def aligned_record(shape):
    """Each entry is aligned, yet 12 bytes from the next one of 8."""
    record = np.zeros(shape, [("a", "f4"), ("b", "c8")])
    return record["b"], record


def odd_address(shape):
    memory = np.zeros(4 * np.prod(shape) + 1, np.uint8)
    return memory[1:].view("f4").reshape(shape), memory


def odd_batch_step(shape):
    count, m, n = shape
    step = 4 * m * n + 1
    memory = np.zeros(count * step, np.uint8)
    return np.ndarray(shape, "f4", memory, strides=(step, 4 * n, 4)), memory


ODD = [(packed_record, (4, 4)), (packed_record, (2, 3, 5)), (aligned_record, (4, 4)),
       (aligned_record, (2, 3, 5)), (odd_address, (4, 4)), (odd_address, (2, 3, 5)),
       (odd_batch_step, (3, 4, 4))]  # fmt: skip


@pytest.mark.parametrize(("build", "shape"), ODD)
def test_memory_that_counts_no_whole_elements_may_be_read(build, shape):
    x, _ = build(shape)
    x[...] = sample(shape, x.dtype.name)
    before = x.copy()
    np.testing.assert_array_equal(gm.newton_schulz(x), gm.newton_schulz(before))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(("build", "shape"), ODD)
def test_memory_that_counts_no_whole_elements_is_no_out(build, shape):
    """The kernels could only fill a copy of it, and the caller would never see the result."""
    out, base = build(shape)
    out[...] = 7.25
    before = base.tobytes()
    x = sample(shape, out.dtype.name).astype(out.dtype)
    with pytest.raises(ValueError, match=r"\bout\b"):
        gm.newton_schulz(x, out=out)
    assert base.tobytes() == before


@given(data=st.data())
def test_any_slice_of_any_order_equals_its_copy(data):
    base = sample((6, 17, 19), seed=1).astype(np.float32)
    base = base.transpose(data.draw(st.permutations(range(3))))
    index = tuple(
        slice(data.draw(st.integers(0, n - 1)), data.draw(st.integers(n - 3, n)),
              data.draw(st.integers(1, 3)))
        for n in base.shape
    )  # fmt: skip
    x = base[index]
    flips = data.draw(st.tuples(*[st.sampled_from([1, -1])] * 3))
    x = x[tuple(slice(None, None, f) for f in flips)]
    q = gm.newton_schulz(x)
    np.testing.assert_allclose(q, gm.newton_schulz(x.copy()), atol=2e-3)
    assert q.shape == x.shape


def test_memory_map_may_be_opened_for_reading(tmp_path):
    x = sample().astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    q = gm.newton_schulz(np.load(tmp_path / "x.npy", mmap_mode="r"))
    np.testing.assert_array_equal(q, gm.newton_schulz(x))
    q += 1  # the result is ordinary memory
