"""Streams on a GPU: the kernels beside their counterparts on the host, streams, graphs, moves.

The road itself, with its proof, is tested without a GPU in test_streaming_gpu_road.py.
"""

from __future__ import annotations

import itertools
import pickle

import gramian as gm
import numpy as np
import pytest
from gramian import _arrays, _streaming_gpu_batch

from tests.gpu_streams import DTYPES, nothing_waits, on_host
from tests.reference import streaming as reference

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]

# Clusters of 1 to 8 blocks, ends inside of a warp's columns, and widths that go the general road.
WIDTHS = [1, 7, 8, 64, 500, 520, 1024, 2056, 4096, 4104, 9000]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def spiked(torch, n, d, dtype="float32", seed=0, gap=30.0):
    generator = torch.Generator("cuda").manual_seed(seed)
    x = torch.randn(n, d, generator=generator, device="cuda", dtype=torch.float64)
    x[:, d // 2] *= gap
    return x.to(getattr(torch, dtype))


def estimators(d):
    return [
        gm.OjaTopEigenvector(d, rng=1),
        gm.OjaTopEigenvector(d, learning_rate=1e-6, rng=1),
        gm.BlockOja(d, min(d, 8), rng=1),
        gm.BlockOja(d, min(d, 19), rng=1, decay=0.999),
    ]


def same_state(device, host, tolerance):
    a, b = (e.state_dict()["state"] for e in (device, host))
    assert a["position"] == b["position"]
    assert len(a["stages"]) == len(b["stages"])
    pairs = [(a[name], b[name]) for name in ("vectors", "gathered")]
    for one, other in zip(a["stages"], b["stages"], strict=True):
        pairs += zip(one, other, strict=True)
    for one, other in pairs:
        off = np.abs(one - other).max(axis=1)
        assert (off <= tolerance * np.abs(other).max(axis=1)).all(), off
    for name in ("figures", "totals"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e2 * tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", WIDTHS)
def test_kernels_do_what_the_host_does(torch, monkeypatch, d, dtype):
    x = spiked(torch, 700, d, dtype)
    cuts = [0, 1, 20, 333, 700]
    for device, host in zip(estimators(d), estimators(d), strict=True):
        for first, last in itertools.pairwise(cuts):
            device.partial_fit(x[first:last])
        on_host(host, x.cpu(), monkeypatch, cuts)
        # Everything is float64; steps and Cholesky QR magnify rounding by their condition.
        same_state(device, host, 1e-8)
        assert device.n_samples_seen_ == 700
        assert device.status_ == host.status_
        assert device.components_.device.type == "cuda"
        assert device.components_.dtype == x.dtype


@pytest.mark.parametrize("layout", ["columns", "strided", "rows apart", "off by one"])
def test_rows_of_any_strides(torch, layout):
    x = spiked(torch, 900, 260)
    given = {
        "columns": lambda: x.mT.contiguous().mT,
        "strided": lambda: x.repeat_interleave(2, dim=1)[:, ::2],
        "rows apart": lambda: torch.cat([x, x], dim=1)[:, :260],
        "off by one": lambda: torch.cat([x[:, :1], x], dim=1)[:, 1:],
    }[layout]()
    assert torch.equal(given, x)
    for plain, other in zip(estimators(260), estimators(260), strict=True):
        same_state(other.partial_fit(given), plain.partial_fit(x), 1e-9)


@pytest.mark.parametrize("where", ["device", "host"])
def test_weights(torch, monkeypatch, where):
    x = spiked(torch, 700, 128)
    rng = np.random.default_rng(0)
    weights = rng.uniform(0, 2, 700)
    weights[::7] = 0
    given = torch.from_numpy(weights).cuda() if where == "device" else weights
    for device, host in zip(estimators(128), estimators(128), strict=True):
        device.partial_fit(x, given)
        on_host(host, x.cpu(), monkeypatch, [0, 700], weights)
        same_state(device, host, 1e-8)
        assert device.n_samples_seen_ == 600


@pytest.mark.parametrize("kind", reference.STREAMS)
def test_the_certificate_is_never_below_the_truth(torch, kind):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(1, 1500)), int(rng.integers(1, 80))
        rows = reference.ordered(rng, reference.STREAMS[kind](rng, n, d))
        rows = rows.astype(rng.choice(["float64", "float32"]))
        for estimator in (gm.OjaTopEigenvector(d, rng=seed), gm.BlockOja(d, 1, rng=seed)):
            for batch in reference.cut(rng, rows):
                estimator.partial_fit(torch.from_numpy(np.array(batch)).cuda())
            if not np.isfinite(estimator.certificate_):
                continue
            vector = estimator.components_[0].cpu().numpy()
            truth, doubt = reference.sine(vector, rows)
            assert truth - doubt <= estimator.certificate_, (kind, seed)


def test_wide_rows_are_certified(torch):
    x = spiked(torch, 20000, 4096, gap=600.0)
    for estimator in (gm.OjaTopEigenvector(4096, rng=0), gm.BlockOja(4096, 8, rng=0)):
        for batch in x.split(6000):
            estimator.partial_fit(batch)
        top = torch.linalg.eigh(x.double().mT @ x.double())[1][:, -1]
        found = estimator.components_[0].double()
        across = found - (found @ top) * top
        assert float(across.norm()) <= estimator.certificate_ < 0.1
        assert estimator.status_ == "ok"


def test_two_runs_have_the_same_bits(torch):
    x = spiked(torch, 5000, 1024)
    for a, b in zip(estimators(1024), estimators(1024), strict=True):
        for batch in x.split(1100):
            a.partial_fit(batch)
            b.partial_fit(batch)
        one, other = a.state_dict()["state"], b.state_dict()["state"]
        for name in ("vectors", "gathered", "figures", "totals"):
            np.testing.assert_array_equal(one[name], other[name])


def test_a_stream_moves_to_the_host_and_back(torch):
    x = spiked(torch, 3000, 96)
    for straight, moving in zip(estimators(96), estimators(96), strict=True):
        for batch in x.split(500):
            straight.partial_fit(batch)
        moving.partial_fit(x[:500]).partial_fit(x[500:1000])
        on_cpu = type(moving)(**moving.get_params()).load_state_dict(moving.state_dict())
        on_cpu.partial_fit(x[1000:1500].cpu()).partial_fit(x[1500:2000].cpu())
        assert on_cpu.components_.device.type == "cpu"
        back = pickle.loads(pickle.dumps(on_cpu))
        back.partial_fit(x[2000:2500]).partial_fit(x[2500:])
        same_state(back, straight, 1e-8)


def test_a_saved_stream_goes_on_with_the_same_bits(torch):
    x = spiked(torch, 3000, 96)
    for straight, saved in zip(estimators(96), estimators(96), strict=True):
        straight.partial_fit(x[:777]).partial_fit(x[777:])
        saved.partial_fit(x[:777])
        assert saved.certificate_ >= 0  # reading changes nothing
        loaded = type(saved)(**saved.get_params()).load_state_dict(saved.state_dict())
        loaded.partial_fit(x[777:])
        one, other = straight.state_dict()["state"], loaded.state_dict()["state"]
        for name in ("vectors", "gathered", "figures", "totals"):
            np.testing.assert_array_equal(one[name], other[name])


def test_partial_fit_does_not_wait(torch):
    x = spiked(torch, 4096, 512)
    for estimator in estimators(512):
        estimator.partial_fit(x)
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()), nothing_waits(torch):
            estimator.partial_fit(x)
        torch.cuda.synchronize()


