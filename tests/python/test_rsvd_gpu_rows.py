"""Row blocks, shards and Nystrom on a GPU: the road of CUDA tensors, with torch on the CPU."""

from __future__ import annotations

import gc
import itertools
import pickle
import warnings
import weakref

import gramian as gm
import numpy as np
import pytest
from gramian import _arrays_torch

from tests import gpu_road
from tests.python.test_rsvd_gpu_road import KINDS, matrix
from tests.reference import matrices
from tests.reference.svd import check_orthonormal, eps, frobenius_error

torch = pytest.importorskip("torch")

METHODS = ["auto", "subspace", "krylov", "gram", "single_pass"]


def cut(x, height=37):
    return [torch.from_numpy(x[i : i + height]) for i in range(0, len(x), height)]


def error_of(x, result):
    return frobenius_error(x, gpu_road.host(result))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_blocks_are_as_good_as_on_the_host(dtype, kind, monkeypatch):
    rng = np.random.default_rng(0)
    inputs = [matrix(rng, m, n, kind, dtype) for m, n in ((200, 80), (80, 200))]
    for x in inputs:
        for method in METHODS:
            for center in (False, True):
                host = [b.numpy() for b in cut(x)]
                expected = gm.rsvd(host, 5, method=method, center=center, rng=1)
                with monkeypatch.context() as here:
                    gpu_road.emulate(here)
                    found = gm.rsvd(cut(x), 5, method=method, center=center, rng=1)
                assert isinstance(found.U, torch.Tensor)
                assert found.info.method == expected.info.method
                a = x - x.mean(0) if center else x
                size = np.linalg.norm(a)
                if size <= 1e-5 * np.linalg.norm(x):
                    continue  # what is left of the mean's rounding
                best = frobenius_error(a, expected)
                error = error_of(a, found)
                assert error <= 1.1 * best + 100 * eps(dtype) * np.linalg.norm(x)
                estimate = found.info.error_estimate * size
                assert estimate >= error * (1 - 1e-3) - 3 * np.sqrt(eps(dtype)) * size
                u, _, vh = gpu_road.host(found)
                check_orthonormal(u, vh, dtype, 256)


@pytest.fixture
def road(monkeypatch):
    gpu_road.emulate(monkeypatch)


@pytest.mark.parametrize("exponent", [-1000, -200, -40, 3, 40, 200, 1000])
def test_scaling_by_a_power_of_two_is_exact(road, exponent):
    x = matrix(np.random.default_rng(1), 60, 40, "slow", "float64")
    plain = gm.rsvd(cut(x), 4).S.numpy()
    scaled = gm.rsvd(cut(np.ldexp(x, exponent)), 4).S.numpy()
    np.testing.assert_array_equal(np.ldexp(scaled, -exponent), plain)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_of_very_different_size(road, method):
    """The scale is found block by block."""
    rng = np.random.default_rng(0)
    x = matrix(rng, 111, 40, "slow", "float32") * np.float32(1e30)
    x[:37] *= np.float32(1e-55)
    result = gm.rsvd(cut(x), 4, method=method)
    s = np.linalg.svd(x.astype(float), compute_uv=False)
    np.testing.assert_allclose(result.S.numpy(), s[:4], rtol=0.2 if "single" in method else 0.02)
    a = x.astype(float) * 1e-30
    u, values, vh = (v.astype(float) for v in gpu_road.host(result))
    error = np.linalg.norm(a - (u * (values * 1e-30)) @ vh) / np.linalg.norm(a)
    assert error == pytest.approx(result.info.error_estimate, rel=0.02)


class Blocks:
    """Made anew for each read; counts how many there are at once."""

    def __init__(self, x, height, *, shuffled=False):
        self.x, self.height, self.shuffled = x, height, shuffled
        self.reads = self.alive = self.most = 0

    def _gone(self):
        self.alive -= 1

    def __iter__(self):
        self.reads += 1
        starts = list(range(0, len(self.x), self.height))
        for i in reversed(starts) if self.shuffled and self.reads > 1 else starts:
            gc.collect()
            block = torch.from_numpy(self.x[i : i + self.height].copy())
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(block, self._gone)
            yield block
            del block


def test_one_block_is_held_at_a_time(road):
    x = matrix(np.random.default_rng(0), 200, 80, "slow", "float32")
    for given in ({"rank": 4, "method": "subspace"}, {"rank": 4, "method": "gram"}, {"tol": 0.5}):
        blocks = Blocks(x, 50)
        result = gm.rsvd(blocks, **given)
        assert result.info.passes == blocks.reads
        assert blocks.most == 1


