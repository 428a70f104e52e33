"""Randomized SVD of sparse matrices, operators and row blocks: accuracy, reads, certificates."""

from __future__ import annotations

import gramian as gm
import mpmath
import numpy as np
import pytest
from gramian import _cpu
from gramian._rsvd_thin import inverse_of_upper
from gramian._sketch import sketch
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import matrices
from tests.reference.row_kinds import KINDS, cut, methods_of
from tests.reference.svd import DTYPES, METHODS, check_orthonormal, eps, frobenius_error, wide

scipy_sparse = pytest.importorskip("scipy.sparse")
linalg = pytest.importorskip("scipy.sparse.linalg")


class Counted:
    """Row blocks that can be read again and count how often they are."""

    def __init__(self, blocks):
        self.blocks, self.begun, self.ended = blocks, 0, 0

    def __iter__(self):
        self.begun += 1
        yield from self.blocks
        self.ended += 1


def counted_operator(a):
    calls = {"matmat": 0, "rmatmat": 0}

    def product(name, matrix):
        def call(x):
            calls[name] += 1
            return matrix @ x

        return call

    op = linalg.LinearOperator(
        a.shape, matvec=None, dtype=a.dtype,
        matmat=product("matmat", a), rmatmat=product("rmatmat", a.conj().T),
    )  # fmt: skip
    return op, calls


