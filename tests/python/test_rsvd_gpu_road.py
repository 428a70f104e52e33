"""The GPU's randomized SVD, run on the host: reads and sketch are replaced, all else is the same.

What the kernels do themselves is tested in test_gpu_rsvd.py.
"""

from __future__ import annotations

import types

import gramian as gm
import numpy as np
import pytest
from gramian import (
    _arrays,
    _rsvd,
    _rsvd_gpu,
    _rsvd_gpu_calls,
    _rsvd_gpu_direct,
    _rsvd_gpu_reads,
)
from gramian._sketch import sketch

from tests import gpu_road
from tests.reference import direct_svd

torch = pytest.importorskip("torch")

KINDS = ["flat", "slow", "fast", "halving", "rank 3", "few rows", "one entry", "zero"]


class Kernels(gpu_road.Kernels):
    """And what the road without waits calls."""

    direct_squares = direct_svd.DIRECT_SQUARES
    direct_values = direct_svd.DIRECT_VALUES
    direct_looks = direct_svd.DIRECT_LOOKS

    @staticmethod
    def direct_limit(device):
        return direct_svd.DIRECT_LIMIT

    @staticmethod
    def direct_svd(
        a, dtype, z, y, w, figures, seed, first, last, reads, ritz, ends, u, s, v, sign_of_v, *_
    ):
        a, z, y, w, figures = (torch.from_dlpack(x) for x in (a, z, y, w, figures))
        assert first >= 1
        assert last <= reads
        z, y, w, figures = (x.numpy() for x in (z, y, w, figures))
        signs = sketch(seed, *z.shape, "float32")
        svd = direct_svd.Direct(a.float().numpy(), z, y, w, figures, signs)
        for t in range(first, last + 1):
            looked = ritz and t > last - direct_svd.DIRECT_LOOKS
            svd.read(t, ritz=looked, ends=ends and t == last)
        if u is None:
            return
        u, s, v = (torch.from_dlpack(x) for x in (u, s, v))
        p, values, q = svd.factors(u.shape[1])
        of, to = (q, v) if sign_of_v else (p, u)
        turn = direct_svd.signs(of, torch.from_numpy(of).to(to.dtype).float().numpy())
        u.copy_(torch.from_numpy(p * turn))
        v.copy_(torch.from_numpy(q * turn))
        with np.errstate(invalid="ignore"):
            s.copy_(torch.from_numpy(np.sqrt(values)))


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    monkeypatch.setattr(
        _rsvd_gpu_reads, "_backend", types.SimpleNamespace(for_device=lambda _: Kernels)
    )
    monkeypatch.setattr(_arrays.Array, "stream", lambda _: 0)


def on_the_gpus_road(x, rank, **given):
    options = {"oversample": 10, "passes": 0, "method": "auto", "center": False, "seed": 0}
    a = _arrays.matrices(torch.from_numpy(x), "a")
    return _rsvd_gpu_calls.rsvd(
        a, _rsvd_gpu_reads.Options(rank, **(options | given)), None, checks=True
    )