def test_one_device_buffer_may_be_used_for_all_blocks(road):
    """As is natural where memory is short: a block is done with when the next is asked for."""
    x = matrix(np.random.default_rng(0), 200, 80, "slow", "float64")

    class Reused:
        def __iter__(self):
            buffer = torch.empty(50, 80, dtype=torch.float64)
            for i in range(0, 200, 50):
                yield buffer.copy_(torch.from_numpy(x[i : i + 50]))

    for given in ({"rank": 5}, {"rank": 5, "method": "krylov"}, {"tol": 0.3}):
        plain, reused = gm.rsvd(cut(x, 50), **given), gm.rsvd(Reused(), **given)
        for one, other in zip(plain, reused, strict=True):
            assert torch.equal(one, other)


def test_what_is_refused(road, monkeypatch):
    x = matrix(np.random.default_rng(0), 200, 80, "slow", "float32")
    for method in ("subspace", "gram"):
        with pytest.raises(ValueError, match=r"block 0 of a is another on read 2 than at first"):
            gm.rsvd(Blocks(x, 50, shuffled=True), 4, method=method)
    with pytest.raises(ValueError, match="a can be read only once"):
        gm.rsvd(iter(cut(x)), 4)
    assert gm.rsvd(iter(cut(x)), 4, method="single_pass").info.passes == 1
    bad = x.copy()
    bad[150, 3] = np.inf
    with pytest.raises(ValueError, match="block 4 of a contains NaN or infinity"):
        gm.rsvd(cut(bad), 4)
    assert bool(torch.isnan(gm.rsvd(cut(bad), 4, check_finite=False).S).all())
    with pytest.raises(TypeError, match="block 1 of a is an array of numpy"):
        gm.rsvd([torch.from_numpy(x), x], 4)
    with pytest.raises(ValueError, match="block 1 of a has dtype float64"):
        gm.rsvd([torch.from_numpy(x), torch.from_numpy(x).double()], 4)
    elsewhere = cut(x)
    own = _arrays_torch.Torch.describe

    def describe(library, value, name):
        dtype, device = own(library, value, name)
        return dtype, ("cuda", 1) if name.startswith("block 2") else device

    monkeypatch.setattr(_arrays_torch.Torch, "describe", describe)
    with pytest.raises(ValueError, match="block 2 of a lies on cuda:1; it must lie on cpu:0"):
        gm.rsvd(elsewhere, 4)


def test_certified_error_of_blocks_holds(road):
    rng = np.random.default_rng(0)
    for dtype in ("float32", "complex128"):
        a = matrices.with_spectrum(rng, 0.8 ** np.arange(60), 150, 60).astype(dtype)
        for method in ("gram", "krylov"):
            for tol in (0.3, 1e-3):
                result = gm.rsvd(cut(a), tol=tol, method=method)
                assert result.info.error_kind == "upper bound"
                true = error_of(a, result) / np.linalg.norm(a)
                assert true <= result.info.error_estimate <= tol


def test_range_finder_start_vectors_and_no_rows(road):
    x = matrix(np.random.default_rng(0), 200, 80, "fast", "float64")
    q = gm.range_finder(cut(x), 6)
    best = np.linalg.norm(np.linalg.svd(x, compute_uv=False)[6:])
    q = q.numpy()
    assert np.linalg.norm(x - q @ (q.T @ x)) <= 1.05 * best
    warm = gm.rsvd(cut(x), 4, passes=1, v0=gm.rsvd(cut(x), 4).Vh.mT)
    cold = gm.rsvd(cut(x), 4, passes=1)
    assert error_of(x, warm) <= error_of(x, cold)
    with pytest.raises(ValueError, match="v0 contains NaN"):
        gm.rsvd(cut(x), 4, v0=torch.full((80, 1), torch.nan, dtype=torch.float64))
    empty = gm.rsvd([torch.zeros(0, 80)], tol=0.1)
    assert empty.U.shape == (0, 0)
    assert gm.rsvd([torch.zeros(5, 0), torch.zeros(2, 0)], tol=0.1).U.shape == (7, 0)
    some = gm.rsvd([torch.zeros(0, 80, dtype=torch.float64), *cut(x)], 4)
    np.testing.assert_allclose(some.S.numpy(), gm.rsvd(cut(x), 4).S.numpy())


# ---- Shards -------------------------------------------------------------------------------------