# ---- The sketch ---------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1), st.integers(1, 40), st.integers(1, 300), st.integers(0, 300))
def test_sketch_is_that_of_the_core(seed, rows, columns, first):
    found = sketch(seed, rows, columns, np.float32, first_column=first)
    assert found.shape == (rows, columns)
    for i in {0, rows // 2, rows - 1}:
        for j in {0, columns // 2, columns - 1, min(127, columns - 1)}:
            assert found[i, j] == _cpu.sketch_entry(seed, i, first + j)


def test_sketch_does_not_depend_on_how_many_rows_are_made():
    long = sketch(5, 40000, 30, np.float64)
    np.testing.assert_array_equal(long[:100], sketch(5, 100, 30, np.float64))
    assert long[20000, 7] == _cpu.sketch_entry(5, 20000, 7)


# ---- Accuracy -----------------------------------------------------------------------------------


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
def test_agrees_with_the_dense_matrix(shape, kind):
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


# ---- Reads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("center", [False, True])
def test_blocks_are_read_as_often_as_reported(method, center):
    blocks = Counted(cut(np.random.default_rng(0).standard_normal((200, 60))))
    info = gm.rsvd(blocks, 5, method=method, center=center).info
    assert blocks.begun == blocks.ended == info.passes
    blocks = Counted(blocks.blocks)
    passes = {"single_pass": 1, "gram": 2}.get(method, 4)
    info = gm.rsvd(blocks, 5, method=method, center=center, passes=passes).info
    assert blocks.begun == blocks.ended == info.passes == passes


def test_a_proof_is_read_as_often_as_reported():
    blocks = Counted(cut(matrices.power_law(np.random.default_rng(0), -1, 200, 60)))
    info = gm.rsvd(blocks, tol=0.1).info
    assert blocks.begun == blocks.ended == info.passes


@pytest.mark.parametrize("shape", [(90, 60), (60, 90)])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", ["subspace", "krylov", "single_pass"])
def test_an_operator_multiplies_once_each_way_for_a_read(method, center, shape):
    op, calls = counted_operator(np.random.default_rng(0).standard_normal(shape))
    info = gm.rsvd(op, 5, method=method, center=center).info
    assert calls == {"matmat": info.passes, "rmatmat": info.passes}


def test_rows_may_be_cut_otherwise_on_each_read():
    a = np.random.default_rng(0).standard_normal((100, 30))

    class Recut:
        step = 20

        def __iter__(self):
            self.step += 7
            return iter(cut(a, self.step))

    options = {"method": "subspace", "passes": 4}
    np.testing.assert_allclose(gm.rsvd(Recut(), 4, **options).S, gm.rsvd([a], 4, **options).S)


def test_a_generator_is_read_once():
    a = np.random.default_rng(0).standard_normal((100, 30))
    expected = gm.rsvd(cut(a), 4, method="single_pass", rng=2)
    for options in ({"method": "single_pass"}, {"passes": 1}):
        found = gm.rsvd((block for block in cut(a)), 4, rng=2, **options)
        np.testing.assert_array_equal(found.S, expected.S)
        assert found.info.passes == 1
    for options in ({}, {"method": "krylov"}, {"method": "gram"}, {"passes": 3}):
        with pytest.raises(ValueError, match=r"a can be read only once.*method is"):
            gm.rsvd(iter(cut(a)), 4, **options)
    with pytest.raises(ValueError, match="a can be read only once"):
        gm.rsvd(iter(cut(a)), tol=0.1)
    with pytest.raises(ValueError, match="a can be read only once"):
        gm.range_finder(iter(cut(a)), 4)


def test_blocks_that_change_between_reads():
    class Draining:
        def __init__(self, blocks):
            self.left = iter(blocks)

        def __iter__(self):
            return (block for block in self.left)

    a = np.random.default_rng(0).standard_normal((100, 30))
    with pytest.raises(ValueError, match="a gave 0 rows on read 2, where it gave 100"):
        gm.rsvd(Draining(cut(a)), 4, method="subspace", passes=3)

    class Shuffling:
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def __iter__(self):
            return iter([cut(a)[i] for i in self.rng.permutation(5)])

    with pytest.raises(ValueError, match="is another on read 2 than at first"):
        gm.rsvd(Shuffling(), 4, method="subspace", passes=3)

    class Growing:
        def __init__(self):
            self.reads = 0

        def __iter__(self):
            self.reads += 1
            return iter(cut(np.ones((50 * self.reads, 30))))

    with pytest.raises(ValueError, match="a gave more rows on read 2"):
        gm.rsvd(Growing(), 4, method="subspace", passes=3)


# ---- Estimates and certificates -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csr", "blocks"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_estimate_is_the_error(dtype, kind):
    rng = np.random.default_rng(0)
    for exponent in (-0.5, -1, -2):
        x = matrices.power_law(rng, exponent, 150, 100)
        a = (x * (1 + 1j) if "complex" in dtype else x).astype(dtype)
        for method in METHODS:
            result = gm.rsvd(KINDS[kind](a), 10, method=method)
            true = frobenius_error(a, result) / np.linalg.norm(wide(a))
            assert result.info.error_kind == "estimate"
            assert result.info.error_estimate == pytest.approx(
                true, rel=0.02, abs=3 * float(eps(dtype)) ** 0.5
            )


def test_estimate_of_an_operator():
    """Unbiased in the square, with a relative variance of at most 2 / 10, whatever the spectrum."""
    rng = np.random.default_rng(0)
    for exponent, spread in ((0.0, 0.06), (-0.5, 0.2), (-2.0, 0.45)):
        a = matrices.power_law(rng, exponent, 60, 90)
        ratios = []
        for seed in range(100):
            result = gm.rsvd(linalg.aslinearoperator(a), 6, passes=2, rng=seed)
            true = frobenius_error(a, result) / np.linalg.norm(a)
            ratios.append((result.info.error_estimate / true) ** 2)
        # The denominator is estimated too, which takes from the spread. 4 deviations of the mean.
        assert abs(np.mean(ratios) - 1) <= 4 * np.sqrt(0.2 / 100)
        assert np.std(ratios) <= 1.5 * spread
        assert result.info.error_kind == "estimate"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in matrices.HARD if n != "zero"])
def test_certified_error_holds_and_the_rank_is_near_the_least(name, dtype):
    a = matrices.build(name, 0, dtype)
    sigma = np.linalg.svd(wide(a), compute_uv=False)
    norm = np.sqrt(np.sum(sigma**2))
    tails = np.sqrt(np.cumsum(sigma[::-1] ** 2))[::-1]
    for tol in (0.5, 1e-2, 1e-4):
        least = max(1, int(np.sum(tails > tol * norm)))
        for kind in ("csr", "blocks"):
            for method in ("gram", "krylov"):
                result = gm.rsvd(KINDS[kind](a), tol=tol, method=method, rng=2)
                assert result.info.error_kind == "upper bound"
                true = frobenius_error(a, result) / norm
                # The truth to 1e-15 of the norm, which is 1e-11 of the least tolerance.
                assert true <= result.info.error_estimate + 1e-14 <= tol + 1e-14
                assert result.info.rank <= least + 15
                check_orthonormal(result.U, result.Vh, dtype)


