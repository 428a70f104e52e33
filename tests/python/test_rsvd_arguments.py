"""Randomized SVD: relatives, arguments, documentation."""

from __future__ import annotations

import dataclasses

import gramian as gm
import numpy as np
import pytest

from tests.docstrings import check_numpydoc
from tests.reference import matrices
from tests.reference.svd import DTYPES, check_orthonormal, eps, wide

# ---- Relatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(80, 50), (50, 80)])
def test_range_finder(shape, dtype):
    a = matrices.power_law(np.random.default_rng(0), -1, *shape)
    a = (a * (1 + 1j) if "complex" in dtype else a).astype(dtype)
    q = wide(gm.range_finder(a, 12, rng=3))
    assert np.abs(q.conj().T @ q - np.eye(12)).max() <= 40 * eps(dtype)
    sigma = np.linalg.svd(wide(a), compute_uv=False)
    left = np.linalg.norm(wide(a) - q @ (q.conj().T @ wide(a)))
    assert left <= 1.05 * np.linalg.norm(sigma[12:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_nystrom(dtype):
    rng = np.random.default_rng(0)
    cplx = "complex" in dtype
    for sigma in (np.arange(1.0, 61) ** -2, np.geomspace(1, 1e-12, 60), np.eye(60)[0]):
        q = matrices.orthonormal(rng, 60, 60, cplx=cplx)
        a = ((q * sigma) @ q.conj().T).astype(dtype)
        w, v = gm.nystrom_eigh(a, 6)
        np.testing.assert_allclose(w, sigma[:6], rtol=1e-3, atol=50 * eps(dtype))
        assert np.all(np.diff(w) <= 0)
        assert np.all(w >= 0)
        check_orthonormal(v, wide(v).conj().T, dtype)
        assert np.linalg.norm(wide(a) - (wide(v) * w) @ wide(v).conj().T) <= (
            1.01 * np.linalg.norm(sigma[6:]) + 50 * eps(dtype)
        )


# ---- Arguments -----------------------------------------------------------------------------------


A = np.eye(6, 4)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, ValueError, "rank is None and tol is None"),
        ({"rank": 0}, ValueError, "rank is 0"),
        ({"rank": 5}, ValueError, r"rank is 5; it must be from 1 to min\(m, n\) = 4"),
        ({"rank": 2.0}, TypeError, "rank is 2.0"),
        ({"rank": True}, TypeError, "rank is True"),
        ({"rank": 2, "oversample": -1}, ValueError, "oversample is -1"),
        ({"rank": 2, "passes": 0}, ValueError, "passes is 0"),
        ({"rank": 2, "passes": "some"}, ValueError, "passes is 'some'"),
        ({"rank": 2, "method": "lanczos"}, ValueError, "method is 'lanczos'"),
        ({"rank": 2, "center": 1}, TypeError, "center is 1"),
        ({"rank": 2, "rng": "x"}, TypeError, "rng is 'x'"),
        ({"rank": 2, "v0": np.ones((3, 1))}, ValueError, r"v0 has shape \(3, 1\)"),
        ({"rank": 2, "v0": np.ones((4, 1), "f")}, ValueError, "v0 has dtype float32"),
        ({"rank": 2, "v0": [[1.0]]}, TypeError, "v0 is a list"),
        ({"rank": 2, "check_finite": 3}, TypeError, "check_finite is 3"),
        ({"tol": 0.0}, ValueError, "tol is 0.0"),
        ({"tol": 1.5}, ValueError, "tol is 1.5"),
        ({"tol": "a"}, TypeError, "tol is 'a'"),
        ({"tol": 0.1, "passes": 2}, ValueError, "passes is 2; with tol"),
        ({"tol": 0.1, "method": "subspace"}, ValueError, "method is 'subspace'; with tol"),
    ],
)
def test_errors_name_the_argument(options, error, match):
    with pytest.raises(error, match=match):
        gm.rsvd(A, **options)


def test_what_is_no_matrix():
    for a in ([[1.0]], "A", {"a": A}):
        with pytest.raises(TypeError, match="a is a"):
            gm.rsvd(a, 1)
    with pytest.raises(ValueError, match="a has shape"):
        gm.rsvd(np.ones(3), 1)
    with pytest.raises(TypeError, match="a has dtype int64"):
        gm.rsvd(np.eye(3, dtype=np.int64), 1)
    with pytest.raises(ValueError, match="must be square"):
        gm.nystrom_eigh(A, 1)
    with pytest.raises(ValueError, match="size is 5"):
        gm.range_finder(A, 5)


def test_start_vectors_must_be_finite():
    with pytest.raises(ValueError, match="v0 contains NaN or infinity"):
        gm.rsvd(A, 2, method="subspace", v0=np.full((4, 1), np.nan))


@pytest.mark.parametrize("function", [gm.rsvd, gm.range_finder, gm.nystrom_eigh])
def test_docstrings_are_numpydoc(function):
    check_numpydoc(function)


def test_result_is_frozen_and_unpacks():
    result = gm.rsvd(A, 2)
    u, s, vh = result
    assert u is result.U
    assert s is result.S
    assert vh is result.Vh
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.S = s
