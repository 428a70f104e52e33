"""On a GPU: certified tolerances, row blocks that stream through the device, shards, Nystrom.

The same roads are tested without a GPU in test_rsvd_gpu_tol.py and test_rsvd_gpu_rows.py.
"""

from __future__ import annotations

import itertools
import pickle
import runpy
from pathlib import Path

import gramian as gm
import numpy as np
import pytest

from tests.conftest import FLOATS, HALVES
from tests.cuda_arrays import same_bits, sample, wide
from tests.reference import matrices
from tests.reference.svd import eps, least_rank

RECIPE = Path(__file__).parents[2] / "benchmarks/gpu/host_rows.py"

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def relative_error(x, result):
    u, s, vh = (wide(v) for v in (result.U, result.S, result.Vh))
    return np.linalg.norm(wide(x) - (u * s) @ vh) / np.linalg.norm(wide(x))


def cut(x, height):
    return [x[i : i + height] for i in range(0, len(x), height)]


# ---- Certified tolerances -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [n for n in matrices.HARD if n != "zero"])
def test_certified_error_holds_and_the_rank_is_near_the_least(torch, name, dtype):
    x = torch.from_numpy(matrices.build(name, 0, dtype)).to("cuda")
    sigma = np.linalg.svd(wide(x), compute_uv=False)
    for tol in (0.5, 1e-2, 1e-4):
        least = least_rank(sigma, tol)
        for method in ("gram", "krylov"):
            result = gm.rsvd(x, tol=tol, method=method, rng=2)
            assert result.info.error_kind == "upper bound"
            assert result.U.device == x.device
            assert result.U.dtype == x.dtype
            assert relative_error(x, result) <= result.info.error_estimate + 1e-14 <= tol + 1e-14
            assert result.info.rank <= least + 15


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision(torch, dtype):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(matrices.power_law(rng, -1.5, 60, 40)).to("cuda").to(getattr(torch, dtype))
    result = gm.rsvd(x, tol=0.1)
    assert result.U.dtype == x.dtype
    assert relative_error(x, result) <= result.info.error_estimate <= 0.1


def test_certificate_at_its_floor(torch):
    """As near as can be to what rounding leaves, where only the constants stand between."""
    rng = np.random.default_rng(0)
    for complex_ in (False, True):
        for m, n in ((300, 200), (200, 300), (3000, 2300)):
            k = min(m, n)
            spectrum = np.where(np.arange(k) < 40, 1.0, 1e-7)
            a = matrices.with_spectrum(rng, spectrum, m, n).astype(
                "complex128" if complex_ else "float64"
            )
            x = torch.from_numpy(a * (1 + 0.5j) if complex_ else a).to("cuda")
            with pytest.raises(gm.ConvergenceError, match="rounding leaves at least") as caught:
                gm.rsvd(x, 40, tol=1e-13)
            best = caught.value.best
            assert relative_error(x, best) <= best.info.error_estimate
            if n < 2048:  # with more columns a basis grows by blocks, and stops once it is told so
                assert best.info.error_estimate <= 1e-4


def test_subnormal_numbers_count(torch):
    """Subnormal float32 entries are not flushed when they are converted."""
    rng = np.random.default_rng(0)
    a = (matrices.geometric(rng, 1e-2, 50, 30) * 1e-39).astype(np.float32)
    x = torch.from_numpy(a).to("cuda")
    try:
        result = gm.rsvd(x, tol=1e-2)
    except gm.ConvergenceError as error:
        result = error.best
    u, s, vh = (wide(v) for v in result)
    scaled = a.astype(np.float64) * 2.0**140
    true = np.linalg.norm(scaled - (u * (s * 2.0**140)) @ vh) / np.linalg.norm(scaled)
    assert true <= result.info.error_estimate


def test_cupy_and_batches(torch, cupy):
    x = sample(torch, (2, 80, 50), "complex64")
    result = gm.rsvd(x, tol=0.3)
    other = gm.rsvd(cupy.asarray(x), tol=0.3)
    assert isinstance(other.U, cupy.ndarray)
    assert other.info.error_kind == "upper bound"
    np.testing.assert_allclose(other.S.get(), result.S.cpu().numpy(), rtol=1e-5)
    blocks = [cupy.asarray(b) for b in cut(x[0], 30)]
    assert gm.rsvd(blocks, tol=0.3).info.error_estimate <= 0.3


# ---- Row blocks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "subspace", "krylov", "gram", "single_pass"])
@pytest.mark.parametrize("dtype", [*HALVES, *FLOATS])
@pytest.mark.parametrize("center", [False, True])
def test_blocks_are_as_good_as_on_the_host(torch, dtype, method, center):
    x = sample(torch, (900, 120), dtype)
    x[:, :6] *= 20
    found = gm.rsvd(cut(x, 250), 6, method=method, center=center, rng=1)
    expected = gm.rsvd(cut(x.cpu(), 250), 6, method=method, center=center, rng=1)
    assert found.U.device == x.device
    assert found.U.dtype == x.dtype
    a = wide(x)
    a = a - a.mean(0) if center else a
    errors = [np.linalg.norm(a - (wide(r.U) * wide(r.S)) @ wide(r.Vh)) for r in (found, expected)]
    loss = {"float16": 2e-3, "bfloat16": 1.6e-2}.get(dtype) or 100 * eps(dtype)
    assert errors[0] <= 1.02 * errors[1] + loss * np.linalg.norm(a)


