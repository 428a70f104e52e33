"""operator_norm_bounds of products alone: what has a probability holds that often."""

from __future__ import annotations

import json
import math
import sys

import gramian as gm
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from gramian import _operator_bounds
from scipy.stats import binom

from tests.operator_bounds import (
    DTYPES,
    SVD_ERROR,
    as_operator,
    check_bracket,
    check_fields,
    random_sparse,
    svd_norm,
)


@pytest.mark.parametrize("how", ["LinearOperator", "tuple", "object"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 40), (15, 60), (60, 15), (1, 7), (7, 1), (1, 1)])
def test_products_alone_are_bracketed_and_converge(how, dtype, shape):
    rng = np.random.default_rng(6)
    for seed in range(5):
        a = random_sparse(rng, *shape, density=1.0, dtype=dtype)
        bounds = gm.operator_norm_bounds(as_operator(a, how), rng=seed)
        check_fields(bounds, rtol=1e-6, dtype=dtype, certificate="probabilistic")
        assert bounds.confidence == 0.999
        check_bracket(bounds, svd_norm(a), error=4 * np.finfo(dtype).eps)
        assert bounds.converged


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [-120, -60, 60, 120])
def test_products_converge_at_any_scale(dtype, power):
    a = random_sparse(np.random.default_rng(7), 30, 20, density=1.0, dtype=dtype).toarray()
    power *= 1 if dtype in ("float32", "complex64") else 8
    scaled = a * np.dtype(dtype).type(2.0**power)
    first, second = (gm.operator_norm_bounds(as_operator(x, "tuple"), rng=0) for x in (a, scaled))
    assert np.ldexp(first.upper, power) == pytest.approx(second.upper, rel=1e-6, abs=0)
    assert np.ldexp(first.lower, power) == pytest.approx(second.lower, rel=1e-6, abs=0)
    assert second.converged


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("dtype", "top"),
    [(t, x) for t in ("float64", "complex128") for x in (1e-307, 1e-310, 1e-320, 5e-324)]
    + [(t, x) for t in ("float32", "complex64") for x in (1e-37, 1e-40, 1e-44, 1e-45)],
)
def test_subnormal_norms_are_bracketed(dtype, top):
    """Exact by construction. Neighbours of a subnormal number are far from it, relatively."""
    top = float(np.dtype(dtype).type(top).real)
    spacing = float(np.finfo(dtype).smallest_subnormal)
    rng = np.random.default_rng(12)
    for seed in range(20):
        values = np.zeros((3, 40), complex if np.dtype(dtype).kind == "c" else float)
        place = rng.integers(0, 3), rng.integers(0, 40)
        values[place] = top * (1j if seed % 2 and values.dtype.kind == "c" else -1)
        a = values.astype(dtype)[:, : 3 if seed % 4 == 0 and place[1] < 3 else 40]
        for op in (a, a.T):
            for how in ("LinearOperator", "tuple"):
                bounds = gm.operator_norm_bounds(as_operator(op, how), rng=seed)
                check_fields(bounds, rtol=1e-6, dtype=dtype, certificate="probabilistic")
                check_bracket(bounds, top)
                room = 3 * spacing + top * 1e-6 * (1 if spacing < 1e-300 else 3)
                assert float(bounds.upper) - float(bounds.lower) <= room
        small = sp.csr_array(a)
        check_bracket(gm.operator_norm_bounds(small, rng=seed), top)


def test_subnormal_matrices_are_bracketed():
    """Many entries; the truth from the same integers without their scale."""
    rng = np.random.default_rng(13)
    for seed in range(20):
        integers = rng.integers(-9, 10, (12, 9)).astype(float)
        truth = np.linalg.norm(integers, 2)
        for dtype, tiny in (("float64", 2.0**-1074), ("float32", 2.0**-149)):
            a = (integers * tiny).astype(dtype)
            bounds = gm.operator_norm_bounds(as_operator(a, "tuple"), rng=seed)
            assert float(bounds.lower) / tiny <= truth <= float(bounds.upper) / tiny
            assert float(bounds.upper) / tiny <= truth + 2


def test_products_that_underflow_are_taken_for_zero():
    """As documented: factors of 1e-40 in float32, whose product no vector brings back."""
    small = np.float32(1e-40)
    op = (lambda v: v * small * small, lambda u: u * small * small, (4, 4), np.float32)
    bounds = gm.operator_norm_bounds(op, rng=0)
    assert bounds.lower == bounds.upper == 0
    assert bounds.certificate == "probabilistic"


# ---- The probability -----------------------------------------------------------------------------


