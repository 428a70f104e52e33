"""Shards of rows: any cut, any order, one all-reduce; the answer of a single shot."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import itertools
import pickle

import gramian as gm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.docstrings import check_numpydoc
from tests.reference import matrices
from tests.reference.svd import DTYPES, eps, wide


def start_vectors(rng, n, size, dtype):
    return matrices.orthonormal(rng, n, size, cplx="complex" in dtype).astype(dtype)


def shards_of(a, z, count):
    ends = np.linspace(0, a.shape[0], count + 1).astype(int)
    return [gm.rsvd_partial(a[i:j], z, row_offset=int(i)) for i, j in itertools.pairwise(ends)]


def check_values(one, other, dtype, norm):
    """W is a sum over rows, known to u sigma_1^2 however they are cut, and divided by sigma_i."""
    values = np.maximum(one.S.astype(np.float64), eps(dtype) ** 0.5 * norm)
    allowed = 20 * eps(dtype) * norm**2 / np.where(values > 0, values, 1)
    assert np.all(np.abs(other.S.astype(np.float64) - one.S) <= allowed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in matrices.HARD if n != "cliff_250"])
def test_shards_give_the_single_shot_answer(name, dtype):
    a = matrices.build(name, 0, dtype)
    rng = np.random.default_rng(1)
    size = min(10, *a.shape)
    z = start_vectors(rng, a.shape[1], size, dtype)
    norm = np.linalg.norm(wide(a), 2)
    one = gm.rsvd_finish(shards_of(a, z, 1))
    for count in (3, 8):
        shards = shards_of(a, z, count)
        other = gm.rsvd_finish([shards[i] for i in rng.permutation(count)])
        check_values(one, other, dtype, norm)
        # The same matrix U S V^H; vectors of close singular values may turn among themselves. W,
        # known to u sigma_1^2, is divided by singular values down to sqrt(u) sigma_1.
        product, expected = (wide(r.U * r.S) @ wide(r.Vh) for r in (other, one))
        assert np.linalg.norm(product - expected, 2) <= 8 * eps(dtype) ** 0.5 * norm
        for q in (wide(other.U), wide(other.Vh).conj().T):
            assert np.abs(q.conj().T @ q - np.eye(size)).max() <= 40 * eps(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_shards_agree_closely_where_singular_values_are_apart(dtype):
    rng = np.random.default_rng(0)
    a = matrices.with_spectrum(rng, 0.5 ** np.arange(12), 400, 60, cplx="complex" in dtype)
    a = a.astype(dtype)
    z = start_vectors(rng, 60, 20, dtype)
    one = gm.rsvd_finish(shards_of(a, z, 1), rank=6)
    for count in (3, 8):
        other = gm.rsvd_finish(shards_of(a, z, count), rank=6)
        for x, y in zip(one, other, strict=True):
            # A gap of 2^-6 between singular values, of vectors that follow W / sigma_6.
            np.testing.assert_allclose(x, y, atol=2**12 * eps(dtype))
        assert other.info.error_estimate == pytest.approx(
            one.info.error_estimate, rel=1e-3, abs=float(eps(dtype)) ** 0.5
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_is_the_single_pass_method(dtype):
    """With `z` as start vectors, on shapes that are read as they lie."""
    rng = np.random.default_rng(0)
    a = matrices.power_law(rng, -0.7, 300, 80).astype(dtype)
    z = start_vectors(rng, 80, 18, dtype)
    expected = gm.rsvd(a, 8, oversample=10, method="single_pass", v0=z)
    found = gm.rsvd_finish(shards_of(a, z, 3), rank=8)
    np.testing.assert_allclose(found.S, expected.S, atol=40 * eps(dtype))
    assert found.info.error_estimate == pytest.approx(expected.info.error_estimate, rel=1e-4)
    assert (found.info.method, found.info.passes) == ("single_pass", 1)


def test_the_order_of_partials_does_not_change_a_bit():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((90, 30)).astype(np.float32)
    shards = shards_of(a, start_vectors(rng, 30, 8, "float32"), 7)
    one = gm.rsvd_finish(shards)
    for _ in range(5):
        for x, y in zip(one, gm.rsvd_finish(iter(rng.permutation(shards))), strict=True):
            np.testing.assert_array_equal(x, y)


def test_a_partial_pickles():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((90, 30))
    shards = shards_of(a, start_vectors(rng, 30, 8, "float64"), 3)
    sent = [pickle.loads(pickle.dumps(p)) for p in shards]
    for x, y in zip(gm.rsvd_finish(shards), gm.rsvd_finish(sent), strict=True):
        np.testing.assert_array_equal(x, y)
    with pytest.raises(dataclasses.FrozenInstanceError):
        shards[0].row_offset = 3


@given(st.lists(st.integers(0, 25), min_size=1, max_size=8), st.integers(1, 12), st.data())
def test_any_cut_gives_the_same_matrix(heights, columns, data):
    rows = sum(heights)
    rng = np.random.default_rng(rows * 13 + columns)
    a = rng.standard_normal((rows, columns))
    size = data.draw(st.integers(1, columns))
    z = start_vectors(rng, columns, size, "float64")
    ends = np.cumsum(heights)
    shards = [
        gm.rsvd_partial(a[e - h : e], z, row_offset=int(e - h))
        for e, h in zip(ends, heights, strict=True)
    ]
    one = gm.rsvd_finish(shards_of(a, z, 1))
    other = gm.rsvd_finish(data.draw(st.permutations(shards)))
    assert other.U.shape == (rows, min(rows, size))
    norm = np.linalg.norm(a)
    np.testing.assert_allclose(other.S, one.S, atol=1e-13 * max(norm, 1e-300))
    difference = (other.U * other.S) @ other.Vh - (one.U * one.S) @ one.Vh
    assert np.linalg.norm(difference) <= 8 * eps("float64") ** 0.5 * norm


# ---- One all-reduce -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_all_reduce_serves(dtype):
    """Sums of n l + l^2 + 1 numbers give every shard S, Vh and its own rows of U."""
    rng = np.random.default_rng(0)
    a = matrices.power_law(rng, -1, 400, 60).astype(dtype)
    z = start_vectors(rng, 60, 20, dtype)
    shards = shards_of(a, z, 5)
    sums = [sum(getattr(p, name) for p in shards) for name in ("w", "gram", "squares")]
    gathered = gm.rsvd_finish(shards, rank=8)
    results = [gm.rsvd_finish([p.with_sums(*sums)], rank=8) for p in shards]
    for result in results:
        np.testing.assert_allclose(result.S, gathered.S, atol=40 * eps(dtype))
        np.testing.assert_array_equal(result.Vh, results[0].Vh)
        largest = np.abs(result.Vh).argmax(axis=1)
        assert np.all(result.Vh[range(8), largest].real > 0)
    u = wide(np.concatenate([result.U for result in results]))
    assert np.abs(u.conj().T @ u - np.eye(8)).max() <= max(40 * eps(dtype), 1e-12)
    product, expected = (
        (wide(left) * r.S) @ wide(r.Vh) for left, r in ((u, results[0]), (gathered.U, gathered))
    )
    assert np.linalg.norm(product - expected) <= 300 * eps(dtype)
    assert results[0].info.error_estimate == pytest.approx(gathered.info.error_estimate, rel=1e-4)


def test_rounds_of_shards_are_subspace_iteration():
    """z = V of the round before: each round is one read, and one more power of A^H A."""
    rng = np.random.default_rng(0)
    a = matrices.power_law(rng, -0.5, 300, 80)
    sigma = np.linalg.svd(a, compute_uv=False)
    z = start_vectors(rng, 80, 18, "float64")
    rounds = []
    for _ in range(4):
        result = gm.rsvd_finish(shards_of(a, z, 3))
        z = result.Vh.T
        rounds.append(np.linalg.norm(a - (result.U[:, :8] * result.S[:8]) @ result.Vh[:8]))
    best = np.linalg.norm(sigma[8:])
    assert rounds[0] > 1.1 * best
    assert rounds[-1] <= 1.005 * best
    assert all(later <= earlier for earlier, later in itertools.pairwise(rounds))


def test_sums_resolve_fewer_singular_values():
    rng = np.random.default_rng(0)
    a = matrices.geometric(rng, 1e-12, 100, 40)
    z = start_vectors(rng, 40, 40, "float64")
    (whole,) = shards_of(a, z, 1)
    reduced = whole.with_sums(whole.w, whole.gram, whole.squares)
    found = gm.rsvd_finish([reduced])
    sigma = np.linalg.svd(a, compute_uv=False)
    assert 1e-5 < sigma[found.info.rank - 1] < 1e-3
    np.testing.assert_allclose(found.S, sigma[: found.info.rank], rtol=1e-3)
    with pytest.raises(ValueError, match=r"rank is 30; sums of Gram matrices tell \d+"):
        gm.rsvd_finish([reduced], rank=30)
    assert gm.rsvd_finish([whole], rank=30).info.rank == 30


# ---- What a shard may be ------------------------------------------------------------------------


def test_kinds_of_shards():
    sparse = pytest.importorskip("scipy.sparse")
    a = np.random.default_rng(0).standard_normal((60, 30))
    z = start_vectors(np.random.default_rng(1), 30, 8, "float64")
    one = gm.rsvd_finish(shards_of(a, z, 2))
    kinds = [
        sparse.csr_array(a[:30]),
        (block for block in (a[30:40], a[40:60])),  # out of core, read once
    ]
    shards = [gm.rsvd_partial(rows, z, row_offset=30 * i) for i, rows in enumerate(kinds)]
    np.testing.assert_allclose(gm.rsvd_finish(shards).S, one.S, rtol=1e-10)


def test_torch_and_half_precision():
    torch = pytest.importorskip("torch")
    a = torch.from_numpy(np.random.default_rng(0).standard_normal((60, 30))).float()
    z = torch.from_numpy(start_vectors(np.random.default_rng(1), 30, 8, "float32"))
    result = gm.rsvd_finish(shards_of(a, z, 3))
    assert all(type(x) is torch.Tensor for x in result)
    same = gm.rsvd_finish(shards_of(a.numpy(), z.numpy(), 3))
    np.testing.assert_array_equal(result.U.numpy(), same.U)
    coarse = gm.rsvd_finish(shards_of(a.bfloat16(), z, 3))
    assert (coarse.U.dtype, coarse.S.dtype) == (torch.bfloat16, torch.float32)
    exact = gm.rsvd_finish(shards_of(a.bfloat16().float(), z, 3))
    assert torch.equal(coarse.S, exact.S)


def test_partials_cross_processes_without_torch_loaded(run_python):
    torch = pytest.importorskip("torch")
    a, z = torch.eye(6, 4), torch.eye(4, 2)
    sent = pickle.dumps(gm.rsvd_partial(a, z, row_offset=0))
    code = (
        "import pickle, gramian as gm\n"
        f"result = gm.rsvd_finish([pickle.loads({sent!r})])\n"
        "print(type(result.U).__module__, result.S.tolist())"
    )
    assert run_python(code).strip() == "torch [1.0, 1.0]"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_columns_of_z_of_any_length_and_angle(dtype):
    rng = np.random.default_rng(0)
    a = matrices.power_law(rng, -1, 80, 30).astype(dtype)
    base = matrices.orthonormal(rng, 30, 6)
    mixed = base @ (np.eye(6) + 0.9 * np.triu(np.ones((6, 6)), 1)) * np.geomspace(1e-6, 1e6, 6)
    one, other = (gm.rsvd_finish(shards_of(a, z.astype(dtype), 3)) for z in (base, mixed))
    np.testing.assert_allclose(other.S, one.S, rtol=2e3 * eps(dtype))


@pytest.mark.parametrize("exponent", [-1000, -300, 300, 1000])
def test_scale(exponent):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((60, 30))
    z = start_vectors(rng, 30, 8, "float64")
    one = gm.rsvd_finish(shards_of(a, z, 3))
    shards = shards_of(np.ldexp(a, exponent), z, 3)
    assert [p.exponent == 0 for p in shards] == [abs(exponent) < 400] * 3
    other = gm.rsvd_finish(shards)
    np.testing.assert_allclose(other.S, np.ldexp(one.S, exponent), rtol=1e-13)
    # Shards of scales so far apart that the small one does not count.
    mixed = [shards_of(np.ldexp(a, e), z, 1)[0] for e in (-exponent, exponent)]
    mixed[1] = dataclasses.replace(mixed[1], row_offset=60)
    expected = gm.rsvd_finish(shards_of(np.ldexp(a, abs(exponent)), z, 1))
    np.testing.assert_allclose(gm.rsvd_finish(mixed).S, expected.S, rtol=1e-13)
    single = a.astype(np.float32) * np.float32(1e30)
    shards = shards_of(single, z.astype(np.float32), 3)
    assert all(p.exponent == 0 for p in shards)
    np.testing.assert_allclose(gm.rsvd_finish(shards).S.astype(float) / 1e30, one.S, rtol=1e-5)


def test_zero_and_empty_shards():
    z = np.eye(6)[:, :3]
    nothing = gm.rsvd_partial(np.zeros((0, 6)), z, row_offset=4)
    assert gm.rsvd_finish([dataclasses.replace(nothing, row_offset=0)]).U.shape == (0, 0)
    zero = gm.rsvd_partial(np.zeros((4, 6)), z, row_offset=0)
    result = gm.rsvd_finish([nothing, zero])
    assert not result.S.any()
    np.testing.assert_allclose(result.U.T @ result.U, np.eye(3), atol=1e-15)
    assert result.info.error_estimate == 0


# ---- Errors -------------------------------------------------------------------------------------

A = np.random.default_rng(0).standard_normal((12, 6))
Z = np.eye(6)[:, :3]


def part(begin, end, z=Z):
    return gm.rsvd_partial(A[begin:end], z, row_offset=begin)


@pytest.mark.parametrize(
    ("ranges", "match"),
    [
        ([(0, 6), (5, 12)], "partials overlap: rows 5 to 6 come twice"),
        ([(0, 12), (3, 5)], "partials overlap: rows 3 to 5"),
        ([(0, 6), (0, 6), (6, 12)], "partials overlap: rows 0 to 6"),
        ([(0, 6), (7, 12)], "partials leave out rows 6 to 7"),
        ([(3, 12)], "partials leave out rows 0 to 3"),
    ],
)
def test_rows_that_do_not_fit(ranges, match):
    with pytest.raises(ValueError, match=match):
        gm.rsvd_finish([part(*r) for r in ranges])


def test_partials_that_do_not_belong_together():
    with pytest.raises(ValueError, match="partials is empty"):
        gm.rsvd_finish([])
    with pytest.raises(TypeError, match="partials is a Partial"):
        gm.rsvd_finish(part(0, 12))
    with pytest.raises(TypeError, match="partials holds a int"):
        gm.rsvd_finish([part(0, 12), 3])
    with pytest.raises(ValueError, match="partials differ in z"):
        gm.rsvd_finish([part(0, 6), part(6, 12, -Z)])
    other = gm.rsvd_partial(A[6:].astype("f"), Z.astype("f"), row_offset=6)
    with pytest.raises(ValueError, match="partials differ in dtype"):
        gm.rsvd_finish([part(0, 6), other])
    whole = part(0, 12)
    reduced = whole.with_sums(whole.w, whole.gram, whole.squares)
    with pytest.raises(ValueError, match="partials holds several"):
        gm.rsvd_finish([reduced, whole])
    with pytest.raises(ValueError, match="linearly dependent"):
        gm.rsvd_finish([part(0, 12, np.ones((6, 2)))])
    for rank, error in ((0, ValueError), (4, ValueError), (1.0, TypeError)):
        with pytest.raises(error, match="rank is"):
            gm.rsvd_finish([whole], rank=rank)
    with pytest.raises(ValueError, match=r"w has shape \(3, 3\)"):
        whole.with_sums(whole.gram, whole.gram, 1.0)


@pytest.mark.parametrize(
    ("rows", "z", "offset", "error", "match"),
    [
        (A, Z, -1, ValueError, "row_offset is -1"),
        (A, Z, 1.0, TypeError, "row_offset is 1.0"),
        (A, Z[:5], 0, ValueError, r"z has shape \(5, 3\); it must be \(n, l\) = \(6, l\)"),
        (A, np.ones((6, 7)), 0, ValueError, "l from 1 to 6"),
        (A, Z[:, :0], 0, ValueError, "l from 1 to 6"),
        (A, Z.astype("f"), 0, ValueError, "z has dtype float32; it must be float64"),
        (A, Z * np.nan, 0, ValueError, "z contains NaN"),
        (A, Z.tolist(), 0, TypeError, "z is a list"),
        (A * np.nan, Z, 0, ValueError, "a_rows contains NaN"),
        (A[0], Z, 0, ValueError, r"a_rows has shape \(6,\)"),
        (A.astype(int), Z, 0, TypeError, "a_rows has dtype int64"),
        (3.0, Z, 0, TypeError, "a_rows is a float"),
        ([A, A[:, :2]], Z, 0, ValueError, "block 1 of a_rows has shape"),
    ],
)
def test_errors_name_the_argument(rows, z, offset, error, match):
    with pytest.raises(error, match=match):
        gm.rsvd_partial(rows, z, row_offset=offset)


@pytest.mark.parametrize("function", [gm.rsvd_partial, gm.rsvd_finish])
def test_docstrings_are_numpydoc(function):
    check_numpydoc(function)


def test_examples_of_docstrings_run():
    found = doctest.testmod(importlib.import_module("gramian._rsvd_partial"))
    assert found.attempted > 3
    assert found.failed == 0
