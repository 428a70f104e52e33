"""gm.polar against an SVD in float64 on every hard input, and its laws.

Errors are at most the default tolerance, (8 sqrt(r) + 2 sqrt(k)) u with r the shorter side and k
the roundings of a sum along the longer one: times the condition number for the unitary factor,
relative to ||x||_F for the product.
"""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import matrices
from tests.reference import polar as reference

FLOATS = ("float32", "float64", "complex64", "complex128")


def default_tolerance(x):
    m, n = x.shape[-2:]
    r, k = min(m, n), max(m, n)
    return (8 * r**0.5 + 2 * (min(k, 512) + -(-k // 256)) ** 0.5) * reference.unit(x.dtype)


def check(x, u, p, info, side="right"):
    """Everything that is promised of one matrix's factors."""
    r, rank = min(x.shape), int(info.rank)
    least, most = reference.ranks(x)
    assert least <= rank <= most
    truth, _, condition = reference.polar(x, rank, side)
    u64, p64, x64 = map(reference.wide, (u, p, x))
    bound = default_tolerance(x)
    assert np.linalg.norm(u64 - truth, 2) <= bound * condition
    dropped = reference.svd(x)[1][rank:]
    product = u64 @ p64 if side == "right" else p64 @ u64
    allowed = bound * np.linalg.norm(x64) + np.linalg.norm(dropped)
    assert np.linalg.norm(product - x64) <= allowed
    assert np.array_equal(p, np.conj(p.T))
    values = np.linalg.eigvalsh(p64)
    assert values[0] >= -bound * values[-1]
    assert info.residual <= bound
    gram = u64.conj().T @ u64 if x.shape[0] >= x.shape[1] else u64 @ u64.conj().T
    defect = np.eye(r) - gram if rank == r else gram - gram @ gram
    assert np.linalg.norm(defect) <= 2 * bound * max(rank, 1) ** 0.5


@pytest.mark.concurrent
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", matrices.HARD)
def test_agrees_with_an_svd_on_hard_inputs(name, dtype, side):
    x = matrices.build(name, 0, dtype)
    u, p, info = gm.polar(x, side=side, return_info=True)
    assert u.dtype == p.dtype == x.dtype
    if not x.any():
        assert not u.any()
        assert not p.any()
        assert info.method == "zero"
        assert info.rank == 0
        return
    check(x, u, p, info, side)


@pytest.mark.parametrize("name", matrices.PROMISED)
def test_agrees_with_an_svd_where_threads_share_a_matrix(name):
    x = matrices.build(name)
    u, p, info = gm.polar(x, return_info=True)
    check(x, u, p, info)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", range(0, 18, 2))
@pytest.mark.parametrize("shape", [(48, 48), (48, 160), (150, 150)])
def test_every_condition_number(shape, exponent, dtype):
    rng = np.random.default_rng(exponent)
    x = matrices.geometric(rng, 10.0**-exponent, *shape).astype(dtype)
    u, p, info = gm.polar(x, return_info=True)
    check(x, u, p, info)
    if dtype == "float64" and exponent <= 10:
        assert info.method != "svd"  # what an iteration can do, it does


@pytest.mark.parametrize("exponent", [12, 13])
def test_against_mpmath_where_float64_cannot_tell(exponent):
    rng = np.random.default_rng(exponent)
    x = matrices.geometric(rng, 10.0**-exponent, 14, 14)
    u, info = gm.polar(x, compute_hermitian=False, return_info=True)
    assert info.method == "newton"
    assert info.rank == 14
    error = np.linalg.norm(u - reference.polar_mpmath(x), 2)
    assert error <= default_tolerance(x) * np.linalg.cond(x)


def test_method_is_told():
    rng = np.random.default_rng(0)
    cases = {
        "polynomial": matrices.orthonormal(rng, 60, 40) * 3,
        "gram": rng.standard_normal((60, 240)),
        "newton": rng.standard_normal((60, 60)),
        "qr": matrices.geometric(rng, 1e-7, 240, 60),
        "svd": matrices.rank_deficient(rng, 7, 60, 60),
        "zero": np.zeros((3, 4)),
    }
    for method, x in cases.items():
        info = gm.polar(x, return_info=True)[2]
        assert info.method == method
        assert (info.steps > 0) == (method not in ("svd", "zero"))
    batch = np.stack([cases["newton"], cases["svd"]])
    info = gm.polar(batch, return_info=True)[2]
    assert info.method.tolist() == ["newton", "svd"]
    assert info.rank.tolist() == [60, 7]
    assert info.residual.shape == info.steps.shape == (2,)


@pytest.mark.parametrize("dtype", FLOATS)
def test_svd_by_request_gives_the_same(dtype):
    x = matrices.build("power_law_1", 3, dtype)
    u, p = gm.polar(x)
    v, q, info = gm.polar(x, method="svd", return_info=True)
    assert info.method == "svd"
    check(x, v, q, info)
    bound = 2 * default_tolerance(x)
    assert np.linalg.norm(u - v) <= bound * 96
    assert np.linalg.norm(p - q) <= bound * np.linalg.norm(x)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["gaussian_square", "gaussian_wide", "power_law_2", "hilbert",
                                  "rank_deficient", "kahan"])  # fmt: skip
def test_polar_of_the_polar_factor_is_itself(name, dtype):
    x = matrices.build(name, 1, dtype)
    u, info = gm.polar(x, compute_hermitian=False, return_info=True)
    v, again = gm.polar(u, compute_hermitian=False, return_info=True)
    assert again.rank == info.rank
    assert np.linalg.norm(u - v) <= 2 * default_tolerance(x) * min(x.shape) ** 0.5


shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from(FLOATS), st.integers(-60, 60),
       st.sampled_from(["right", "left"]))  # fmt: skip
def test_scaling_by_powers_of_two_changes_no_bit(shape, seed, dtype, power, side):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype[0] == "c" else 0)
    x = x.astype(dtype)
    factor = x.real.dtype.type(2.0**power)
    u, p = gm.polar(x, side=side)
    v, q = gm.polar(x * factor, side=side)
    assert np.array_equal(u, v)
    assert np.array_equal(p * factor, q)


