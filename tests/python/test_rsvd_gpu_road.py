"""The GPU's randomized SVD, run on the host: reads and sketch are replaced, all else is the same.

What the kernels do themselves is tested in test_gpu_rsvd.py.
"""

from __future__ import annotations

import types

import gramian as gm
import numpy as np
import pytest
from gramian import _arrays, _rsvd_gpu_calls, _rsvd_gpu_reads
from gramian._sketch import sketch

torch = pytest.importorskip("torch")

KINDS = ["flat", "slow", "fast", "halving", "rank 3", "zero"]


class Kernels:
    """What gramian._cuda would do, by torch on the host."""

    sum_parts = 8

    @staticmethod
    def sketch(z, dtype, seed, first, device, stream):
        z = torch.from_dlpack(z)
        z.copy_(torch.from_numpy(sketch(seed, *z.shape, dtype, first_column=first)))

    @staticmethod
    def two_sided_read(a, dtype, computed, wide, z, y, w, means, sums, squares, *_):
        arrays = (None if x is None else torch.from_dlpack(x) for x in (a, z, y, w, means))
        a, z, y, w, means = arrays
        narrow, double = getattr(torch, computed), getattr(torch, wide)
        a = a.to(narrow) if means is None else (a.to(double) - means).to(narrow)
        y.copy_(a @ z)
        if w is not None:
            w.copy_(a.conj().T @ y)
        if sums is not None:
            sums = torch.from_dlpack(sums).zero_()
            sums[0] = a.to(double).sum(0)
        if squares is not None:
            torch.from_dlpack(squares)[0] = (a.to(double).abs() ** 2).sum()


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
                assert np.abs(u.conj().T @ u - eye).max() <= 50 * eps
                assert np.abs(vh @ vh.conj().T - eye).max() <= 50 * eps
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


def test_scales_batches_and_what_is_not_finite():
    rng = np.random.default_rng(1)
    x = matrix(rng, 60, 40, "slow", "float64")
    plain = on_the_gpus_road(x, 4).S.numpy()
    for exponent in (-900, -100, 100, 900):
        scaled = on_the_gpus_road(np.ldexp(x, exponent), 4).S.numpy()
        np.testing.assert_allclose(np.ldexp(scaled, -exponent), plain, rtol=1e-12)
    batch = np.stack([x, 2 * x, 0 * x]).reshape(3, 1, 60, 40)
    found = on_the_gpus_road(batch, 4)
    assert found.S.shape == (3, 1, 4)
    np.testing.assert_allclose(found.S.numpy()[:, 0], [plain, 2 * plain, 0 * plain], rtol=1e-12)
    assert found.info.passes.shape == (3, 1)
    batch[1, 0, 2, 3] = np.inf
    with pytest.raises(ValueError, match="a contains NaN or infinity"):
        on_the_gpus_road(batch, 4)