def test_work_is_in_the_order_of_the_current_stream(torch):
    x = torch.zeros(4096, 512, device="cuda")
    late = spiked(torch, 4096, 512)
    plain = gm.OjaTopEigenvector(512, rng=0).partial_fit(late)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(100_000_000)
        x.copy_(late)
        other = gm.OjaTopEigenvector(512, rng=0).partial_fit(x)
        x.zero_()
        assert torch.equal(other.components_, plain.components_)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_reaches_the_result_and_nothing_is_certified(torch, bad):
    for estimator in estimators(64)[:1] + estimators(64)[2:]:
        x = spiked(torch, 500, 64)
        estimator.partial_fit(x)
        x[17, 3] = bad
        estimator.partial_fit(x)
        assert torch.isnan(estimator.components_).all()
        assert estimator.certificate_ == np.inf


def test_memory_stays_below_its_bound(torch):
    d, batch = 1024, 4096
    x = spiked(torch, batch, d)
    for estimator in estimators(d):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            estimator.partial_fit(x)
        assert torch.cuda.max_memory_allocated() - before <= estimator.nbytes_bound(batch)


def test_other_devices_and_libraries(torch):
    top = gm.OjaTopEigenvector(8, rng=0).partial_fit(torch.ones(3, 8, device="cuda"))
    with pytest.raises(ValueError, match="X lies on cpu:0"):
        top.partial_fit(np.ones((3, 8), np.float32))
    host = gm.OjaTopEigenvector(8, rng=0).partial_fit(torch.ones(3, 8))
    with pytest.raises(ValueError, match="X lies on cuda"):
        host.partial_fit(torch.ones(3, 8, device="cuda"))
    with pytest.raises(TypeError, match="float64"):
        top.partial_fit(torch.ones(3, 8, device="cuda", dtype=torch.float64))
    with pytest.raises(NotImplementedError, match="X has dtype complex64"):
        top.partial_fit(torch.ones(3, 8, device="cuda", dtype=torch.complex64))


def test_cupy(torch):
    cupy = pytest.importorskip("cupy")
    x = spiked(torch, 3000, 96)
    for ours, other in zip(estimators(96), estimators(96), strict=True):
        ours.partial_fit(x)
        other.partial_fit(cupy.asarray(x))
        assert isinstance(other.components_, cupy.ndarray)
        same_state(other, ours, 0)


@pytest.mark.parametrize("count", [1, 31, 1024, 1025, 5000])
@pytest.mark.parametrize("decay", [0.9999, 0.5])
def test_decayed_weights(torch, count, decay):
    rng = np.random.default_rng(count)
    for weights in (None, rng.choice([0.0, 0.5, 3.0], count)):
        x = np.ones((count, 1))
        given = None if weights is None else torch.from_numpy(weights).cuda()
        there = _arrays.array(torch.from_numpy(x).cuda(), "X")
        found = _streaming_gpu_batch.decayed(there, given, decay).cpu().numpy()
        exact = _streaming_gpu_batch.decayed(_arrays.array(x, "X"), weights, decay)
        np.testing.assert_allclose(found, exact, rtol=1e-14)


def test_transform(torch):
    x = spiked(torch, 3000, 96)
    pca = gm.BlockOja(96, 3, rng=0).partial_fit(x)
    y = pca.transform(x)
    assert y.device == x.device
    assert y.dtype == x.dtype
    truth = x.double() @ pca.components_.double().mT
    assert float((y - truth).norm()) <= 1e-5 * float(truth.norm())