def test_start_is_random():
    """A start of ones would be an eigenvector, of eigenvalue 1 where the norm is 5."""
    a = 5 * np.eye(4) - np.ones((4, 4))
    for seed in range(50):
        bounds = gm.operator_norm_bounds(as_operator(a, "tuple"), rng=seed)
        check_bracket(bounds, 5.0, error=SVD_ERROR)
        assert bounds.converged


def failures(a, truth, confidence, trials, **options):
    op = as_operator(a, "tuple")
    found = [
        gm.operator_norm_bounds(op, confidence=confidence, rng=s, **options) for s in range(trials)
    ]
    return sum(float(b.upper) < truth * (1 - SVD_ERROR) for b in found)


def hidden(n, height, dtype):
    """One singular value over a cluster at 1: what a bad start vector does not see."""
    rng = np.random.default_rng(8)
    a = np.eye(n, dtype=dtype)
    x = rng.standard_normal(n).astype(dtype)
    if a.dtype.kind == "c":
        x += 1j * rng.standard_normal(n)
    x /= np.linalg.norm(x)
    return a + (height - 1) * np.outer(x, x.conj())


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("rtol", [1e6, 0.5, 1e-4])
def test_probability_is_kept(dtype, confidence, rtol):
    """Few steps, or a top that hardly shows: the bound may fail, but not more often than said."""
    trials = 400
    for a, truth in (
        (hidden(30, 3.0, dtype), 3.0),
        (hidden(30, 1.001, dtype), 1.001),
        (np.outer(np.ones(25), np.ones(16)).astype(dtype), 20.0),
    ):
        failed = failures(a, truth, confidence, trials, rtol=rtol)
        assert binom.sf(failed - 1, trials, 1 - confidence) > 1e-6, failed


# ---- Cost ----------------------------------------------------------------------------------------


def second_difference(n):
    return sp.diags_array(
        [-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1]
    ).tocsr()


def test_restarts_keep_the_bound_and_cost_few_steps(monkeypatch):
    n = 1500
    a = second_difference(n)
    truth = 4 * math.sin(math.pi * n / (2 * (n + 1))) ** 2
    steps = {}
    for most in (24, 1000):
        monkeypatch.setattr(_operator_bounds, "_BASIS_MOST", most)
        monkeypatch.setattr(_operator_bounds, "_BASIS_BYTES", 8 * n * most)
        bounds = gm.operator_norm_bounds(spla.aslinearoperator(a), rtol=1e-4, rng=0)
        check_bracket(bounds, truth, error=SVD_ERROR)
        assert bounds.converged
        steps[most] = bounds.n_iter
    assert 24 < steps[1000] < steps[24] < 2 * steps[1000]


def test_steps_follow_the_gap():
    """Some tens where there is one, though the theorem for all matrices asks for thousands."""
    rng = np.random.default_rng(9)
    gap = np.diag(np.r_[2.0, rng.uniform(0, 1, 999)])
    assert gm.operator_norm_bounds(spla.aslinearoperator(gap), rng=0).n_iter <= 20
    gaussian = rng.standard_normal((1000, 1000))
    assert gm.operator_norm_bounds(spla.aslinearoperator(gaussian), rng=0).n_iter <= 120


def test_memory_is_bounded(run_python):
    """64 long vectors, one more, and a few at work; more steps than that."""
    n = 100_000
    code = f"""
import json, numpy as np, gramian as gm
def status(key):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key))
n = {n}
op = (lambda v: v[1:] - v[:-1], lambda u: np.concatenate([-u[:1], u[:-1] - u[1:], u[-1:]]),
      (n - 1, n), np.float64)
gm.operator_norm_bounds((op[0], op[1], (99, 100), np.float64), rtol=0.1)
start = status("VmRSS")
b = gm.operator_norm_bounds(op, rtol=3e-3, rng=0)
print(json.dumps([status("VmHWM") - start, b.n_iter, bool(b.converged)]))
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    grown, steps, converged = json.loads(run_python(code, MALLOC_MMAP_THRESHOLD_="65536",
                                                    MALLOC_TRIM_THRESHOLD_="65536",
                                                    OPENBLAS_NUM_THREADS="1"))  # fmt: skip
    assert steps > 64
    assert converged
    assert grown <= (64 + 1 + 10) * n * 8


def test_scipy_is_not_imported(run_python):
    code = """
import sys, numpy as np, gramian as gm
a = np.ones((3, 4))
b = gm.operator_norm_bounds((lambda v: a @ v, lambda u: a.T @ u, a.shape, a.dtype))
assert abs(float(b.upper) - 12**0.5) < 1e-5
assert "scipy" not in sys.modules
"""
    run_python(code)