def matrix(rng, m, n, kind, dtype):
    if kind in ("few rows", "one entry"):
        x = np.zeros((m, n), dtype)
        x[: min(m, 3)] = rng.standard_normal(n)
        x[min(m, 3) - 1] *= np.arange(n) / n
        if kind == "one entry":
            x[...] = 0
            x[m // 2, n // 3] = 2
        return x
    k = min(m, n)
    i = np.arange(1, k + 1)
    s = {
        "flat": np.ones(k),
        "slow": i**-0.5,
        "fast": i**-3.0,
        "halving": 2.0**-i,
        "rank 3": 1.0 * (i <= 3),
        "zero": np.zeros(k),
    }[kind]

    def isometry(rows):
        x = rng.standard_normal((rows, k))
        if np.dtype(dtype).kind == "c":
            x = x + 1j * rng.standard_normal((rows, k))
        return np.linalg.qr(x)[0]

    return ((isometry(m) * s) @ isometry(n).conj().T * 3.7).astype(dtype)


@pytest.mark.parametrize("method", ["auto", "subspace", "krylov", "single_pass", "gram"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_as_good_as_on_the_cpu(dtype, kind, method):
    rng = np.random.default_rng(0)
    eps = np.finfo(dtype).eps
    for m, n in ((200, 80), (80, 200), (60, 60), (12, 9), (3, 1), (1, 4)):
        x = matrix(rng, m, n, kind, dtype)
        for rank in {1, min(5, m, n)}:
            for center in (False, True):
                found = on_the_gpus_road(x, rank, method=method, center=center)
                expected = gm.rsvd(x, rank, method=method, center=center)
                u, s, vh = (v.numpy() for v in (found.U, found.S, found.Vh))
                eye = np.eye(rank)
                # Of hundreds of equal rows, centered, all roundings of a Gram matrix are alike.
                slack = (256 if kind in ("few rows", "one entry") else 50) * eps
                assert np.abs(u.conj().T @ u - eye).max() <= slack
                assert np.abs(vh @ vh.conj().T - eye).max() <= slack
                top = u[np.abs(u).argmax(0), np.arange(rank)]
                assert np.all(top.real > 0)
                assert np.all(top.imag == 0)
                a = x - x.mean(0) if center else x
                size = np.linalg.norm(a)
                if size <= 1e-5 * np.linalg.norm(x):
                    continue  # what is left of the mean's rounding
                error = np.linalg.norm(a - (u * s) @ vh)
                best = np.linalg.norm(a - (expected.U * expected.S) @ expected.Vh)
                assert error <= 1.1 * best + 100 * eps * size
                estimate = found.info.error_estimate * size
                assert estimate >= error * (1 - 1e-3) - 3 * np.sqrt(eps) * size


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("center", [False, True])
def test_rounding_that_adds_up_is_not_taken_for_matter(seed, center):
    """Many equal rows: roundings of A^H Y are all alike."""
    rng = np.random.default_rng(seed)
    diagonal = np.zeros((4000, 60), np.float32)
    diagonal[np.arange(60), np.arange(60)] = 10.0 ** -np.arange(60)
    repeated = np.repeat(matrix(rng, 20, 60, "halving", "float32"), 200, axis=0)
    for x in (diagonal, diagonal[:80, :50], repeated):
        for method in ("single_pass", "subspace", "krylov"):
            found = on_the_gpus_road(x, 1, method=method, center=center, seed=seed)
            a = x.astype(float)
            a = a - a.mean(0) if center else a
            u, s, vh = (v.numpy().astype(float) for v in (found.U, found.S, found.Vh))
            error, size = np.linalg.norm(a - (u * s) @ vh), np.linalg.norm(a)
            best = np.linalg.norm(np.linalg.svd(a, compute_uv=False)[1:])
            assert error <= 1.5 * best + 1e-3 * size
            assert found.info.error_estimate * size >= 0.9 * error - 1e-3 * size


@pytest.mark.parametrize("method", ["auto", "subspace", "krylov", "single_pass", "gram"])
def test_scaling_by_a_power_of_two_is_exact(method):
    x = matrix(np.random.default_rng(1), 60, 40, "halving", "float64")
    plain = on_the_gpus_road(x, 4, method=method).S.numpy()
    for exponent in (-900, -100, 3, 100, 900):
        scaled = on_the_gpus_road(np.ldexp(x, exponent), 4, method=method).S.numpy()
        np.testing.assert_array_equal(np.ldexp(scaled, -exponent), plain)


def test_largest_numbers_and_start_vectors():
    with np.errstate(over="ignore"):
        found = on_the_gpus_road(np.full((60, 40), 1e308), 2)
    assert np.isinf(found.S.numpy()[0])
    assert np.isfinite(found.U.numpy()).all()
    a = _arrays.matrices(torch.ones(9, 5, dtype=torch.float64), "a")
    start = _arrays.matrices(torch.full((5, 1), torch.nan, dtype=torch.float64), "v0")
    with pytest.raises(ValueError, match="v0 contains NaN or infinity"):
        _rsvd_gpu_calls.rsvd(
            a, _rsvd_gpu_reads.Options(2, 0, 0, "auto", False, 0), start, checks=True
        )


def test_batches_and_what_is_not_finite():
    rng = np.random.default_rng(1)
    x = matrix(rng, 60, 40, "slow", "float64")
    plain = on_the_gpus_road(x, 4).S.numpy()
    batch = np.stack([x, 2 * x, 0 * x]).reshape(3, 1, 60, 40)
    found = on_the_gpus_road(batch, 4)
    assert found.S.shape == (3, 1, 4)
    np.testing.assert_allclose(found.S.numpy()[:, 0], [plain, 2 * plain, 0 * plain], rtol=1e-12)
    assert found.info.passes.shape == (3, 1)
    batch[1, 0, 2, 3] = np.inf
    with pytest.raises(ValueError, match="a contains NaN or infinity"):
        on_the_gpus_road(batch, 4)


@pytest.mark.parametrize("passes", [0, 2])
def test_reads_of_what_is_not_finite_count(passes, monkeypatch):
    made = []
    for name in ("direct_svd", "two_sided_read"):
        own = getattr(Kernels, name)

        def counting(*args, _own=own, _name=name):
            made.append(max(0, args[8] - args[7] + 1) if _name == "direct_svd" else 1)
            return _own(*args)

        monkeypatch.setattr(Kernels, name, staticmethod(counting))
    # On a GPU it looks for nothing that is not finite.
    monkeypatch.setattr(_rsvd_gpu, "gram_bound", lambda *_: torch.tensor(torch.nan))
    x = torch.from_numpy(matrix(np.random.default_rng(1), 60, 40, "slow", "float32"))
    x[2, 3] = torch.nan
    options = _rsvd_gpu_reads.Options(4, 10, passes, "auto", False, 0)
    with np.errstate(all="ignore"):
        found = _rsvd_gpu_calls.rsvd(_arrays.matrices(x, "a"), options, None, checks=False)
    assert bool(torch.isnan(found.U).all())
    assert found.info.passes == sum(made) == (passes or 4) + 1
    assert found.info.fallbacks["restarted"] == 1


def test_public_functions_lead_here(monkeypatch):
    """As they do for an array that does not lie on the CPU."""
    x = matrix(np.random.default_rng(2), 50, 30, "slow", "float64")
    expected = on_the_gpus_road(x, 3, seed=7)
    elsewhere = types.SimpleNamespace(**vars(_arrays) | {"CPU": ("none", 0)})
    monkeypatch.setattr(_rsvd, "_arrays", elsewhere)
    found = gm.rsvd(torch.from_numpy(x), 3, rng=7)
    assert torch.equal(found.U, expected.U)
    assert torch.equal(found.S, expected.S)
    assert gm.range_finder(torch.from_numpy(x), 4).shape == (50, 4)


def test_auto_waits_for_the_first_time_after_four_reads(monkeypatch):
    calls = []
    queued = Kernels.direct_svd

    def counted(*given):
        calls.append((given[7], given[8], given[10]))  # first, last, whether it looks
        queued(*given)

    monkeypatch.setattr(Kernels, "direct_svd", staticmethod(counted))
    x = matrix(np.random.default_rng(0), 300, 150, "flat", "float32")
    found = on_the_gpus_road(x, 5)
    assert calls[0] == (1, 4, True)
    looks = [(t, t, True) for t in range(5, found.info.passes + 1)]
    assert calls[1:-1] == looks
    assert calls[-1] == (found.info.passes + 1, found.info.passes, False)
    # A read that takes long is worth a wait.
    monkeypatch.setattr(_rsvd_gpu_direct, "_LONG_READ", 4.0 * 300 * 150 * 15 - 1)
    calls.clear()
    on_the_gpus_road(matrix(np.random.default_rng(0), 300, 150, "fast", "float32"), 5)
    assert calls[0] == (1, 3, True)


def test_auto_takes_the_direct_road_for_large_reads():
    a = _arrays.matrices(torch.ones(1, 1).expand(8192, 8192), "a")  # one number in memory
    options = _rsvd_gpu_reads.Options(128, 10, 0, "auto", False, 0)
    assert _rsvd_gpu_direct.serves(a, options)
    assert _rsvd_gpu_direct.first_look(8192, 8192, 138) == 4
    assert _rsvd_gpu_direct.first_look(10**6, 4096, 74) == 3
