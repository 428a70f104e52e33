"""operator_norm_bounds where the entries are known: what is called sure holds always."""

from __future__ import annotations

import math
import sys
from fractions import Fraction

import gramian as gm
import mpmath
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from gramian import _lanczos, _operator_bounds

from tests.operator_bounds import (
    DTYPES,
    SVD_ERROR,
    as_operator,
    check_bracket,
    check_fields,
    random_sparse,
    svd_norm,
)

FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")


@pytest.fixture(params=["dense", "entries"])
def road(request, monkeypatch):
    """The two ways with known entries: a dense bracket, and quotients for what is too large."""
    if request.param == "entries":
        monkeypatch.setattr(_operator_bounds, "_DENSE_SIDE", 0)
    return request.param


@pytest.mark.parametrize("dtype", DTYPES)
def test_sure_bounds_hold_for_random_matrices(road, dtype):
    rng = np.random.default_rng(1)
    for trial in range(200):
        m, n = rng.integers(1, 40, 2)
        a = random_sparse(rng, m, n, density=rng.uniform(0.02, 1), dtype=dtype,
                          signed=trial % 3 != 0)  # fmt: skip
        a = a.asformat(FORMATS[trial % len(FORMATS)])
        scale = 10.0 ** rng.integers(-30, 30)
        if np.dtype(dtype).name in ("float64", "complex128"):
            scale = scale**9
        a = (a * np.dtype(dtype).type(scale)).asformat(a.format)
        if trial % 2:  # the older classes, whose sums are numpy matrices
            a = getattr(sp, f"{a.format}_matrix")(a)
        bounds = gm.operator_norm_bounds(a, rng=trial)
        check_fields(bounds, rtol=1e-6, dtype=dtype)
        check_bracket(bounds, svd_norm(a), error=SVD_ERROR)
        if road == "dense":
            assert bounds.converged


def test_sure_bounds_hold_to_the_last_digit(road):
    """Against 40 digits, at the tightest rtol there is, so that every unit of rounding counts."""
    rng = np.random.default_rng(2)
    with mpmath.workdps(40):
        for trial in range(60):
            m, n = rng.integers(1, 10, 2)
            a = random_sparse(rng, m, n, density=0.7, signed=trial % 2 == 0)
            truth = mpmath.svd_r(mpmath.matrix(a.toarray().tolist()), compute_uv=False)[0]
            bounds = gm.operator_norm_bounds(a, rtol=1e-14, rng=trial)
            assert mpmath.mpf(float(bounds.lower)) <= truth <= mpmath.mpf(float(bounds.upper))


def exceeds_norm(number, a):
    """Whether number > ||a||, exactly: number^2 I - a^T a is positive definite (all pivots are)."""
    a = [[Fraction(float(x)) for x in row] for row in a]
    n, square = len(a[0]), Fraction(float(number)) ** 2
    m = [
        [(square if i == j else 0) - sum(row[i] * row[j] for row in a) for j in range(n)]
        for i in range(n)
    ]
    for k in range(n):
        if m[k][k] <= 0:
            return False
        for i in range(k + 1, n):
            factor = m[i][k] / m[k][k]
            m[i][k:] = [x - factor * y for x, y in zip(m[i][k:], m[k][k:], strict=True)]
    return True


def test_sure_bounds_hold_in_exact_arithmetic(road):
    rng = np.random.default_rng(3)
    for trial in range(400):
        m, n = rng.integers(1, 7, 2)
        a = (
            rng.standard_normal((m, n)),
            np.abs(rng.standard_normal((m, n))),
            rng.integers(-3, 4, (m, n)).astype(float),
            np.outer(rng.standard_normal(m), rng.standard_normal(n)),
            2.0 ** rng.integers(-40, 3, (m, n)) * rng.standard_normal((m, n)),
        )[trial % 5]
        a *= rng.random((m, n)) < 0.8
        a = a.astype(np.float32 if trial % 7 == 0 else float)
        bounds = gm.operator_norm_bounds(sp.csr_array(a), rtol=(1e-15, 1e-7)[trial % 2], rng=trial)
        if not a.any():
            assert bounds.upper == 0
            continue
        # The upper bound may be the norm itself, and the number after it is over it.
        assert exceeds_norm(np.nextafter(bounds.upper, np.inf), a)
        assert not exceeds_norm(bounds.lower, a)


def permutation(rng, n, values):
    return sp.coo_array((values, (np.arange(n), rng.permutation(n))), shape=(n, n))