def shards_of(x, z, count):
    edges = [len(x) * i // count for i in range(count + 1)]
    return [
        gm.rsvd_partial(torch.from_numpy(x[i:j]), torch.from_numpy(z), row_offset=i)
        for i, j in itertools.pairwise(edges)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("kind", KINDS)
def test_shards_give_the_single_shot_answer(kind, dtype, road):
    rng = np.random.default_rng(0)
    x = matrix(rng, 200, 80, kind, dtype)
    z = rng.standard_normal((80, 15)).astype(dtype)
    norm = np.linalg.norm(x)
    one = gm.rsvd_finish(shards_of(x, z, 1), rank=6)
    for count in (3, 8):
        shards = shards_of(x, z, count)
        assert isinstance(shards[0].y, torch.Tensor)
        found = gm.rsvd_finish(shards[::-1], rank=6)
        slack = 20 * np.sqrt(eps(dtype)) * norm
        np.testing.assert_allclose(found.S.numpy(), one.S.numpy(), atol=slack)
        assert error_of(x, found) <= 1.01 * error_of(x, one) + 100 * eps(dtype) * norm
        sent = [pickle.loads(pickle.dumps(p)) for p in shards]
        for left, right in zip(found, gm.rsvd_finish(sent, rank=6), strict=True):
            assert torch.equal(left, right)
        sums = [sum(getattr(p, name) for p in shards) for name in ("w", "gram", "squares")]
        parts = [gm.rsvd_finish([p.with_sums(*sums)], rank=1) for p in shards if norm]
        for part in parts:
            np.testing.assert_allclose(part.S.numpy(), found.S.numpy()[:1], rtol=1e-2)
            assert torch.equal(part.Vh, parts[0].Vh)
        if parts:
            u = torch.cat([p.U for p in parts])
            assert float((u.conj().T @ u).real) == pytest.approx(1, abs=1e-4)


def test_shards_that_do_not_belong_together(road, monkeypatch):
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((20, 9)), rng.standard_normal((9, 4))
    one, two = shards_of(x, z, 2)
    with pytest.raises(TypeError, match="z is an array of numpy"):
        gm.rsvd_partial(torch.from_numpy(x), z, row_offset=0)
    with pytest.raises(ValueError, match="z contains NaN"):
        gm.rsvd_partial(torch.from_numpy(x), torch.from_numpy(z * np.nan), row_offset=0)
    with pytest.raises(ValueError, match="partials differ in z"):
        gm.rsvd_finish([one, shards_of(x, 2 * z, 2)[1]])
    with pytest.raises(ValueError, match=r"w has shape \(4, 4\); it must be \(9, 4\)"):
        one.with_sums(one.gram, one.gram, 1.0)
    with pytest.raises(TypeError, match="w is an array of numpy"):
        one.with_sums(one.w.numpy(), one.gram, 1.0)
    with pytest.raises(ValueError, match="gram has dtype float32"):
        one.with_sums(one.w, one.gram.float(), 1.0)
    with pytest.raises(ValueError, match="linearly dependent"):
        gm.rsvd_finish(shards_of(x, np.ones((9, 2)), 1))
    scaled = shards_of(x * 1e300, z, 2)
    found = gm.rsvd_finish(scaled).S.numpy() * 1e-300
    np.testing.assert_allclose(found, gm.rsvd_finish([one, two]).S.numpy(), rtol=1e-12)


# ---- Nystrom ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("kind", KINDS)
def test_nystrom_is_as_good_as_on_the_host(kind, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    x = matrix(rng, 60, 40, kind, dtype)
    a = x.conj().T @ x
    a = (a + a.conj().T) / 2
    norm = np.linalg.norm(a)
    for rank in (1, 6, 40):
        w, v = gm.nystrom_eigh(a, rank)
        best = np.linalg.norm(a - (v * w) @ v.conj().T)
        with monkeypatch.context() as here:
            gpu_road.emulate(here)
            found, vectors = gm.nystrom_eigh(torch.from_numpy(a), rank)
        found, vectors = found.numpy(), vectors.numpy()
        assert np.all(np.diff(found) <= 0)
        assert np.all(found >= 0)
        assert np.abs(vectors.conj().T @ vectors - np.eye(rank)).max() <= 100 * eps(dtype)
        error = np.linalg.norm(a - (vectors * found) @ vectors.conj().T)
        assert error <= 1.05 * best + 100 * eps(dtype) * norm


def test_nystrom_batches_scales_and_what_is_not_finite(road):
    rng = np.random.default_rng(0)
    x = matrix(rng, 50, 30, "slow", "float64")
    a = torch.from_numpy(x.T @ x)
    w, v = gm.nystrom_eigh(torch.stack([a, a * 2.0**600, 0 * a])[:, None], 4)
    assert w.shape == (3, 1, 4)
    assert v.shape == (3, 1, 30, 4)
    np.testing.assert_allclose(w[1, 0].numpy(), w[0, 0].numpy() * 2.0**600, rtol=1e-13)
    assert bool((w[2] == 0).all())
    a = a.clone()
    a[3, 4] = torch.inf
    with pytest.raises(ValueError, match="a contains NaN or infinity"):
        gm.nystrom_eigh(a, 3)
    w, v = gm.nystrom_eigh(a, 3, check_finite=False)
    assert bool(torch.isnan(w).all())
    assert bool(torch.isnan(v).all())
    assert gm.nystrom_eigh(a[None][:0], 3)[0].shape == (0, 3)


@pytest.mark.parametrize(("dtype", "value"), [("float64", 1e307), ("float32", 2e37)])
def test_nystrom_eigenvalues_that_overflow_do_so_quietly(road, dtype, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        w, v = gm.nystrom_eigh(torch.full((30, 30), value, dtype=getattr(torch, dtype)), 3)
    assert bool(torch.isinf(w[0]))
    assert bool(torch.isfinite(v).all())
