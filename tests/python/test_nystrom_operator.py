"""Nystrom approximation of sparse matrices, operators and row blocks."""

from __future__ import annotations

import tracemalloc
import warnings

import gramian as gm
import numpy as np
import pytest

from tests import gpu_road
from tests.reference import matrices
from tests.reference.row_kinds import KINDS, Counted, cut
from tests.reference.svd import DTYPES, eps, wide

sparse = pytest.importorskip("scipy.sparse")
linalg = pytest.importorskip("scipy.sparse.linalg")
torch = pytest.importorskip("torch")

N = 80
I = np.arange(1.0, N + 1)  # noqa: E741
SPECTRA = {
    "slow": I**-0.5,
    "fast": I**-2,
    "down to rounding": np.geomspace(1, 1e-14, N),
    "rank 3": np.r_[1, 0.5, 0.25, np.zeros(N - 3)],
    "flat": np.ones(N),
    "cliff": np.where(I < 12, 1, 1e-7),
    "clustered": np.r_[1 - 1e-7 * np.arange(10), np.linspace(0.5, 0.01, N - 10)],
}


def once(a):
    """Row blocks that can be read once."""
    return iter(cut(a))


def multiply_only(a):
    """An object that is no LinearOperator and has no adjoint."""
    names = {"shape": a.shape, "dtype": a.dtype, "matvec": lambda _, x: a @ x}
    return type("Products", (), names)()


AGAIN = KINDS | {"products": multiply_only}
ALL = AGAIN | {"once": once}


def semidefinite(sigma, dtype, seed=0):
    q = matrices.orthonormal(np.random.default_rng(seed), N, N, cplx="complex" in dtype)
    a = (q * sigma) @ q.conj().T
    return ((a + a.conj().T) / 2).astype(dtype)


def left(a, w, v):
    v = wide(v)
    return np.linalg.norm(wide(a) - (v * w) @ v.conj().T)


