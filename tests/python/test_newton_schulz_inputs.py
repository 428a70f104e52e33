"""Newton-Schulz on special inputs: zero, empty, of rank one, and batches.

``machine`` stands for gm.newton_schulz on the CPU or, with --gpu, on a CUDA device.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import HALVES, machines
from tests.newton_schulz import DTYPES, METHODS, check, preset_rows
from tests.reference import matrices
from tests.reference import newton_schulz as reference


@pytest.mark.parametrize(("machine", "dtype"), machines(["float16", *DTYPES]), indirect=["machine"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(2, 5, 8), (2, 300, 280)])
def test_zero_matrix_gives_zero(machine, dtype, method, shape):
    q, info = machine(np.zeros(shape, dtype), method=method, return_info=True)
    assert not q.any()
    np.testing.assert_array_equal(info.residual, 1)
    np.testing.assert_array_equal(info.norm_bound, 0)


@pytest.mark.parametrize(("machine", "dtype"), machines(["float16", *DTYPES]), indirect=["machine"])
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (0, 3, 4), (3, 0, 4), (3, 4, 0),
                                   (2, 0, 3, 3)])  # fmt: skip
@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_empty_input_gives_empty_results(machine, shape, method, dtype):
    q, info = machine(np.empty(shape, dtype), method=method, return_info=True)
    assert q.shape == shape
    assert q.dtype.name == dtype
    for value in (info.residual, info.norm_bound):
        assert value.shape == shape[:-2]
        assert not value.any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("x", [-3.0, 1e-20, 7e30, 2.0 - 1j])
def test_one_by_one_is_the_sign(machine, x, method):
    rows = preset_rows("polar_express")
    q = machine(np.array([[x]]), method=method)
    p = reference.scalar_map(np.array(1.0), rows)
    np.testing.assert_allclose(q[0, 0], p * x / abs(x), rtol=1e-11)


@pytest.mark.parametrize("shape", [(1, 17), (17, 1)])
@pytest.mark.parametrize("method", METHODS)
def test_vectors_are_scaled_to_p_of_one(machine, shape, method):
    x = np.random.default_rng(0).standard_normal(shape)
    q = machine(x, method=method)
    p = reference.scalar_map(np.array(1.0), preset_rows("polar_express"))
    np.testing.assert_allclose(q, p * x / np.linalg.norm(x), rtol=1e-11)


@pytest.mark.parametrize(
    ("machine", "dtype"),
    machines(["float32", "float64"], ["float32", "float64"]),
    indirect=["machine"],
)
@pytest.mark.parametrize("method", METHODS)
def test_signed_permutation_times_powers_of_two_keeps_its_zeros(machine, dtype, method):
    x = matrices.build("permutation_powers_of_two", 0, dtype)
    q = machine(x, method=method)
    np.testing.assert_array_equal(q == 0, x == 0)
    np.testing.assert_array_equal(np.sign(q), np.sign(x))
    rows = preset_rows("polar_express")
    s = reference.norm_bound(x, "schatten")
    expected = reference.scalar_map(np.abs(x[x != 0]) / s, rows)
    np.testing.assert_allclose(np.abs(q[x != 0]), expected,
                               rtol=1e3 * reference.UNIT_ROUNDOFF[dtype])  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_rank_one_stays_rank_one(machine, method):
    x = matrices.build("integer_outer_product")
    q, info = machine(x, method=method, return_info=True)
    sigma = np.linalg.svd(q, compute_uv=False)
    allowed = reference.tolerance(x, preset_rows("polar_express"), method=method,
                                  restarts=info.restarts)  # fmt: skip
    assert sigma[1] <= allowed * np.sqrt(40)
    assert sigma[0] == pytest.approx(
        reference.scalar_map(np.array(1.0), preset_rows("polar_express")), abs=1e-10
    )


# ---- Batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("machine", "dtype"), machines(DTYPES), indirect=["machine"])
@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize("name", matrices.BATCHES)
def test_batch_is_a_loop_of_singles(machine, name, dtype, method):
    if name == "mixed_scales" and dtype == "float16":
        pytest.skip("scales out of the range of float16")
    x = matrices.build(name, 0, dtype)
    q, info = machine(x, method=method, return_info=True)
    rows = preset_rows("polar_express")
    for index in np.ndindex(*x.shape[:-2]):
        one, single = machine(x[index], method=method, return_info=True)
        check(machine, x[index], q[index], info, rows, "schatten")
        both = sum(
            machine.tolerance(x[index], rows, method=i.method, restarts=i.restarts)
            for i in (info, single)
        )
        assert reference.rms_distance(q[index], reference.to_double(one)) <= both
        np.testing.assert_allclose(
            info.norm_bound[index], single.norm_bound, rtol=1e-2 if dtype in HALVES else 1e-5
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize("shape", [(5, 20, 30), (5, 150, 140), (5, 280, 300)])
@pytest.mark.parametrize(
    ("machine", "dtype"), machines(["float32", "float64", "complex64"]), indirect=["machine"]
)
def test_non_finite_stays_in_its_matrix(machine, bad, method, shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    clean, clean_info = machine(x, method=method, return_info=True)
    x[2, 3, 4] = bad
    q, info = machine(x, method=method, check_finite=False, return_info=True)
    others = [0, 1, 3, 4]
    assert np.isnan(q[2]).all()
    np.testing.assert_array_equal(q[others], clean[others])
    assert np.isnan(info.residual[2])
    assert np.isnan(info.norm_bound[2])
    for figure in ("residual", "norm_bound"):
        np.testing.assert_array_equal(
            getattr(info, figure)[others], getattr(clean_info, figure)[others]
        )


def test_large_and_small_batches_agree(machine):
    x = np.random.default_rng(0).standard_normal((100, 12, 18)).astype(np.float32)
    q = machine(x)
    np.testing.assert_allclose(q[:3], machine(x[:3]), atol=1e-5)
    np.testing.assert_allclose(
        q.reshape(10, 10, 12, 18), machine(x.reshape(10, 10, 12, 18)), atol=1e-5
    )
