"""inverse_root: its error on hard spectra, what it does without an answer, its equivariances."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.docstrings import check_numpydoc
from tests.reference import inverse_root as reference
from tests.reference import inverse_root_rows as rows
from tests.reference import matrices

DTYPES = ["float32", "float64", "complex64", "complex128"]


def check(a, p, ridge=0.0, **options):
    """One matrix: error, symmetry and the figures returned; returns them."""
    n = len(a)
    x, info = gm.inverse_root(a, p, ridge=ridge, return_info=True, **options)
    # What was added is a multiple of this estimate, which is held to its own accuracy below.
    truth = reference.shifted_inverse_root(a, p, ridge * float(info.largest_eigenvalue))
    kappa = reference.condition(a, ridge)
    assert x.dtype == a.dtype
    np.testing.assert_array_equal(x, x.conj().T)
    # The reference is wrong by rounding in float64 itself.
    slack = reference.allowed(n, kappa, p, np.float64)
    assert reference.relative_error(x, truth) <= reference.allowed(n, kappa, p, a.dtype) + slack
    assert info.residual <= reference.allowed_residual(n, kappa, p, a.dtype)
    assert kappa / 1.5 <= info.condition <= 1.5 * kappa * (1 + 1e-3 * kappa * 2.0**-40)
    top = np.linalg.eigvalsh(reference.lower_triangle(a))[-1]
    single = a.dtype.name in ("float32", "complex64")
    assert abs(info.largest_eigenvalue / top - 1) <= (2e-5 if single else 1e-7)
    assert np.linalg.eigvalsh(reference.lower_triangle(x))[0] > 0
    return x, info


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


# ---- Accuracy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kappa", [1.0, 3.0, 1e2, 1e4, 1e6, 1e9])
@pytest.mark.parametrize("n", [1, 2, 7, 32, 65])
def test_error_on_hard_spectra(n, kappa, dtype):
    if kappa * reference.unit_roundoff(dtype) > 1e-2:
        pytest.skip("rounding the matrix to its dtype moves its smallest eigenvalues by as much")
    rng = np.random.default_rng(n)
    for values in reference.spectra(n, kappa).values():
        a = reference.with_eigenvalues(rng, 3 * values, dtype)
        for p in (1, 2, 3, 4, 7, 8, 9, 50):
            check(a, p)
        for ridge in (1e-6, 1e-2, 1.0, 100.0):
            check(a, 2, ridge)
            check(a, 4, ridge)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kappa", [1e1, 1e3, 1e7])
def test_error_on_larger_matrices(kappa, dtype):
    """Beyond the sizes that stay in cache, where threads share a matrix."""
    if kappa * reference.unit_roundoff(dtype) > 1e-2:
        pytest.skip("see above")
    rng = np.random.default_rng(0)
    for n in (129, 300):
        for name in ("geometric", "one_small"):
            a = reference.with_eigenvalues(rng, reference.spectra(n, kappa)[name], dtype)
            for p in (1, 2, 4):
                check(a, p)
            check(a, 3, 1e-3)


@pytest.mark.parametrize("name", matrices.HARD)
@pytest.mark.parametrize("dtype", DTYPES)
def test_error_on_gram_matrices_of_hard_inputs(name, dtype):
    x = matrices.build(name, 0, dtype)
    if not x.any():
        pytest.skip("zero has no inverse root, with any ridge")
    a = x.conj().T @ x
    for p in (1, 2, 4):
        check(a, p, 1e-3)


@pytest.mark.parametrize("kappa", [1e12, 1e13])
def test_error_against_multiple_precision(kappa):
    rng = np.random.default_rng(1)
    n = 12
    for values in reference.spectra(n, kappa).values():
        a = reference.with_eigenvalues(rng, values)
        for p in (1, 2, 4):
            x = gm.inverse_root(a, p)
            truth = reference.exact(a, -1 / p)
            kappa_as_stored = np.linalg.norm(a, 2) * np.linalg.norm(reference.exact(a, -1.0), 2)
            allowed = reference.allowed(n, kappa_as_stored, p, "float64")
            assert reference.relative_error(x, truth) <= allowed


def test_ill_conditioned_float32_is_computed_in_float64():
    """The stored matrix has an answer, and rounding in float32 would lose it."""
    rng = np.random.default_rng(2)
    for n in (40, 200):
        a = reference.with_eigenvalues(rng, np.geomspace(1, 1e-6, n), "float32")
        x, info = gm.inverse_root(a, 2, return_info=True)
        assert info.float64 == 1
        assert info.method == "newton"
        # As good as a well-conditioned one.
        assert reference.relative_error(x, reference.inverse_root(a, 2)) <= 2**-22


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_rounded_once(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(3)
    a = reference.with_eigenvalues(rng, np.geomspace(4, 0.25, 24)).astype(dtype)
    x = gm.inverse_root(a, 2)
    assert x.dtype == a.dtype
    wide = gm.inverse_root(a.astype(np.float32), 2)
    np.testing.assert_array_equal(
        np.asarray(x, np.float32), np.asarray(wide.astype(dtype), np.float32)
    )


def test_largest_eigenvalue_to_a_few_roundings_where_it_stands_alone():
    rng = np.random.default_rng(15)
    for dtype in DTYPES:
        for n in (3, 30, 200):
            a = reference.with_eigenvalues(rng, np.r_[1, np.linspace(0.9, 0.1, n - 1)], dtype)
            _, info = gm.inverse_root(a, 2, return_info=True)
            top = np.linalg.eigvalsh(reference.lower_triangle(a))[-1]
            allowed = 100 * reference.unit_roundoff(dtype)
            assert abs(info.largest_eigenvalue / top - 1) <= allowed


def test_inverse_is_the_inverse():
    rng = np.random.default_rng(4)
    a = reference.with_eigenvalues(rng, np.geomspace(1, 1e-3, 50))
    np.testing.assert_allclose(gm.inverse_root(a, 1), np.linalg.inv(a), rtol=0, atol=1e-10)


# ---- No answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 6, 40, 300])
def test_singular_matrices_raise_with_the_root_on_the_range(n, dtype):
    rng = np.random.default_rng(n)
    rank = n // 2
    g = rng.integers(-3, 4, (n, rank)).astype(dtype)  # exact products, so exactly singular
    a = g @ g.conj().T
    for p in (1, 2, 5):
        with pytest.raises(gm.ConvergenceError, match=r"a is singular.*ridge") as caught:
            gm.inverse_root(a, p)
        x = caught.value.best
        assert x.dtype == a.dtype
        assert caught.value.residual > 0.1
        if rank == 0:
            assert not x.any()
            continue
        w, v = np.linalg.eigh(reference.lower_triangle(a))
        keep = w > 1e-9 * w[-1]
        truth = (v[:, keep] * w[keep] ** (-1 / p)) @ v[:, keep].conj().T
        kappa = w[-1] / w[keep][0]
        assert reference.relative_error(x, truth) <= reference.allowed(n, kappa, p, dtype)


def test_negative_eigenvalues_raise():
    rng = np.random.default_rng(5)
    a = reference.with_eigenvalues(rng, [1, 0.5, -1e-3])
    for ridge in (0.0, 1e-4):
        with pytest.raises(gm.ConvergenceError, match=r"not positive semidefinite: .* -1\.0e-03"):
            gm.inverse_root(a, 2, ridge=ridge)
    with pytest.raises(gm.ConvergenceError, match="not positive"):
        gm.inverse_root(-a, 2)
    # A ridge that lifts them above zero is the answer to them.
    check(a, 2, 1e-2)


def test_negative_eigenvalues_within_rounding_count_as_zero():
    g = np.random.default_rng(6).standard_normal((64, 20)).astype(np.float32)
    a = g @ g.T
    assert np.linalg.eigvalsh(a.astype(float))[0] < 0
    x, info = gm.inverse_root(a, 2, ridge=1e-9, return_info=True)
    w, v = np.linalg.eigh(a.astype(float))
    truth = (v * (np.maximum(w, 0) + 1e-9 * w[-1]) ** -0.5) @ v.T
    assert info.method == "eigh"
    assert reference.relative_error(x, truth) <= 1e-4


def test_zero_matrix_raises_with_any_ridge():
    for ridge in (0.0, 1.0):
        with pytest.raises(gm.ConvergenceError, match="singular") as caught:
            gm.inverse_root(np.zeros((3, 3)), 2, ridge=ridge)
        assert not caught.value.best.any()


def test_tolerance_that_is_out_of_reach_raises_with_the_best():
    rng = np.random.default_rng(7)
    for dtype, n in (("float64", 20), ("float32", 300)):
        a = reference.with_eigenvalues(rng, np.geomspace(1, 1e-4, n), dtype)
        with pytest.raises(gm.ConvergenceError, match=r"tol is 1e-17; the residual of a") as caught:
            gm.inverse_root(a, 2, tol=1e-17)
        assert caught.value.residual > 1e-17
        truth = reference.inverse_root(a, 2)
        assert reference.relative_error(caught.value.best, truth) <= 1e-6


def test_tolerance_saves_steps_and_is_met():
    rng = np.random.default_rng(8)
    saved = 0
    for n in (5, 60, 200):
        for p in (1, 2, 3, 4):
            a = reference.with_eigenvalues(rng, np.linspace(1, 1e-2, n))
            steps = []
            for tol in (None, 1e-8, 0.1):
                _, info = gm.inverse_root(a, p, tol=tol, return_info=True)
                assert tol is None or info.residual <= tol
                steps.append(info.steps)
            assert steps == sorted(steps, reverse=True)
            saved += steps[0] - steps[2]
    assert saved > 0


def test_failures_in_a_batch_leave_the_others_alone():
    rng = np.random.default_rng(9)
    good = reference.with_eigenvalues(rng, [1, 0.5, 0.2])
    a = np.stack([[good, np.ones((3, 3))], [good, -good]])
    with pytest.raises(gm.ConvergenceError, match=r"a\[0, 1\] is singular.*2 matrices") as caught:
        gm.inverse_root(a, 2)
    x = caught.value.best
    assert x.shape == a.shape
    np.testing.assert_array_equal(x[0, 0], gm.inverse_root(good, 2))
    np.testing.assert_array_equal(x[1, 0], x[0, 0])


# ---- Properties ---------------------------------------------------------------------------------


@st.composite
def problems(draw):
    n = draw(st.integers(1, 40))
    dtype = draw(st.sampled_from(DTYPES))
    kappa = 10.0 ** draw(st.floats(0, 3))
    kind = draw(st.sampled_from(sorted(reference.spectra(2, 2.0))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a = reference.with_eigenvalues(rng, reference.spectra(n, kappa)[kind], dtype)
    return a, draw(st.integers(1, 10)), draw(st.sampled_from([0.0, 1e-3, 0.5])), rng


@given(problems())
def test_error_and_figures_of_any_matrix(problem):
    a, p, ridge, _ = problem
    check(a, p, ridge)


@given(problems(), st.integers(-3, 3))
def test_powers_of_two_scale_bit_for_bit(problem, k):
    a, p, ridge, _ = problem
    x = gm.inverse_root(a, p, ridge=ridge)
    real = a.real.dtype.type
    scaled = gm.inverse_root(a * real(2.0 ** (k * p)), p, ridge=ridge)
    np.testing.assert_array_equal(scaled, x * real(2.0**-k))


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e30), ("float32", 1e-30),
                                              ("float64", 1e300), ("float64", 1e-300)])  # fmt: skip
def test_extreme_scales_are_as_good(dtype, scale):
    rng = np.random.default_rng(10)
    a = reference.with_eigenvalues(rng, np.geomspace(1, 1e-2, 30))
    x = gm.inverse_root((a * scale).astype(dtype), 4)
    truth = reference.inverse_root((a * scale).astype(dtype).astype(float) / scale, 4)
    error = reference.relative_error(x * scale**0.25, truth)
    assert error <= 2 * reference.allowed(30, 100, 4, dtype)


@given(problems())
def test_equivariant_under_unitary_changes_of_basis(problem):
    a, p, ridge, rng = problem
    n = len(a)
    q = matrices.orthonormal(rng, n, n, cplx=a.dtype.kind == "c").astype(a.dtype)
    turned = q @ a @ q.conj().T
    left = gm.inverse_root((turned + turned.conj().T) / 2, p, ridge=ridge)
    right = q @ gm.inverse_root(a, p, ridge=ridge) @ q.conj().T
    error = np.linalg.norm(left - right, 2) / np.linalg.norm(right, 2)
    assert error <= 4 * reference.allowed(n, reference.condition(a, ridge), p, a.dtype)


@given(problems())
def test_commutes_with_the_matrix(problem):
    a, p, ridge, _ = problem
    x = reference.lower_triangle(gm.inverse_root(a, p, ridge=ridge))
    b = reference.lower_triangle(a)
    size = np.linalg.norm(x, 2) * np.linalg.norm(b, 2)
    kappa = reference.condition(a, ridge)
    commutator = np.linalg.norm(x @ b - b @ x, 2)
    assert commutator <= 2 * size * reference.allowed(len(a), kappa, p, a.dtype)


@given(problems(), st.integers(0, 4))
def test_batch_is_each_matrix_on_its_own(problem, count):
    a, p, ridge, _ = problem
    real = a.real.dtype.type
    batch = np.stack([a * real(2.0**i) + i * np.eye(len(a), dtype=a.dtype) for i in range(count)]
                     or [a])[:count]  # fmt: skip
    x = gm.inverse_root(batch, p, ridge=ridge)
    assert x.shape == batch.shape
    for one, found in zip(batch, x, strict=True):
        np.testing.assert_array_equal(gm.inverse_root(one, p, ridge=ridge), found)


# ---- Arrays -------------------------------------------------------------------------------------


def layouts(a):
    n = a.shape[-1]
    wide = np.zeros((*a.shape[:-2], 2 * n, 3 * n), a.dtype)
    yield np.asfortranarray(a)
    wide[..., ::2, ::3] = a
    yield wide[..., ::2, ::3]
    yield np.ascontiguousarray(a[..., ::-1, ::-1])[..., ::-1, ::-1]
    frozen = a.copy()
    frozen.flags.writeable = False
    yield frozen


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [9, 140])
def test_layouts_give_the_same_bits(n, dtype):
    rng = np.random.default_rng(11)
    a = np.stack([reference.with_eigenvalues(rng, np.linspace(1, 0.1, n), dtype) for _ in "ab"])
    x = gm.inverse_root(a, 2)
    for given_ in layouts(a):
        np.testing.assert_array_equal(gm.inverse_root(given_, 2), x)
    for out in layouts(np.zeros_like(a)):
        if out.flags.writeable:
            assert gm.inverse_root(a, 2, out=out) is out
            np.testing.assert_array_equal(out, x)
    np.testing.assert_array_equal(
        gm.inverse_root(np.broadcast_to(a[0], (3, n, n)), 2), np.stack([x[0]] * 3)
    )


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_out_may_overlap(dtype):
    rng = np.random.default_rng(12)
    a = np.stack([reference.with_eigenvalues(rng, np.linspace(1, 0.1, 20), dtype) for _ in "abc"])
    x = gm.inverse_root(a, 3)
    for place in (
        lambda m: m,
        lambda m: m.swapaxes(-1, -2),
        lambda m: m[::-1],
        lambda m: m[:, ::-1],
    ):
        own = a.copy()
        out = place(own)
        gm.inverse_root(own, 3, out=out)
        np.testing.assert_array_equal(out, x)
    room = np.zeros((4, 20, 20), dtype)
    room[:3] = a
    gm.inverse_root(room[:3], 3, out=room[1:])
    np.testing.assert_array_equal(room[1:], x)


def test_only_the_lower_triangle_is_read():
    rng = np.random.default_rng(13)
    a = reference.with_eigenvalues(rng, np.linspace(1, 0.1, 40), "complex128")
    spoiled = np.tril(a) + np.triu(rng.standard_normal((40, 40)), 1) + 1j * np.eye(40)
    np.testing.assert_array_equal(gm.inverse_root(spoiled, 2), gm.inverse_root(a, 2))


def test_empty_arrays():
    for shape in ((0, 3, 3), (2, 0, 0), (0, 0)):
        x, info = gm.inverse_root(np.ones(shape), 2, return_info=True)
        assert x.shape == shape
        assert info.residual.shape == shape[:-2]
        assert info.method == "newton"
        np.testing.assert_array_equal(info.residual, np.zeros(shape[:-2]))


def test_torch_tensors(torch):
    a = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    x = gm.inverse_root(a, 1)
    assert type(x) is torch.Tensor
    torch.testing.assert_close(x, torch.linalg.inv(a))
    half = gm.inverse_root(a.bfloat16(), 2)
    assert half.dtype == torch.bfloat16
    conjugated = torch.tensor([[2.0, 1j], [-1j, 2.0]]).conj()
    torch.testing.assert_close(gm.inverse_root(conjugated, 1), torch.linalg.inv(conjugated))
    assert gm.inverse_root(a.requires_grad_(), 1).requires_grad


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite(value):
    a = np.stack([np.eye(20)] * 3)
    a[1, 2, 3] = a[1, 3, 2] = value
    for check_finite in (None, True):
        with pytest.raises(ValueError, match="a contains NaN or infinity"):
            gm.inverse_root(a, 2, check_finite=check_finite)
    x, info = gm.inverse_root(a, 2, check_finite=False, return_info=True)
    assert np.isnan(x[1]).all()
    assert np.isnan(info.residual[1])
    np.testing.assert_allclose(x[0], np.eye(20), atol=1e-15)
    np.testing.assert_allclose(x[2], np.eye(20), atol=1e-15)


@pytest.mark.parametrize(
    ("error", "match", "arguments", "options"),
    [
        (
            ValueError,
            r"a has shape \(2, 3\); its matrices must be square",
            (np.ones((2, 3)), 2),
            {},
        ),
        (ValueError, r"a has shape \(3,\)", (np.ones(3), 2), {}),
        (TypeError, "a is a list", ([[1.0]], 2), {}),
        (TypeError, "a has dtype int64", (np.ones((2, 2), int), 2), {}),
        (ValueError, "p is 0; it must be an int, at least 1", (np.eye(2), 0), {}),
        (ValueError, "p is 4294967296", (np.eye(2), 2**32), {}),
        (TypeError, "p is 2.0", (np.eye(2), 2.0), {}),
        (TypeError, "p is True", (np.eye(2), True), {}),
        (ValueError, "ridge is -0.1; it must be a finite", (np.eye(2), 2), {"ridge": -0.1}),
        (ValueError, "ridge is 1000.*0; it must be a finite", (np.eye(2), 2), {"ridge": 10**400}),
        (ValueError, "ridge is nan", (np.eye(2), 2), {"ridge": float("nan")}),
        (TypeError, "ridge is 'x'", (np.eye(2), 2), {"ridge": "x"}),
        (ValueError, "tol is 0; it must be None or", (np.eye(2), 2), {"tol": 0}),
        (ValueError, "tol is inf", (np.eye(2), 2), {"tol": float("inf")}),
        (TypeError, r"tol is \[\]", (np.eye(2), 2), {"tol": []}),
        (TypeError, "check_finite is 1", (np.eye(2), 2), {"check_finite": 1}),
        (ValueError, r"out has shape \(3, 3\)", (np.eye(2), 2), {"out": np.eye(3)}),
        (ValueError, "out has dtype float32", (np.eye(2), 2), {"out": np.eye(2, dtype="f4")}),
    ],
)
def test_bad_arguments(error, match, arguments, options):
    with pytest.raises(error, match=match):
        gm.inverse_root(*arguments, **options)


@pytest.mark.concurrent
@pytest.mark.thread_unsafe
def test_bits_do_not_depend_on_threads():
    rng = np.random.default_rng(14)
    before = gm.get_num_threads()
    try:
        for shape in ((300,), (5, 40)):
            g = rng.standard_normal((*shape, shape[-1]))
            a = g @ g.swapaxes(-1, -2)
            found = []
            for threads in (1, 2, 3):
                gm.set_num_threads(threads)
                found.append(gm.inverse_root(a, 2, ridge=1e-3))
            np.testing.assert_array_equal(found[0], found[1])
            np.testing.assert_array_equal(found[0], found[2])
    finally:
        gm.set_num_threads(before)


# ---- The rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("p", range(1, 9))
@pytest.mark.parametrize("lower", [4.0**-k for k in (1, 2, 5, 11, 20, 26)])
def test_rows_bring_every_eigenvalue_to_one(p, lower):
    """Composed, as scalars: m -> m T(m)^p from [lower, 1] into 1 +- 0.0011."""
    from gramian import _cpu

    m = np.geomspace(lower, 1, 20001)
    for a, b, c in _cpu.inverse_root_rows(p, lower):
        t = a + m * (b + m * c)
        assert t.min() > 0  # no eigenvalue changes sign
        assert t.max() <= a * (1 + 1e-12)  # what the bound on the smallest eigenvalue rests on
        m = m * t**p
    assert np.abs(m - 1).max() <= 1.1e-3


def test_docstrings():
    check_numpydoc(gm.inverse_root)
    check_numpydoc(gm.sqrt_psd)


def test_the_inverse_of_a_matrix_with_a_singular_leading_block():
    """Its Schur complement must come of Cholesky's factor: of the inverse, it lost digits."""
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        g = rng.standard_normal((64, 300))
        a = (g.T @ g).astype(dtype)
        kappa = reference.condition(a, 1e-3)
        truth = reference.shifted_inverse_root(a, 1, 1e-3 * np.linalg.norm(a.astype(complex), 2))
        error = reference.relative_error(gm.inverse_root(a, 1, ridge=1e-3), truth)
        # A twentieth of what is promised: 0.02 was measured, and 1.2 of the other way.
        assert error <= reference.allowed(300, kappa, 1, dtype) / 20 + 1e-6 * (
            dtype in ("float32", "complex64")
        )