@given(shapes, st.integers(0, 2**32 - 1), st.booleans())
def test_rotations_carry_over(shape, seed, cplx):
    """polar(A x B) = A polar(x) B for unitary A, B, up to rounding times the condition number."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if cplx else 0)
    left = matrices.orthonormal(rng, shape[0], shape[0], cplx=cplx)
    right = matrices.orthonormal(rng, shape[1], shape[1], cplx=cplx)
    u, p = gm.polar(x)
    v, q = gm.polar(left @ x @ right)
    eps, r = 2.0**-53, max(shape)
    assert np.linalg.norm(left @ u @ right - v) <= 32 * r * eps * np.linalg.cond(x)
    turned = right.conj().T @ p @ right
    assert np.linalg.norm(turned - q) <= 32 * r * eps * np.linalg.norm(x)


@pytest.mark.parametrize("name", matrices.BATCHES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_each_matrix_of_a_batch_is_on_its_own(name, dtype):
    x = matrices.build(name, 0, dtype)
    u, p, info = gm.polar(x, return_info=True)
    for at in np.ndindex(x.shape[:-2]):
        v, q = gm.polar(x[at])
        assert np.array_equal(u[at], v)
        assert np.array_equal(p[at], q)
    assert info.residual.shape == x.shape[:-2]


@pytest.mark.parametrize("norm", [1e300, 1e-300])
def test_no_overflow_and_no_underflow(norm):
    x = np.random.default_rng(0).standard_normal((20, 30))
    u, p = gm.polar(x)
    v, q = gm.polar(x * norm)
    assert np.linalg.norm(u - v) <= 1e-13
    assert np.linalg.norm(p - q / norm) <= 1e-12
    v, q = gm.polar(np.full((3, 3), 5e-324))
    assert np.allclose(v, 1 / 3)


def test_columns_as_long_as_they_may_be():
    x = np.random.default_rng(0).random((400_000, 2), np.float32)
    u, p, info = gm.polar(x, return_info=True)
    check(x, u, p, info)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_strides(dtype):
    base = matrices.build("odd_sizes", 0, dtype)
    u, p = gm.polar(base)
    frozen = base.copy()
    frozen.flags.writeable = False
    views = [np.asfortranarray(base), base[::-1, ::-1].copy()[::-1, ::-1], frozen,
             np.repeat(base, 2, axis=1)[:, ::2]]  # fmt: skip
    for view in views:
        v, q = gm.polar(view)
        assert np.array_equal(u, v)
        assert np.array_equal(p, q)
    broadcast = np.broadcast_to(base, (3, *base.shape))
    v, q = gm.polar(broadcast)
    assert np.array_equal(v, np.stack([u] * 3))


def test_out():
    x = matrices.build("gaussian_wide")
    u, p = gm.polar(x)
    out = (np.empty(x.shape[::-1]).T, np.empty(p.shape))
    v, q = gm.polar(x, out=out)
    assert v is out[0]
    assert q is out[1]
    assert np.array_equal(u, v)
    assert np.array_equal(p, q)
    room = np.empty_like(x)
    assert gm.polar(x, compute_hermitian=False, out=room) is room
    assert np.array_equal(u, room)
    # Over the input, in another layout, and shifted.
    memory = np.zeros((2, 70, 70))
    memory[0, :64, :64] = square = matrices.build("gaussian_square")[:64, :64]
    want_u, want_p = gm.polar(square)
    gm.polar(memory[0, :64, :64], out=(memory[0, :64, :64].T, memory[1, :64, :64]))
    assert np.array_equal(memory[0, :64, :64].T, want_u)
    assert np.array_equal(memory[1, :64, :64], want_p)
    memory[0, :64, :64] = square
    gm.polar(memory[0, :64, :64], out=(memory[1, :64, :64], memory[0, 3:67, 2:66]))
    assert np.array_equal(memory[1, :64, :64], want_u)
    assert np.array_equal(memory[0, 3:67, 2:66], want_p)


def test_half_precision_is_computed_in_more(owner):
    x = matrices.build("gaussian_tall", 2)
    for half in owner.halves:
        given_x = owner.array(x, half)
        u, p, info = gm.polar(given_x, return_info=True)
        owner.check_result(u, x.shape, half)
        owner.check_result(p, (64, 64), half)
        rounded = owner.numpy(given_x)
        eps = 2.0**-11 if half == "float16" else 2.0**-8
        truth, p_truth, _ = reference.polar(rounded, 64)
        assert np.abs(owner.numpy(u) - truth).max() <= eps * np.abs(truth).max() * 1.1
        assert np.abs(owner.numpy(p) - p_truth).max() <= eps * np.abs(p_truth).max() * 1.1
        # Of the result as returned: rounding each of m n entries by eps / 2 or less.
        assert 1e-5 < float(info.residual) < 4 * eps


def test_results_are_of_the_library_of_the_input(xp):
    x = matrices.build("gaussian_small", 0, "float32")
    u, p, info = gm.polar(xp.array(x), return_info=True)
    xp.check_result(u, x.shape, "float32")
    xp.check_result(p, (7, 24, 24), "float32")
    want = gm.polar(x)
    if xp.on_gpu:  # which has roads of its own
        bound = default_tolerance(x) * np.linalg.cond(x).max()
        assert np.abs(xp.numpy(u) - want[0]).max() <= bound
        assert np.abs(xp.numpy(p) - want[1]).max() <= bound * np.abs(want[1]).max()
    else:
        assert np.array_equal(xp.numpy(u), want[0])
        assert np.array_equal(xp.numpy(p), want[1])
    xp.check_result(info.residual, (7,), "float32")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0, 4, 5), (2, 0, 5)])
def test_arrays_without_entries(shape):
    u, p, info = gm.polar(np.empty(shape), return_info=True)
    assert u.shape == shape
    assert p.shape == (*shape[:-2], shape[-1], shape[-1])
    assert not p.any()
    assert np.all(info.residual == 0)


def test_nan_is_found_or_let_through():
    x = np.random.default_rng(0).standard_normal((3, 20, 20))
    good = gm.polar(x)
    x[1, 3, 4] = np.nan
    with pytest.raises(ValueError, match="x contains NaN or infinity"):
        gm.polar(x)
    u, p, info = gm.polar(x, check_finite=False, return_info=True)
    assert np.isnan(u[1]).all()
    assert np.isnan(p[1]).all()
    assert np.isnan(info.residual[1])
    for at in (0, 2):
        assert np.array_equal(u[at], good[0][at])
        assert np.array_equal(p[at], good[1][at])


def test_a_loose_tolerance_saves_steps_and_is_met():
    x = np.random.default_rng(0).standard_normal((100, 100))
    exact, full = gm.polar(x, compute_hermitian=False, return_info=True)
    u, info = gm.polar(x, tol=1e-3, compute_hermitian=False, return_info=True)
    assert info.steps < full.steps
    assert 1e-12 < info.residual <= 1e-3
    assert 1e-12 < np.linalg.norm(u - exact) <= 1e-2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convergence_error_holds_the_best(dtype):
    x = np.random.default_rng(0).standard_normal((2, 30, 30)).astype(dtype)
    with pytest.raises(gm.ConvergenceError, match=r"polar reached a residual of .* in 2 of 2") as e:
        gm.polar(x, tol=1e-30)
    u, p = e.value.best
    assert 0 < e.value.residual <= default_tolerance(x)
    for one, unitary, hermitian in zip(x, u, p, strict=True):
        assert np.linalg.norm(unitary @ hermitian - one) <= 1e4 * reference.unit(dtype)


def test_threads_change_no_bit():
    x = np.random.default_rng(0).standard_normal((300, 300))
    batch = np.random.default_rng(1).standard_normal((20, 40, 40))
    before = gm.get_num_threads()
    try:
        gm.set_num_threads(1)
        serial = gm.polar(x), gm.polar(batch)
        gm.set_num_threads(3)
        for got, want in zip((gm.polar(x), gm.polar(batch)), serial, strict=True):
            assert np.array_equal(got[0], want[0])
            assert np.array_equal(got[1], want[1])
    finally:
        gm.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"side": "up"}, ValueError, "side is 'up'"),
        ({"side": 1}, TypeError, "side is 1"),
        ({"method": "qr"}, ValueError, "method is 'qr'"),
        ({"tol": 0}, ValueError, "tol is 0"),
        ({"tol": float("nan")}, ValueError, "tol is nan"),
        ({"tol": "1e-3"}, TypeError, "tol is '1e-3'"),
        ({"compute_hermitian": 1}, TypeError, "compute_hermitian is 1"),
        ({"check_finite": 0}, TypeError, "check_finite is 0"),
        ({"out": np.empty((4, 3))}, TypeError, "out must be a pair"),
        ({"out": (np.empty((4, 3)), np.empty((4, 4)))}, ValueError, r"out\[1\] has shape"),
        ({"out": np.empty((4, 4)), "compute_hermitian": False}, ValueError, "out has shape"),
    ],
)
def test_errors_name_the_argument(options, error, match):
    with pytest.raises(error, match=match):
        gm.polar(np.ones((4, 3)), **options)


def test_bad_input_is_told():
    with pytest.raises(ValueError, match=r"x has shape \(3,\)"):
        gm.polar(np.ones(3))
    with pytest.raises(TypeError, match="x has dtype int64"):
        gm.polar(np.ones((3, 3), np.int64))
    shared = np.empty((6, 4))
    with pytest.raises(ValueError, match="may share memory"):
        gm.polar(np.ones((4, 4)), out=(shared[:4], shared[2:]))


def test_square_matrices_of_some_size_take_a_halley_step():
    """It replaces two or three polynomial steps, and costs no accuracy."""
    rng = np.random.default_rng(0)
    for kappa in (10.0, 1e3, 1e6):
        found = {}
        for n in (64, 200):
            u, v = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
            x = (u * np.geomspace(1, 1 / kappa, n)) @ v.T
            factor, p, info = gm.polar(x, return_info=True)
            found[n] = int(info.steps)
            assert info.method == "newton"
            tol = default_tolerance(x)
            assert np.linalg.norm(factor - u @ v.T, 2) <= tol * kappa
            assert np.linalg.norm(x - factor @ p) <= tol * np.linalg.norm(x)
        assert found[200] < found[64] or kappa == 10
        assert found[200] <= {10.0: 5, 1e3: 5, 1e6: 6}[kappa]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(5, 9), (40, 40), (130, 130), (60, 200)])
def test_asking_for_more_changes_no_bit(shape, dtype):
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype[0] == "c" else 0)
    x = x.astype(dtype)
    u, p = gm.polar(x)
    told, q, _ = gm.polar(x, return_info=True)
    assert np.array_equal(u, told)
    assert np.array_equal(p, q)
    assert np.array_equal(u, gm.polar(x, compute_hermitian=False))
    # Where p cannot be written at once.
    out = (np.empty_like(u), np.empty((*p.shape, 2), dtype)[..., 0])
    gm.polar(x, out=out)
    assert np.array_equal(u, out[0])
    assert np.array_equal(p, out[1])
