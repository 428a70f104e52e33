"""Bounds on a GPU: libraries, streams, graphs, batches, and the proof at sizes of its own.

What the proofs promise on small matrices is tested with the CPU's roads in test_bounds.py, where
"gpu-gram" and "gpu-cholesky" are among the methods.
"""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.conftest import FLOATS, HALVES
from tests.cuda_arrays import same_bits, sample, wide
from tests.reference import bounds as reference

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]

DTYPES = (*HALVES, *FLOATS)
METHODS = ("gram", "cholesky")
SHAPES = [(1, 1), (7, 3), (3, 40, 65), (2, 3, 33, 20), (300, 200, 5), (2, 700, 1100), (1500, 1030)]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def figures(a):
    return a.detach().cpu().double().numpy()


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 6, 12, 10**9])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gram_bound_is_that_of_the_cpu(torch, shape, dtype, steps):
    x = sample(torch, shape, dtype)
    bound = gm.gram_bound(x, steps)
    assert bound.device == x.device
    assert tuple(bound.shape) == shape[:-2]
    given = wide(x)
    truth = np.vectorize(
        lambda *i: reference.gram_iteration(given[i], min(steps, 36)), otypes=[float]
    )(*np.indices(shape[:-2], sparse=False)) if shape[:-2] else reference.gram_iteration(
        given, min(steps, 36)
    )  # fmt: skip
    u = 2.0**-53 if dtype in ("float64", "complex128") else 2.0**-24
    # Sums of up to 1100 terms; after 36 squares roundings of the first have been halved away.
    np.testing.assert_allclose(figures(bound), truth, rtol=100 * u)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_brackets_hold_and_converge(torch, shape, dtype, method):
    x = sample(torch, shape, dtype)
    b = gm.spectral_norm_bounds(x, method=method)
    assert (b.method, b.certificate) == (method, "rounding")
    assert b.lower.device == b.upper.device == b.converged.device == x.device
    assert bool(b.converged.all())
    s = np.linalg.svd(wide(x), compute_uv=False)[..., 0]
    assert np.all(figures(b.lower) <= s * (1 + 1e-13))
    assert np.all(s <= figures(b.upper) * (1 + 1e-13))
    assert np.all(figures(b.upper) <= figures(b.lower) * (1 + 1.01e-6))
    norm = figures(gm.spectral_norm(x))
    # An estimate by another method may be off by as much as a bracket is wide.
    assert np.all(norm >= figures(b.lower) * (1 - 1e-6))
    assert np.all(norm <= figures(b.upper) * (1 + 1e-6))
    rank = np.sum(np.abs(wide(x)) ** 2, (-2, -1)) / s**2
    np.testing.assert_allclose(figures(gm.stable_rank(x)), rank, rtol=5e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [64, 1000, 2048])
def test_norms_known_exactly(torch, n, method):
    """A Hadamard matrix of order 2^k has all singular values 2^(k/2); integer rank-one matrices and
    scaled permutations have theirs exactly. At the tightest tolerance that rounding allows."""
    rng = np.random.default_rng(n)
    u, v = rng.integers(-9, 10, n).astype(float), rng.integers(-9, 10, n).astype(float)
    cases = {float(np.sqrt(u @ u) * np.sqrt(v @ v)): np.outer(u, v)}
    scaled = np.zeros((n, n))
    scaled[np.arange(n), rng.permutation(n)] = 2.0 ** rng.integers(-40, 8, n)
    cases[float(scaled.max())] = scaled
    if n & (n - 1) == 0:
        h = np.ones((1, 1))
        while len(h) < n:
            h = np.block([[h, h], [h, -h]])
        cases[float(np.sqrt(n))] = h
    for sigma, x in cases.items():
        for rtol in (1e-6, 1e-300):
            b = gm.spectral_norm_bounds(torch.from_numpy(x).cuda(), rtol=rtol, method=method)
            # sigma is off by a few roundings of its own where it is no integer.
            assert float(b.lower) <= sigma * (1 + 4e-16)
            assert sigma * (1 - 4e-16) <= float(b.upper)
            assert float(b.upper) <= float(b.lower) * (1 + max(rtol, (10 * n * n + 80) * 2.0**-53))


def test_matrices_at_every_scale_in_one_batch(torch):
    rng = np.random.default_rng(0)
    base = rng.standard_normal((60, 12, 17))
    exponents = np.linspace(-1060, 1015, 60).astype(int)
    x = np.ldexp(base, exponents[:, None, None])
    b = gm.spectral_norm_bounds(torch.from_numpy(x).cuda(), rtol=1e-9)
    for one, lower, upper in zip(x, figures(b.lower), figures(b.upper), strict=True):
        assert not reference.violation(one, lower, upper)
    bound = figures(gm.gram_bound(torch.from_numpy(x).cuda(), 20))
    assert np.all(bound * (1 + 1e-12) >= figures(b.lower))
    normal = (exponents > -1000) & (exponents < 1000)
    plain = figures(gm.spectral_norm_bounds(torch.from_numpy(base).cuda(), rtol=1e-9).upper)
    assert np.array_equal(np.ldexp(plain, exponents)[normal], figures(b.upper)[normal])