# ---- Accuracy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("kind", AGAIN)
def test_as_for_arrays_up_to_rounding(kind, spectrum, dtype):
    a = semidefinite(SPECTRA[spectrum], dtype)
    true = np.linalg.eigvalsh(wide(a))[::-1]
    # Both shifts are sqrt(n) u ||a||_F; what is left of them is rounding of the eigenvalues.
    rounding = 50 * eps(dtype)
    for rank in (1, 8, N):
        expected, vectors = gm.nystrom_eigh(a, rank, rng=3)
        w, v = gm.nystrom_eigh(AGAIN[kind](a), rank, rng=3)
        assert (w.shape, w.dtype, v.shape, v.dtype) == (
            expected.shape, expected.dtype, vectors.shape, vectors.dtype,
        )  # fmt: skip
        assert np.all(np.diff(w) <= 0)
        assert np.all(w >= 0)
        assert np.abs(wide(v).conj().T @ wide(v) - np.eye(rank)).max() <= 40 * eps(dtype)
        np.testing.assert_allclose(w, expected, rtol=0, atol=rounding)
        # Never above the truth, and no further below it than the matrix has left.
        assert np.all(w <= true[:rank] + rounding)
        best = np.linalg.norm(np.maximum(true[rank:], 0))
        assert left(a, w, v) <= left(a, expected, vectors) + np.sqrt(N) * rounding
        assert left(a, w, v) <= 1.05 * best + np.sqrt(N) * rounding


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", AGAIN)
def test_what_is_left_is_as_for_arrays(kind, dtype):
    """Any rank, size and oversampling: also where the basis itself is rounding."""
    for seed in range(25):
        rng = np.random.default_rng(seed)
        n, oversample = int(rng.integers(1, 70)), int(rng.integers(0, 15))
        rank, k = rng.integers(1, n + 1, 2)
        x = rng.standard_normal((n, rank)) * np.exp(-rng.choice([0, 0.2, 1]) * np.arange(rank))
        x = x.astype(dtype) * (np.exp(1j * np.arange(rank)).astype(dtype) if "c" in dtype else 1)
        a = x @ x.conj().T
        a = (a + a.conj().T) / 2
        norm = np.linalg.norm(wide(a))
        expected = gm.nystrom_eigh(a, k, oversample=oversample, rng=seed)
        w, v = gm.nystrom_eigh(AGAIN[kind](a), k, oversample=oversample, rng=seed)
        assert left(a, w, v) <= 1.05 * left(a, *expected) + 100 * eps(dtype) * norm
        assert np.all(w - np.linalg.eigvalsh(wide(a))[::-1][:k] <= 50 * eps(dtype) * norm)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_one_read_is_good_where_eigenvalues_fall_fast(spectrum, dtype):
    a = semidefinite(SPECTRA[spectrum], dtype)
    for rank in (1, 8, N):
        w, v = gm.nystrom_eigh(once(a), rank, rng=3)
        assert np.abs(wide(v).conj().T @ wide(v) - np.eye(rank)).max() <= 40 * eps(dtype)
        best = np.linalg.norm(np.sort(SPECTRA[spectrum])[::-1][rank:])
        assert left(a, w, v) <= 1.6 * best + 200 * np.sqrt(N) * eps(dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    a = torch.from_numpy(semidefinite(SPECTRA["fast"], "float64")).to(getattr(torch, dtype))
    a = ((a.double() + a.double().T) / 2).to(a.dtype)
    expected, vectors = gm.nystrom_eigh(a, 5, rng=1)
    w, v = gm.nystrom_eigh(list(a.split(23)), 5, rng=1)
    assert (w.dtype, v.dtype) == (torch.float32, a.dtype)
    np.testing.assert_allclose(w.numpy(), expected.numpy(), atol=50 * eps("float32"))
    # No sign of a vector is fixed.
    away = v.double().abs() - vectors.double().abs()
    assert float(away.abs().max()) <= torch.finfo(a.dtype).eps


def test_the_sketch_is_that_of_arrays():
    """One eigenvalue far from the seed's own: another seed would give other numbers."""
    a = semidefinite(SPECTRA["slow"], "float64")
    found = [[gm.nystrom_eigh(f(a), 8, rng=s)[0] for s in (0, 1)] for f in (np.asarray, cut)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-13)
    assert np.abs(found[0][0] - found[0][1]).max() > 1e-4


def test_the_shift_is_taken_off_again():
    """The shift is sqrt(n) u ||a||_F = 460 u here."""
    a = sparse.diags_array(np.r_[4.0, 2.0, 1.0, np.zeros(9997)], format="csr")
    for given in (a, linalg.aslinearoperator(a)):
        w, _ = gm.nystrom_eigh(given, 6)
        np.testing.assert_allclose(w, [4, 2, 1, 0, 0, 0], atol=20 * eps("float64"))


def test_of_an_indefinite_matrix_what_is_not_positive_is_left_out():
    a = np.diag(np.r_[3.0, 2.0, -1.0, np.zeros(37)])
    expected, _ = gm.nystrom_eigh(a, 6)
    for f in ALL.values():
        w, v = gm.nystrom_eigh(f(a), 6)
        np.testing.assert_allclose(w[0], expected[0], rtol=0.5)
        assert np.all(w >= 0)
        assert np.isfinite(v).all()
    for f in AGAIN.values():
        np.testing.assert_allclose(gm.nystrom_eigh(f(a), 6)[0], expected, atol=1e-12)


# ---- Scale and edges -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("exponent", [-900, -20, 3, 40, 900])
def test_scaling_by_a_power_of_two_is_exact(exponent, kind):
    a = semidefinite(SPECTRA["fast"], "float64")
    w, v = gm.nystrom_eigh(ALL[kind](a), 5)
    scaled, vectors = gm.nystrom_eigh(ALL[kind](np.ldexp(a, exponent)), 5)
    np.testing.assert_array_equal(scaled, np.ldexp(w, exponent))
    np.testing.assert_array_equal(vectors, v)


@pytest.mark.parametrize("kind", ALL)
def test_zero_has_values_zero_and_orthonormal_vectors(kind):
    w, v = gm.nystrom_eigh(ALL[kind](np.zeros((30, 30))), 4)
    assert not w.any()
    assert np.abs(v.T @ v - np.eye(4)).max() <= 40 * eps("float64")


@pytest.mark.parametrize("kind", ALL)
def test_values_that_overflow_do_so_quietly(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        w, v = gm.nystrom_eigh(ALL[kind](np.full((30, 30), 2e37, np.float32)), 3)
    assert w[0] == np.inf
    assert np.isfinite(v).all()


def test_one_row():
    for f in ALL.values():
        w, v = gm.nystrom_eigh(f(np.array([[4.0]])), 1)
        np.testing.assert_allclose(w, 4, rtol=1e-14)
        assert abs(v[0, 0]) == 1


# ---- Reads and memory ----------------------------------------------------------------------------


def test_blocks_are_read_twice_and_an_iterator_once():
    blocks = Counted(cut(np.eye(40)))
    gm.nystrom_eigh(blocks, 5)
    assert blocks.begun == blocks.ended == 2
    blocks = Counted(cut(np.eye(40)))
    gm.nystrom_eigh(iter(blocks), 5)
    assert blocks.begun == blocks.ended == 1


def test_an_operator_multiplies_three_times_and_by_itself_alone():
    a, sizes = semidefinite(SPECTRA["fast"], "complex128"), []

    def product(x):
        sizes.append(x.shape[1])
        return a @ x

    op = linalg.LinearOperator(a.shape, matvec=None, matmat=product, dtype=a.dtype)
    gm.nystrom_eigh(op, 5, oversample=7)
    assert sizes == [12 + 10, 12, 12]  # with ten vectors that tell its norm


@pytest.mark.thread_unsafe
@pytest.mark.parametrize("read", [iter, list])
def test_memory_is_that_of_thin_matrices(read):
    n, size = 3000, 15

    class Made:
        def __iter__(self):
            for begin in range(0, n, 100):
                block = np.ones((100, n), np.float32)
                block[:, begin : begin + 100] += np.eye(100, dtype=np.float32)
                yield block
                del block

    made = Made()
    gm.nystrom_eigh([np.eye(20)], 2)
    tracemalloc.start()
    try:
        gm.nystrom_eigh(iter(made) if read is iter else made, 5)
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    block = 100 * n * 4
    # W, Z, Y, F and what rotates them, in double; two blocks where one is made of another.
    assert used <= 8 * 10 * n * size + 3 * block + 2 * 2**20 < n * n * 4 / 2


# ---- Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_errors_name_the_argument(kind):
    a = np.eye(40)

    def call(rank=2, a=a, **options):
        return gm.nystrom_eigh(ALL[kind](a), rank, **options)

    for options, error, match in (
        ({"rank": 0}, ValueError, "rank is 0"),
        ({"rank": 41}, ValueError, "rank is 41; it must be from 1 to n = 40"),
        ({"rank": 2.0}, TypeError, "rank is 2.0"),
        ({"oversample": -1}, ValueError, "oversample is -1"),
        ({"rng": "x"}, TypeError, "rng is 'x'"),
        ({"check_finite": 3}, TypeError, "check_finite is 3"),
        ({"a": np.eye(40, 30)}, ValueError, r"a has (shape \(40, 30\)|more than 30 rows); it must"),
        ({"a": np.eye(30, 40)}, ValueError, r"a has (shape \(30, 40\)|30 rows); it must be square"),
        ({"a": np.eye(40, dtype=np.int64)}, TypeError, "a has dtype int64"),
    ):
        with pytest.raises(error, match=match):
            call(**options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ALL)
def test_what_is_not_finite_is_an_error_or_nan(kind, value):
    a = np.eye(40)
    a[30, 7] = value
    match = "a (contains|gave) NaN or infinity"
    with pytest.raises(ValueError, match=match), np.errstate(invalid="ignore"):
        gm.nystrom_eigh(ALL[kind](a), 3)
    with np.errstate(invalid="ignore"):
        w, v = gm.nystrom_eigh(ALL[kind](a), 3, check_finite=False)
    assert (w.shape, v.shape) == ((3,), (40, 3))
    assert np.isnan(w).all()
    assert np.isnan(v).all()


def test_an_operator_that_does_not_multiply_is_named():
    a = np.eye(30)
    short = linalg.LinearOperator(a.shape, matvec=None, matmat=lambda x: x[:7], dtype=a.dtype)
    with pytest.raises(ValueError, match=r"a.matmat returned shape \(7, 22\) for \(30, 22\)"):
        gm.nystrom_eigh(short, 2)
    without = multiply_only(a)
    type(without).matvec = fail
    with pytest.raises(TypeError, match=r"a has no matvec; A v \(matvec\) is needed"):
        gm.nystrom_eigh(without, 2)


def fail(*_):
    raise NotImplementedError


def test_blocks_must_be_alike_and_the_same_again():
    with pytest.raises(ValueError, match="block 1 of a has shape"):
        gm.nystrom_eigh([np.eye(3, 4), np.eye(1, 5)], 1)
    with pytest.raises(TypeError, match="block 0 of a is a"):
        gm.nystrom_eigh([[1.0]], 1)
    with pytest.raises(ValueError, match="a has no row blocks"):
        gm.nystrom_eigh([], 1)

    class Shuffling:
        rng = np.random.default_rng(0)

        def __iter__(self):
            return iter([cut(np.diag(I))[i] for i in self.rng.permutation(4)])

    with pytest.raises(ValueError, match="is another on read 2 than at first"):
        gm.nystrom_eigh(Shuffling(), 4)


def test_too_many_rows_are_noticed_before_they_are_read():
    taken = iter([np.eye(10)] * 1000)
    with pytest.raises(ValueError, match="a has more than 10 rows"):
        gm.nystrom_eigh(taken, 2)
    assert len(list(taken)) == 998


def test_a_bad_option_takes_no_block():
    taken = iter([np.eye(3)])
    with pytest.raises(ValueError, match="rank is 0"):
        gm.nystrom_eigh(taken, 0)
    assert gm.nystrom_eigh(taken, 1)[0].shape == (1,)


# ---- On a GPU ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spectrum", ["slow", "down to rounding", "rank 3"])
def test_blocks_on_a_gpu_as_arrays_there(spectrum, dtype, monkeypatch):
    a = semidefinite(SPECTRA[spectrum], dtype)
    expected, vectors = gm.nystrom_eigh(a, 8)
    gpu_road.emulate(monkeypatch)
    blocks = list(torch.from_numpy(a).split(23))
    w, v = gm.nystrom_eigh(blocks, 8)
    assert (str(v.dtype), w.shape) == (f"torch.{dtype}", (8,))
    np.testing.assert_allclose(w.numpy(), expected, atol=50 * eps(dtype))
    v = v.resolve_conj().numpy()
    assert np.abs(wide(v).conj().T @ wide(v) - np.eye(8)).max() <= 40 * eps(dtype)
    assert left(a, w.numpy(), v) <= left(a, expected, vectors) + 50 * np.sqrt(N) * eps(dtype)
    with pytest.raises(ValueError, match="a has more than 80 rows"):
        gm.nystrom_eigh([*blocks, blocks[0]], 8)
    blocks[2][3, 4] = torch.nan
    with pytest.raises(ValueError, match="block 2 of a contains NaN or infinity"):
        gm.nystrom_eigh(blocks, 8)
    assert bool(torch.isnan(gm.nystrom_eigh(blocks, 8, check_finite=False)[0]).all())