def test_no_tf32(torch):
    x = sample(torch, (600, 300), "float32")
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = False
        plain = gm.rsvd(cut(x, 200), 8)
        torch.backends.cuda.matmul.allow_tf32 = True
        allowed = gm.rsvd(cut(x, 200), 8)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert same_bits(plain.S, allowed.S)


def test_a_host_matrix_streams_through_two_buffers(torch):
    """The recipe of the documentation: device memory stays that of the buffers and Y."""
    x = sample(torch, (40000, 500), "float32").cpu()
    x[:, :5] *= 30
    expected = gm.rsvd(x.to("cuda"), 5)
    torch.cuda.empty_cache()
    blocks = runpy.run_path(str(RECIPE))["HostRows"](x, 2000)
    torch.cuda.reset_peak_memory_stats()
    start = torch.cuda.memory_allocated()
    for given in ({"method": "subspace"}, {"method": "gram"}, {"center": True}):
        result = gm.rsvd(blocks, 5, **given)
        if "center" not in given:
            np.testing.assert_allclose(wide(result.S), wide(expected.S), rtol=1e-4)
    proved = gm.rsvd(blocks, tol=0.9)
    assert relative_error(x, proved) <= proved.info.error_estimate <= 0.9
    used = torch.cuda.max_memory_allocated() - start
    # Nothing near the 80 MB of the matrix: Y, its Q and their likes in double, a block in double.
    assert used <= 8 * 40000 * 15 * 6 + 8 * 2000 * 500 * 3 + 40 * 2**20


# ---- Shards and Nystrom -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_shards_give_the_single_shot_answer(torch, dtype):
    x, z = sample(torch, (900, 120), dtype), sample(torch, (120, 15), dtype, seed=1)
    x[:, :4] *= 30

    def finished(count):
        edges = [900 * i // count for i in range(count + 1)]
        shards = [gm.rsvd_partial(x[i:j], z, row_offset=i) for i, j in itertools.pairwise(edges)]
        assert shards[0].w.device == x.device
        sent = [pickle.loads(pickle.dumps(p)) for p in shards]
        return gm.rsvd_finish(sent[::-1], rank=4), shards

    one, _ = finished(1)
    for count in (3, 8):
        found, shards = finished(count)
        slack = 20 * np.sqrt(eps(dtype)) * np.linalg.norm(wide(x))
        np.testing.assert_allclose(wide(found.S), wide(one.S), atol=slack)
        sums = [sum(getattr(p, name) for p in shards) for name in ("w", "gram", "squares")]
        part = gm.rsvd_finish([shards[1].with_sums(*sums)], rank=4)
        np.testing.assert_allclose(wide(part.S), wide(found.S), rtol=1e-3)


@pytest.mark.parametrize("dtype", [*HALVES, *FLOATS])
def test_nystrom_is_as_good_as_on_the_host(torch, dtype):
    x = sample(torch, (2, 300, 90), "complex64" if "complex" in dtype else "float32")
    x[..., :6] *= 10
    a = (x.mH @ x / 300).to(getattr(torch, dtype))
    w, v = gm.nystrom_eigh(a, 8)
    expected, vectors = gm.nystrom_eigh(a.cpu(), 8)
    assert v.device == a.device
    assert v.dtype == a.dtype
    unit = {"float16": 2e-3, "bfloat16": 1.6e-2}.get(dtype) or 100 * eps(dtype)
    np.testing.assert_allclose(wide(w), wide(expected), rtol=1e-5 + unit)
    for i in range(2):
        errors = [
            np.linalg.norm(wide(a[i]) - (wide(p[i]) * wide(q[i])) @ wide(p[i]).conj().T)
            for p, q in ((v, w), (vectors, expected))
        ]
        assert errors[0] <= 1.05 * errors[1] + 10 * unit * np.linalg.norm(wide(a[i]))


@pytest.mark.parametrize("dtype", [*HALVES, *FLOATS])
def test_nystrom_of_blocks_is_that_of_an_array(torch, dtype):
    x = sample(torch, (300, 90), "complex64" if "complex" in dtype else "float32")
    x[..., :6] *= 10
    a = (x.mH @ x / 300).to(getattr(torch, dtype))
    expected, _ = gm.nystrom_eigh(a, 8)
    w, v = gm.nystrom_eigh(a.split(40), 8)
    assert (w.device, v.device, v.dtype) == (a.device, a.device, a.dtype)
    np.testing.assert_allclose(wide(w), wide(expected), atol=100 * eps("float32") * float(w[0]))
    assert gm.nystrom_eigh(iter(a.split(40)), 8)[0].shape == (8,)
    with pytest.raises(ValueError, match="a has more than 90 rows"):
        gm.nystrom_eigh([*a.split(40), a], 8)