@pytest.mark.parametrize("dtype", FLOATS)
def test_zero_empty_nan_and_infinity(torch, dtype):
    x = sample(torch, (4, 30, 50), dtype)
    x[1] = 0
    x[2, 3, 4] = float("nan")
    x[3, 5, 6] = float("inf")
    alone = gm.spectral_norm_bounds(x[0])
    b = gm.spectral_norm_bounds(x)
    assert float(b.upper[1]) == float(b.lower[1]) == 0
    assert bool(b.converged[1])
    assert bool(torch.isnan(b.upper[2:]).all())
    assert bool(torch.isnan(b.lower[2:]).all())
    assert not bool(b.converged[2:].any())
    # The others take as many squares as the slowest of the batch.
    assert float(b.lower[0]) <= float(alone.upper)
    assert float(alone.lower) <= float(b.upper[0])
    bound = gm.gram_bound(x)
    assert same_bits(bound[0], gm.gram_bound(x[0]))
    assert float(bound[1]) == 0
    assert bool(torch.isnan(bound[2:]).all())
    for f in (gm.gram_bound, gm.spectral_norm_bounds, gm.spectral_norm, gm.stable_rank):
        with pytest.raises(ValueError, match="a contains NaN or infinity"):
            f(x, check_finite=True)
    out = torch.full((4,), 7.0, dtype=bound.dtype, device="cuda")
    with pytest.raises(ValueError, match="a contains"):
        gm.gram_bound(x, check_finite=True, out=out)
    assert bool((out == 7).all())
    for shape in [(0, 3, 4), (2, 0, 4), (3, 5, 0)]:
        empty = torch.zeros(shape, dtype=x.dtype, device="cuda")
        b = gm.spectral_norm_bounds(empty)
        assert tuple(b.upper.shape) == shape[:1]
        assert not b.upper.any()
        assert bool(b.converged.all())
        assert not gm.gram_bound(empty).any()


def test_strides_out_and_libraries(torch, cupy):
    x = sample(torch, (6, 80, 50))
    truth = gm.gram_bound(x)
    assert same_bits(truth, gm.gram_bound(x.mT)) or torch.allclose(truth, gm.gram_bound(x.mT))
    spread = torch.zeros(6, 160, 100, device="cuda")[:, ::2, ::2]
    spread.copy_(x)
    assert same_bits(truth, gm.gram_bound(spread))
    out = torch.full((12,), -1.0, device="cuda")
    assert gm.gram_bound(x, out=out[::2]).data_ptr() == out.data_ptr()
    assert same_bits(out[::2], truth)
    assert bool((out[1::2] == -1).all())
    for f in (gm.spectral_norm, gm.stable_rank):
        assert same_bits(f(x, out=out[::2]), f(x))
    with pytest.raises(ValueError, match="out has shape"):
        gm.gram_bound(x, out=out)
    y = cupy.asarray(x)
    assert np.array_equal(gm.gram_bound(y).get(), truth.cpu().numpy())
    b, c = gm.spectral_norm_bounds(y), gm.spectral_norm_bounds(x)
    assert isinstance(b.upper, cupy.ndarray)
    assert b.converged.dtype == bool
    assert np.array_equal(b.upper.get(), c.upper.cpu().numpy())
    with pytest.raises(NotImplementedError, match="method is 'eigh'"):
        gm.spectral_norm_bounds(x, method="eigh")


def test_gram_bound_is_queued_and_can_be_captured(torch):
    given = sample(torch, (3, 200, 300))
    truth = gm.gram_bound(given)
    x = torch.full_like(given, float("nan"))
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        gm.gram_bound(x)
        torch.cuda._sleep(200_000_000)
        x.copy_(given)
        late = gm.gram_bound(x)
        waited = stream.query()
    assert not waited
    stream.synchronize()
    assert same_bits(late, truth)
    graph = torch.cuda.CUDAGraph()
    x.zero_()
    with torch.cuda.graph(graph):
        captured = gm.gram_bound(x)
    x.copy_(given)
    graph.replay()
    assert same_bits(captured, truth)


def test_imitated_float64_does_not_reach_the_proof(run_python):
    """cuBLAS, and cuSOLVER with it, may be told to imitate float64 by narrower formats. Squaring
    does not pass through either; a factor is verified, whatever it is."""
    code = """
import numpy as np, torch, gramian as gm
x = np.random.default_rng(0).standard_normal((700, 500))
a = torch.from_numpy(x).cuda()
b = gm.spectral_norm_bounds(a, rtol=1e-300, method="gram")
print(float(b.lower).hex(), float(b.upper).hex(), float(gm.gram_bound(a)).hex())
c = gm.spectral_norm_bounds(a, rtol=1e-300, method="cholesky")
sigma = np.linalg.norm(x, 2)
assert float(c.lower) <= sigma * (1 + 1e-14) and sigma * (1 - 1e-14) <= float(c.upper)
"""
    plain = run_python(code)
    given = {"CUBLAS_EMULATE_DOUBLE_PRECISION": "1", "CUBLAS_EMULATION_STRATEGY": "eager"}
    assert run_python(code, **given) == plain


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_a_matrix_and_a_batch_have_the_same_bits(torch, dtype):
    """Small tiles for one, large ones for the other."""
    for shape in ((300, 64, 64), (150, 70, 100), (20, 333, 300)):
        x = sample(torch, shape, dtype)
        assert same_bits(gm.gram_bound(x)[7], gm.gram_bound(x[7]))


def test_large_matrices_are_factorized(torch):
    x = torch.randn(2, 2600, 3000, device="cuda")
    b = gm.spectral_norm_bounds(x)
    assert b.method == "cholesky"
    assert bool(b.converged.all())
    squared = gm.spectral_norm_bounds(x, method="gram")
    assert squared.method == "gram"
    assert bool(((b.lower <= squared.upper) & (squared.lower <= b.upper)).all())
    other_start = gm.spectral_norm_bounds(x, rng=5)
    assert bool(((b.lower <= other_start.upper) & (other_start.lower <= b.upper)).all())
