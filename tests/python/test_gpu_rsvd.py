"""Randomized SVD on a GPU: the kernels, and results beside the CPU's.

Everything else of that road is tested without a GPU in test_rsvd_gpu_road.py.
"""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from gramian import _arrays, _rsvd_gpu_reads
from gramian._sketch import sketch

from tests.conftest import FLOATS, HALVES
from tests.cuda_arrays import same_bits, sample, wide

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]

DTYPES = (*HALVES, *FLOATS)
METHODS = ["auto", "subspace", "krylov", "single_pass", "gram"]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def host(x):
    return x.detach().cpu().numpy()


def unit(dtype):
    name = "float32" if dtype in HALVES else dtype
    return float(np.finfo(name).eps) / 2


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("rows", "first", "width"), [(1, 0, 1), (300, 0, 130), (1000, 200, 70)])
def test_the_sketch_is_that_of_the_cpu(torch, rows, first, width, dtype):
    a = _arrays.matrices(torch.zeros(3, rows, dtype=getattr(torch, dtype), device="cuda"), "a")
    seed = 2**40 + 7
    z = _rsvd_gpu_reads.Reads(a, _rsvd_gpu_reads.Options(1, 0, 0, "auto", False, seed)).sketch(
        width, first
    )
    assert np.array_equal(host(z), sketch(seed, rows, width, dtype, first_column=first))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["rows", "columns", "strided"])
