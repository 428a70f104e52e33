"""inverse_root on a GPU: its error on hard spectra, what it does without an answer, its bits."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.cuda_arrays import same_bits
from tests.gpu_inverse_roots import DTYPES, compare, on_gpu, spectra_batch
from tests.reference import inverse_root as reference
from tests.reference import matrices

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def check(torch, batch, p, ridge=0.0, **options):
    """Matrices (count, n, n): error, symmetry, figures, and the same bits without waiting."""
    a = on_gpu(torch, batch)
    x, info = gm.inverse_root(a, p, ridge=ridge, return_info=True, **options)
    assert x.dtype == a.dtype
    if info.method == "newton" and p <= 8:
        assert same_bits(gm.inverse_root(a, p, ridge=ridge, **options), x)
    n = batch.shape[-1]
    figures = [f.cpu().numpy() for f in (info.residual, info.condition, info.largest_eigenvalue)]
    single = batch.dtype.name in ("float32", "complex64")
    assert info.float64 == (len(batch) if single else 0)
    for one, found, residual, condition, largest in zip(
        batch, x.cpu().numpy(), *figures, strict=True
    ):
        truth = reference.shifted_inverse_root(one, p, ridge * float(largest))
        kappa = reference.condition(one, ridge)
        # Computed in float64, where float32 rounds lambda_1 and the result and ends the iteration
        # when ||I - M||_F <= sqrt(n) u / 2. The reference is wrong by rounding in float64 itself.
        allowed = 2 * reference.allowed(n, kappa, p, np.float64)
        if single:
            allowed += (2 + np.sqrt(n)) * 2.0**-24
        compare(one, found, truth, allowed)
        assert residual <= reference.allowed_residual(n, kappa, p, one.dtype)
        assert kappa / 1.5 <= condition <= 1.5 * kappa * (1 + 1e-3 * kappa * 2.0**-40)
        top = np.linalg.eigvalsh(reference.lower_triangle(one))[-1]
        assert abs(largest / top - 1) <= (2e-5 if single else 1e-7)
        assert np.linalg.eigvalsh(reference.lower_triangle(found))[0] > 0
    return x, info


def random_problem(seed):
    rng = np.random.default_rng(seed)
    dtype = DTYPES[seed % 4]
    n = int(rng.integers(1, 90))
    kind = sorted(reference.spectra(2, 2.0))[int(rng.integers(6))]
    values = reference.spectra(n, 10.0 ** rng.uniform(0, 3))[kind]
    a = reference.with_eigenvalues(rng, values, dtype)
    return a, int(rng.integers(1, 9)), (0.0, 1e-3, 0.5)[int(rng.integers(3))], rng


# ---- Accuracy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kappa", [1.0, 3.0, 1e2, 1e4, 1e6, 1e9])
@pytest.mark.parametrize("n", [1, 2, 7, 32, 65])
def test_error_on_hard_spectra(torch, n, kappa, dtype):
    if kappa * reference.unit_roundoff(dtype) > 1e-2:
        pytest.skip("rounding the matrix to its dtype moves its smallest eigenvalues by as much")
    batch = spectra_batch(n, kappa, dtype)
    for p in (1, 2, 3, 4, 5, 6, 7, 8, 9, 50):
        _, info = check(torch, batch, p)
        assert info.method == ("newton" if p <= 8 else "eigh")
    for ridge in (1e-6, 1e-2, 1.0, 100.0):
        check(torch, batch, 2, ridge)
        check(torch, batch, 4, ridge)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kappa", [1e1, 1e3, 1e7])
def test_error_on_larger_matrices(torch, kappa, dtype):
    if kappa * reference.unit_roundoff(dtype) > 1e-2:
        pytest.skip("see above")
    for n in (129, 300):
        batch = spectra_batch(n, kappa, dtype, names=("geometric", "one_small"))
        for p in (1, 2, 4):
            check(torch, batch, p)
        check(torch, batch, 3, 1e-3)
    check(torch, spectra_batch(601, kappa, dtype, names=("power_law",)), 4, 1e-6)


@pytest.mark.parametrize("name", matrices.HARD)
@pytest.mark.parametrize("dtype", DTYPES)
def test_error_on_gram_matrices_of_hard_inputs(torch, name, dtype):
    x = matrices.build(name, 0, dtype)
    if not x.any():
        pytest.skip("zero has no inverse root, with any ridge")
    a = (x.conj().T @ x)[None]
    for p in (1, 2, 4):
        check(torch, a, p, 1e-3)


@pytest.mark.parametrize("n", [50, 600])
def test_rank_deficient_sums_of_outer_products(torch, n):
    """As an optimizer has them at first: float32 rounding where eigenvalues should be zero."""
    g = np.random.default_rng(17).standard_normal((2, n, n // 5)).astype(np.float32)
    a = g @ g.swapaxes(-1, -2)
    assert (np.linalg.eigvalsh(a.astype(float))[:, 0] < 0).all()
    for ridge in (1e-6, 1e-4):
        for p in (2, 4):
            _, info = check(torch, a, p, ridge)
            assert info.method == "newton"


@pytest.mark.parametrize("kappa", [1e12, 1e13])
def test_error_against_multiple_precision(torch, kappa):
    batch = spectra_batch(12, kappa, "float64", 1.0)
    for p in (1, 2, 4):
        for a, x in zip(batch, gm.inverse_root(on_gpu(torch, batch), p).cpu().numpy(), strict=True):
            kappa_as_stored = np.linalg.norm(a, 2) * np.linalg.norm(reference.exact(a, -1.0), 2)
            allowed = reference.allowed(12, kappa_as_stored, p, "float64")
            compare(a, x, reference.exact(a, -1 / p), allowed)


@pytest.mark.parametrize("n", [40, 200, 500])
def test_ill_conditioned_float32_is_as_good_as_any(torch, n):
    """The stored matrix has an answer, and rounding in float32 would lose it."""
    a = reference.with_eigenvalues(np.random.default_rng(2), np.geomspace(1, 1e-6, n), "float32")
    x = gm.inverse_root(on_gpu(torch, a), 2).cpu().numpy()
    assert reference.relative_error(x, reference.inverse_root(a, 2)) <= 2**-22


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(torch, dtype):
    kind = getattr(torch, dtype)
    rng = np.random.default_rng(3)
    a = on_gpu(torch, reference.with_eigenvalues(rng, np.geomspace(4, 0.25, 24))).to(kind)
    x, info = gm.inverse_root(a, 2, return_info=True)
    assert x.dtype == kind
    assert info.residual.dtype == torch.float32
    wide_x = gm.inverse_root(a.float(), 2)
    # Rounded once, or through float32: half a unit, and the other way at a tie.
    unit = torch.finfo(kind).eps
    assert ((x.float() - wide_x).abs() <= 0.5001 * unit * wide_x.abs() + 1e-7).all()


def test_largest_eigenvalue_to_a_few_roundings_where_it_stands_alone(torch):
    rng = np.random.default_rng(15)
    for dtype in DTYPES:
        for n in (3, 30, 200, 400):
            a = reference.with_eigenvalues(rng, np.r_[1, np.linspace(0.9, 0.1, n - 1)], dtype)
            _, info = gm.inverse_root(on_gpu(torch, a), 2, return_info=True)
            top = np.linalg.eigvalsh(reference.lower_triangle(a))[-1]
            allowed = 100 * reference.unit_roundoff(dtype)
            assert abs(float(info.largest_eigenvalue) / top - 1) <= allowed


# ---- No answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 6, 40, 300])
def test_singular_matrices(torch, n, dtype):
    """NaN where nobody waits; else an error with the root on the range."""
    rng = np.random.default_rng(n)
    rank = n // 2
    g = rng.integers(-3, 4, (n, rank)).astype(dtype)  # exact products, so exactly singular
    a = g @ g.conj().T
    said = r"a is singular to rounding.*larger ridge" if rank else r"entries are zero.*no ridge"
    for p in (1, 2, 5):
        assert gm.inverse_root(on_gpu(torch, a), p).isnan().all()
        with pytest.raises(gm.ConvergenceError, match=said) as caught:
            gm.inverse_root(on_gpu(torch, a), p, return_info=True)
        x = caught.value.best.cpu().numpy()
        assert x.dtype == a.dtype
        assert caught.value.residual > 0.1
        if rank == 0:
            assert not x.any()
            continue
        w, v = np.linalg.eigh(reference.lower_triangle(a))
        keep = w > 1e-9 * w[-1]
        truth = (v[:, keep] * w[keep] ** (-1 / p)) @ v[:, keep].conj().T
        compare(a, x, truth, reference.allowed(n, w[-1] / w[keep][0], p, dtype))


def test_negative_eigenvalues(torch):
    rng = np.random.default_rng(5)
    a = reference.with_eigenvalues(rng, [1, 0.5, -1e-3])
    for ridge in (0.0, 1e-4):
        assert gm.inverse_root(on_gpu(torch, a), 2, ridge=ridge).isnan().all()
        with pytest.raises(gm.ConvergenceError, match=r"not positive semidefinite: .* -1\.0e-03"):
            gm.inverse_root(on_gpu(torch, a), 2, ridge=ridge, return_info=True)
    with pytest.raises(gm.ConvergenceError, match="not positive"):
        gm.inverse_root(on_gpu(torch, -a), 2, return_info=True)
    # A ridge that lifts them above zero is the answer to them.
    check(torch, a[None], 2, 1e-2)


def test_negative_eigenvalues_within_rounding_count_as_zero(torch):
    g = np.random.default_rng(6).standard_normal((64, 20)).astype(np.float32)
    a = g @ g.T
    assert np.linalg.eigvalsh(a.astype(float))[0] < 0
    x, info = gm.inverse_root(on_gpu(torch, a), 2, ridge=1e-9, return_info=True)
    w, v = np.linalg.eigh(a.astype(float))
    truth = (v * (np.maximum(w, 0) + 1e-9 * w[-1]) ** -0.5) @ v.T
    assert info.method == "eigh"
    assert reference.relative_error(x.cpu().numpy(), truth) <= 1e-4
    assert gm.inverse_root(on_gpu(torch, a), 2, ridge=1e-9).isnan().all()


def test_zero_matrix_has_no_answer_with_any_ridge(torch):
    zero = torch.zeros(3, 3, device="cuda", dtype=torch.float64)
    for ridge in (0.0, 1.0):
        assert gm.inverse_root(zero, 2, ridge=ridge).isnan().all()
        with pytest.raises(gm.ConvergenceError, match="singular") as caught:
            gm.inverse_root(zero, 2, ridge=ridge, tol=1e-3)
        assert not caught.value.best.any()


def test_tolerance_that_is_out_of_reach_raises_with_the_best(torch):
    rng = np.random.default_rng(7)
    for dtype, n in (("float64", 20), ("float32", 300)):
        a = reference.with_eigenvalues(rng, np.geomspace(1, 1e-4, n), dtype)
        with pytest.raises(gm.ConvergenceError, match=r"tol is 1e-17; the residual of a") as caught:
            gm.inverse_root(on_gpu(torch, a), 2, tol=1e-17)
        assert caught.value.residual > 1e-17
        truth = reference.inverse_root(a, 2)
        assert reference.relative_error(caught.value.best.cpu().numpy(), truth) <= 1e-6


def test_tolerance_saves_steps_and_is_met(torch):
    rng = np.random.default_rng(8)
    saved = 0
    for n in (5, 60, 200):
        for p in (1, 2, 3, 4):
            a = on_gpu(torch, reference.with_eigenvalues(rng, np.linspace(1, 1e-2, n)))
            steps = []
            for tol in (None, 1e-8, 0.1):
                _, info = gm.inverse_root(a, p, tol=tol, return_info=True)
                assert tol is None or info.residual <= tol
                assert info.method == "newton"
                steps.append(info.steps)
            assert steps == sorted(steps, reverse=True)
            saved += steps[0] - steps[2]
    assert saved > 0


def test_failures_in_a_batch_leave_the_others_alone(torch):
    rng = np.random.default_rng(9)
    good = reference.with_eigenvalues(rng, [1, 0.5, 0.2])
    a = np.stack([[good, np.ones((3, 3))], [good, -good]])
    with pytest.raises(gm.ConvergenceError, match=r"a\[0, 1\] is singular.*2 matrices") as caught:
        gm.inverse_root(on_gpu(torch, a), 2, return_info=True)
    queued = gm.inverse_root(on_gpu(torch, a), 2)
    alone = gm.inverse_root(on_gpu(torch, good), 2)
    for x in (caught.value.best, queued):
        assert x.shape == a.shape
        assert same_bits(x[0, 0], alone)
        assert same_bits(x[1, 0], alone)
    assert queued[:, 1].isnan().all()
    assert caught.value.best.isfinite().all()


def test_singular_input_that_is_also_the_output(torch):
    a = torch.ones(2, 3, 3, device="cuda")
    a[0] += torch.eye(3, device="cuda")
    given = a.clone()
    with pytest.raises(gm.ConvergenceError, match=r"a\[1\] is singular") as caught:
        gm.inverse_root(a, 1, tol=1e-2, out=a)
    assert caught.value.best is a
    torch.testing.assert_close(a[0], torch.linalg.inv(given[0]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a[1], given[1] / 9)


# ---- Properties ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(24))
def test_any_matrix(torch, seed):
    """Its error; the same bits times 2^-k for a 2^(kp); the same bits within a batch."""
    a, p, ridge, _ = random_problem(seed)
    check(torch, a[None], p, ridge)
    real = a.real.dtype.type
    x = gm.inverse_root(on_gpu(torch, a), p, ridge=ridge)
    for k in (-3, -1, 2):
        scaled = gm.inverse_root(on_gpu(torch, a * real(2.0 ** (k * p))), p, ridge=ridge)
        assert same_bits(scaled, x * 2.0**-k)
    many = [a * real(2.0 ** (i % 5)) + i * np.eye(len(a), dtype=a.dtype) for i in range(200)]
    together = gm.inverse_root(on_gpu(torch, np.stack(many)), p, ridge=ridge)
    for i in (0, 1, 77, 199):
        assert same_bits(gm.inverse_root(on_gpu(torch, many[i]), p, ridge=ridge), together[i])


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_a_large_matrix_has_the_same_bits_in_a_batch(torch, dtype):
    """More or fewer blocks to a matrix, small or large tiles."""
    batch = on_gpu(torch, spectra_batch(330, 1e3, dtype))
    together = gm.inverse_root(batch, 3, ridge=1e-6)
    for one, found in zip(batch, together, strict=True):
        assert same_bits(gm.inverse_root(one, 3, ridge=1e-6), found)


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e30), ("float32", 1e-30),
                                              ("float64", 1e300), ("float64", 1e-300)])  # fmt: skip
def test_extreme_scales_are_as_good(torch, dtype, scale):
    rng = np.random.default_rng(10)
    a = reference.with_eigenvalues(rng, np.geomspace(1, 1e-2, 30))
    given = (a * scale).astype(dtype)
    truth = reference.inverse_root(given.astype(float) / scale, 4)
    for p_times in (1, 3):  # by the iteration, by eigenvectors
        x = gm.inverse_root(on_gpu(torch, given), 4 * p_times).cpu().numpy().astype(float)
        error = reference.relative_error(np.linalg.matrix_power(x * scale ** (0.25 / p_times),
                                                                p_times), truth)  # fmt: skip
        assert error <= 2 * p_times * reference.allowed(30, 100, 4, dtype)


def test_many_matrices(torch):
    """More than a grid's second dimension would hold."""
    a = torch.eye(2, device="cuda").repeat(70_000, 1, 1)
    a[:, 0, 0] = torch.arange(1, 70_001, device="cuda") / 1000
    x = gm.inverse_root(a, 2)
    torch.testing.assert_close(x[:, 0, 0], a[:, 0, 0] ** -0.5)
    assert (x[:, 1, 1] == 1).all()


def test_sizes_whose_vectors_do_not_fit_into_shared_memory(torch):
    n = 5000  # complex128: 240 KB
    d = torch.linspace(1, 10, n, device="cuda", dtype=torch.float64)
    a = torch.diag(d).to(torch.complex128)
    x = gm.inverse_root(a, 2, ridge=0.1)
    truth = (d + 0.1 * d[-1]) ** -0.5
    assert float((x.diagonal().real / truth - 1).abs().max()) <= 1e-6
    assert float((x - torch.diag(x.diagonal())).abs().max()) == 0


@pytest.mark.parametrize("p", [2, 8, 9, 50])
def test_a_ridge_may_lift_negative_eigenvalues_for_every_p(torch, p):
    a = on_gpu(torch, np.diag([1.0, 0.5, -0.05]))
    x = gm.inverse_root(a, p, ridge=0.1, return_info=True)[0].cpu().numpy()
    np.testing.assert_allclose(np.diag(x), np.array([1.1, 0.6, 0.05]) ** (-1 / p), rtol=1e-9)
    with pytest.raises(gm.ConvergenceError, match=r"not positive semidefinite: .* -5\.0e-02"):
        gm.inverse_root(a, p, ridge=0.04, return_info=True)