def known(rng, n):
    """(name, matrix, exact norm)."""
    values = 2.0 ** rng.integers(-6, 7, n) * rng.choice([-1, 1], n)
    yield "permutation times powers of two", permutation(rng, n, values), np.abs(values).max()
    values = 1 - 2.0**-40 * np.arange(n)
    yield "clustered top", permutation(rng, n, values), 1.0
    yield "repeated top", permutation(rng, n, np.r_[np.ones(n - n // 3), np.full(n // 3, 0.5)]), 1.0
    offsets = rng.choice(n, 4, replace=False)
    weights = rng.integers(1, 9, 4).astype(float)
    circulant = sum(
        w * sp.csr_array(np.roll(np.eye(n), o, 1)) for w, o in zip(weights, offsets, strict=True)
    )
    yield "circulant", circulant, weights.sum()
    u, v = np.zeros(n), np.zeros(n)  # sigma = |u| |v|, and the counts of entries are squares
    u[rng.choice(n, 16, replace=False)], v[rng.choice(n, 25, replace=False)] = 3.0, -5.0
    yield "integer outer product", sp.csr_array(np.outer(u, v)), 12.0 * 25.0
    yield "block of signs", sp.block_diag([[[1.0, 1.0], [1.0, -1.0]]] * (n // 2)), math.sqrt(2)


@pytest.mark.parametrize("seed", range(5))
def test_sure_bounds_hold_where_the_norm_is_exact(road, seed):
    rng = np.random.default_rng(seed)
    for name, a, truth in known(rng, 60):
        bounds = gm.operator_norm_bounds(a, rtol=1e-6, rng=seed)
        check_bracket(bounds, truth)
        if name != "block of signs":  # its magnitudes have norm 2
            assert bounds.converged, (name, bounds)


@pytest.mark.parametrize("n", [2, 30, 1000])
def test_second_difference_is_bracketed_and_converges(road, n):
    """Signs that a diagonal of signs takes away: the magnitudes have the same norm."""
    a = sp.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1])
    with mpmath.workdps(30):
        truth = 4 * mpmath.sin(mpmath.pi * n / (2 * (n + 1))) ** 2
        bounds = gm.operator_norm_bounds(a, rng=0)
        assert mpmath.mpf(float(bounds.lower)) <= truth <= mpmath.mpf(float(bounds.upper))
    assert bounds.converged


# ---- How soon they converge ----------------------------------------------------------------------


def alternating(n, sign):
    """Diagonal 1, 3, 1, 3, ...: norm just under 2 + sqrt(5), without a gap, under its row sums."""
    beside = sign * np.ones(n - 1)
    return sp.diags_array([beside, np.resize([1.0, 3.0], n), beside], offsets=[-1, 0, 1]).tocsr()


@pytest.mark.parametrize("sign", [-1, 1])
def test_crowded_spectrum_converges_in_few_steps(sign):
    """Lanczos' own upper bound would take more than 8192 steps for either of |A| and A."""
    n = 8000
    bounds = gm.operator_norm_bounds(alternating(n, sign), rng=0)
    # The 2 x 2 symbol at the angle that the ends leave: within (pi / n)^2 of the limit.
    truth = 2 + math.sqrt(5)
    assert float(bounds.lower) <= truth
    assert float(bounds.upper) >= truth * (1 - 10 / n**2)
    assert bounds.converged
    assert bounds.n_iter <= 3000


@pytest.mark.parametrize("rtol", [1e-6, 1e-9])
@pytest.mark.parametrize("kind", ["negative", "positive", "random", "complex"])
def test_steps_share_one_budget(monkeypatch, kind, rtol):
    """However far from rtol they end, the bounds hold, and the steps are counted over A and |A|."""
    n, most = 3000, 600
    monkeypatch.setattr(_operator_bounds, "_MAX_STEPS", most)
    rng = np.random.default_rng(14)
    a = alternating(n, 1 if kind == "positive" else -1)
    if kind == "random":
        a = random_sparse(rng, n, n, density=2 / n).tocsr()
    if kind == "complex":  # unitary diagonal factors do not change the norm
        left, right = (sp.diags_array(np.exp(2j * np.pi * rng.random(n))) for _ in range(2))
        a = (left @ a @ right).tocsr()
    calls = 0
    step = _lanczos.Lanczos._step

    def counted(self):
        nonlocal calls
        calls += 1
        step(self)

    monkeypatch.setattr(_lanczos.Lanczos, "_step", counted)
    bounds = gm.operator_norm_bounds(a, rtol=rtol, rng=0)
    assert bounds.n_iter == calls <= most
    check_bracket(bounds, svd_norm(a) if kind == "random" else 2 + math.sqrt(5), error=20 / n**2)
    if kind != "random":
        assert bounds.upper / bounds.lower - 1 < 1e-3


def test_large_nonnegative_matrix_converges():
    rng = np.random.default_rng(3)
    a = sp.random_array((30_000, 20_000), density=1e-4, rng=rng, format="csr")
    bounds = gm.operator_norm_bounds(a, rng=0)
    assert bounds.method == "collatz-wielandt"
    assert bounds.converged
    truth = spla.svds(a, k=1, return_singular_vectors=False, tol=1e-12, rng=rng)[0]
    check_bracket(bounds, truth, error=1e-10)


def test_reducible_matrix_with_a_small_block_converges():
    """A block far under the norm, whose rows differ much: its quotients must not count."""
    big = sp.csr_array(np.ones((30, 30)))
    small = sp.csr_array(np.outer([20.0, 1e-3, 1e-3], [1.0, 1e-3, 1e-3]))
    a = sp.block_diag([big] + [small] * 700, format="csr")
    assert min(a.shape) > _operator_bounds._DENSE_SIDE
    bounds = gm.operator_norm_bounds(a, rng=0)
    check_bracket(bounds, 30.0)
    assert bounds.converged


# ---- Corners -------------------------------------------------------------------------------------


def test_duplicate_entries_are_summed(road):
    """1e16 + 1 - 1e16 is 1, but not in floating point, whatever the order."""
    data = np.array([1e16, 1.0, -1e16, 0.5])
    a = sp.coo_array((data, ([0, 0, 0, 1], [0, 0, 0, 1])), shape=(3, 3))
    bounds = gm.operator_norm_bounds(a)
    check_bracket(bounds, 1.0)
    gone = sp.coo_array(([3.0, -3.0], ([0, 0], [0, 0])), shape=(3000, 3000))
    bounds = gm.operator_norm_bounds(gone)
    assert bounds.lower == 0
    assert bounds.upper < 1e-14
    harmless = sp.coo_array((np.ones(6), ([0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1])), shape=(3, 3))
    bounds = gm.operator_norm_bounds(harmless)
    check_bracket(bounds, 3.0)
    assert bounds.converged


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [-1000, -100, 0, 100, 1000])
def test_scaling_by_a_power_of_two_scales_the_bounds(road, dtype, power):
    if abs(power) > 100 and dtype in ("float32", "complex64"):
        pytest.skip("out of range")
    rng = np.random.default_rng(4)
    a = random_sparse(rng, 20, 30, density=0.3, dtype=dtype).tocsr()
    scaled = a.copy()
    scaled.data = a.data * np.dtype(dtype).type(2.0**power)
    first, second = (gm.operator_norm_bounds(x, rng=0) for x in (a, scaled))
    assert np.ldexp(first.lower, power) == second.lower
    assert np.ldexp(first.upper, power) == second.upper


def test_bounds_hold_at_extreme_scales(road):
    for top in (sys.float_info.max, sys.float_info.min, 5e-324):
        bounds = gm.operator_norm_bounds(sp.csr_array(np.diag([top, 0.0, top / 2])))
        assert float(bounds.lower) <= top <= float(bounds.upper)
    beyond = gm.operator_norm_bounds(sp.csr_array(np.full((3, 3), sys.float_info.max)))
    assert beyond.upper == np.inf
    assert np.isfinite(beyond.lower)
    assert not beyond.converged


def test_input_is_not_changed(road):
    rng = np.random.default_rng(5)
    a = random_sparse(rng, 30, 20, density=0.3) * 1e10
    kept = a.copy()
    gm.operator_norm_bounds(a)
    np.testing.assert_array_equal(a.data, kept.data)
    np.testing.assert_array_equal(a.toarray(), kept.toarray())


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_without_entries_the_norm_is_zero(road, shape):
    for op in (sp.csr_array(shape), as_operator(np.zeros(shape), "tuple")):
        bounds = gm.operator_norm_bounds(op)
        check_fields(bounds, rtol=1e-6)
        assert bounds.lower == bounds.upper == 0
        assert bounds.converged
        assert bounds.method == "zero"


def test_bounds_of_a_zero_operator_are_zero(road):
    explicit = sp.csr_array((np.zeros(3), ([0, 1, 2], [0, 1, 2])), shape=(5, 4))
    for op in (sp.csr_array((5, 4)), explicit):
        bounds = gm.operator_norm_bounds(op)
        check_fields(bounds, rtol=1e-6)
        assert bounds.lower == bounds.upper == 0
    bounds = gm.operator_norm_bounds(as_operator(np.zeros((5, 4)), "tuple"))
    check_fields(bounds, rtol=1e-6, certificate="probabilistic")
    assert bounds.lower == bounds.upper == 0
