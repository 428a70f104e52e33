"""Certified bounds converge: on hard spectra, against chosen starts, down to what is documented."""

from __future__ import annotations

import numpy as np
import pytest

from tests.norm_bounds import ROADS, bracket
from tests.reference import matrices


def hard_spectra(n):
    rng = np.random.default_rng(n)
    return {
        "dense top": matrices.with_spectrum(rng, 1 - 1e-5 * np.arange(n) / n, n, n),
        "dense top, narrow": matrices.with_spectrum(rng, 1 - 1e-9 * np.arange(n) / n, n, n),
        "quadratic top": matrices.with_spectrum(rng, 1 - (np.arange(n) / n) ** 2, n, n),
        "identity": np.eye(n),
        "one small": np.diag(np.r_[np.ones(n - 1), 0]),
        "one large": np.diag(np.r_[1, np.full(n - 1, 1 - 1e-12)]),
        "diagonal": np.diag(np.arange(n) + 1.0),
        "Jordan": np.eye(n) + np.eye(n, k=1),
        "alone among zeros": np.diag(np.r_[np.zeros(n - 1), 1]),
    }


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("n", [5, 16, 17, 150, 450])
def test_hard_spectra_converge(n, method):
    """Also where Lanczos' basis runs full and LAPACK has to step in."""
    for name, x in hard_spectra(n).items():
        truth = np.linalg.svd(x, compute_uv=False)[0]
        for rtol in (1e-3, 1e-6, 1e-8):
            b = bracket(x, rtol=rtol, method=method)
            assert b.converged, (name, rtol)
            assert b.lower <= truth * (1 + 1e-14), (name, rtol)
            assert b.upper >= truth * (1 - 1e-14), (name, rtol)
        b32 = bracket(x.astype(np.float32), method=method)
        assert b32.converged, name


SECONDS = [0.1, 0.30365, 0.3836, 0.9, 0.9823, 0.99, 0.9999, 0.999983, 1 - 1e-6]


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("cplx", [False, True])
@pytest.mark.parametrize("n", [30, 64, 200])
def test_converges_where_the_largest_diagonal_entry_belongs_to_another_vector(n, cplx, method):
    """The Gram matrix's top eigenvector is flat, the second one all but a unit vector."""
    flat = np.full(n, n**-0.5)
    peak = np.eye(n)[0] - flat[0] * flat
    x = np.zeros((len(SECONDS), n, n + 1), complex if cplx else float)
    x[:, :, 0] = flat
    x[:, :, 1] = np.sqrt(SECONDS)[:, None] * peak / np.linalg.norm(peak)
    if cplx:
        x *= np.exp(1j * np.arange(n))[:, None]
    for rtol in (0.3, 0.1, 1e-3, 1e-6, 1e-9):
        b = bracket(x, rtol=rtol, method=method)
        assert b.converged.all(), (rtol, b.converged)
        assert (b.lower <= 1 + 1e-14).all()
        assert (b.upper >= 1 - 1e-14).all()


def start_vector(seed, n):
    """Of Lanczos, before normalization: SplitMix64 (lanczos.hpp)."""
    mask = 2**64 - 1
    out = []
    for i in range(n):
        z = (seed * 0xD1342543DE82EF95 + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        out.append((z >> 11) * 2.0**-52 - 1.0 + 2.0**-53)
    return np.array(out)


@pytest.mark.parametrize(
    "method", ["cholesky", pytest.param("gpu-cholesky", marks=pytest.mark.gpu)]
)
@pytest.mark.parametrize("n", [18, 40, 300])
@pytest.mark.parametrize("top", [1.5, 1 + 1e-5, 1000.0])
def test_a_start_vector_that_misses_the_top_is_found_out(n, top, method):
    """Lanczos settles on the second singular value and stops; the factorization must find out."""
    for seed in range(5):
        q = start_vector(seed, n)
        v = np.zeros(n)
        v[3], v[7] = q[7], -q[3]
        v /= np.linalg.norm(v)
        assert abs(q @ v) < 1e-16  # the attack is real
        x = np.eye(n) + (top - 1) * np.outer(v, v)
        truth = np.linalg.svd(x, compute_uv=False)[0]
        b = bracket(x, method=method, rng=seed)
        assert b.converged
        assert b.lower <= truth * (1 + 1e-14)
        assert b.upper >= truth * (1 - 1e-14)


@pytest.mark.parametrize("method", ROADS)
@pytest.mark.parametrize("cplx", [False, True])
def test_converges_down_to_the_documented_tolerance(cplx, method):
    """docs/bounds.md: (2 n^2 + 600 n) u, on a GPU (10 m n + 80) u, three times that for complex
    matrices."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 8, 30, 100, 300):
        for m in (n, 2 * n):
            units = 10 * m * n + 80 if method.startswith("gpu") else 2 * n * n + 600 * n
            rtol = units * 2.0**-53 * (3 if cplx else 1)
            gaussian = rng.standard_normal((m, n)) + (
                1j * rng.standard_normal((m, n)) if cplx else 0
            )
            for x in (gaussian, matrices.orthonormal(rng, m, n, cplx=cplx), np.ones((m, n))):
                assert bracket(x, rtol=rtol, method=method).converged