@pytest.mark.parametrize(
    ("m", "n", "width"), [(1, 1, 1), (700, 33, 5), (40, 900, 17), (9000, 1000, 12)]
)
def test_one_read_gives_both_products(torch, m, n, width, layout, dtype):
    x = sample(torch, (m, n), dtype)
    if layout == "columns":
        x = x.mT.contiguous().mT
    if layout == "strided":
        spread = torch.zeros(m, 2 * n, dtype=x.dtype, device="cuda")[:, ::2]
        spread.copy_(x)
        x = spread
    for center in (False, True):
        options = _rsvd_gpu_reads.Options(1, 0, 0, "auto", center, 0)
        reads = _rsvd_gpu_reads.Reads(_arrays.matrices(x, "a"), options)
        z = reads.vectors.narrow(sample(torch, (n, width), reads.vectors.computed))
        a = wide(x)
        a = a - a.mean(0) if center else a
        zz = host(z).astype(a.dtype)
        for _ in range(2):  # the second read has the means already
            y, w = reads.read(z)
            size = np.linalg.norm(a) * np.linalg.norm(zz) + np.linalg.norm(wide(x)) * 1e-3
            assert np.linalg.norm(host(y) - a @ zz) <= 40 * unit(dtype) * size
            back = a.conj().T @ (a @ zz)
            assert np.linalg.norm(host(w) - back) <= 80 * unit(dtype) * size * np.linalg.norm(
                wide(x)
            )
        square = np.linalg.norm(a) ** 2
        loss = 1e-12 * np.linalg.norm(wide(x)) ** 2
        tolerance = (1e-6 if center and unit(dtype) > 1e-10 else 1e-12) * square + loss
        assert abs(reads.squares - square) <= tolerance


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(1, 1), (50, 20), (20, 50), (2, 3, 120, 60), (3000, 200), (150, 2000)]
)
@pytest.mark.parametrize("center", [False, True])
def test_as_good_as_on_the_cpu(torch, shape, dtype, method, center):
    x = sample(torch, shape, dtype)
    rank = max(1, min(shape[-2:]) // 4)
    found = gm.rsvd(x, rank, method=method, center=center, rng=3)
    expected = gm.rsvd(x.cpu(), rank, method=method, center=center, rng=3)
    assert found.U.device == x.device
    assert found.U.dtype == found.Vh.dtype == x.dtype
    assert tuple(found.S.shape) == (*shape[:-2], rank)
    a = wide(x)
    a = a - a.mean(-2, keepdims=True) if center else a
    size = np.linalg.norm(a, axis=(-2, -1))

    def error(result):
        u, s, vh = (wide(v) for v in (result.U, result.S, result.Vh))
        return np.linalg.norm(a - (u * s[..., None, :]) @ vh, axis=(-2, -1))

    rounding = {"float16": 2e-3, "bfloat16": 1.6e-2}.get(dtype, 100 * unit(dtype))
    assert np.all(error(found) <= 1.02 * error(expected) + rounding * size + 1e-30)
    if dtype not in HALVES:
        u, vh = wide(found.U), wide(found.Vh)
        eye = np.eye(rank)
        slack = 60 * unit(dtype)
        assert np.abs(np.swapaxes(u.conj(), -1, -2) @ u - eye).max() <= slack
        assert np.abs(vh @ np.swapaxes(vh.conj(), -1, -2) - eye).max() <= slack
        top = np.take_along_axis(u, np.abs(u).argmax(-2)[..., None, :], -2)
        assert np.all(top.real > 0)
        estimate = np.asarray(found.info.error_estimate) * size
        assert np.all(estimate >= error(found) * (1 - 1e-3) - np.sqrt(unit(dtype)) * 3 * size)


def test_repeatable_and_in_any_library(torch, cupy):
    x = sample(torch, (400, 150), "float32")
    one, again = gm.rsvd(x, 7, rng=1), gm.rsvd(x, 7, rng=1)
    assert same_bits(one.U, again.U)
    assert same_bits(one.S, again.S)
    other = gm.rsvd(cupy.asarray(x), 7, rng=1)
    assert isinstance(other.U, cupy.ndarray)
    np.testing.assert_allclose(other.S.get(), host(one.S), rtol=1e-6)
    state = torch.cuda.get_rng_state()
    gm.rsvd(x, 7)
    assert bool((state == torch.cuda.get_rng_state()).all())
    q = gm.range_finder(x, 9)
    assert tuple(q.shape) == (400, 9)
    assert float((q.mT @ q - torch.eye(9, device="cuda")).abs().max()) < 1e-5


def test_warm_start(torch):
    x = sample(torch, (500, 200), "float64")
    cold = gm.rsvd(x, 5, passes=6)
    warm = gm.rsvd(x, 5, passes=1, v0=cold.Vh.mH)
    plain = gm.rsvd(x, 5, passes=1)
    assert warm.info.error_estimate < plain.info.error_estimate
    # Of the same space, one power of A^H A further.
    assert np.all(host(warm.S) >= host(cold.S) * (1 - 1e-12))
    assert warm.info.error_estimate <= cold.info.error_estimate


@pytest.mark.parametrize("exponent", [-1000, -200, -40, 0, 40, 200, 1000])
def test_any_scale(torch, exponent):
    x = sample(torch, (300, 100), "float64")
    plain = gm.rsvd(x, 6)
    scaled = gm.rsvd(torch.ldexp(x, torch.tensor(exponent, device="cuda", dtype=torch.int32)), 6)
    np.testing.assert_allclose(np.ldexp(host(scaled.S), -exponent), host(plain.S), rtol=1e-10)
    if abs(exponent) <= 20:
        assert scaled.info.passes == plain.info.passes


def test_what_is_not_finite(torch):
    x = sample(torch, (2, 60, 30), "float32")
    x[1, 3, 4] = float("nan")
    with pytest.raises(ValueError, match="a contains NaN or infinity"):
        gm.rsvd(x, 3)
    found = gm.rsvd(x, 3, check_finite=False)
    assert bool(torch.isfinite(found.U[0]).all())
    assert bool(torch.isnan(found.U[1]).all())
    assert bool(torch.isnan(found.S[1]).all())


def test_no_tf32(torch):
    """Whatever the library's own products are allowed."""
    x = sample(torch, (600, 300), "float32")
    before = torch.backends.cuda.matmul.allow_tf32
    plain = gm.rsvd(x, 8)
    try:
        torch.backends.cuda.matmul.allow_tf32 = True
        allowed = gm.rsvd(x, 8)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert same_bits(plain.S, allowed.S)