def test_certificate_in_exact_arithmetic():
    """The bound against 60 digits, at the edge of what can be certified."""
    rng = np.random.default_rng(1)
    with mpmath.workdps(60):
        for trial in range(16):
            a = matrices.geometric(rng, 1e-9, 12, 9) * 2.0 ** rng.integers(-300, 300)
            tol = 10.0 ** -rng.uniform(1, 6)
            given = (cut(a, 5), scipy_sparse.csr_array(a))[trial % 2]
            result = gm.rsvd(given, tol=tol, rng=trial)
            u, s, vh = (mpmath.matrix(x.tolist()) for x in result)
            e = mpmath.matrix(a.tolist()) - u * mpmath.diag(list(s)) * vh
            true = mpmath.norm(e, 2) / mpmath.norm(mpmath.matrix(a.tolist()), 2)
            assert true <= result.info.error_estimate


def test_certificate_where_no_gram_matrix_is_formed():
    """More than 2048 columns: the basis grows."""
    rng = np.random.default_rng(0)
    a = matrices.with_spectrum(rng, 0.9 ** np.arange(200), 2500, 2200)
    blocks = Counted(cut(a, 500))
    result = gm.rsvd(blocks, tol=0.02)
    assert result.info.method == "krylov"
    assert result.info.passes == blocks.ended
    true = frobenius_error(a, result) / np.linalg.norm(a)
    assert true <= result.info.error_estimate <= 0.02
    assert 37 <= result.info.rank <= 37 + 15  # 0.9^37 = 0.0203


def test_a_tolerance_beyond_rounding_says_what_is_possible():
    a = np.random.default_rng(0).standard_normal((60, 40))
    for given_as in (cut(a), scipy_sparse.csr_array(a)):
        with pytest.raises(gm.ConvergenceError, match=r"tol is 1e-12.*at least") as caught:
            gm.rsvd(given_as, tol=1e-12)
        assert 1e-12 < caught.value.residual < 1e-5
        assert caught.value.best.info.rank == 40
    result = gm.rsvd(cut(a), 7, tol=1e-3)  # the rank is a cap
    assert result.S.shape == (7,)
    assert result.info.error_estimate >= frobenius_error(a, result) / np.linalg.norm(a) > 1e-3


# ---- Scale --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csr", "blocks", "operator"])
@pytest.mark.parametrize("exponent", [-1000, -900, -20, 3, 40, 900])
def test_scaling_by_a_power_of_two_is_exact(exponent, kind):
    a = np.random.default_rng(0).standard_normal((90, 60))
    for method in methods_of(kind):
        one = gm.rsvd(KINDS[kind](a), 5, method=method)
        scaled = gm.rsvd(KINDS[kind](np.ldexp(a, exponent)), 5, method=method)
        np.testing.assert_array_equal(scaled.U, one.U)
        np.testing.assert_array_equal(scaled.Vh, one.Vh)
        np.testing.assert_array_equal(scaled.S, np.ldexp(one.S, exponent))
        assert scaled.info.error_estimate == one.info.error_estimate


@pytest.mark.parametrize("kind", ["csr", "blocks"])
@pytest.mark.parametrize("method", METHODS)
def test_extreme_scales_side_by_side(method, kind):
    """Rows that come to a scale which the first rows do not show."""
    for dtype, size in (("float32", 1e30), ("float64", 1e300)):
        a = np.random.default_rng(0).standard_normal((400, 40)) / size
        a[300:] *= size
        a[300:] *= size
        a = a.astype(dtype)
        passes = {"gram": 2, "single_pass": 1}.get(method, 3)
        result = gm.rsvd(KINDS[kind](a), 5, method=method, passes=passes)
        sigma = np.linalg.svd((a / size).astype(np.float64), compute_uv=False)[:5]
        slack = {"single_pass": 0.2, "gram": 1e-5}.get(method, 0.06)
        np.testing.assert_allclose(result.S.astype(np.float64) / size, sigma, rtol=slack)
        assert 0 < result.info.error_estimate < 1


