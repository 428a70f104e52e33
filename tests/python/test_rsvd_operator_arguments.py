"""Randomized SVD of sparse matrices, operators and row blocks: what is refused, and how."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.reference.row_kinds import KINDS, cut, methods_of

scipy_sparse = pytest.importorskip("scipy.sparse")
linalg = pytest.importorskip("scipy.sparse.linalg")

A = np.random.default_rng(0).standard_normal((12, 6))


def test_nan():
    spoiled = A.copy()
    spoiled[7, 2] = np.nan
    with pytest.raises(ValueError, match="block 2 of a contains NaN or infinity"):
        gm.rsvd(cut(spoiled, 3), 2)
    with pytest.raises(ValueError, match="a contains NaN or infinity"):
        gm.rsvd(scipy_sparse.csr_array(spoiled), 2)
    with pytest.raises(ValueError, match="a gave NaN or infinity"):
        gm.rsvd(linalg.aslinearoperator(spoiled), 2)
    for kind in ("csr", "operator", "blocks"):
        for method in methods_of(kind):
            result = gm.rsvd(KINDS[kind](spoiled), 2, method=method, check_finite=False)
            assert all(np.isnan(x).all() for x in result)
            assert result.U.shape == (12, 2)
        assert np.isnan(gm.range_finder(KINDS[kind](spoiled), 2, check_finite=False)).all()


@pytest.mark.parametrize(
    ("blocks", "error", "match"),
    [
        ([A, A[:, :5]], ValueError, r"block 1 of a has shape \(12, 5\); it must have 6 columns"),
        ([A, A.astype("f")], ValueError, "block 1 of a has dtype float32; it must be float64"),
        ([A, A * 1j], ValueError, "block 1 of a has dtype complex128"),
        ([A, A[0]], ValueError, r"block 1 of a has shape \(6,\); it must have 2 dimensions"),
        ([A[None]], ValueError, r"block 0 of a has shape \(1, 12, 6\)"),
        ([A.astype(int)], TypeError, "block 0 of a has dtype int64"),
        ([A, scipy_sparse.csr_array(A)], TypeError, "block 1 of a is an array of scipy.sparse"),
        ([A.tolist()], TypeError, "block 0 of a is a list"),
        ([[1.0]], TypeError, "block 0 of a is a list"),
        (["ab"], TypeError, "block 0 of a is a str"),
        ("ab", TypeError, "a is a str"),
        ({"a": A}, TypeError, "a is a dict"),
        (3.0, TypeError, "a is a float"),
    ],
)
def test_blocks_that_are_none(blocks, error, match):
    with pytest.raises(error, match=match):
        gm.rsvd(blocks, 2)


def test_blocks_of_two_libraries():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="block 1 of a is an array of torch; it must be of numpy"):
        gm.rsvd([A, torch.from_numpy(A)], 2)
    with pytest.raises(TypeError, match="block 0 of a requires grad"):
        gm.rsvd([torch.from_numpy(A).requires_grad_()], 2)


def test_operators_that_are_none():
    def op(**parts):
        whole = {"matmat": A.__matmul__, "rmatmat": A.T.__matmul__, "dtype": A.dtype} | parts
        return linalg.LinearOperator(A.shape, matvec=lambda v: A @ v, **whole)

    assert gm.rsvd(op(), 6).S.shape == (6,)
    with pytest.raises(ValueError, match=r"returned shape"):
        gm.rsvd(op(matmat=lambda x: A[:5] @ x), 2)
    with pytest.raises(TypeError, match="returned complex128; a has dtype float64"):
        gm.rsvd(op(matmat=lambda x: 1j * (A @ x)), 2)
    with pytest.raises(TypeError, match="a has dtype int64"):
        gm.rsvd(op(dtype=np.int64), 2)
    with pytest.raises(TypeError, match=r"a has no rmatvec"):
        gm.rsvd(linalg.LinearOperator(A.shape, matvec=lambda v: A @ v, dtype=A.dtype), 2)
    with pytest.raises(ValueError, match=r"tol is 0\.1; of an operator"):
        gm.rsvd(op(), tol=0.1)
    with pytest.raises(ValueError, match="method is 'gram'; of an operator"):
        gm.rsvd(op(), 2, method="gram")


class Vectors:
    """No scipy: matvec and rmatvec alone."""

    shape, dtype = A.shape, A.dtype

    def matvec(self, v):
        return A @ v

    def rmatvec(self, u):
        return A.T @ u


def test_an_operator_needs_no_scipy():
    np.testing.assert_allclose(gm.rsvd(Vectors(), 3, rng=0).S, gm.rsvd(A, 3, rng=0).S)


@pytest.mark.parametrize("kind", ["csr", "operator", "blocks"])
@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, ValueError, "rank is None and tol is None"),
        ({"rank": 0}, ValueError, "rank is 0"),
        ({"rank": 7}, ValueError, "rank is 7; it must be from 1 to"),
        ({"rank": 2.0}, TypeError, "rank is 2.0"),
        ({"rank": 2, "oversample": -1}, ValueError, "oversample is -1"),
        ({"rank": 2, "passes": 0}, ValueError, "passes is 0"),
        ({"rank": 2, "method": "lanczos"}, ValueError, "method is 'lanczos'"),
        ({"rank": 2, "method": "single_pass", "passes": 2}, ValueError, "passes is 2"),
        ({"rank": 2, "center": 1}, TypeError, "center is 1"),
        ({"rank": 2, "rng": "x"}, TypeError, "rng is 'x'"),
        ({"rank": 2, "v0": np.ones((3, 1))}, ValueError, r"v0 has shape \(3, 1\)"),
        ({"rank": 2, "v0": np.ones((6, 1), "f")}, ValueError, "v0 has dtype float32"),
        ({"rank": 2, "v0": np.full((6, 1), np.nan)}, ValueError, "v0 contains NaN"),
        ({"rank": 2, "v0": [[1.0]]}, TypeError, "v0 is a list"),
        ({"rank": 2, "check_finite": 3}, TypeError, "check_finite is 3"),
        ({"tol": 1.5}, ValueError, "tol is 1.5"),
    ],
)
def test_errors_name_the_argument(options, error, match, kind):
    with pytest.raises(error, match=match):
        gm.rsvd(KINDS[kind](A), **options)


def test_more_rank_than_rows_is_known_after_the_read():
    with pytest.raises(ValueError, match=r"rank is 5; it must be from 1 to min\(m, n\) = 4"):
        gm.rsvd([A[:2], A[2:4]], 5)
    with pytest.raises(ValueError, match=r"size is 5; it must be from 1 to min\(m, n\) = 4"):
        gm.range_finder([A[:2], A[2:4]], 5)


def test_sparse_matrices_that_are_none():
    with pytest.raises(TypeError, match="a has dtype int64"):
        gm.rsvd(scipy_sparse.csr_array(np.eye(4, dtype=np.int64)), 2)
    with pytest.raises(ValueError, match=r"a has shape \(6,\)"):
        gm.rsvd(scipy_sparse.coo_array(A[0]), 1)


def test_input_is_not_written():
    kept = A.copy()
    a = A.copy()
    a.flags.writeable = False
    gm.rsvd([a[:5], a[5:]], 3, center=True)
    gm.rsvd([a[:5], a[5:]], 3, method="gram")
    np.testing.assert_array_equal(a, kept)
