"""Randomized SVD: the sketch, accuracy on the hard inputs, reads, determinism, shapes."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from gramian import _cpu

from tests.reference import matrices
from tests.reference.svd import (
    DTYPES,
    METHODS,
    check_orthonormal,
    eps,
    frobenius_error,
    spectral_error,
    wide,
)

INPUTS = tuple(matrices.HARD)


# ---- The sketch ----------------------------------------------------------------------------------


def philox_reference(seed, i, group):
    """Salmon et al. 2011, in Python's integers."""
    c = [i % 2**32, i >> 32, group, 0x67726D6E]
    k = [seed % 2**32, seed >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q % 2**32, (p >> 32) ^ c[3] ^ k[1], p % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def test_sketch_is_as_documented():
    rng = np.random.default_rng(0)
    for _ in range(200):
        seed, i = (int(v) for v in rng.integers(2**64, size=2, dtype=np.uint64))
        j = int(rng.integers(1000))
        word = philox_reference(seed, i, j // 128)[j % 128 // 32]
        assert _cpu.sketch_entry(seed, i, j) == (-1 if word >> (j % 32) & 1 else 1)


def test_sketch_is_balanced_and_uncorrelated():
    entries = np.array([[_cpu.sketch_entry(3, i, j) for j in range(40)] for i in range(2000)])
    assert np.abs(entries.mean(axis=0)).max() < 5 / np.sqrt(2000)
    gram = entries.T @ entries / 2000 - np.eye(40)
    assert np.abs(gram).max() < 5 / np.sqrt(2000)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sketch_of_a_read_is_the_same_over_tiles_and_groups(dtype):
    """300 rows are two tiles of the sketch, 140 columns two groups."""
    n = 300
    a = matrices.gaussian(np.random.default_rng(0), 400, n)
    a = (a * np.exp(1j * np.arange(n)) if "complex" in dtype else a).astype(dtype)
    sketch = np.array([[_cpu.sketch_entry(9, i, j) for j in range(140)] for i in range(n)])
    basis = np.linalg.qr(wide(a) @ sketch).Q
    expected = np.linalg.svd(basis.conj().T @ wide(a), compute_uv=False)[:20]
    got = gm.rsvd(a, 20, oversample=120, method="subspace", passes=1, rng=9).S
    np.testing.assert_allclose(got, expected, rtol=100 * eps(dtype))


# ---- Accuracy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", INPUTS)
def test_factors_are_orthonormal_and_near_the_best(name, method, dtype):
    a = matrices.build(name, 0, dtype)
    k = min(8, *a.shape)
    result = gm.rsvd(a, k, method=method, rng=1)
    check_orthonormal(result.U, result.Vh, dtype)
    sigma = np.linalg.svd(wide(a), compute_uv=False)
    assert np.all(np.diff(result.S) <= 0)
    size = sigma[0]
    best = np.linalg.norm(sigma[k:])
    # One read has no power of A^H A to spare: Halko et al. 2011, theorem 10.5, gives
    # sqrt(1 + k / (p - 1)) = 1.4 in the mean.
    # And W, found before anything is known of A, tells apart what is above sqrt(u) sigma_1.
    single = method == "single_pass"
    factor = 2.0 if single else 1.1
    noise = 4 * eps(dtype) ** 0.5 if single else 100 * eps(dtype)
    assert frobenius_error(a, result) <= factor * best + noise * size
    assert np.all(sigma[:k] + noise * size >= result.S)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", ["auto", "subspace", "krylov"])
@pytest.mark.parametrize("name", INPUTS)
def test_never_less_accurate_than_scikit_learn(name, method, dtype):
    extmath = pytest.importorskip("sklearn.utils.extmath")
    for seed in range(3):
        a = matrices.build(name, seed, dtype)
        k = min(10, *a.shape)
        ours = gm.rsvd(a, k, method=method, rng=seed)
        theirs = extmath.randomized_svd(a, k, random_state=seed)
        noise = 100 * eps(dtype) * np.linalg.norm(a)
        for error in (frobenius_error, spectral_error):
            assert error(a, ours) <= 1.05 * error(a, theirs) + noise


def test_small_singular_values_are_resolved():
    """Down to a few units of sigma_1: the half step with W must not cost what A Z knows."""
    for dtype, lowest in (("float32", 1e-5), ("float64", 1e-12)):
        a = matrices.geometric(np.random.default_rng(0), lowest, 200, 100).astype(dtype)
        sigma = np.linalg.svd(a.astype(np.float64), compute_uv=False)
        for method in ("subspace", "krylov"):
            s = gm.rsvd(a, 80, method=method).S
            assert np.abs(s - sigma[:80]).max() <= 40 * eps(dtype)


# ---- Reads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("passes", [1, 2, 3, 5])
@pytest.mark.parametrize("method", ["subspace", "krylov"])
def test_as_many_reads_as_asked_for(method, passes):
    a = np.random.default_rng(0).standard_normal((300, 200))
    assert gm.rsvd(a, 5, method=method, passes=passes).info.passes == passes


def test_a_read_is_a_power():
    """q + 1 reads are as good as 2 q + 2 products: A (A^H A)^q on the same sketch, then Q Q^H A."""
    rng = np.random.default_rng(0)
    a = matrices.power_law(rng, -0.5, 300, 200)
    k, size = 8, 24
    sketch = np.array([[_cpu.sketch_entry(5, i, j) for j in range(size)] for i in range(200)])
    for q in (0, 1, 2):
        y = a @ sketch
        for _ in range(q):
            y = a @ np.linalg.qr(a.T @ np.linalg.qr(y)[0])[0]
        basis = np.linalg.qr(y)[0]
        expected = np.linalg.svd(basis.T @ a, compute_uv=False)[:k]
        got = gm.rsvd(a, k, oversample=16, method="subspace", passes=q + 1, rng=5).S
        np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_auto_stops_when_it_stagnates():
    a = matrices.cliff(np.random.default_rng(0), 10, 400, 300)
    assert gm.rsvd(a, 10, method="subspace").info.passes <= 3
    a = matrices.power_law(np.random.default_rng(0), -0.25, 400, 300)
    assert 3 <= gm.rsvd(a, 10, method="subspace").info.passes <= 8
    # Flat: little to gain, whatever the Ritz values still do.
    a = matrices.gaussian(np.random.default_rng(0), 2000, 400)
    assert gm.rsvd(a, 10, method="krylov").info.passes <= 5
    assert gm.rsvd(a, 10).info.passes <= 5


def test_auto_resolves_what_the_type_holds():
    """A^H A shows what is above sqrt(u): it will do for float32 alone."""
    a = matrices.power_law(np.random.default_rng(0), -1, 2000, 60)
    assert gm.rsvd(a.astype(np.float32), 10).info.method == "gram"
    a = matrices.geometric(np.random.default_rng(0), 1e-13, 2000, 60)
    sigma = np.linalg.svd(a, compute_uv=False)
    result = gm.rsvd(a, 50)
    assert np.abs(result.S - sigma[:50]).max() <= 40 * eps("float64")
    assert frobenius_error(a, result) <= 1.05 * np.linalg.norm(sigma[50:]) + 1e-14


def test_passes_and_methods_that_contradict():
    a = np.eye(20)
    with pytest.raises(ValueError, match="passes is 2; method 'single_pass' makes 1"):
        gm.rsvd(a, 2, method="single_pass", passes=2)
    with pytest.raises(ValueError, match="passes is 1; method 'gram' makes 2"):
        gm.rsvd(a, 2, method="gram", passes=1)
    assert gm.rsvd(a, 2, method="gram").info.passes == 2
    assert gm.rsvd(a, 2, method="single_pass").info.passes == 1


# ---- Determinism ---------------------------------------------------------------------------------


@pytest.mark.thread_unsafe
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_bits_do_not_depend_on_threads(method, dtype):
    a = np.random.default_rng(0).standard_normal((1200, 310)).astype(dtype)
    before = gm.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            gm.set_num_threads(threads)
            found.append(gm.rsvd(a, 9, method=method, rng=4))
    finally:
        gm.set_num_threads(before)
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(x, y)


def test_numpy_and_torch_agree_bit_for_bit():
    torch = pytest.importorskip("torch")
    a = np.random.default_rng(0).standard_normal((80, 50)).astype(np.float32)
    ours = gm.rsvd(a, 5, rng=7)
    theirs = gm.rsvd(torch.from_numpy(a), 5, rng=7)
    assert all(type(x) is torch.Tensor for x in theirs)
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(x, y.numpy())


def test_layout_does_not_matter():
    a = np.random.default_rng(0).standard_normal((90, 70))
    room = np.zeros((180, 140))
    room[::2, ::2] = a
    for method in ("subspace", "gram"):
        one = gm.rsvd(a, 5, method=method)
        for other in (np.asfortranarray(a), room[::2, ::2], a[::-1, ::-1].copy()[::-1, ::-1]):
            for x, y in zip(one, gm.rsvd(other, 5, method=method), strict=True):
                np.testing.assert_array_equal(x, y)


def test_seeds():
    a = np.random.default_rng(0).standard_normal((90, 70))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    same = [gm.rsvd(a, 5, passes=1, rng=s).S for s in (None, 0)]
    np.testing.assert_array_equal(*same)
    assert np.any(same[0] != gm.rsvd(a, 5, passes=1, rng=1).S)
    one, two = np.random.default_rng(3), np.random.default_rng(3)
    np.testing.assert_array_equal(gm.rsvd(a, 5, rng=one).U, gm.rsvd(a, 5, rng=two).U)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


# ---- Shapes, scales, edges -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
def test_largest_entry_of_each_left_vector_is_positive(dtype):
    """Exactly, by the entries returned; near-ties of complex entries are a matter of rounding."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (60, 40))  # U nearly all ties
    for a in (*(matrices.build(n, 0) for n in ("gaussian_tall", "gaussian_wide", "minus_ones")),
              np.outer(signs[:, 0], signs[0])):  # fmt: skip
        a = (a * np.exp(1j * np.arange(a.shape[1])) if "complex" in dtype else a).astype(dtype)
        for seed in range(10):
            u = wide(gm.rsvd(a, min(4, *a.shape), rng=seed).U)
            for column in u.T:
                top = np.abs(column).max()
                near = column[np.abs(column) >= top * (1 - 4 * eps(dtype) * ("complex" in dtype))]
                assert near[0].real > 0 or "complex" in dtype
                assert any(v.real > 0 and v.imag == 0 for v in near)


@pytest.mark.parametrize("exponent", [-1000, -900, -20, 3, 40, 900])
@pytest.mark.parametrize("method", METHODS)
def test_scaling_by_a_power_of_two_is_exact(method, exponent):
    a = np.random.default_rng(0).standard_normal((90, 60))
    one = gm.rsvd(a, 5, method=method)
    scaled = gm.rsvd(np.ldexp(a, exponent), 5, method=method)
    np.testing.assert_array_equal(scaled.U, one.U)
    np.testing.assert_array_equal(scaled.Vh, one.Vh)
    np.testing.assert_array_equal(scaled.S, np.ldexp(one.S, exponent))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("exponent", [-901, -1, 2, 300])
def test_isometries_of_all_scales_get_the_same_vectors(method, exponent):
    """Y is orthogonal then: whether it counts as orthonormal may not depend on its scale."""
    a = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 30)))[0]
    one = gm.rsvd(a, 5, method=method)
    scaled = gm.rsvd(np.ldexp(a, exponent), 5, method=method)
    np.testing.assert_array_equal(scaled.U, one.U)
    np.testing.assert_array_equal(scaled.Vh, one.Vh)
    np.testing.assert_array_equal(scaled.S, np.ldexp(one.S, exponent))


@pytest.mark.parametrize("method", METHODS)
def test_extreme_scales_side_by_side(method):
    """Rows that come to a scale which the first rows do not show: no read goes into finding it."""
    for dtype, size in (("float32", 1e30), ("float64", 1e300)):
        a = np.random.default_rng(0).standard_normal((4000, 40)) / size
        a[3000:] *= size
        a[3000:] *= size
        a = a.astype(dtype)
        passes = {"gram": 2, "single_pass": 1}.get(method, 3)
        result = gm.rsvd(a, 5, method=method, passes=passes)
        sigma = np.linalg.svd((a / size).astype(np.float64), compute_uv=False)[:5]
        slack = {"single_pass": 0.2, "gram": 1e-6}.get(method, 0.06)
        np.testing.assert_allclose(result.S.astype(np.float64) / size, sigma, rtol=slack)
        assert result.info.passes == passes


@pytest.mark.parametrize("method", METHODS)
def test_zero(method):
    result = gm.rsvd(np.zeros((30, 20)), 4, method=method)
    assert not result.S.any()
    check_orthonormal(result.U, result.Vh, "float64")
    assert result.info.error_estimate == 0


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (3, 0, 4)])
def test_without_entries(shape):
    result = gm.rsvd(np.zeros(shape), tol=0.1)
    assert result.S.shape == (*shape[:-2], 0)
    assert result.U.shape == (*shape[:-1], 0)


def test_empty_batch():
    assert gm.rsvd(np.zeros((0, 5, 4)), 2).U.shape == (0, 5, 2)


def test_nan():
    a = np.random.default_rng(0).standard_normal((3, 20, 10))
    clean = gm.rsvd(a, 2)
    a[1, 7, 3] = np.nan
    with pytest.raises(ValueError, match="a contains NaN or infinity"):
        gm.rsvd(a, 2)
    result = gm.rsvd(a, 2, check_finite=False)
    for x, y in zip(result, clean, strict=True):
        assert np.isnan(x[1]).all()
        np.testing.assert_array_equal(x[[0, 2]], y[[0, 2]])


@pytest.mark.parametrize("name", matrices.BATCHES)
def test_a_batch_treats_each_matrix_on_its_own(name):
    a = matrices.build(name)
    together = gm.rsvd(a, 3)
    for index in np.ndindex(a.shape[:-2]):
        alone = gm.rsvd(a[index], 3)
        for x, y in zip(together, alone, strict=True):
            np.testing.assert_array_equal(x[index], y)
        assert together.info.error_estimate[index] == alone.info.error_estimate


def test_a_batch_with_a_tolerance_has_the_largest_rank():
    rng = np.random.default_rng(0)
    a = np.stack([matrices.power_law(rng, e, 40, 30) for e in (-0.5, -2)])
    result = gm.rsvd(a, tol=0.05)
    assert result.info.rank == gm.rsvd(a[0], tol=0.05).info.rank > gm.rsvd(a[1], tol=0.05).info.rank
    for b in range(2):
        u, s, vh = (x[b] for x in result)
        error = np.linalg.norm(a[b] - (u * s) @ vh) / np.linalg.norm(a[b])
        assert error <= result.info.error_estimate[b] <= 0.05


def test_a_warm_start_saves_reads():
    rng = np.random.default_rng(0)
    for shape in ((200, 100), (100, 200)):
        a = matrices.power_law(rng, -0.5, *shape)
        first = gm.rsvd(a, 8, method="subspace", passes=8)
        moved = a + 1e-4 * rng.standard_normal(shape) / np.sqrt(200)
        v0 = first.Vh.T
        warm = gm.rsvd(moved, 8, method="subspace", passes=1, v0=v0)
        cold = gm.rsvd(moved, 8, method="subspace", passes=1)
        best = np.linalg.norm(np.linalg.svd(moved, compute_uv=False)[8:])
        assert frobenius_error(moved, warm) <= 1.001 * best < frobenius_error(moved, cold)


def test_half_precision():
    a = np.random.default_rng(0).standard_normal((60, 40)).astype(np.float16)
    result = gm.rsvd(a, 4)
    assert (result.U.dtype, result.S.dtype, result.Vh.dtype) == (np.float16, np.float32, np.float16)
    exact = gm.rsvd(a.astype(np.float32), 4)
    np.testing.assert_allclose(result.S, exact.S, rtol=1e-6)
    np.testing.assert_allclose(result.U, exact.U, atol=1e-3)


def test_input_is_not_written():
    a = np.random.default_rng(0).standard_normal((60, 40))
    a.flags.writeable = False
    kept = a.copy()
    gm.rsvd(a, 4, center=True)
    np.testing.assert_array_equal(a, kept)
