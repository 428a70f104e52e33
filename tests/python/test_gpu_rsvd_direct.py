"""The randomized SVD on a GPU that waits for nothing: its kernels against their references."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from gramian import _arrays, _rsvd_gpu_calls, _rsvd_gpu_direct
from gramian._rsvd_gpu_reads import Options
from gramian._sketch import sketch

from tests.cuda_arrays import same_bits
from tests.reference import direct_svd

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]

SHAPES = [(60, 40, 5, 3), (300, 300, 20, 10), (3000, 200, 30, 7), (5000, 1200, 64, 10),
          (2500, 2000, 128, 10), (1500, 1100, 134, 10), (20000, 150, 1, 0),
          (8000, 2100, 64, 10)]  # fmt: skip


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def options(rank, oversample, passes, seed=3, method="auto"):
    return Options(rank, oversample, passes, method, False, seed)


def matrix(m, n, decay, seed=0):
    """Singular values i^-decay over noise."""
    rng = np.random.default_rng(seed)
    inner = min(m, n)
    s = np.arange(1, inner + 1.0) ** -decay
    x = (rng.standard_normal((m, inner)) * s) @ rng.standard_normal((inner, n))
    return (x + 0.01 * rng.standard_normal((m, n))).astype(np.float32)


def on_the_device(torch, x, given, *, layout="rows", dtype="float32"):
    """U, S, V and the error's estimate; None where it gave up."""
    a = torch.from_numpy(x).cuda().to(getattr(torch, dtype))
    if layout == "columns":
        a = a.mT.contiguous().mT
    checked = _arrays.matrices(a, "a")
    assert _rsvd_gpu_direct.serves(checked, given)
    m, n = x.shape
    u = torch.full((m, given.rank), torch.nan, dtype=a.dtype, device="cuda")
    s = torch.full((given.rank,), torch.nan, device="cuda")
    vh = torch.full((given.rank, n), torch.nan, dtype=a.dtype, device="cuda")
    places = _rsvd_gpu_direct.Places(u, s, vh.mT, sign_of_v=False)
    found, passes = _rsvd_gpu_direct.decompose(checked, given, places)
    assert passes == given.passes
    if found is None:
        return None
    assert found.shifted == 0
    return *(x.float().cpu().numpy() for x in (u, s, vh)), found.error


def reference(x, given):
    m, n = x.shape
    size = given.rank + given.oversample
    z, y, w = np.zeros((n, size), np.float32), np.zeros((m, size), np.float32), np.zeros((n, size))
    figures = np.zeros(8 + size * (given.passes + 1))
    svd = direct_svd.Direct(x, z, y, w, figures, sketch(given.seed, n, size, "float32"))
    for t in range(1, given.passes + 1):
        svd.read(t, ritz=False, ends=t == given.passes)
    u, values, v = svd.factors(given.rank)
    assert figures[0] == 0
    turn = direct_svd.signs(u, u.astype(np.float32))
    return u * turn, np.sqrt(values), (v * turn).T


@pytest.mark.parametrize("passes", [1, 2, 3, 4])
@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize(("m", "n", "rank", "oversample"), SHAPES)
def test_step_by_step_as_the_reference(torch, m, n, rank, oversample, layout, passes):
    x = matrix(m, n, 0.75)
    given = options(rank, oversample, passes)
    found = on_the_device(torch, x, given, layout=layout)
    assert found is not None
    u, s, vh, estimate = found
    eye = np.eye(rank)
    wide_u, wide_v = u.astype(float), vh.astype(float)
    assert np.abs(wide_u.T @ wide_u - eye).max() <= 4e-6
    assert np.abs(wide_v @ wide_v.T - eye).max() <= 4e-6
    top = np.abs(u).argmax(0)
    assert np.all(u[top, np.arange(rank)] > 0)
    assert np.all(np.diff(s) <= 0)
    expected_u, expected_s, expected_v = reference(x, given)
    np.testing.assert_allclose(s, expected_s, rtol=2e-5)
    # Vectors of close singular values turn into one another; what they amount to does not.
    product, expected = (wide_u * s) @ wide_v, (expected_u * expected_s) @ expected_v
    size = np.linalg.norm(x)
    error, best = np.linalg.norm(x - product), np.linalg.norm(x - expected)
    assert abs(error - best) <= 2e-5 * size
    assert abs(estimate - error / size) <= 1e-4 * estimate + 4e-4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(torch, dtype):
    x = matrix(900, 400, 1.0)
    found = on_the_device(torch, x, options(12, 8, 3), dtype=dtype)
    expected = on_the_device(torch, x, options(12, 8, 3))
    assert found is not None
    assert expected is not None
    np.testing.assert_allclose(found[1], expected[1], rtol=2e-2)
    # The first of the entries that are largest as they are returned.
    u = found[0]
    assert np.all(u[np.abs(u).argmax(0), np.arange(12)] > 0)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.75, 1.5, 3.0])