# ---- Centering, warm start, half precision ------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(300, 40), (40, 300)])
def test_centering(shape, kind, dtype):
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


def test_half_precision_blocks():
    a = np.random.default_rng(0).standard_normal((60, 40)).astype(np.float16)
    result = gm.rsvd(cut(a), 4)
    assert (result.U.dtype, result.S.dtype, result.Vh.dtype) == (np.float16, np.float32, np.float16)
    exact = gm.rsvd(cut(a.astype(np.float32)), 4)
    np.testing.assert_array_equal(result.S, exact.S)
    np.testing.assert_array_equal(result.U, exact.U.astype(np.float16))


def test_torch_blocks():
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


# ---- Determinism --------------------------------------------------------------------------------


@pytest.mark.thread_unsafe
@pytest.mark.parametrize("kind", ["csr", "operator", "blocks"])
def test_seeds(kind):
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


# ---- Edges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_zero(kind):
    for method in methods_of(kind):
        result = gm.rsvd(KINDS[kind](np.zeros((30, 20))), 4, method=method)
        assert not result.S.any()
        check_orthonormal(result.U, result.Vh, "float64")
        assert result.info.error_estimate == 0


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_without_entries(shape):
    for kind in ("csr", "blocks"):
        result = gm.rsvd(KINDS[kind](np.zeros(shape)), tol=0.1)
        assert (result.U.shape, result.S.shape) == ((shape[0], 0), (0,))
        assert result.Vh.shape == (0, shape[1])
    with pytest.raises(ValueError, match="a has no row blocks"):
        gm.rsvd([], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_zero_on_the_diagonal_spoils_nothing_before_it(kind):
    """Whole numbers and a start of unit vectors: Y has rank 1 exactly, R a zero, no rounding."""
    a = np.outer(np.arange(1.0, 7.0), np.ones(3))
    for method in ("single_pass", "subspace", "krylov"):
        result = gm.rsvd(KINDS[kind](a), 1, oversample=1, method=method, v0=np.eye(3)[:, :2])
        np.testing.assert_allclose(result.S, [np.linalg.norm(a)], rtol=1e-14)
        assert frobenius_error(a, result) <= 1e-14 * np.linalg.norm(a)


def test_inverse_of_a_singular_triangle():
    r = np.triu(np.random.default_rng(0).standard_normal((5, 5)))
    r[2, 2] = 0
    inverse = inverse_of_upper(r)
    np.testing.assert_allclose(inverse[:2, :2] @ r[:2, :2], np.eye(2), atol=1e-14)
    assert not np.isfinite(inverse[:, 2:]).all(axis=0).any()


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
def test_structured_matrices(structure, m, n, dtype, center, seed, data):
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


def test_entries_stored_twice_are_added():
    twice = scipy_sparse.coo_array(
        (np.array([3.0, 1.0, 2.0]), (np.array([0, 0, 1]), np.array([0, 0, 1]))), shape=(3, 2)
    )
    assert np.allclose(gm.rsvd(twice, 2).S, [4, 2])
    unsorted = scipy_sparse.csr_array(
        (np.array([3.0, 1.0, 2.0]), np.array([0, 0, 1]), np.array([0, 2, 3, 3])), shape=(3, 2)
    )
    kept = unsorted.data.copy()
    result = gm.rsvd(unsorted, 2)
    assert np.allclose(result.S, [4, 2])
    assert result.info.error_estimate < 1e-7
    np.testing.assert_array_equal(unsorted.data, kept)


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
def test_range_finder(kind):
    for dtype in DTYPES:
        for shape in ((80, 50), (50, 80)):
            a = matrices.power_law(np.random.default_rng(0), -1, *shape)
            a = (a * (1 + 1j) if "complex" in dtype else a).astype(dtype)
            q = wide(gm.range_finder(KINDS[kind](a), 12, rng=3))
            assert np.abs(q.conj().T @ q - np.eye(12)).max() <= 40 * eps(dtype)
            sigma = np.linalg.svd(wide(a), compute_uv=False)
            left = np.linalg.norm(wide(a) - q @ (q.conj().T @ wide(a)))
            assert left <= 1.05 * np.linalg.norm(sigma[12:])
