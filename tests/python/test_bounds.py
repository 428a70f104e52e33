"""Certified bounds: what they promise is checked in exact arithmetic, and attacked.

Counts of trials are those of the default profile; BOUNDS_TRIALS multiplies them.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import gramian as gm
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.conftest import FLOATS, PAIRS
from tests.reference import bounds as reference
from tests.reference import matrices

METHODS = ("gram", "cholesky", "eigh")
ROADS = (
    *METHODS,
    *(pytest.param(f"gpu-{method}", marks=pytest.mark.gpu) for method in ("gram", "cholesky")),
)
TRIALS = float(os.environ.get("BOUNDS_TRIALS", "1"))
# Below what rounding allows: the bracket is then as tight as its proof permits.
TIGHTEST = 1e-300
RANGE = {"float32": (-149, 127), "float64": (-1074, 1023)}


def trials(count):
    return range(max(1, round(TRIALS * count)))


def bracket(x, *, method, **options):
    """By a method on the CPU or, as "gpu-...", on a GPU; the results are NumPy's."""
    place, _, method = method.rpartition("-")
    if not place:
        return gm.spectral_norm_bounds(x, method=method, **options)
    import torch

    x = torch.from_numpy(np.array(x)).cuda()
    b = gm.spectral_norm_bounds(x, method=method, check_finite=True, **options)
    arrays = {name: getattr(b, name).cpu().numpy()[()] for name in ("lower", "upper", "converged")}
    return dataclasses.replace(b, **arrays)


def real(dtype):
    return np.dtype(dtype).type(0).real.dtype


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


# ---- The certificate against exact arithmetic ---------------------------------------------------


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_random_small_matrices_in_rational_arithmetic(dtype, method):
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
def test_medium_matrices_by_mpmath(method):
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
def test_batches_of_random_matrices_against_svd(dtype):
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
def test_hard_matrices(name, method):
    for dtype in FLOATS:
        x = matrices.build(name, 1, dtype)
        truth = np.linalg.svd(x.astype(np.complex128), compute_uv=False)[0]
        rtol = 1e-6 if real(dtype) == np.float32 else 1e-9
        b = bracket(x, rtol=rtol, method=method)
        assert b.converged
        assert float(b.lower) <= truth * (1 + 1e-14)
        assert float(b.upper) >= truth * (1 - 1e-14)


# ---- sigma_1 known exactly, by construction -----------------------------------------------------


@pytest.mark.parametrize("method", ["auto", *ROADS])
@pytest.mark.parametrize("dtype", FLOATS)
def test_norm_exact_by_construction(dtype, method):
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


# ---- Ends of the range --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_largest_and_smallest_numbers(dtype, method):
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


def test_norm_beyond_the_largest_number():
    x = np.full((8, 8), 1e308)
    b = gm.spectral_norm_bounds(x)
    assert b.lower == np.finfo(np.float64).max
    assert b.upper == np.inf
    assert not b.converged
    assert gm.gram_bound(x) == np.inf


@pytest.mark.parametrize("dtype", FLOATS)
def test_zero_matrices_and_empty_ones(dtype):
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


# ---- NaN, arguments -----------------------------------------------------------------------------

FUNCTIONS = (gm.gram_bound, gm.spectral_norm, gm.spectral_norm_bounds, gm.stable_rank)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(bad):
    x = np.ones((3, 4, 4), np.float32)
    x[1, 2, 3] = bad
    for f in FUNCTIONS:
        for check in (None, True):
            with pytest.raises(ValueError, match="a contains NaN or infinity"):
                f(x, check_finite=check)
    b = gm.spectral_norm_bounds(x, check_finite=False)
    assert np.isnan(b.lower).tolist() == np.isnan(b.upper).tolist() == [False, True, False]
    assert b.converged.tolist() == [True, False, True]
    for f in (gm.gram_bound, gm.spectral_norm, gm.stable_rank):
        assert np.isnan(f(x, check_finite=False)).tolist() == [False, True, False]


