"""BlockOja's steps on a GPU that no kernel takes, beside the same by NumPy; bounds, moves, memory.

The road itself, with its proof, is tested without a GPU in test_streaming_gpu_general_road.py.
"""

from __future__ import annotations

import itertools
import pickle

import gramian as gm
import numpy as np
import pytest

from tests.gpu_streams import DTYPES, nothing_waits, on_host
from tests.reference import streaming as reference
from tests.reference import streams

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]

ARRAYS = ("vectors", "gathered", "figures", "totals", "sums")


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def spiked(torch, n, d, dtype="float32", seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    x = torch.randn(n, d, generator=generator, device="cuda", dtype=torch.float64)
    x[:, : min(d, 3)] *= torch.tensor([40.0, 20, 9], device="cuda")[: min(d, 3)]
    return (x + 2).to(getattr(torch, dtype))


def estimators(d):
    few = min(d, 5)
    return [
        gm.BlockOja(d, few, center=True, rng=1),
        gm.BlockOja(d, few, step="history", rng=1),
        gm.BlockOja(d, few, step="history", center=True, decay=0.999, rng=1),
        gm.BlockOja(d, min(d, 60), center=d <= 56, rng=1),
    ]


def same_results(device, host, tolerance):
    a, b = (e.state_dict()["state"] for e in (device, host))
    assert a["position"][:2] == b["position"][:2]
    for name in ("totals", "sums"):
        scale = np.abs(b[name]).max(axis=-1, keepdims=True)
        assert (np.abs(a[name] - b[name]) <= 1e-10 * scale).all(), name
    # Vectors without a gap may turn among themselves; the first three stand out.
    lead = min(device.n_components, 3)
    one, other = a["vectors"][:lead], b["vectors"][:lead]
    assert np.abs(one - other).max() <= tolerance
    np.testing.assert_allclose(a["figures"][1, :lead], b["figures"][1, :lead], rtol=tolerance)
    q = a["vectors"][: device.n_components]
    assert np.abs(q @ q.T - np.eye(len(q))).max() <= 1e-8


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 7, 64, 520, 1024, 4104])
def test_the_device_does_what_the_host_does(torch, monkeypatch, d, dtype):
    x = spiked(torch, 900, d, dtype)
    cuts = [0, 1, 20, 333, 900]
    for device, host in zip(estimators(d), estimators(d), strict=True):
        for first, last in itertools.pairwise(cuts):
            device.partial_fit(x[first:last])
        on_host(host, x.cpu(), monkeypatch, cuts)
        same_results(device, host, 1e-6)
        assert device.n_samples_seen_ == 900
        assert device.components_.device.type == "cuda"
        assert device.components_.dtype == x.dtype
        assert device.mean_.device.type == "cuda"


def test_weights_strides_and_transform(torch, monkeypatch):
    x = spiked(torch, 700, 128)
    given = x.mT.contiguous().mT
    weights = np.random.default_rng(0).uniform(0, 2, 700)
    weights[::7] = 0
    for device, host in zip(estimators(128), estimators(128), strict=True):
        device.partial_fit(given, torch.from_numpy(weights).cuda())
        on_host(host, x.cpu(), monkeypatch, [0, 700], weights)
        same_results(device, host, 1e-6)
        assert device.n_samples_seen_ == 600
        y = device.transform(x)
        truth = (x.double() - device.mean_.double()) @ device.components_.double().mT
        assert float((y - truth).norm()) <= 1e-5 * float(truth.norm())


