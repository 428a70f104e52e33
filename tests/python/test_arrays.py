"""Array libraries and dtypes: what goes in, what comes back, what is refused."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.conftest import HOST, PAIRS, DLPackOnly
from tests.host_arrays import SHAPES, sample
from tests.reference import gpu, matrices
from tests.reference import newton_schulz as reference


def assert_exact(q, x, *, dtype, info=None, rows=None, compute=None):
    """q equals the exact polynomial of the float64 array x to the derived tolerance."""
    if compute is None:
        compute = "float32" if dtype in ("float16", "bfloat16") else dtype
    rows = rows or gm.coefficients.table("polar_express", 5)
    method = info.method if info else "gram"
    restarts = info.restarts if info else ()
    flat_q, flat_x = (a.reshape(-1, *a.shape[-2:]) for a in (q, x))
    for one, given_x in zip(flat_q, flat_x, strict=True):
        allowed = gpu.tolerance(given_x, rows, method=method, restarts=restarts, dtype=dtype,
                                compute=compute)  # fmt: skip
        assert reference.rms_distance(one, reference.exact(given_x, rows)) <= allowed


@pytest.mark.concurrent
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("xp", "dtype"), PAIRS, indirect=["xp"])
def test_result_is_of_the_inputs_library_dtype_and_device(xp, dtype, shape):
    x = xp.array(sample(shape, dtype), dtype)
    before = xp.numpy(x)
    q, info = gm.newton_schulz(x, return_info=True)
    xp.check_result(q, shape, dtype)
    accumulates = "float64" if dtype in ("float64", "complex128") else "float32"
    for value in (info.residual, info.norm_bound):
        xp.check_result(value, shape[:-2], accumulates)
    compute = gpu.arithmetic(dtype) if xp.on_gpu else None
    assert_exact(xp.numpy(q), before, dtype=dtype, info=info, compute=compute)
    np.testing.assert_array_equal(xp.numpy(x), before)  # the input is never written


@pytest.mark.parametrize("xp", HOST, indirect=True)  # on a GPU: test_gpu.py
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_libraries_give_the_same_bits(xp, dtype):
    x = sample((3, 40, 30), dtype)
    host = gm.newton_schulz(x.astype(dtype))
    np.testing.assert_array_equal(xp.numpy(gm.newton_schulz(xp.array(x, dtype))), host)


def test_empty_arrays_and_vectors_keep_their_shape(xp):
    for shape in [(0, 5), (5, 0), (0, 3, 3), (1, 7), (7, 1), (1, 1), (4, 1, 1)]:
        x = xp.array(np.ones(shape), "float32")
        xp.check_result(gm.newton_schulz(x), shape, "float32")


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_integers_and_bool_are_refused(xp, dtype):
    x = xp.array(np.ones((3, 4)), dtype)
    with pytest.raises(TypeError, match=rf"^x has dtype .*{dtype}.*float32"):
        gm.newton_schulz(x)


@pytest.mark.parametrize("shape", [(), (5,)])
def test_fewer_than_two_dimensions_are_refused(xp, shape):
    x = xp.array(np.ones(shape), "float32")
    with pytest.raises(ValueError, match=r"^x has shape .*at least 2 dimensions"):
        gm.newton_schulz(x)


def test_ml_dtypes_bfloat16_is_computed_in_float32():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = sample((20, 30)).astype(ml_dtypes.bfloat16)
    q, info = gm.newton_schulz(x, return_info=True)
    assert type(q) is np.ndarray
    assert q.dtype == ml_dtypes.bfloat16
    assert info.residual.dtype == np.float32
    assert_exact(q.astype(np.float64), x.astype(np.float64), dtype="bfloat16", info=info)
    out = np.zeros_like(x)
    assert gm.newton_schulz(x, out=out) is out
    assert out.tobytes() == q.tobytes()


@pytest.mark.parametrize("legacy", [False, True])
def test_bfloat16_known_by_its_capsule_alone_is_refused(torch, legacy):
    """NumPy cannot import it; the message says so and what to pass instead."""
    x = DLPackOnly(torch.ones(3, 4, dtype=torch.bfloat16), legacy=legacy)
    with pytest.raises(TypeError, match=r"\bx\b(?s:.*)bfloat16"):
        gm.newton_schulz(x)


@pytest.mark.parametrize("compute_dtype", [None, "float32", "float64"])
def test_half_is_rounded_once_from_float32(owner, compute_dtype):
    """The half-precision result is the float32 result of the same values, rounded to nearest."""
    for dtype in owner.halves:
        x = owner.array(sample((24, 40)), dtype)
        wide = owner.array(owner.numpy(x), "float32")
        if owner.on_gpu and compute_dtype is None:
            compute_dtype = "float32"  # by default tensor cores compute the half case
        q = owner.numpy(gm.newton_schulz(x, compute_dtype=compute_dtype))
        full = gm.newton_schulz(wide, compute_dtype=compute_dtype)
        expected = owner.rounded(owner.numpy(full), dtype)
        np.testing.assert_array_equal(q, expected)


def test_zero_copy_results_outlive_their_input(torch):
    """No result shares memory with the input, and it stays good after the input is gone."""
    for make in (sample, lambda: torch.from_numpy(sample())):
        x = make()
        q = gm.newton_schulz(x)
        kept = np.asarray(q).copy()
        x[...] = 7
        del x
        np.testing.assert_array_equal(np.asarray(q), kept)


def test_matrix_builders_are_reproducible():
    for name in {**matrices.HARD, **matrices.BATCHES}:
        np.testing.assert_array_equal(matrices.build(name, 3), matrices.build(name, 3))
