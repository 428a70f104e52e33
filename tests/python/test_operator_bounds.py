"""operator_norm_bounds: what is called sure holds always, what has a probability holds that often.

Truth is the norm by construction where it can be, else 40-digit arithmetic, else a float64 SVD,
which is given 1e-14 of room.
"""

from __future__ import annotations

import json
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
from scipy.stats import binom

FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
DTYPES = ("float32", "float64", "complex64", "complex128")
SVD_ERROR = 1e-14


@pytest.fixture(params=["dense", "entries"])
def road(request, monkeypatch):
    """The two ways with known entries: a dense bracket, and quotients for what is too large."""
    if request.param == "entries":
        monkeypatch.setattr(_operator_bounds, "_DENSE_SIDE", 0)
    return request.param


def random_sparse(rng, m, n, *, density, dtype="float64", signed=True):
    mask = rng.random((m, n)) < density
    values = rng.standard_normal((m, n))
    if not signed:
        values = np.abs(values)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal((m, n))
    return sp.coo_array(np.where(mask, values, 0).astype(dtype))


def svd_norm(a):
    dense = a.toarray()
    return np.linalg.norm(dense.astype(np.complex128 if dense.dtype.kind == "c" else float), 2)


def check_bracket(bounds, truth, *, error=0.0):
    """The truth is known up to a relative error; comparisons are in double precision."""
    assert float(bounds.lower) <= truth * (1 + error)
    assert float(bounds.upper) >= truth * (1 - error)


def check_fields(bounds, *, rtol, dtype="float64", certificate="rounding"):
    assert bounds.certificate == certificate
    assert (bounds.confidence == 1) == (certificate != "probabilistic")
    real = (
        np.float32
        if np.dtype(dtype).itemsize // (1 + (np.dtype(dtype).kind == "c")) == 4
        else float
    )
    assert bounds.lower.dtype == bounds.upper.dtype == real
    assert bounds.lower.shape == bounds.upper.shape == bounds.converged.shape == ()
    low, high = float(bounds.lower), float(bounds.upper)
    assert low <= high
    assert bool(bounds.converged) == (high == 0 or (low > 0 and high / low - 1 <= rtol))


# ---- Entries known ------------------------------------------------------------------------------


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
def test_second_difference(road, n):
    """Signs that a diagonal of signs takes away: the magnitudes have the same norm."""
    a = sp.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1])
    with mpmath.workdps(30):
        truth = 4 * mpmath.sin(mpmath.pi * n / (2 * (n + 1))) ** 2
        bounds = gm.operator_norm_bounds(a, rng=0)
        assert mpmath.mpf(float(bounds.lower)) <= truth <= mpmath.mpf(float(bounds.upper))
    assert bounds.converged


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


def test_continued_run_is_the_same_run():
    n = 300
    values = np.cos(np.arange(n) * np.pi / (2 * n)) ** 2

    def lanczos():
        return _lanczos.Lanczos(
            lambda v: values * v, n, is_complex=False, noise=1e-16, capacity=24,
            least=_lanczos.least_component(n, False, 1e-3),
            rng=np.random.default_rng(0))  # fmt: skip

    once, often = lanczos(), lanczos()
    whole = once.run(1e-300, 170)
    for most in (1, 24, 25, 60, 60, 170):
        part = often.run(1e-300, most)
        assert part.steps == often.steps == most
        assert part.ritz <= values[0] * (1 + SVD_ERROR)
    assert (part.ritz, part.upper) == (whole.ritz, whole.upper)
    np.testing.assert_array_equal(part.vector, whole.vector)


def test_large_nonnegative_matrix_converges():
    rng = np.random.default_rng(3)
    a = sp.random_array((30_000, 20_000), density=1e-4, rng=rng, format="csr")
    bounds = gm.operator_norm_bounds(a, rng=0)
    assert bounds.method == "collatz-wielandt"
    assert bounds.converged
    truth = spla.svds(a, k=1, return_singular_vectors=False, tol=1e-12, rng=rng)[0]
    check_bracket(bounds, truth, error=1e-10)


