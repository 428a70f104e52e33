"""RandomOrderTopEigenvector on a GPU: the kernel beside NumPy's, bounds, streams, moves, memory.

The road itself is tested without a GPU in test_streaming_gpu_random_road.py.
"""

from __future__ import annotations

import pickle

import gramian as gm
import numpy as np
import pytest
from gramian import _streaming_gpu

from tests.gpu_streams import DTYPES, fed, nothing_waits, on_host
from tests.reference import streams

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]

ARRAYS = (*_streaming_gpu._SKETCH_ARRAYS, *_streaming_gpu.HEAVY_ARRAYS)


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def rows(torch, n, d, dtype="float32", seed=0, spread=0.7):
    """Of norms so different that rows come and go among the heavy ones."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * np.exp(spread * rng.standard_normal((n, 1)))
    x[:, d // 2] *= 2
    return torch.from_numpy(x).cuda().to(getattr(torch, dtype))


def same_state(device, host, tolerance):
    a, b = (e.state_dict()["state"] for e in (device, host))
    np.testing.assert_allclose(a["stream"], b["stream"], rtol=tolerance)
    kept = int(a["stream"][2])
    for name in ("heavy", "heavy_squares"):
        np.testing.assert_allclose(a[name][:kept], b[name][:kept], rtol=tolerance, atol=1e-300)
    for one, other in zip(a["vectors"], b["vectors"], strict=True):
        assert np.linalg.norm(one - other) <= tolerance * np.linalg.norm(other)
    assert a["position"] == b["position"]
    filled = a["position"][0]
    one, other = ((s["held"] * s["factors"])[:, :filled] for s in (a, b))
    gram = other @ other.T
    assert np.abs(one @ one.T - gram).max() <= 1e-8 * np.trace(gram)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 7, 40, 300, 2056])
def test_the_kernel_does_what_the_host_does(torch, monkeypatch, d, dtype):
    x = rows(torch, 500, d, dtype)
    cuts = [0, 1, 2, 40, 333, 500]
    weights = np.random.default_rng(0).choice([0.0, 0.5, 2.0], 500)
    for most, own in [(0, None), (5, None), (5, weights), (70, weights)]:
        device, host = (
            gm.RandomOrderTopEigenvector(d, max_heavy_rows=most, rng=1) for _ in range(2)
        )
        fed(device, x, cuts, own)
        on_host(host, x.cpu(), monkeypatch, cuts, own)
        same_state(device, host, 1e-9)
        assert device.components_.device.type == "cuda"
        assert device.components_.dtype == x.dtype
        assert device.n_samples_seen_ == host.n_samples_seen_


@pytest.mark.parametrize("d", [3, 64])
def test_pieces_of_one_call(torch, monkeypatch, d):
    # More rows than one launch takes, over several steps of the iteration, and drops throughout.
    x = rows(torch, 9000, d, spread=1.5)
    device, host = (gm.RandomOrderTopEigenvector(d, max_heavy_rows=9, rng=1) for _ in range(2))
    fed(device, x, [0, 9000])
    on_host(host, x.cpu(), monkeypatch, [0, 4444, 9000])
    same_state(device, host, 1e-9)


def test_it_is_the_estimator_of_the_cpu(torch):
    x = rows(torch, 3000, 100)
    device = fed(gm.RandomOrderTopEigenvector(100, rng=1), x, [0, 1100, 3000])
    host = gm.RandomOrderTopEigenvector(100, rng=1).partial_fit(x.cpu().numpy())
    one, other = device.components_.cpu().numpy(), host.components_
    # Both proofs hold; what differs is the road of the sketch.
    assert np.abs(one - other).max() <= 1e-5
    assert device.explained_variance_.item() == pytest.approx(host.explained_variance_[0], 1e-5)
    assert device.frobenius_squared_ == pytest.approx(host.frobenius_squared_, 1e-9)


@pytest.mark.parametrize("layout", ["columns", "strided", "rows apart", "off by one"])
def test_rows_of_any_strides(torch, layout):
    x = rows(torch, 400, 130)
    given = {
        "columns": lambda: x.mT.contiguous().mT,
        "strided": lambda: x.repeat_interleave(2, dim=1)[:, ::2],
        "rows apart": lambda: torch.cat([x, x], dim=1)[:, :130],
        "off by one": lambda: torch.cat([x[:, :1], x], dim=1)[:, 1:],
    }[layout]()
    assert torch.equal(given, x)
    plain, other = (gm.RandomOrderTopEigenvector(130, rng=1) for _ in range(2))
    same_state(other.partial_fit(given), plain.partial_fit(x), 1e-10)


@pytest.mark.parametrize("kind", streams.KINDS)
def test_the_certificate_is_never_below_the_truth(torch, kind):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        d, n = int(rng.integers(1, 30)), int(rng.integers(1, 200))
        x = streams.rows(rng, kind, n, d)
        if not 1e-30 < np.abs(x).max() < 1e30:
            continue
        x = x.astype(rng.choice(["float64", "float32"]))
        weights = rng.choice([0.0, 0.5, 3.0], n) if seed % 3 == 0 else None
        estimator = gm.RandomOrderTopEigenvector(d, max_heavy_rows=int(rng.integers(9)), rng=seed)
        cuts = [0, *sorted({int(c) for c in rng.integers(1, n + 1, 3)} | {n})]
        fed(estimator, torch.from_numpy(x).cuda(), cuts, weights)
        a = streams.stacked(x, weights)
        truth = streams.top(a)
        if truth is not None:
            true = streams.sine(estimator.components_[0].cpu().numpy(), truth[0])
            assert true <= estimator.certificate_ + truth[1], (kind, seed)


def test_heavy_rows_over_noise(torch):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        n, d = 5000, 200
        x = rng.standard_normal((n, d))
        u = rng.standard_normal(d)
        x[rng.choice(n, 5, replace=False)] += np.sqrt(10 * n / 5) * u / np.linalg.norm(u)
        estimator = gm.RandomOrderTopEigenvector(d, rng=seed)
        fed(estimator, torch.from_numpy(x).cuda(), [0, 2500, 5000])
        truth = streams.top(x)[0]
        assert streams.sine(estimator.components_[0].cpu().numpy(), truth) ** 2 < 5e-3


def test_resumed_streams_and_moves(torch):
    x = rows(torch, 900, 60)
    straight = fed(gm.RandomOrderTopEigenvector(60, rng=1), x, [0, 300, 600, 900])
    saved = fed(gm.RandomOrderTopEigenvector(60, rng=1), x, [0, 300, 600])
    assert saved.certificate_ >= 0  # reading changes nothing
    loaded = gm.RandomOrderTopEigenvector(60, rng=1).load_state_dict(saved.state_dict())
    loaded.partial_fit(x[600:])
    one, other = (e.state_dict()["state"] for e in (straight, loaded))
    for name in ARRAYS:
        np.testing.assert_array_equal(one[name], other[name])
    # To the CPU and back, and from the CPU.
    back = pickle.loads(pickle.dumps(fed(gm.RandomOrderTopEigenvector(60, rng=1), x, [0, 300])))
    back.partial_fit(x[300:600].cpu())
    assert back.components_.device.type == "cpu"
    back.partial_fit(x[600:])
    began = gm.RandomOrderTopEigenvector(60, rng=1).partial_fit(x[:300].cpu())
    fed(began, x, [300, 600, 900])
    for moved in (back, began):
        assert moved.components_.device.type == "cuda"
        assert moved.n_samples_seen_ == 900
        off = (moved.components_ - straight.components_).abs().max()
        assert float(off) <= 1e-4


def test_partial_fit_does_not_wait_and_streams_are_kept_in_order(torch):
    x = rows(torch, 256, 512)
    estimator = gm.RandomOrderTopEigenvector(512, rng=0).partial_fit(x)
    plain = gm.RandomOrderTopEigenvector(512, rng=0).partial_fit(x).partial_fit(x)
    late = torch.zeros_like(x)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        with nothing_waits(torch, late, x):
            estimator.partial_fit(late)
        assert torch.equal(estimator.components_, plain.components_)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_reaches_the_result_and_nothing_is_certified(torch, bad):
    x = rows(torch, 100, 64)
    estimator = gm.RandomOrderTopEigenvector(64, max_heavy_rows=7, rng=0).partial_fit(x)
    x[17, 3] = bad
    estimator.partial_fit(x).partial_fit(x)
    assert torch.isnan(estimator.components_).all()
    assert estimator.certificate_ == np.inf


def test_memory_stays_below_its_bound(torch):
    x = rows(torch, 1024, 1024)
    estimator = gm.RandomOrderTopEigenvector(1024, rng=0)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        estimator.partial_fit(x)
    assert torch.cuda.max_memory_allocated() - before <= estimator.nbytes_bound(1024)


def test_a_bad_batch_changes_nothing(torch):
    x = rows(torch, 50, 8)
    estimator = gm.RandomOrderTopEigenvector(8, rng=0).partial_fit(x)
    before = pickle.dumps(estimator.state_dict())
    for given, error in [
        (x[:, :7], ValueError),
        (x.double(), TypeError),
        (x.to(torch.complex64), NotImplementedError),
        (x.cpu(), ValueError),
    ]:
        with pytest.raises(error, match="X"):
            estimator.partial_fit(given)
        assert pickle.dumps(estimator.state_dict()) == before


def test_cupy(torch):
    cupy = pytest.importorskip("cupy")
    x = rows(torch, 700, 96)
    ours, other = (gm.RandomOrderTopEigenvector(96, rng=1) for _ in range(2))
    ours.partial_fit(x)
    other.partial_fit(cupy.asarray(x))
    assert isinstance(other.components_, cupy.ndarray)
    same_state(other, ours, 0)
