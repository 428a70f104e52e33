"""Certified bounds: what they promise is checked in exact arithmetic, and attacked.

Counts of trials are those of the default profile; BOUNDS_TRIALS multiplies them.
"""

from __future__ import annotations

import os
from fractions import Fraction

import gramian as gm
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import FLOATS
from tests.norm_bounds import METHODS, ROADS, SMALL, bracket, real
from tests.reference import bounds as reference
from tests.reference import matrices

TRIALS = float(os.environ.get("BOUNDS_TRIALS", "1"))
# Below what rounding allows: the bracket is then as tight as its proof permits.
TIGHTEST = 1e-300
RANGE = {"float32": (-149, 127), "float64": (-1074, 1023)}


def trials(count):
    return range(max(1, round(TRIALS * count)))


def random_matrix(rng, rows, cols, dtype):
    """Gaussian, of a random kind of spectrum, rounded to the dtype."""
    cplx = np.dtype(dtype).kind == "c"
    k = min(rows, cols)
    kind = rng.integers(6)
    if kind == 0:
        x = rng.standard_normal((rows, cols)) + (
            1j * rng.standard_normal((rows, cols)) if cplx else 0
        )
    elif kind == 1:  # clustered or repeated top
        sigma = 1 - 10.0 ** -rng.integers(1, 17) * rng.random(k)
        x = matrices.with_spectrum(rng, sigma, rows, cols, cplx=cplx)
    elif kind == 2:
        x = matrices.with_spectrum(rng, 10.0 ** -(rng.random(k) * 12), rows, cols, cplx=cplx)
    elif kind == 3:
        x = matrices.rank_deficient(rng, max(1, k // 3), rows, cols)
    elif kind == 4:  # entries of one size: sums whose roundings add up
        x = np.full((rows, cols), 1 + rng.random())
    else:  # all sizes side by side
        x = rng.standard_normal((rows, cols)) * 2.0 ** rng.integers(-30, 31, (rows, cols))
    return x.astype(dtype)


def times_power_of_two(x, exponent):
    """Of any size, rounding to subnormal numbers and to infinity."""
    if x.dtype.kind == "c":
        parts = np.ldexp(x.real, exponent), np.ldexp(x.imag, exponent)
        return (parts[0] + 1j * parts[1]).astype(x.dtype)
    return np.ldexp(x, exponent)


def check_bracket(x, b, rtol):
    """Types, order, and that ``converged`` says what the numbers say."""
    dtype = np.float64 if x.dtype.name in ("float64", "complex128") else np.float32
    assert b.lower.dtype == b.upper.dtype == dtype
    assert b.lower.shape == b.upper.shape == np.shape(b.converged) == x.shape[:-2]
    assert np.all(b.lower <= b.upper)
    with np.errstate(all="ignore"):
        for a in (b.lower, b.upper), (b.lower.astype(float), b.upper.astype(float)):
            within = (a[1] / a[0] - 1 <= rtol) | (a[1] == 0)
            assert np.all(within[()] | ~np.asarray(b.converged))


def assert_proved(x, b):
    assert not (wrong := reference.violation(x, b.lower, b.upper)), f"{wrong}\n{x!r}\n{b}"


# ---- The certificate against exact arithmetic ----------------------------------------------------


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_bounds_of_small_matrices_hold_in_rational_arithmetic(dtype, method):
    """Every kind of spectrum, at every scale of the dtype, at every tolerance."""
    rng = np.random.default_rng(7)
    low, high = RANGE[real(dtype).name]
    for _ in trials(150):
        largest = 5 if np.dtype(dtype).kind == "c" else 8
        rows, cols = rng.integers(1, largest, 2)
        x = random_matrix(rng, rows, cols, dtype)
        with np.errstate(over="ignore", under="ignore"):
            x = times_power_of_two(x, int(rng.integers(low, high)))
        if not np.all(np.isfinite(x)):
            continue
        rtol = 10.0 ** -rng.integers(1, 17)
        b = bracket(x, rtol=rtol, method=method, rng=int(rng.integers(1000)))
        check_bracket(x, b, rtol)
        assert b.certificate == "rounding"
        assert_proved(x, b)


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("width", [1, 2, 17])
@pytest.mark.parametrize("length", [100, 512, 3000])
def test_sums_whose_roundings_all_go_one_way(length, width, method):
    """Equal entries: each addition errs by the same amount, hundreds of u in all, which only the
    error bound of the Gram matrix covers. sigma_1^2 = length * width * entry^2 exactly."""
    rng = np.random.default_rng(length)
    missed = 0
    for _ in trials(40):
        entry = 1 + rng.random()
        x = np.full((length, width), entry)
        b = bracket(x if rng.random() < 0.5 else x.T, rtol=TIGHTEST, method=method)
        square = length * width * Fraction(entry) ** 2
        assert Fraction(float(b.lower)) ** 2 <= square <= Fraction(float(b.upper)) ** 2
        # The attack is real: such a sum is wrong by more than the slack of the scalar steps.
        sequential = np.cumsum(np.full(length, entry**2))[-1]
        missed += abs(Fraction(sequential) / length / Fraction(entry) ** 2 - 1) > Fraction(
            16, 2**53
        )
    assert missed > 5 * TRIALS or length == 100


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("size", [40, 450])
def test_products_whose_roundings_all_go_one_way(size, method):
    """The same inside the products that follow: two constant blocks of integers, so that the Gram
    matrix is exact; the smaller one keeps the squaring going."""
    rng = np.random.default_rng(size)
    for _ in trials(20):
        entry = int(rng.integers(2**19, 2**20))
        block = np.full((size, size + 3), float(entry))
        x = np.kron(np.diag([1.0, 0.0]), block)
        x[size:, size + 3 :] = entry * 7 // 8
        b = bracket(x, rtol=TIGHTEST, method=method)
        square = size * (size + 3) * entry**2
        assert Fraction(float(b.lower)) ** 2 <= square <= Fraction(float(b.upper)) ** 2
        assert b.upper / b.lower - 1 < 1e-9


@pytest.mark.parametrize("method", ROADS)
def test_bounds_of_medium_matrices_hold_to_40_digits(method):
    rng = np.random.default_rng(3)
    for i in trials(6):
        rows, cols = (24, 24) if i == 0 else rng.integers(9, 25, 2)
        x = random_matrix(rng, rows, cols, "float64" if i % 2 else "float32")
        truth = reference.mpmath_norm(x, 40)
        for rtol in (1e-6, 1e-10, TIGHTEST):
            b = bracket(x, rtol=rtol, method=method)
            with mpmath.workdps(40):
                assert mpmath.mpf(float(b.lower)) <= truth * (1 + mpmath.mpf(10) ** -35)
                assert mpmath.mpf(float(b.upper)) >= truth * (1 - mpmath.mpf(10) ** -35)


@pytest.mark.parametrize("dtype", FLOATS)
def test_bounds_of_batches_hold_and_converge(dtype):
    """Thousands of matrices; the SVD in float64 is right to 1e-13, the bracket's rtol is 1e-7."""
    rng = np.random.default_rng(11)
    rtol = 1e-6 if real(dtype) == np.float32 else 1e-11
    low, high = (-80, 80) if real(dtype) == np.float32 else (-900, 900)
    for _ in trials(12):
        n, m = rng.integers(1, 70, 2)
        x = np.stack([random_matrix(rng, n, m, dtype) for _ in range(50)])
        wide = np.complex128 if np.dtype(dtype).kind == "c" else np.float64
        exponents = rng.integers(low, high, 50)
        truth = np.ldexp(np.linalg.svd(x.astype(wide), compute_uv=False)[:, 0], exponents)
        x = times_power_of_two(x, exponents[:, None, None])
        for method in ("auto", *METHODS):
            b = bracket(x, rtol=rtol, method=method)
            check_bracket(x, b, rtol)
            assert np.all(b.converged)
            assert np.all(b.lower.astype(float) <= truth * (1 + 2e-14))
            assert np.all(b.upper.astype(float) >= truth * (1 - 2e-14))


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("name", [*matrices.HARD])
def test_bounds_hold_and_converge_on_hard_matrices(name, method):
    for dtype in FLOATS:
        x = matrices.build(name, 1, dtype)
        truth = np.linalg.svd(x.astype(np.complex128), compute_uv=False)[0]
        rtol = 1e-6 if real(dtype) == np.float32 else 1e-9
        b = bracket(x, rtol=rtol, method=method)
        assert b.converged
        assert float(b.lower) <= truth * (1 + 1e-14)
        assert float(b.upper) >= truth * (1 - 1e-14)


# ---- sigma_1 known exactly, by construction ------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", *ROADS])
@pytest.mark.parametrize("dtype", FLOATS)
def test_bounds_hold_where_the_norm_is_exact(dtype, method):
    rng = np.random.default_rng(5)
    low, high = (-60, 60) if real(dtype) == np.float32 else (-500, 500)
    for i in trials(25):
        scale = Fraction(2) ** int(rng.integers(low, high))
        kind = i % 4
        if kind == 0:  # outer product of integers
            u, v = rng.integers(-99, 100, 150), rng.integers(-99, 100, 40)
            x = np.outer(u, v)
            square = int(u @ u) * int(v @ v)
        elif kind == 1:  # permutation times powers of two, its largest entry repeated
            x = matrices.permutation_powers_of_two(rng, 60)
            square = 4096 if np.abs(x).max() == 64 else Fraction(np.abs(x).max()) ** 2
        elif kind == 2:  # Hadamard: every singular value is 8
            x = np.ones((1, 1))
            for _ in range(6):
                x = np.block([[x, x], [x, -x]])
            square = 64
        else:  # the same outer product in three diagonal blocks
            u, v = rng.integers(-99, 100, 12), rng.integers(-99, 100, 9)
            x = np.kron(np.eye(3), np.outer(u, v))
            square = int(u @ u) * int(v @ v)
        if np.dtype(dtype).kind == "c":  # powers of i on rows and columns: exact, sigma stays
            x = 1j ** rng.integers(4, size=(x.shape[0], 1)) * x
        x = (x * float(scale)).astype(dtype)
        b = bracket(x, rtol=TIGHTEST, method=method)
        assert Fraction(float(b.lower)) ** 2 <= square * scale**2 <= Fraction(float(b.upper)) ** 2
        assert b.upper / b.lower - 1 < (1e-6 if real(dtype) == np.float32 else 1e-11)


# ---- Ends of the range ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_bounds_hold_at_the_ends_of_the_range(dtype, method):
    info = np.finfo(real(dtype))
    for top in (info.max, info.max / 3, info.tiny, info.tiny / 2, info.smallest_subnormal,
                3 * info.smallest_subnormal):  # fmt: skip
        for shape in ((1, 1), (2, 3), (5, 4)):
            x = np.zeros(shape, dtype)
            x[...] = top
            x[-1, 0] = info.smallest_subnormal
            b = bracket(x, method=method)
            check_bracket(x, b, 1e-6)
            assert np.isfinite(b.lower)
            assert_proved(x, b)
            g = gm.gram_bound(x, 3)
            assert g >= b.lower * (1 - 1e-6) or g == 0
    # Norm of 1e+-30, 1e+-300 as good as norm 1.
    x = np.random.default_rng(0).standard_normal((20, 30)).astype(dtype)
    for scale in matrices.SCALES[np.dtype(real(dtype))]:
        assert bracket(x * real(dtype).type(scale), method=method).converged


def test_norm_beyond_the_largest_number_is_bounded_by_infinity():
    x = np.full((8, 8), 1e308)
    b = gm.spectral_norm_bounds(x)
    assert b.lower == np.finfo(np.float64).max
    assert b.upper == np.inf
    assert not b.converged
    assert gm.gram_bound(x) == np.inf


@pytest.mark.parametrize("dtype", FLOATS)
def test_zero_matrices_and_empty_ones_have_bounds_zero(dtype):
    x = np.zeros((2, 3, 4), dtype)
    x[1, 2, 3] = 2
    b = gm.spectral_norm_bounds(x)
    assert b.lower[0] == b.upper[0] == 0
    assert b.converged.all()
    assert gm.gram_bound(x)[0] == gm.spectral_norm(x)[0] == gm.stable_rank(x)[0] == 0
    assert gm.stable_rank(x)[1] == 1
    for shape in ((0, 3), (3, 0), (2, 0, 0), (0, 3, 3), (0, 0, 5)):
        y = np.zeros(shape, dtype)
        b = gm.spectral_norm_bounds(y)
        assert b.upper.shape == b.converged.shape == shape[:-2]
        for f in (gm.gram_bound, gm.spectral_norm, gm.stable_rank):
            assert f(y).shape == shape[:-2]
            assert not np.any(f(y))
        assert not np.any(b.upper)


# ---- Properties ----------------------------------------------------------------------------------


@given(SMALL, st.sampled_from(METHODS), st.sampled_from([1e-3, 1e-6, TIGHTEST]))
def test_bounds_of_any_matrix_hold_in_rational_arithmetic(x, method, rtol):
    b = bracket(x, rtol=rtol, method=method)
    check_bracket(x, b, rtol)
    assert_proved(x, b)


@given(SMALL, st.integers(-300, 300), st.sampled_from(METHODS), st.integers(0, 8))
def test_a_power_of_two_scales_the_bounds(x, exponent, method, steps):
    x = np.where(np.abs(x) < 1e-100, 0, x)  # what is lost below is lost on both sides
    scale = 2.0**exponent
    a, b = (bracket(y, method=method) for y in (x, x * scale))
    assert a.lower * scale == b.lower
    assert a.upper * scale == b.upper
    assert gm.gram_bound(x, steps) * scale == gm.gram_bound(x * scale, steps)
    assert gm.spectral_norm(x) * scale == gm.spectral_norm(x * scale)
    assert gm.stable_rank(x) == gm.stable_rank(x * scale)


@given(SMALL, st.integers(0, 2**32), st.sampled_from(METHODS))
def test_unitary_factors_do_not_matter(x, seed, method):
    """Brackets of x and of QxZ meet, up to the rounding of the products."""
    rng = np.random.default_rng(seed)
    q = matrices.orthonormal(rng, x.shape[0], x.shape[0], cplx=True)
    z = matrices.orthonormal(rng, x.shape[1], x.shape[1], cplx=True)
    a = bracket(x, rtol=1e-9, method=method)
    b = bracket(q @ x @ z, rtol=1e-9, method=method)
    assert a.lower <= b.upper * (1 + 1e-13)
    assert b.lower <= a.upper * (1 + 1e-13)
    signed = x * rng.choice([-1.0, 1.0], x.shape[1])
    assert gm.gram_bound(signed, 4) == gm.gram_bound(x, 4)


@given(SMALL)
def test_transposing_and_conjugating_keep_the_norm(x):
    for y in (x.T, x.astype(complex), 1j * x):
        a, b = gm.spectral_norm_bounds(x), gm.spectral_norm_bounds(y)
        assert a.lower <= b.upper
        assert b.lower <= a.upper