def test_reducible_matrix_with_a_small_block():
    """A block far under the norm, whose rows differ much: its quotients must not count."""
    big = sp.csr_array(np.ones((30, 30)))
    small = sp.csr_array(np.outer([20.0, 1e-3, 1e-3], [1.0, 1e-3, 1e-3]))
    a = sp.block_diag([big] + [small] * 700, format="csr")
    assert min(a.shape) > _operator_bounds._DENSE_SIDE
    bounds = gm.operator_norm_bounds(a, rng=0)
    check_bracket(bounds, 30.0)
    assert bounds.converged


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


def test_extreme_scales(road):
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


# ---- Products alone -----------------------------------------------------------------------------


def as_operator(a, how):
    dense = a.toarray() if sp.issparse(a) else a
    parts = {
        "matvec": lambda v: dense @ v,
        "rmatvec": lambda u: dense.conj().T @ u,
        "shape": dense.shape,
        "dtype": dense.dtype,
    }
    if how == "tuple":
        return tuple(parts.values())
    if how == "object":
        return type(
            "Operator", (), {k: staticmethod(v) if callable(v) else v for k, v in parts.items()}
        )()
    return spla.aslinearoperator(dense)


@pytest.mark.parametrize("how", ["LinearOperator", "tuple", "object"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 40), (15, 60), (60, 15), (1, 7), (7, 1), (1, 1)])
def test_products_alone(how, dtype, shape):
    rng = np.random.default_rng(6)
    for seed in range(5):
        a = random_sparse(rng, *shape, density=1.0, dtype=dtype)
        bounds = gm.operator_norm_bounds(as_operator(a, how), rng=seed)
        check_fields(bounds, rtol=1e-6, dtype=dtype, certificate="probabilistic")
        assert bounds.confidence == 0.999
        check_bracket(bounds, svd_norm(a), error=4 * np.finfo(dtype).eps)
        assert bounds.converged


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [-120, -60, 60, 120])
def test_products_at_any_scale(dtype, power):
    a = random_sparse(np.random.default_rng(7), 30, 20, density=1.0, dtype=dtype).toarray()
    power *= 1 if dtype in ("float32", "complex64") else 8
    scaled = a * np.dtype(dtype).type(2.0**power)
    first, second = (gm.operator_norm_bounds(as_operator(x, "tuple"), rng=0) for x in (a, scaled))
    assert np.ldexp(first.upper, power) == pytest.approx(second.upper, rel=1e-6, abs=0)
    assert np.ldexp(first.lower, power) == pytest.approx(second.lower, rel=1e-6, abs=0)
    assert second.converged


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("dtype", "top"),
    [(t, x) for t in ("float64", "complex128") for x in (1e-307, 1e-310, 1e-320, 5e-324)]
    + [(t, x) for t in ("float32", "complex64") for x in (1e-37, 1e-40, 1e-44, 1e-45)],
)
def test_subnormal_norms(dtype, top):
    """Exact by construction. Neighbours of a subnormal number are far from it, relatively."""
    top = float(np.dtype(dtype).type(top).real)
    spacing = float(np.finfo(dtype).smallest_subnormal)
    rng = np.random.default_rng(12)
    for seed in range(20):
        values = np.zeros((3, 40), complex if np.dtype(dtype).kind == "c" else float)
        place = rng.integers(0, 3), rng.integers(0, 40)
        values[place] = top * (1j if seed % 2 and values.dtype.kind == "c" else -1)
        a = values.astype(dtype)[:, : 3 if seed % 4 == 0 and place[1] < 3 else 40]
        for op in (a, a.T):
            for how in ("LinearOperator", "tuple"):
                bounds = gm.operator_norm_bounds(as_operator(op, how), rng=seed)
                check_fields(bounds, rtol=1e-6, dtype=dtype, certificate="probabilistic")
                check_bracket(bounds, top)
                room = 3 * spacing + top * 1e-6 * (1 if spacing < 1e-300 else 3)
                assert float(bounds.upper) - float(bounds.lower) <= room
        small = sp.csr_array(a)
        check_bracket(gm.operator_norm_bounds(small, rng=seed), top)


