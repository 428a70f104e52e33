"""gm.matrix_sign against eigenvectors in float64, and its laws."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.python.test_polar import FLOATS, default_tolerance
from tests.reference import matrices
from tests.reference import polar as reference


def hermitian(name, dtype, seed=0):
    x = matrices.build(name, seed, dtype)
    if x.shape[0] != x.shape[1]:
        x = x @ x.conj().T
    return (x + x.conj().T) / x.real.dtype.type(2)


def indefinite(rng, values, *, cplx=False):
    q = matrices.orthonormal(rng, len(values), len(values), cplx=cplx)
    a = (q * values) @ q.conj().T
    return (a + a.conj().T) / 2


@pytest.mark.concurrent
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", matrices.HARD)
def test_agrees_with_eigenvectors_on_hard_inputs(name, dtype):
    a = hermitian(name, dtype)
    s, info = gm.matrix_sign(a, return_info=True)
    truth, condition, rank = reference.sign(a)
    bound = default_tolerance(a)
    assert s.dtype == a.dtype
    assert np.array_equal(s, s.conj().T)
    assert info.residual <= bound
    assert info.rank == rank
    assert np.linalg.norm(s - truth, 2) <= bound * condition
    # The square is the projector: Hermitian, of that rank, and a projector.
    square = reference.wide(s) @ reference.wide(s)
    assert np.linalg.norm(square - truth @ truth, 2) <= 2 * bound * condition
    assert np.linalg.norm(square @ square - square) <= 4 * bound * max(rank, 1) ** 0.5
    assert abs(np.trace(square).real - rank) <= 4 * bound * max(rank, 1)


@pytest.mark.parametrize("exponent", range(0, 18, 3))
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_every_condition_number(exponent, dtype):
    rng = np.random.default_rng(exponent)
    values = np.geomspace(1, 10.0**-exponent, 50) * rng.choice([-1, 1], 50)
    a = indefinite(rng, values, cplx=dtype == "complex128").astype(dtype)
    a = (a + a.conj().T) / a.real.dtype.type(2)
    s, info = gm.matrix_sign(a, return_info=True)
    truth, condition, rank = reference.sign(a)
    if condition < 0.01 / reference.unit(dtype) / 50:
        assert info.rank == rank == 50
        assert info.method != "svd"
        assert np.linalg.norm(s - truth, 2) <= default_tolerance(a) * condition
    assert np.linalg.norm(s @ s @ s - s) <= 4 * default_tolerance(a) * 50**0.5


def test_zero_eigenvalues_go_to_zero():
    a = indefinite(np.random.default_rng(0), np.r_[3.0, -2.0, 1e-3, np.zeros(20)])
    s, info = gm.matrix_sign(a, return_info=True)
    values = np.sort(np.linalg.eigvalsh(s))
    assert np.abs(values - np.r_[-1, np.zeros(20), 1, 1]).max() <= 1e-14
    assert info.rank == 3
    assert info.method == "svd"
    assert not gm.matrix_sign(np.zeros((4, 4))).any()


@given(st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(-50, 50), st.booleans())
def test_odd_and_scale_free_bit_for_bit(n, seed, power, cplx):
    rng = np.random.default_rng(seed)
    a = indefinite(rng, rng.standard_normal(n), cplx=cplx)
    s = gm.matrix_sign(a)
    assert np.array_equal(gm.matrix_sign(a * 2.0**power), s)
    assert np.array_equal(gm.matrix_sign(-a), -s)
    assert np.linalg.norm(gm.matrix_sign(s) - s) <= 2 * default_tolerance(a) * n**0.5


@given(st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_similarity_carries_over(n, seed):
    rng = np.random.default_rng(seed)
    values = rng.choice([-1, 1], n) * rng.uniform(0.1, 1, n)
    a = indefinite(rng, values)
    q = matrices.orthonormal(rng, n, n)
    turned = q @ a @ q.T
    s = gm.matrix_sign((turned + turned.T) / 2)
    assert np.linalg.norm(s - q @ gm.matrix_sign(a) @ q.T) <= 4 * default_tolerance(a) * 10 * n**0.5


def test_batches_out_and_overlap():
    rng = np.random.default_rng(0)
    a = np.stack([indefinite(rng, rng.standard_normal(30)) * 10.0**k for k in (-9, 0, 9)])
    s, info = gm.matrix_sign(a, return_info=True)
    assert info.steps.shape == (3,)
    for one, result in zip(a, s, strict=True):
        assert np.array_equal(gm.matrix_sign(one), result)
    assert gm.matrix_sign(a, out=a) is a
    assert np.array_equal(a, s)


def test_results_are_of_the_library_of_the_input(xp):
    a = hermitian("gaussian_square", "float32")
    s = gm.matrix_sign(xp.array(a))
    xp.check_result(s, a.shape, "float32")
    want = gm.matrix_sign(a)
    if xp.on_gpu:  # which has roads of its own
        assert np.abs(xp.numpy(s) - want).max() <= default_tolerance(a) * np.linalg.cond(a)
    else:
        assert np.array_equal(xp.numpy(s), want)


def test_half_precision(owner):
    a = hermitian("minus_ones", "float64")
    for half in owner.halves:
        s = gm.matrix_sign(owner.array(a, half))
        owner.check_result(s, (4, 4), half)
        assert np.abs(owner.numpy(s) - np.eye(4)).max() <= 1e-6


def test_bad_input_is_told():
    with pytest.raises(ValueError, match=r"a has shape \(3, 4\)"):
        gm.matrix_sign(np.ones((3, 4)))
    skew = np.eye(3)
    skew[0, 1] = 1e-3
    with pytest.raises(ValueError, match="a is not Hermitian"):
        gm.matrix_sign(np.stack([np.eye(3), skew]))
    gm.matrix_sign(skew, check_finite=False)
    with pytest.raises(ValueError, match="a contains NaN"):
        gm.matrix_sign(np.full((2, 2), np.nan))
    with pytest.raises(gm.ConvergenceError, match="matrix_sign reached a residual"):
        gm.matrix_sign(indefinite(np.random.default_rng(0), np.arange(1.0, 20)), tol=1e-30)
    assert gm.matrix_sign(np.empty((2, 0, 0))).shape == (2, 0, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_not_hermitian_is_seen_next_to_the_largest_numbers(dtype):
    """Where differences and complex magnitudes overflow."""
    big = 0.9 * np.finfo(dtype).max
    above = big * (1 + 1j) if np.dtype(dtype).kind == "c" else big
    a = np.array([[big, above], [np.conj(above), big]], dtype)
    s = gm.matrix_sign(a)
    assert np.isfinite(s).all()
    for wrong in (-above, 0.5 * above, 0):
        a[0, 1] = wrong
        with pytest.raises(ValueError, match="a is not Hermitian"):
            gm.matrix_sign(a)
