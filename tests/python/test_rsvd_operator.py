"""Randomized SVD of sparse matrices, operators and row blocks: how near the best it is."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import matrices
from tests.reference.row_kinds import KINDS, cut, methods_of
from tests.reference.svd import DTYPES, METHODS, check_orthonormal, eps, frobenius_error, wide

scipy_sparse = pytest.importorskip("scipy.sparse")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", matrices.HARD)
def test_factors_are_orthonormal_and_near_the_best(name, kind):
    for dtype in DTYPES:
        a = matrices.build(name, 0, dtype)
        sigma = np.linalg.svd(wide(a), compute_uv=False)
        k = min(8, *a.shape)
        best = np.linalg.norm(sigma[k:])
        for method in methods_of(kind):
            result = gm.rsvd(KINDS[kind](a), k, method=method, rng=1)
            check_orthonormal(result.U, result.Vh, dtype)
            assert np.all(np.diff(result.S) <= 0)
            # The factors and their reasons are those of test_rsvd.py.
            single = method == "single_pass"
            noise = 4 * eps(dtype) ** 0.5 if single else 100 * eps(dtype)
            error = frobenius_error(a, result)
            assert error <= (2.0 if single else 1.1) * best + noise * sigma[0], (dtype, method)
            assert np.all(sigma[:k] + noise * sigma[0] >= result.S)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(90, 60), (60, 90)])
def test_factors_agree_with_those_of_the_dense_matrix(shape, kind):
    """The same sketch, iteration and half step; a wide matrix in blocks is read as it comes."""
    a = matrices.gaussian(np.random.default_rng(0), *shape)
    transposed = "blocks" in kind and shape[0] < shape[1]
    for method in methods_of(kind):
        passes = {"single_pass": 1, "gram": 2}.get(method, 3)
        options = {"method": method, "passes": passes, "rng": 4}
        one = gm.rsvd(a, 6, **options)
        other = gm.rsvd(KINDS[kind](a), 6, **options)
        if transposed and method != "gram":
            assert frobenius_error(a, other) == pytest.approx(frobenius_error(a, one), rel=0.1)
            continue
        np.testing.assert_allclose(other.S, one.S, rtol=1e-12)
        for x, y in zip(one, other, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-11)
        assert other.info.passes == one.info.passes
        if kind != "operator":
            assert other.info.error_estimate == pytest.approx(one.info.error_estimate, rel=1e-6)


@pytest.mark.parametrize("density", [0.02, 0.2])
def test_never_less_accurate_than_scikit_learn(density):
    extmath = pytest.importorskip("sklearn.utils.extmath")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for shape in ((400, 150), (150, 400)):
            a = scipy_sparse.random_array(shape, density=density, rng=rng, format="csr")
            a = a @ scipy_sparse.diags_array(np.arange(1.0, shape[1] + 1) ** -0.3)
            theirs = extmath.randomized_svd(a, 10, random_state=seed)
            for kind in ("csr", "operator", "blocks"):
                ours = gm.rsvd(KINDS[kind](a if kind == "csr" else a.toarray()), 10, rng=seed)
                error = frobenius_error(a.toarray(), ours)
                assert error <= 1.05 * frobenius_error(a.toarray(), theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", matrices.HARD)
def test_never_less_accurate_on_the_hard_inputs(name, kind):
    extmath = pytest.importorskip("sklearn.utils.extmath")
    for dtype in ("float32", "float64"):
        a = matrices.build(name, 0, dtype)
        k = min(10, *a.shape)
        theirs = frobenius_error(a, extmath.randomized_svd(a, k, random_state=0))
        ours = frobenius_error(a, gm.rsvd(KINDS[kind](a), k, rng=0))
        assert ours <= 1.05 * theirs + 100 * eps(dtype) * np.linalg.norm(a)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(1, 12), st.data())
def test_cutting_rows_does_not_matter(heights, columns, data):
    """Ragged blocks and empty ones: the answer is that of one block, up to rounding."""
    rows = sum(heights)
    a = np.random.default_rng(rows * 13 + columns).standard_normal((rows, columns))
    ends = np.cumsum(heights)
    blocks = [a[e - h : e] for e, h in zip(ends, heights, strict=True)]
    if min(rows, columns) == 0:
        with pytest.raises(ValueError, match="rank is 1"):
            gm.rsvd(blocks, 1)
        return
    k = data.draw(st.integers(1, min(rows, columns)))
    method = data.draw(st.sampled_from(METHODS))
    one, other = gm.rsvd([a], k, method=method), gm.rsvd(blocks, k, method=method)
    size = np.linalg.norm(a)
    tolerance = 1e-7 if method == "single_pass" else 1e-12
    np.testing.assert_allclose(other.S, one.S, atol=tolerance * size)
    check_orthonormal(other.U, other.Vh, "float64")
    assert frobenius_error(a, other) <= frobenius_error(a, one) + tolerance * size


def structured(rng, kind, m, n):
    """Whole numbers, zeros, few values: ranks that are exact and products without rounding."""
    if kind == "integers":
        return rng.integers(-2, 3, (m, n)).astype(float)
    if kind == "rank_1":
        return np.outer(rng.integers(-3, 4, m), rng.integers(-3, 4, n)).astype(float)
    if kind == "few_entries":
        return rng.standard_normal((m, n)) * (rng.random((m, n)) < 0.15)
    return rng.integers(0, 2, (m, 3)) @ rng.integers(0, 2, (3, n)).astype(float)


@given(
    st.sampled_from(["integers", "rank_1", "few_entries", "rank_3"]),
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from(DTYPES),
    st.booleans(),
    st.integers(0, 2**32),
    st.data(),
)
def test_factors_of_structured_matrices_are_near_the_best(
    structure, m, n, dtype, center, seed, data
):
    rng = np.random.default_rng(seed)
    a = structured(rng, structure, m, n).astype(dtype) * np.float32(2) ** rng.integers(-60, 60)
    a = (a * (1 + 1j)).astype(dtype) if "complex" in dtype else a.astype(dtype)
    rank = data.draw(st.integers(1, min(m, n)))
    true = wide(a) - wide(a).mean(axis=0) if center else wide(a)
    best = np.linalg.norm(np.linalg.svd(true, compute_uv=False)[rank:])
    size = np.linalg.norm(wide(a))
    for kind, make in KINDS.items():
        for method in ("auto", *methods_of(kind)):
            result = gm.rsvd(make(a), rank, method=method, center=center, rng=seed % 100)
            check_orthonormal(result.U, result.Vh, dtype, 80)
            single = "single_pass" in (method, result.info.method)
            noise = 40 * eps(dtype) ** 0.5 if single else 1000 * eps(dtype)
            assert frobenius_error(true, result) <= (2.5 if single else 1.1) * best + noise * size


def test_largest_entry_of_each_left_vector_is_positive():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((50, 30)) + 1j * rng.standard_normal((50, 30))
    for kind in KINDS:
        for given_as in (a, a.conj().T):
            u = gm.rsvd(KINDS[kind](np.ascontiguousarray(given_as)), 4).U
            top = u[np.abs(u).argmax(axis=0), range(4)]
            assert np.all(np.abs(top.imag) < 1e-14)
            assert np.all(top.real > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_range_finder_is_orthonormal_and_near_the_best(kind):
    for dtype in DTYPES:
        for shape in ((80, 50), (50, 80)):
            a = matrices.power_law(np.random.default_rng(0), -1, *shape)
            a = (a * (1 + 1j) if "complex" in dtype else a).astype(dtype)
            q = wide(gm.range_finder(KINDS[kind](a), 12, rng=3))
            assert np.abs(q.conj().T @ q - np.eye(12)).max() <= 40 * eps(dtype)
            sigma = np.linalg.svd(wide(a), compute_uv=False)
            left = np.linalg.norm(wide(a) - q @ (q.conj().T @ wide(a)))
            assert left <= 1.05 * np.linalg.norm(sigma[12:])


# ---- Centering, warm start, half precision -------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(300, 40), (40, 300)])
def test_centered_factors_are_near_the_best(shape, kind, dtype):
    rng = np.random.default_rng(0)
    a = matrices.power_law(rng, -1, *shape) + 10 * rng.standard_normal(shape[1])
    a = (a * (1 - 2j) if "complex" in dtype else a).astype(dtype)
    centered = wide(a) - wide(a).mean(axis=0)
    sigma = np.linalg.svd(centered, compute_uv=False)
    for method in methods_of(kind):
        result = gm.rsvd(KINDS[kind](a), 5, method=method, center=True)
        check_orthonormal(result.U, result.Vh, dtype)
        # A X and 1 (m X) are each rounded, at the size of what was taken off.
        noise = 30 * eps(dtype) * np.linalg.norm(wide(a), 2)
        single = method == "single_pass"
        factor = 1.5 if single else 1.02
        # One read knows W to u sigma_1^2 of the matrix before centering, and divides by sigma_5.
        noise *= np.linalg.norm(wide(a), 2) / sigma[4] if single else 1
        assert frobenius_error(centered, result) <= factor * np.linalg.norm(sigma[5:]) + noise


def test_a_warm_start_saves_reads():
    rng = np.random.default_rng(0)
    for shape in ((200, 100), (100, 200)):
        a = matrices.power_law(rng, -0.5, *shape)
        moved = a + 1e-4 * rng.standard_normal(shape) / np.sqrt(200)
        best = np.linalg.norm(np.linalg.svd(moved, compute_uv=False)[8:])
        for kind in ("csr", "operator", "blocks"):
            v0 = gm.rsvd(KINDS[kind](a), 8, method="subspace", passes=8).Vh.T
            options = {"method": "subspace", "passes": 1}
            warm = gm.rsvd(KINDS[kind](moved), 8, v0=v0, **options)
            cold = gm.rsvd(KINDS[kind](moved), 8, **options)
            assert frobenius_error(moved, warm) <= 1.001 * best < frobenius_error(moved, cold)


def test_half_precision_blocks_are_computed_in_float32():
    a = np.random.default_rng(0).standard_normal((60, 40)).astype(np.float16)
    result = gm.rsvd(cut(a), 4)
    assert (result.U.dtype, result.S.dtype, result.Vh.dtype) == (np.float16, np.float32, np.float16)
    exact = gm.rsvd(cut(a.astype(np.float32)), 4)
    np.testing.assert_array_equal(result.S, exact.S)
    np.testing.assert_array_equal(result.U, exact.U.astype(np.float16))


def test_torch_blocks_give_the_bits_of_numpy_blocks():
    torch = pytest.importorskip("torch")
    a = np.random.default_rng(0).standard_normal((80, 50)).astype(np.float32)
    ours = gm.rsvd(cut(a), 5, rng=7)
    theirs = gm.rsvd([torch.from_numpy(block) for block in cut(a)], 5, rng=7)
    assert all(type(x) is torch.Tensor for x in theirs)
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(x, y.numpy())
    conjugated = [torch.from_numpy(block * (1 + 2j)).conj() for block in cut(a)]
    np.testing.assert_allclose(gm.rsvd(conjugated, 5, rng=7).S, ours.S * 5**0.5, rtol=1e-5)
    coarse = [torch.from_numpy(block).bfloat16() for block in cut(a)]
    found = gm.rsvd(coarse, 5, rng=7)
    assert (found.U.dtype, found.S.dtype) == (torch.bfloat16, torch.float32)
    exact = gm.rsvd([block.float() for block in coarse], 5, rng=7)
    assert torch.equal(found.S, exact.S)
    assert torch.equal(found.U, exact.U.bfloat16())


# ---- Determinism ---------------------------------------------------------------------------------


@pytest.mark.thread_unsafe
@pytest.mark.parametrize("kind", ["csr", "operator", "blocks"])
def test_seed_decides_and_the_global_state_stays(kind):
    a = np.random.default_rng(0).standard_normal((90, 70))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    same = [gm.rsvd(KINDS[kind](a), 5, passes=1, rng=s).S for s in (None, 0)]
    np.testing.assert_array_equal(*same)
    assert np.any(same[0] != gm.rsvd(KINDS[kind](a), 5, passes=1, rng=1).S)
    one, two = np.random.default_rng(3), np.random.default_rng(3)
    first = gm.rsvd(KINDS[kind](a), 5, rng=one)
    np.testing.assert_array_equal(first.U, gm.rsvd(KINDS[kind](a), 5, rng=two).U)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.thread_unsafe
def test_thread_limits_do_not_change_the_sketch():
    a = np.random.default_rng(0).standard_normal((900, 70))
    before = gm.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            gm.set_num_threads(threads)
            found.append(gm.rsvd(cut(a, 100), 5, passes=1, rng=6).S)
    finally:
        gm.set_num_threads(before)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-13)