def test_subnormal_matrices_are_bracketed():
    """Many entries; the truth from the same integers without their scale."""
    rng = np.random.default_rng(13)
    for seed in range(20):
        integers = rng.integers(-9, 10, (12, 9)).astype(float)
        truth = np.linalg.norm(integers, 2)
        for dtype, tiny in (("float64", 2.0**-1074), ("float32", 2.0**-149)):
            a = (integers * tiny).astype(dtype)
            bounds = gm.operator_norm_bounds(as_operator(a, "tuple"), rng=seed)
            assert float(bounds.lower) / tiny <= truth <= float(bounds.upper) / tiny
            assert float(bounds.upper) / tiny <= truth + 2


def test_products_that_underflow_are_taken_for_zero():
    """As documented: factors of 1e-40 in float32, whose product no vector brings back."""
    small = np.float32(1e-40)
    op = (lambda v: v * small * small, lambda u: u * small * small, (4, 4), np.float32)
    bounds = gm.operator_norm_bounds(op, rng=0)
    assert bounds.lower == bounds.upper == 0
    assert bounds.certificate == "probabilistic"


def test_start_is_random():
    """A start of ones would be an eigenvector, of eigenvalue 1 where the norm is 5."""
    a = 5 * np.eye(4) - np.ones((4, 4))
    for seed in range(50):
        bounds = gm.operator_norm_bounds(as_operator(a, "tuple"), rng=seed)
        check_bracket(bounds, 5.0, error=SVD_ERROR)
        assert bounds.converged


def failures(a, truth, confidence, trials, **options):
    op = as_operator(a, "tuple")
    found = [
        gm.operator_norm_bounds(op, confidence=confidence, rng=s, **options) for s in range(trials)
    ]
    return sum(float(b.upper) < truth * (1 - SVD_ERROR) for b in found)


def hidden(n, height, dtype):
    """One singular value over a cluster at 1: what a bad start vector does not see."""
    rng = np.random.default_rng(8)
    a = np.eye(n, dtype=dtype)
    x = rng.standard_normal(n).astype(dtype)
    if a.dtype.kind == "c":
        x += 1j * rng.standard_normal(n)
    x /= np.linalg.norm(x)
    return a + (height - 1) * np.outer(x, x.conj())


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("rtol", [1e6, 0.5, 1e-4])
def test_probability_is_kept(dtype, confidence, rtol):
    """Few steps, or a top that hardly shows: the bound may fail, but not more often than said."""
    trials = 400
    for a, truth in (
        (hidden(30, 3.0, dtype), 3.0),
        (hidden(30, 1.001, dtype), 1.001),
        (np.outer(np.ones(25), np.ones(16)).astype(dtype), 20.0),
    ):
        failed = failures(a, truth, confidence, trials, rtol=rtol)
        assert binom.sf(failed - 1, trials, 1 - confidence) > 1e-6, failed


@pytest.mark.parametrize(
    ("is_complex", "size"), [(False, 2), (False, 3), (False, 50), (True, 2), (True, 50)]
)
@pytest.mark.parametrize("failure", [0.4, 0.05])
def test_probability_is_not_given_away(is_complex, size, failure):
    """With a rank-one operator and one step the bound fails just when the component is short."""
    trials = 3000
    x = np.zeros(size)
    x[0] = 1.0
    failed = 0
    for seed in range(trials):
        found = _lanczos.largest_eigenvalue(
            lambda v: v[0] * x, size, is_complex=is_complex, rtol=1e-6, noise=1e-16, capacity=8,
            least=_lanczos.least_component(size, is_complex, failure), max_steps=1,
            rng=np.random.default_rng(seed))  # fmt: skip
        failed += found.upper < 1 - SVD_ERROR
    assert binom.sf(failed - 1, trials, failure) > 1e-6
    assert binom.cdf(failed, trials, 0.6 * failure) > 1e-6, "the bound is looser than it says"