def test_return_info_must_be_a_flag():
    for wrong in (1, None, "yes"):
        with pytest.raises(TypeError, match="return_info is"):
            gm.inverse_root(np.eye(3), 2, return_info=wrong)


def test_zero_matrices_are_told_that_no_ridge_helps():
    batch = np.stack([np.eye(3), np.zeros((3, 3))])
    for a in (batch, batch[1], batch.astype(np.float16)):
        with pytest.raises(gm.ConvergenceError, match=r"are zero.*no ridge") as raised:
            gm.inverse_root(a, 2, ridge=1e-3)
        assert "larger ridge" not in str(raised.value)
    with pytest.raises(gm.ConvergenceError, match="larger ridge gives one"):
        gm.inverse_root(np.diag([1.0, 0.0]), 2)


@pytest.mark.parametrize("p", [2, 3, 4])
def test_as_many_steps_as_rows_by_exchange_on_a_grid_take(p):
    """Rational rows: at most two more, for the margins around an interval that is estimated."""
    rng = np.random.default_rng(0)
    for kappa in (10.0, 4e2, 1e4) if p != 3 else (10.0, 4e2):
        expected = len(rows.convergence("rational", p, 1 / kappa)) - 1
        a = reference.with_eigenvalues(rng, np.geomspace(1, 1 / kappa, 160))
        steps = gm.inverse_root(a, p, return_info=True)[1].steps
        assert expected <= steps + 1
        assert steps <= expected + 2
        assert steps < len(rows.convergence("polynomial", p, 1 / kappa)) - 1 or kappa == 10


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("n", [129, 257])
def test_residual_of_the_inverse_grows_with_kappa_and_no_faster(n, dtype):
    # Of what is put together from halves it would grow with kappa times that of a half.
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for kappa in (1e4, 2e7, 1e9):
            values = np.where(np.arange(n) < n // 2, 1.0, 1 / kappa)
            check(reference.with_eigenvalues(rng, values, dtype), 1)


@pytest.mark.parametrize("p", [2, 8, 9, 50])
def test_a_ridge_may_lift_negative_eigenvalues_for_every_p(p):
    a = np.diag([1.0, 0.5, -0.05])
    x = gm.inverse_root(a, p, ridge=0.1)
    np.testing.assert_allclose(np.diag(x), np.array([1.1, 0.6, 0.05]) ** (-1 / p), rtol=1e-12)
    with pytest.raises(gm.ConvergenceError, match=r"not positive semidefinite: .* -5\.0e-02"):
        gm.inverse_root(a, p, ridge=0.04)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("n", [1, 3, 17, 64, 140])
def test_asking_for_figures_changes_no_bit(n, dtype):
    rng = np.random.default_rng(n)
    for kappa in (2.0, 1e3, 1e7):
        g = rng.standard_normal((n, n)) + (
            1j * rng.standard_normal((n, n)) if dtype[0] == "c" else 0
        )
        q = np.linalg.qr(g)[0]
        a = ((q * np.geomspace(1, 1 / kappa, n)) @ q.conj().T).astype(dtype)
        for p in (1, 2, 3, 8):
            for ridge in (0.0, 1e-4):
                try:
                    x = gm.inverse_root(a, p, ridge=ridge)
                except gm.ConvergenceError as error:
                    x = error.best
                try:
                    y, _ = gm.inverse_root(a, p, ridge=ridge, return_info=True)
                except gm.ConvergenceError as error:
                    y = error.best
                assert np.array_equal(x, y)


@pytest.mark.parametrize("p", range(1, 9))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_condition_number_is_told_for_every_root(dtype, p):
    """From the p-th power of an estimate, which has p times its error."""
    rng = np.random.default_rng(p)
    for n in (2, 16, 40, 100):
        for kappa in (3.0, 100.0, 2e3):
            q = np.linalg.qr(rng.standard_normal((n, n)))[0]
            rest = np.where(np.arange(n) < n // 2, 1.0, 1 / kappa)
            for sigma in (np.geomspace(1, 1 / kappa, n), rest, rest[::-1].copy()):
                a = ((q * sigma) @ q.T).astype(dtype)
                info = gm.inverse_root(a, p, return_info=True)[1]
                assert kappa / 1.05 <= info.condition <= 1.35 * kappa