X = np.eye(3)
BAD = {
    "a list": (lambda: gm.gram_bound([[1.0]]), TypeError, "a is a list"),
    "a vector": (lambda: gm.spectral_norm_bounds(np.ones(3)), ValueError, r"a has shape \(3,\)"),
    "integers": (lambda: gm.stable_rank(np.eye(3, dtype=int)), TypeError, "a has dtype int64"),
    "n_iter": (lambda: gm.gram_bound(X, -1), ValueError, "n_iter is -1; .* at least 0"),
    "n_iter float": (lambda: gm.gram_bound(X, 2.0), TypeError, "n_iter is 2.0; .* int"),
    "n_iter bool": (lambda: gm.gram_bound(X, True), TypeError, "n_iter is True"),
    "rtol zero": (lambda: gm.spectral_norm(X, rtol=0), ValueError, "rtol is 0; .* positive"),
    "rtol nan": (lambda: gm.spectral_norm(X, rtol=np.nan), ValueError, "rtol is nan"),
    "rtol huge": (lambda: gm.spectral_norm(X, rtol=10**400), ValueError, "rtol is 1000"),
    "rtol str": (lambda: gm.spectral_norm(X, rtol="1"), TypeError, "rtol is '1'"),
    "rtol none": (lambda: gm.spectral_norm_bounds(X, rtol=None), TypeError, "rtol is None"),
    "method": (lambda: gm.spectral_norm_bounds(X, method="svd"), ValueError,
               "method is 'svd'; .*'auto', 'gram', 'cholesky', 'eigh'"),
    "method none": (lambda: gm.spectral_norm_bounds(X, method=None), TypeError, "method is None"),
    "certify": (lambda: gm.spectral_norm_bounds(X, certify="no"), ValueError,
                "certify is 'no'; .*'rounding'"),
    "rng": (lambda: gm.spectral_norm(X, rng="x"), TypeError, "rng is 'x'"),
    "rng negative": (lambda: gm.spectral_norm(X, rng=-1), ValueError, "rng is -1"),
    "check": (lambda: gm.gram_bound(X, check_finite=1), TypeError, "check_finite is 1"),
    "out shape": (lambda: gm.gram_bound(X, out=np.empty(3)), ValueError,
                  r"out has shape \(3,\); it must be \(\), for 3x3 input of float64"),
    "out dtype": (lambda: gm.spectral_norm(X, out=np.empty((), np.float32)), ValueError,
                  "out has dtype float32; it must be float64"),
    "out list": (lambda: gm.stable_rank(X, out=[0.0]), TypeError, "out is a list"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_errors_name_argument_value_and_what_is_allowed(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.thread_unsafe
# ---- Arrays -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("xp", "dtype"), [p for p in PAIRS if not p.marks], indirect=["xp"])
def test_every_library_and_dtype(xp, dtype):
    x = np.random.default_rng(0).standard_normal((2, 3, 20, 12))
    if dtype.startswith("complex"):
        x = x + 1j * np.random.default_rng(1).standard_normal(x.shape)
    a = xp.array(x, dtype)
    held = xp.rounded(x, dtype)
    truth = np.linalg.svd(held, compute_uv=False)[..., 0]
    figures = "float64" if dtype in ("float64", "complex128") else "float32"
    b = gm.spectral_norm_bounds(a)
    for result in (b.lower, b.upper, gm.gram_bound(a), gm.spectral_norm(a), gm.stable_rank(a)):
        xp.check_result(result, (2, 3), figures)
    assert np.all(xp.numpy(b.lower) <= truth * (1 + 1e-14))
    assert np.all(truth <= xp.numpy(b.upper) * (1 + 1e-14))
    assert bool(b.converged.all())
    assert "bool" in str(b.converged.dtype)
    assert np.allclose(xp.numpy(gm.spectral_norm(a)), truth, rtol=1e-6)
    frobenius = np.linalg.norm(held, axis=(-2, -1))
    assert np.allclose(xp.numpy(gm.stable_rank(a)), (frobenius / truth) ** 2, rtol=4e-6)


def test_strides_and_read_only_input():
    rng = np.random.default_rng(2)
    big = rng.standard_normal((4, 40, 60))
    views = [big.transpose(0, 2, 1), big[:, ::-1], big[:, ::2, ::3], big[::-1, 5:, 7:9],
             np.asfortranarray(big[0]), np.broadcast_to(big[0, :, :1], (40, 9)),
             np.broadcast_to(big[0], (3, 40, 60))]  # fmt: skip
    for view in views:
        view.flags.writeable = False
        copy = view.copy(order="C")
        truth = np.linalg.norm(view, 2, axis=(-2, -1))
        b = gm.spectral_norm_bounds(view)
        assert np.all(b.lower <= truth * (1 + 1e-14))
        assert np.all(b.upper >= truth * (1 - 1e-14))
        for steps in (0, 1, 5):
            assert np.allclose(gm.gram_bound(view, steps), gm.gram_bound(copy, steps), rtol=1e-13)


@pytest.mark.parametrize("f", [gm.gram_bound, gm.spectral_norm, gm.stable_rank])
def test_out(f):
    x = np.random.default_rng(0).standard_normal((3, 4, 20, 30))
    wanted = f(x)
    for out in (np.empty((3, 4)), np.empty((4, 3)).T, np.empty((6, 8))[::2, ::-2]):
        assert f(x, out=out) is out
        assert (out == wanted).all()
    assert f(x.copy(), out=(inside := x.copy())[:, :, 3, 4]) is not None
    y = x.copy()
    f(y, out=y[:, :, 3, 4])  # the input itself: read whole before anything is written
    assert (y[:, :, 3, 4] == wanted).all()
    assert (inside[:, :, 3, 4] == wanted).all()


def test_each_matrix_of_a_batch_on_its_own():
    rng = np.random.default_rng(4)
    for shape in ((6, 5, 5), (5, 33, 70), (2, 300, 270)):
        x = rng.standard_normal(shape) * 10.0 ** rng.integers(-200, 200, (shape[0], 1, 1))
        b = gm.spectral_norm_bounds(x, rtol=1e-9)
        for i in range(len(x)):
            one = gm.spectral_norm_bounds(x[i], rtol=1e-9)
            assert one.lower == b.lower[i]
            assert one.upper == b.upper[i]


@pytest.mark.concurrent
@pytest.mark.parametrize("shape", [(40, 50), (700, 12, 12), (300, 30, 30), (330, 300)])
def test_repeated_calls_give_the_same_bits(shape):
    """Also what many threads at once run, under --parallel-threads."""
    x = np.random.default_rng(0).standard_normal(shape)
    first = gm.spectral_norm_bounds(x)
    for _ in range(5):
        again = gm.spectral_norm_bounds(x)
        assert again.lower.tobytes() == first.lower.tobytes()
        assert again.upper.tobytes() == first.upper.tobytes()
        assert gm.gram_bound(x).tobytes() == gm.gram_bound(x).tobytes()


@pytest.mark.thread_unsafe
def test_pool_of_eight_gives_the_bits_of_serial_calls():
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(s).astype(t) for s in [(300, 280), (64, 64), (30, 20, 40), (90, 8, 9)]
          for t in ("f4", "f8", "c8")]  # fmt: skip

    def bits(x):
        b = gm.spectral_norm_bounds(x)
        return b.lower.tobytes() + b.upper.tobytes() + gm.gram_bound(x).tobytes()

    serial = [bits(x) for x in xs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(bits, xs)) == serial


@pytest.mark.thread_unsafe
def test_bits_do_not_depend_on_threads():
    rng = np.random.default_rng(4)
    before = gm.get_num_threads()
    try:
        for shape in ((500, 400), (40, 30, 30), (3, 280, 300)):
            x = rng.standard_normal(shape).astype(np.float32)
            found = []
            for threads in (1, 2, 3):
                gm.set_num_threads(threads)
                b = gm.spectral_norm_bounds(x)
                found.append([v.tobytes() for v in (b.lower, b.upper, gm.gram_bound(x))])
            assert found[0] == found[1] == found[2]
    finally:
        gm.set_num_threads(before)


def test_bounds_are_frozen():
    b = gm.spectral_norm_bounds(X)
    assert [f.name for f in dataclasses.fields(b)][:6] == [
        "lower", "upper", "converged", "n_iter", "method", "certificate"]  # fmt: skip
    assert b.confidence == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        b.upper = 0


@pytest.mark.thread_unsafe
def test_rng():
    x = np.random.default_rng(0).standard_normal((200, 200))

    def bits(rng):
        return gm.spectral_norm_bounds(x, rng=rng).lower.tobytes()

    assert bits(None) == bits(None)
    assert bits(3) == bits(np.int64(3)) == bits(3)
    assert len({bits(seed) for seed in range(8)}) > 1
    assert bits(np.random.default_rng(5)) == bits(np.random.default_rng(5))
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    gm.spectral_norm(x)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


# ---- Convergence --------------------------------------------------------------------------------


def hard_spectra(n):
    rng = np.random.default_rng(n)
    return {
        "dense top": matrices.with_spectrum(rng, 1 - 1e-5 * np.arange(n) / n, n, n),
        "dense top, narrow": matrices.with_spectrum(rng, 1 - 1e-9 * np.arange(n) / n, n, n),
        "quadratic top": matrices.with_spectrum(rng, 1 - (np.arange(n) / n) ** 2, n, n),
        "identity": np.eye(n),
        "one small": np.diag(np.r_[np.ones(n - 1), 0]),
        "one large": np.diag(np.r_[1, np.full(n - 1, 1 - 1e-12)]),
        "diagonal": np.diag(np.arange(n) + 1.0),
        "Jordan": np.eye(n) + np.eye(n, k=1),
        "alone among zeros": np.diag(np.r_[np.zeros(n - 1), 1]),
    }


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("n", [5, 16, 17, 150, 450])
def test_hard_spectra_converge(n, method):
    """Also where Lanczos' basis runs full and LAPACK has to step in."""
    for name, x in hard_spectra(n).items():
        truth = np.linalg.svd(x, compute_uv=False)[0]
        for rtol in (1e-3, 1e-6, 1e-8):
            b = bracket(x, rtol=rtol, method=method)
            assert b.converged, (name, rtol)
            assert b.lower <= truth * (1 + 1e-14), (name, rtol)
            assert b.upper >= truth * (1 - 1e-14), (name, rtol)
        b32 = bracket(x.astype(np.float32), method=method)
        assert b32.converged, name


SECONDS = [0.1, 0.30365, 0.3836, 0.9, 0.9823, 0.99, 0.9999, 0.999983, 1 - 1e-6]


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("cplx", [False, True])
@pytest.mark.parametrize("n", [30, 64, 200])
def test_converges_where_the_largest_diagonal_entry_belongs_to_another_vector(n, cplx, method):
    """The Gram matrix's top eigenvector is flat, the second one all but a unit vector."""
    flat = np.full(n, n**-0.5)
    peak = np.eye(n)[0] - flat[0] * flat
    x = np.zeros((len(SECONDS), n, n + 1), complex if cplx else float)
    x[:, :, 0] = flat
    x[:, :, 1] = np.sqrt(SECONDS)[:, None] * peak / np.linalg.norm(peak)
    if cplx:
        x *= np.exp(1j * np.arange(n))[:, None]
    for rtol in (0.3, 0.1, 1e-3, 1e-6, 1e-9):
        b = bracket(x, rtol=rtol, method=method)
        assert b.converged.all(), (rtol, b.converged)
        assert (b.lower <= 1 + 1e-14).all()
        assert (b.upper >= 1 - 1e-14).all()


def start_vector(seed, n):
    """Of Lanczos, before normalization: SplitMix64 (lanczos.hpp)."""
    mask = 2**64 - 1
    out = []
    for i in range(n):
        z = (seed * 0xD1342543DE82EF95 + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        out.append((z >> 11) * 2.0**-52 - 1.0 + 2.0**-53)
    return np.array(out)


@pytest.mark.parametrize(
    "method", ["cholesky", pytest.param("gpu-cholesky", marks=pytest.mark.gpu)]
)
@pytest.mark.parametrize("n", [18, 40, 300])
@pytest.mark.parametrize("top", [1.5, 1 + 1e-5, 1000.0])
def test_a_start_vector_that_misses_the_top(n, top, method):
    """Lanczos settles on the second singular value and stops; the factorization must find out."""
    for seed in range(5):
        q = start_vector(seed, n)
        v = np.zeros(n)
        v[3], v[7] = q[7], -q[3]
        v /= np.linalg.norm(v)
        assert abs(q @ v) < 1e-16  # the attack is real
        x = np.eye(n) + (top - 1) * np.outer(v, v)
        truth = np.linalg.svd(x, compute_uv=False)[0]
        b = bracket(x, method=method, rng=seed)
        assert b.converged
        assert b.lower <= truth * (1 + 1e-14)
        assert b.upper >= truth * (1 - 1e-14)


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("cplx", [False, True])
def test_converges_down_to_the_documented_tolerance(cplx, method):
    """docs/bounds.md: (2 n^2 + 600 n) u, on a GPU (10 m n + 80) u, three times that for complex
    matrices."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 8, 30, 100, 300):
        for m in (n, 2 * n):
            units = 10 * m * n + 80 if method.startswith("gpu") else 2 * n * n + 600 * n
            rtol = units * 2.0**-53 * (3 if cplx else 1)
            gaussian = rng.standard_normal((m, n)) + (
                1j * rng.standard_normal((m, n)) if cplx else 0
            )
            for x in (gaussian, matrices.orthonormal(rng, m, n, cplx=cplx), np.ones((m, n))):
                assert bracket(x, rtol=rtol, method=method).converged


# ---- Properties ---------------------------------------------------------------------------------

ENTRIES = st.floats(-(2.0**100), 2.0**100, allow_nan=False, width=64)
SMALL = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
                   elements=ENTRIES)  # fmt: skip


@given(SMALL, st.sampled_from(METHODS), st.sampled_from([1e-3, 1e-6, TIGHTEST]))
def test_any_matrix_in_rational_arithmetic(x, method, rtol):
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


# ---- gram_bound ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 6, 10, 40, 10**9])
def test_gram_bound_is_the_schatten_norm(steps, dtype):
    """Within the documented rounding: an error of the Gram matrix counts half."""
    u = np.finfo(real(dtype)).eps / 2
    for name in ("gaussian_square", "gaussian_wide", "power_law_1", "clustered_top", "hilbert",
                 "kahan", "rank_1", "one_by_one", "row", "column", "odd_sizes"):  # fmt: skip
        x = matrices.build(name, 2, dtype)
        wanted = reference.gram_iteration(x, min(steps, 60))
        found = float(gm.gram_bound(x, steps))
        norm = float(np.linalg.norm(x.astype(np.complex128), 2))
        spread = (np.linalg.norm(x.astype(np.complex128)) / norm) ** 2
        allowed = u * (4 + 3 * max(x.shape) * spread)
        assert abs(found - wanted) <= allowed * wanted
        rank = min(x.shape)
        assert (
            norm * (1 - allowed)
            <= found
            <= rank**2.0 ** -(min(steps, 60) + 1) * norm * (1 + allowed)
        )
        # What is measured is far less than the worst case.
        assert found >= norm * (1 - 16 * u)


@given(SMALL)
def test_gram_bounds_fall_with_every_step(x):
    found = [float(gm.gram_bound(x, t)) for t in range(8)]
    for before, after in itertools.pairwise(found):
        assert after <= before * (1 + 1e-14)
    assert found[0] == pytest.approx(np.linalg.norm(x), rel=1e-14)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 6, 10, 61, 10**6])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 7), (2, 3, 20, 20), (300, 40), (40, 300)])
def test_gradient_of_gram_bound(shape, steps, dtype):
    """Against the SVD's formula; also of transposed input, whose derivative is transposed."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    x = (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)
    x *= real(dtype).type(1e10)
    bound, gradient = gm._bounds._gram_bound_and_gradient(x, steps)
    assert np.array_equal(bound, gm.gram_bound(x, steps))
    assert gradient.dtype == x.dtype
    flipped = gm._bounds._gram_bound_and_gradient(x.swapaxes(-1, -2), steps)[1]
    u = np.finfo(dtype).eps
    for at in np.ndindex(shape[:-2]):
        truth = reference.gram_bound_gradient(x[at], steps)
        # The derivative of the derivative grows with the power, as long as several sigma count.
        allowed = 40 * u * min(2.0 ** min(steps + 1, 60), 1e4)
        assert np.linalg.norm(gradient[at] - truth) <= allowed
        assert np.linalg.norm(flipped[at].T - truth) <= allowed


def test_gradient_of_gram_bound_is_the_difference_quotient():
    rng = np.random.default_rng(1)
    x, d = rng.standard_normal((2, 12, 9))
    for steps in (0, 1, 4):
        gradient = gm._bounds._gram_bound_and_gradient(x, steps)[1]
        h = 1e-5
        quotient = (gm.gram_bound(x + h * d, steps) - gm.gram_bound(x - h * d, steps)) / (2 * h)
        assert abs(np.sum(gradient * d) - quotient) < 1e-8


def test_gradient_of_gram_bound_at_zero_and_nan():
    x = np.ones((3, 4, 5), dtype=np.float32)
    x[0], x[1, 2, 3] = 0, np.nan
    bound, gradient = gm._bounds._gram_bound_and_gradient(x, 6)
    assert bound[0] == 0
    assert not gradient[0].any()
    assert np.isnan(gradient[1]).all()
    assert np.allclose(gradient[2], 20**-0.5)