def second_difference(n):
    return sp.diags_array(
        [-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1]
    ).tocsr()


@pytest.mark.parametrize("spectrum", ["crowded", "flat", "gap"])
def test_upper_bound_is_never_looser_than_promised(spectrum):
    """At most cosh(log(2/tau) / 2k) times the norm after k steps, for whatever start vector."""
    n = 400
    values = {
        "crowded": np.cos(np.arange(n) * np.pi / (2 * n)) ** 2,
        "flat": np.r_[np.ones(n // 2), np.zeros(n // 2)],
        "gap": np.r_[1, np.linspace(0.5, 0, n - 1)],
    }[spectrum]
    least = _lanczos.least_component(n, False, 1e-3)
    for seed in range(10):
        for k in (1, 2, 5, 20, 60, 150):
            found = _lanczos.largest_eigenvalue(
                lambda v: values * v, n, is_complex=False, rtol=1e-300, noise=1e-16, capacity=n,
                least=least, max_steps=k, rng=np.random.default_rng(seed))  # fmt: skip
            promised = np.cosh(np.log(2 / least) / (2 * k))
            # The excess over the Ritz value is found to 4 %.
            assert np.sqrt(found.upper) - 1 <= (promised - 1) * 1.04 + 1e-9
            assert found.steps <= k


def test_restarts_keep_the_bound_and_cost_few_steps(monkeypatch):
    n = 1500
    a = second_difference(n)
    truth = 4 * math.sin(math.pi * n / (2 * (n + 1))) ** 2
    steps = {}
    for most in (24, 1000):
        monkeypatch.setattr(_operator_bounds, "_BASIS_MOST", most)
        monkeypatch.setattr(_operator_bounds, "_BASIS_BYTES", 8 * n * most)
        bounds = gm.operator_norm_bounds(spla.aslinearoperator(a), rtol=1e-4, rng=0)
        check_bracket(bounds, truth, error=SVD_ERROR)
        assert bounds.converged
        steps[most] = bounds.n_iter
    assert 24 < steps[1000] < steps[24] < 2 * steps[1000]


def test_steps_follow_the_gap():
    """Some tens where there is one, though the theorem for all matrices asks for thousands."""
    rng = np.random.default_rng(9)
    gap = np.diag(np.r_[2.0, rng.uniform(0, 1, 999)])
    assert gm.operator_norm_bounds(spla.aslinearoperator(gap), rng=0).n_iter <= 20
    gaussian = rng.standard_normal((1000, 1000))
    assert gm.operator_norm_bounds(spla.aslinearoperator(gaussian), rng=0).n_iter <= 120


def test_memory_is_bounded(run_python):
    """64 long vectors, one more, and a few at work; more steps than that."""
    n = 100_000
    code = f"""
import json, numpy as np, gramian as gm
def status(key):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key))
n = {n}
op = (lambda v: v[1:] - v[:-1], lambda u: np.concatenate([-u[:1], u[:-1] - u[1:], u[-1:]]),
      (n - 1, n), np.float64)
gm.operator_norm_bounds((op[0], op[1], (99, 100), np.float64), rtol=0.1)
start = status("VmRSS")
b = gm.operator_norm_bounds(op, rtol=3e-3, rng=0)
print(json.dumps([status("VmHWM") - start, b.n_iter, bool(b.converged)]))
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    grown, steps, converged = json.loads(run_python(code, MALLOC_MMAP_THRESHOLD_="65536",
                                                    MALLOC_TRIM_THRESHOLD_="65536",
                                                    OPENBLAS_NUM_THREADS="1"))  # fmt: skip
    assert steps > 64
    assert converged
    assert grown <= (64 + 1 + 10) * n * 8


def test_scipy_is_not_imported(run_python):
    code = """
import sys, numpy as np, gramian as gm
a = np.ones((3, 4))
b = gm.operator_norm_bounds((lambda v: a @ v, lambda u: a.T @ u, a.shape, a.dtype))
assert abs(float(b.upper) - 12**0.5) < 1e-5
assert "scipy" not in sys.modules
"""
    run_python(code)


# ---- Corners and errors -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_without_entries_the_norm_is_zero(road, shape):
    for op in (sp.csr_array(shape), as_operator(np.zeros(shape), "tuple")):
        bounds = gm.operator_norm_bounds(op)
        check_fields(bounds, rtol=1e-6)
        assert bounds.lower == bounds.upper == 0
        assert bounds.converged
        assert bounds.method == "zero"


def test_zero_operator(road):
    explicit = sp.csr_array((np.zeros(3), ([0, 1, 2], [0, 1, 2])), shape=(5, 4))
    for op in (sp.csr_array((5, 4)), explicit):
        bounds = gm.operator_norm_bounds(op)
        check_fields(bounds, rtol=1e-6)
        assert bounds.lower == bounds.upper == 0
    bounds = gm.operator_norm_bounds(as_operator(np.zeros((5, 4)), "tuple"))
    check_fields(bounds, rtol=1e-6, certificate="probabilistic")
    assert bounds.lower == bounds.upper == 0


def test_seeds():
    op = as_operator(np.random.default_rng(10).standard_normal((50, 60)), "tuple")
    first = gm.operator_norm_bounds(op, rng=3)
    assert first.upper == gm.operator_norm_bounds(op, rng=np.int64(3)).upper
    assert first.upper != gm.operator_norm_bounds(op, rng=4).upper
    assert gm.operator_norm_bounds(op).upper != gm.operator_norm_bounds(op).upper
    generator = np.random.default_rng(0)
    assert (
        gm.operator_norm_bounds(op, rng=generator).upper
        != gm.operator_norm_bounds(op, rng=generator).upper
    )
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    gm.operator_norm_bounds(op)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


A = np.arange(12.0).reshape(3, 4)
GOOD = (lambda v: A @ v, lambda u: A.T @ u, (3, 4), np.float64)
BAD = {
    "ndarray": (A, {}, TypeError, "op is a numpy.ndarray.*LinearOperator.*spectral_norm_bounds"),
    "list": ([[1.0]], {}, TypeError, "op is a list.*LinearOperator"),
    "none": (None, {}, TypeError, "op is a NoneType"),
    "short tuple": (GOOD[:3], {}, TypeError, "op is a tuple of 3.*shape"),
    "no rmatvec": ((GOOD[0], None, *GOOD[2:]), {}, TypeError, "op has rmatvec None.*function"),
    "LinearOperator without rmatvec": (
        spla.LinearOperator((3, 4), matvec=GOOD[0], dtype=float), {}, TypeError,
        "op has no rmatvec"),
    "one size": ((*GOOD[:2], (3,), float), {}, ValueError, r"op has shape \(3,\).*\(m, n\)"),
    "negative size": ((*GOOD[:2], (3, -4), float), {}, ValueError, r"op has shape \(3, -4\)"),
    "float size": ((*GOOD[:2], (3.0, 4), float), {}, ValueError, r"op has shape \(3.0, 4\)"),
    "shape none": ((*GOOD[:2], None, float), {}, ValueError, "op has shape None"),
    "int dtype": ((*GOOD[:3], np.int64), {}, TypeError, "op has dtype int64.*float32.*complex128"),
    "no dtype": ((*GOOD[:3], None), {}, TypeError, "op has dtype None"),
    "odd dtype": ((*GOOD[:3], "double-ish"), {}, TypeError, "op has dtype double-ish"),
    "int sparse": (sp.csr_array(np.eye(3, dtype=int)), {}, TypeError, "op has dtype int64"),
    "bool sparse": (sp.csr_array(np.eye(3) > 0), {}, TypeError, "op has dtype bool"),
    "vector": (sp.coo_array(np.ones(4)), {}, ValueError, r"op has shape \(4,\)"),
    "nan entry": (sp.csr_array([[1.0, np.nan]]), {}, ValueError, "op holds NaN or infinity"),
    "inf entry": (sp.csr_array([[1.0, np.inf]]), {}, ValueError, "op holds NaN or infinity"),
    "nan product": ((lambda v: A @ v * np.nan, *GOOD[1:]), {}, ValueError,
                    "op.matvec returned NaN"),
    "inf product": ((GOOD[0], lambda u: A.T @ u / 0.0, *GOOD[2:]), {}, ValueError,
                    "op.rmatvec returned NaN or infinity"),
    "wrong length": ((lambda v: v, *GOOD[1:]), {}, ValueError,
                     r"op.matvec returned shape \(4,\).*must be \(3,\)"),
    "a matrix": ((lambda v: np.outer(A @ v, v), *GOOD[1:]), {}, ValueError,
                 r"returned shape \(3, 4\)"),
    "complex product": ((lambda v: 1j * (A @ v), *GOOD[1:]), {}, TypeError,
                        "op.matvec returned complex128.*float64"),
    "text product": ((lambda v: ["a"] * 3, *GOOD[1:]), {}, TypeError, "op.matvec returned str"),
    "no adjoint": ((GOOD[0], lambda u: -(A.T @ u), *GOOD[2:]), {}, ValueError, "not the adjoint"),
    "transpose only": ((lambda v: (A + 1j) @ v, lambda u: (A + 1j).T @ u, (3, 4), complex), {},
                       ValueError, "not the adjoint"),
    "rtol zero": (GOOD, {"rtol": 0}, ValueError, "rtol is 0"),
    "rtol nan": (GOOD, {"rtol": np.nan}, ValueError, "rtol is nan"),
    "rtol text": (GOOD, {"rtol": "1e-6"}, TypeError, "rtol is '1e-6'"),
    "confidence one": (GOOD, {"confidence": 1.0}, ValueError, "confidence is 1.0.*between 0 and 1"),
    "confidence zero": (GOOD, {"confidence": 0}, ValueError, "confidence is 0"),
    "confidence nan": (GOOD, {"confidence": np.nan}, ValueError, "confidence is nan"),
    "confidence none": (GOOD, {"confidence": None}, TypeError, "confidence is None"),
    "confidence flag": (GOOD, {"confidence": True}, TypeError, "confidence is True"),
    "confidence huge": (GOOD, {"confidence": 10**400}, ValueError, "confidence is 1000"),
    "rng text": (GOOD, {"rng": "0"}, TypeError, "rng is '0'.*Generator"),
    "rng flag": (GOOD, {"rng": True}, TypeError, "rng is True"),
    "rng negative": (GOOD, {"rng": -1}, ValueError, "rng is -1"),
    "legacy rng": (GOOD, {"rng": np.random.RandomState(0)}, TypeError, "rng is RandomState"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", BAD)
def test_message_names_argument_value_and_what_is_allowed(case):
    op, options, error, words = BAD[case]
    with pytest.raises(error, match=words):
        gm.operator_norm_bounds(op, **options)


def test_errors_of_the_operator_pass_through():
    class Broken(Exception):
        pass

    def matvec(v):
        raise Broken("of the caller's own")

    with pytest.raises(Broken, match="of the caller's own"):
        gm.operator_norm_bounds((matvec, *GOOD[1:]))


def test_columns_are_taken_for_vectors():
    op = (lambda v: (A @ v)[:, None], lambda u: (A.T @ u)[:, None], (3, 4), float)
    check_bracket(gm.operator_norm_bounds(op, rng=0), np.linalg.norm(A, 2), error=SVD_ERROR)
