"""Scaling the input by a power of two changes not one bit of the result."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import machines
from tests.reference import matrices
from tests.reference import newton_schulz as reference

METHODS = ["standard", "gram"]
DTYPES = ["float32", "float64", "complex64", "complex128"]
# Far enough that the square of the norm leaves the range of the dtype, both ways.
FAR = {"float32": 100, "complex64": 100, "float64": 1000, "complex128": 1000, "bfloat16": 100}


def powers(dtype):
    """As far as the dtype reaches; float16 holds entries of size 1 times these."""
    if dtype == "float16":
        return (-7, -2, -1, 1, 2, 3, 12)
    far = FAR[dtype]
    return (-far, -far // 2, -31, -1, 1, 2, 3, 30, far // 2, far)


def times_power_of_two(x, k):
    """Exact while nothing leaves the normal range: two factors, as 2^k alone may be out of it."""
    if x.dtype.name == "bfloat16":
        return (x.astype(np.float64) * 2.0**k).astype(x.dtype)
    one = x.real.dtype.type(2.0)
    return x * one ** (k // 2) * one ** (k - k // 2)


def assert_same_bits(a, b):
    assert a.dtype == b.dtype
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("normalization", ["frobenius", "schatten"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("machine", "dtype"), machines(DTYPES), indirect=["machine"])
@pytest.mark.parametrize(
    "shape", [(1, 1), (24, 17), (20, 150), (160, 140), (300, 280), (4, 12, 10)]
)
def test_power_of_two_scaling_is_exact(machine, shape, dtype, method, normalization):
    x = matrices.gaussian(np.random.default_rng(0), *shape[-2:])
    x = np.where(x < 0, -1, 1) * np.clip(abs(x), 2.0**-5, None)  # so large that none underflows
    x = np.broadcast_to(x, shape).astype(dtype)
    kwargs = {"method": method, "normalization": normalization, "return_info": True}
    q, info = machine(x, **kwargs)
    for k in powers(dtype):
        y = times_power_of_two(x, k)
        p, other = machine(y, **kwargs)
        assert_same_bits(q, p)
        assert_same_bits(np.asarray(info.residual), np.asarray(other.residual))
        np.testing.assert_array_equal(
            times_power_of_two(np.asarray(info.norm_bound), k), other.norm_bound
        )


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(-60, 60), m=st.integers(1, 20),
       n=st.integers(1, 20), dtype=st.sampled_from(DTYPES),
       method=st.sampled_from(["auto", *METHODS]))  # fmt: skip
def test_any_power_of_two(machine, seed, k, m, n, dtype, method):
    x = np.random.default_rng(seed).standard_normal((m, n)).astype(dtype)
    y = times_power_of_two(x, k)
    assert_same_bits(machine(x, method=method), machine(y, method=method))


@pytest.mark.parametrize("k", [-6, -3, 1, 5])
def test_float16(machine, k):
    x = np.random.default_rng(0).uniform(0.5, 1, (30, 20)).astype(np.float16)
    assert_same_bits(machine(x), machine(times_power_of_two(x, k)))


@pytest.mark.parametrize(
    ("machine", "dtype"), machines(["float32"], ["float32", "bfloat16"]), indirect=["machine"]
)
@pytest.mark.parametrize("k", [-100, -1, 1, 100])
def test_a_number_scales_along(machine, dtype, k):
    x = matrices.build("gaussian_wide", 0, dtype)
    y = times_power_of_two(x, k)
    for method in METHODS:
        q = machine(x, normalization=40.0, method=method)
        assert_same_bits(q, machine(y, normalization=40.0 * 2.0**k, method=method))


@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize(("machine", "dtype"), machines(DTYPES, DTYPES), indirect=["machine"])
def test_extreme_norms_are_as_good_as_norm_one(machine, dtype, method):
    real = np.dtype(dtype).type(0).real.dtype
    x = matrices.build("gaussian_wide", 0, dtype)
    rows = gm.coefficients.table("polar_express", 5)
    for scale in matrices.SCALES[real]:
        y = x * real.type(scale)
        q, info = machine(y, method=method, return_info=True)
        truth = reference.exact(y, rows)
        assert reference.rms_distance(q, truth) <= machine.tolerance(
            y, rows, method=info.method, restarts=info.restarts
        )
        assert info.norm_bound == pytest.approx(reference.norm_bound(y, "schatten"), rel=1e-5)


@pytest.mark.parametrize(
    ("machine", "dtype"),
    machines(["float16", "float32", "float64"], ["float16", "float32", "float64"]),
    indirect=["machine"],
)
def test_subnormal_input(machine, dtype):
    """Every entry subnormal: its bits are few, but all of them count."""
    tiny = np.finfo(dtype).smallest_subnormal
    x = (np.random.default_rng(0).integers(-200, 200, (20, 30)) * tiny).astype(dtype)
    assert np.abs(x).max() < np.finfo(dtype).tiny
    y = times_power_of_two(x, -round(np.log2(float(tiny))))
    assert np.abs(y).min(initial=1, where=y != 0) == 1  # the same integers, in the normal range
    assert_same_bits(machine(x), machine(y))


@pytest.mark.parametrize(
    ("machine", "dtype"),
    machines(["float32", "float64"], ["float16", "float32", "float64"]),
    indirect=["machine"],
)
def test_single_smallest_number(machine, dtype):
    x = np.zeros((5, 4), dtype)
    x[2, 1] = -np.finfo(dtype).smallest_subnormal
    q = machine(x)
    p = reference.scalar_map(np.array(1.0), gm.coefficients.table("polar_express", 5))
    # Half precision may round the norm to either side of a steep table's end.
    assert q[2, 1] == pytest.approx(-p, rel=5e-2 if dtype == "float16" else 1e-4)
    assert np.count_nonzero(q) == 1


@pytest.mark.parametrize(
    ("machine", "dtype"),
    machines(
        ["float16", "float32", "float64", "complex64"],
        ["float16", "float32", "float64", "complex64"],
    ),
    indirect=["machine"],
)
def test_entries_at_the_largest_number(machine, dtype):
    """The norm itself does not fit the dtype; the answer does."""
    real = np.dtype(dtype).type(0).real.dtype
    rng = np.random.default_rng(0)
    x = (np.finfo(real).max * rng.choice([-1, -0.5, 0.5, 1], (24, 16)).astype(real)).astype(dtype)
    y = x * real.type(2.0**-10)
    q = machine(x)
    assert np.isfinite(q).all()
    assert_same_bits(q, machine(y))


@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize(
    ("machine", "dtype"),
    machines(["float32", "float64", "complex64"], ["bfloat16", "float32", "float64", "complex64"]),
    indirect=["machine"],
)
@pytest.mark.parametrize("shape", [(24, 16), (130, 140), (260, 300)])
def test_mixed_scales_in_one_batch(machine, shape, dtype, method):
    """Each matrix has its own scale: a batch of one matrix at many scales gives one answer."""
    x = np.random.default_rng(0).uniform(0.5, 1, shape).astype(dtype)
    exponents = (0, -90, 90, -40, 40, -1, 1)
    batch = np.stack([times_power_of_two(x, k) for k in exponents])
    q = machine(batch, method=method)
    for answer in q[1:]:
        assert_same_bits(q[0], answer)


def test_mixed_scales_within_one_matrix(machine):
    """Entries that are negligible next to the largest do no harm, even where they underflow."""
    x = matrices.build("gaussian_square")
    x[5] *= 1e-300
    q, info = machine(x, return_info=True)
    rows = gm.coefficients.table("polar_express", 5)
    assert np.isfinite(q).all()
    assert reference.rms_distance(q, reference.exact(x, rows)) <= machine.tolerance(
        x, rows, method=info.method, restarts=info.restarts
    )