@pytest.mark.parametrize("kind", reference.STREAMS)
def test_the_certificate_is_never_below_the_truth(torch, kind):
    for seed in range(8):
        rng = np.random.default_rng([seed, 1])
        n, d = int(rng.integers(1, 1500)), int(rng.integers(1, 80))
        rows = reference.ordered(rng, reference.STREAMS[kind](rng, n, d))
        rows = rows + rng.choice([0.0, 10.0]) * rng.standard_normal(d)
        rows = rows.astype(rng.choice(["float64", "float32"]))
        for step in ("adaoja", "history"):
            pca = gm.BlockOja(d, 1, step=step, center=True, rng=seed)
            for batch in reference.cut(rng, rows):
                pca.partial_fit(torch.from_numpy(np.array(batch)).cuda())
            if not np.isfinite(pca.certificate_):
                continue
            a = streams.stacked(rows, center=True)
            truth, doubt = reference.sine(pca.components_[0].cpu().numpy(), a)
            doubt *= np.sqrt((rows.astype(float) ** 2).sum() / (a * a).sum())
            assert truth - doubt <= pca.certificate_, (kind, seed)


def test_wide_rows_are_certified(torch):
    x = spiked(torch, 20000, 2048)
    x[:, 0] *= 20
    for step in ("adaoja", "history"):
        pca = gm.BlockOja(2048, 8, step=step, center=True, rng=0)
        for batch in x.split(6000):
            pca.partial_fit(batch)
        off = x.double() - x.double().mean(0)
        top = torch.linalg.eigh(off.mT @ off)[1][:, -1]
        found = pca.components_[0].double()
        across = found - (found @ top) * top
        assert float(across.norm()) <= pca.certificate_ < 0.1


def test_a_saved_stream_goes_on_with_the_same_bits_and_moves(torch):
    x = spiked(torch, 3000, 96)
    for straight, saved in zip(estimators(96), estimators(96), strict=True):
        straight.partial_fit(x[:777]).partial_fit(x[777:])
        saved.partial_fit(x[:777])
        assert saved.certificate_ >= 0  # reading changes nothing
        loaded = pickle.loads(pickle.dumps(saved)).partial_fit(x[777:])
        one, other = (e.state_dict()["state"] for e in (straight, loaded))
        for name in ARRAYS:
            np.testing.assert_array_equal(one[name], other[name])
        moving = type(saved)(**saved.get_params()).load_state_dict(saved.state_dict())
        moving.partial_fit(x[777:1500].cpu())
        moving = pickle.loads(pickle.dumps(moving)).partial_fit(x[1500:])
        same_results(moving, straight, 1e-6)


def test_partial_fit_does_not_wait_and_streams_are_kept_in_order(torch):
    x = spiked(torch, 4096, 512)
    plains = [e.partial_fit(x).partial_fit(x) for e in estimators(512)]
    for estimator, plain in zip(estimators(512), plains, strict=True):
        estimator.partial_fit(x)
        late = torch.zeros_like(x)
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            with nothing_waits(torch, late, x, 400_000_000):
                estimator.partial_fit(late)
            same_results(estimator, plain, 1e-9)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_reaches_the_result_and_nothing_is_certified(torch, bad):
    for estimator in estimators(64):
        x = spiked(torch, 500, 64)
        estimator.partial_fit(x)
        x[17, 3] = bad
        estimator.partial_fit(x)
        with np.errstate(invalid="ignore"):
            estimator._finished()
        assert torch.isnan(estimator.components_).all()
        assert estimator.certificate_ == np.inf


def test_memory_stays_below_its_bound(torch):
    x = spiked(torch, 4096, 1024)
    for estimator, first in zip(estimators(1024), estimators(1024), strict=True):
        first.partial_fit(x)  # torch keeps a workspace for cuBLAS from its first product on
        del first
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            estimator.partial_fit(x)
        assert torch.cuda.max_memory_allocated() - before <= estimator.nbytes_bound(4096)


def test_cupy(torch):
    cupy = pytest.importorskip("cupy")
    x = spiked(torch, 3000, 96)
    for ours, other in zip(estimators(96), estimators(96), strict=True):
        ours.partial_fit(x)
        other.partial_fit(cupy.asarray(x))
        assert isinstance(other.components_, cupy.ndarray)
        same_results(other, ours, 1e-6)
