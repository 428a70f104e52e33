"""gramian.compat.polar: scipy's own tests, and what its documentation says."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from gramian.compat import polar

from tests.python.test_polar import FLOATS, default_tolerance
from tests.reference import matrices


def test_passes_the_tests_of_scipy(monkeypatch):
    origin = pytest.importorskip("scipy.linalg.tests.test_decomp_polar")
    monkeypatch.setattr(origin, "polar", polar)
    passed = 0
    for case in origin.precomputed_cases:
        origin.check_precomputed_polar(*case)
        passed += 1
    for case in origin.verify_cases:
        origin.verify_polar(case)
        passed += 1
    # Entries of every kind that its tolerances are for.
    for dtype in ("f8", "D", "i4", "?"):
        origin.verify_polar(np.ones((3, 2), dtype))
    assert passed >= 20


def test_signature_is_the_original():
    linalg = pytest.importorskip("scipy.linalg")
    assert list(inspect.signature(polar).parameters) == list(
        inspect.signature(linalg.polar).parameters
    )


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["zero", "rank_1", "rank_deficient", "hilbert", "gaussian_wide",
                                  "gaussian_square", "column", "logspace_1e-12"])  # fmt: skip
def test_always_an_isometry(name, dtype, side):
    x = matrices.build(name, 0, dtype)
    u, p = polar(x, side)
    short = u if x.shape[0] >= x.shape[1] else u.conj().T
    r = min(x.shape)
    bound = 2 * default_tolerance(x)
    assert u.dtype == p.dtype == x.dtype
    assert np.linalg.norm(short.conj().T @ short - np.eye(r)) <= bound * r**0.5
    product = u @ p if side == "right" else p @ u
    # What the rank leaves out is below the cutoff.
    allowed = bound + max(x.shape) * np.finfo(dtype).eps
    assert np.linalg.norm(product - x) <= allowed * r**0.5 * np.linalg.norm(x)


def test_takes_what_numpy_makes_an_array_of():
    u, p = polar([[0, -2], [2, 0]])
    assert u.dtype == np.float64
    assert np.allclose(u, [[0, -1], [1, 0]], atol=1e-15)
    assert np.allclose(p, 2 * np.eye(2), atol=1e-15)
    assert polar(np.eye(2, dtype=np.float16))[0].dtype == np.float32
    assert polar(np.eye(2, dtype=np.longdouble))[0].dtype == np.float64
    assert polar(np.eye(2, dtype=np.clongdouble))[0].dtype == np.complex128


@pytest.mark.parametrize(
    ("a", "side", "error", "match"),
    [
        (np.eye(2), "up", ValueError, "`side` must be either"),
        (np.ones(3), "right", ValueError, "`a` must be a 2-D array"),
        ([["a"]], "right", TypeError, "`a` has dtype"),
        ([[np.nan]], "right", ValueError, "^`a` contains NaN or infinity$"),
    ],
)
def test_errors(a, side, error, match):
    with pytest.raises(error, match=match):
        polar(a, side)