@pytest.mark.parametrize("rank", [3, 10, 40])
def test_auto_is_as_good_as_the_usual_number_of_reads(torch, decay, rank):
    x = matrix(1200, 500, decay)
    a = torch.from_numpy(x).cuda()
    found = gm.rsvd(a, rank)
    usual = gm.rsvd(a, rank, passes=8 if rank < 50 else 5, method="subspace")

    def errors(result):
        left = a.double() - (result.U.double() * result.S.double()) @ result.Vh.double()
        return float(left.norm()), float(torch.linalg.matrix_norm(left, 2))

    for own, other in zip(errors(found), errors(usual), strict=True):
        assert own <= 1.05 * other + 1e-5 * float(a.norm())
    assert 1 <= found.info.passes <= 8


def test_repeatable_in_batches_and_turned(torch):
    x = torch.from_numpy(matrix(700, 300, 0.5)).cuda()
    one, again = gm.rsvd(x, 9, rng=1), gm.rsvd(x, 9, rng=1)
    for name in ("U", "S", "Vh"):
        assert same_bits(getattr(one, name), getattr(again, name))
    batch = gm.rsvd(torch.stack([x, 2 * x]), 9, rng=1)
    assert same_bits(batch.U[0], one.U)
    assert same_bits(batch.S[1], 2 * one.S)
    turned = gm.rsvd(x.mT, 9, rng=1)
    assert same_bits(turned.S, one.S)
    top = turned.U.abs().argmax(0)
    assert bool((turned.U[top, torch.arange(9)] > 0).all())
    assert float((turned.Vh.abs() - one.U.mT.abs()).abs().max()) <= 1e-6


def test_what_it_gives_up_on_is_done_all_the_same(torch):
    rng = np.random.default_rng(0)
    low = (rng.standard_normal((400, 3)) @ rng.standard_normal((3, 200))).astype(np.float32)
    for x, why in ((low, "rank"), (0 * low, "zero"), (low * np.float32(1e-30), "scale")):
        a = torch.from_numpy(x).cuda()
        found = gm.rsvd(a, 8, passes=3)
        size = float(a.double().norm())
        left = a.double() - (found.U.double() * found.S.double()) @ found.Vh.double()
        assert float(left.norm()) <= 1e-5 * size, why
        gram = found.U.double().mT @ found.U.double()
        assert float((gram - torch.eye(8, device="cuda").double()).abs().max()) <= 1e-5
    a = torch.from_numpy(low).cuda()
    assert gm.rsvd(0 * a, 8).info.fallbacks["restarted"] == 1
    a[5, 7] = torch.nan
    with pytest.raises(ValueError, match="a contains NaN or infinity"):
        gm.rsvd(a, 8)


def test_only_one_wait(torch):
    """With a number of reads: the figures' copy to the host."""
    x = torch.from_numpy(matrix(2000, 500, 0.5)).cuda()
    gm.rsvd(x, 20, passes=3)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        gm.rsvd(x, 20, passes=3)
    copies = [e for e in profile.events() if "Memcpy DtoH" in e.name]
    assert len(copies) == 1


def test_other_streams(torch):
    x = torch.from_numpy(matrix(900, 300, 0.5)).cuda()
    torch.cuda.synchronize()
    plain = gm.rsvd(x, 12, passes=3)
    with torch.cuda.stream(torch.cuda.Stream()):
        other = gm.rsvd(x, 12, passes=3)
    torch.cuda.synchronize()
    assert same_bits(plain.U, other.U)


def test_the_road_is_taken(torch, monkeypatch):
    def never(*_):
        raise AssertionError("the other road")

    monkeypatch.setattr(_rsvd_gpu_calls, "_one", never)
    x = torch.from_numpy(matrix(500, 200, 0.5)).cuda()
    for passes in (1, 2, 3, "auto"):
        assert gm.rsvd(x, 12, passes=passes).info.fallbacks["restarted"] == 0
