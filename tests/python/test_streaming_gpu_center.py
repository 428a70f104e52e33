"""Centred Frequent Directions on a GPU beside the same by NumPy; bounds, merges, streams, moves.

The road itself, with its proof, is tested without a GPU in test_streaming_gpu_center_road.py.
"""

from __future__ import annotations

import pickle

import gramian as gm
import numpy as np
import pytest

from tests.gpu_streams import DTYPES, fed, nothing_waits, on_host
from tests.reference import streams

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def rows(torch, n, d, dtype="float32", seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    x = torch.randn(n, d, generator=generator, device="cuda", dtype=torch.float64)
    x *= torch.arange(1, d + 1, device="cuda") ** -0.5
    return (x + 3).to(getattr(torch, dtype))


def same_state(device, host, tolerance):
    a, b = (e.state_dict()["state"] for e in (device, host))
    assert a["position"] == b["position"]
    filled = a["position"][0]
    one, other = ((s["held"] * s["factors"])[:, :filled] for s in (a, b))
    gram = other @ other.T
    assert np.abs(one @ one.T - gram).max() <= tolerance * np.trace(gram)
    np.testing.assert_allclose(a["mean"], b["mean"], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(a["center"], b["center"], rtol=1e-6)
    assert a["totals"][3] == b["totals"][3]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "d"), [(1, 5), (7, 40), (24, 300)])
def test_the_device_does_what_the_host_does(torch, monkeypatch, size, d, dtype):
    x = rows(torch, 330, d, dtype)
    cuts = [0, 1, 20, 77, 330]
    weights = np.random.default_rng(0).choice([0.0, 0.5, 2.0], 330)
    for decay, own in [(1.0, None), (0.97, None), (0.97, weights)]:
        device, host = (gm.FrequentDirections(d, size, decay=decay, center=True) for _ in range(2))
        fed(device, x, cuts, own)
        on_host(host, x.cpu(), monkeypatch, cuts, own)
        same_state(device, host, 1e-9)
        assert device.mean_.device.type == "cuda"
        assert device.mean_.dtype == torch.promote_types(x.dtype, torch.float32)


@pytest.mark.parametrize("kind", streams.KINDS)
def test_bounds_are_never_below_the_truth(torch, kind):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        d, size, n = int(rng.integers(1, 30)), int(rng.integers(1, 12)), int(rng.integers(1, 200))
        x = streams.rows(rng, kind, n, d)
        if not 1e-30 < np.abs(x).max() < 1e30:
            continue
        x = x + np.abs(x).max() * rng.choice([0.0, 1.0]) * rng.standard_normal(d)
        parts = [
            gm.FrequentDirections(d, size, center=True).partial_fit(torch.from_numpy(part).cuda())
            for part in np.array_split(x, 2)
            if len(part)
        ]
        sketch = parts[0].merge(parts[1]) if len(parts) > 1 else parts[0]
        a = streams.stacked(x, center=True)
        b = sketch.sketch_.cpu().numpy()
        raw = (x * x).sum()
        doubt = 1e-14 * max(a.shape) * np.sqrt((a * a).sum() * raw) + 1e-25 * raw
        error = np.linalg.norm(a.T @ a - b.T @ b, 2)
        assert error <= sketch.covariance_error_bound_ + doubt, (kind, seed)
        truth = streams.top(a)
        if truth is not None and (a * a).sum() > 1e-20 * raw:
            true = streams.sine(sketch.components_[0].cpu().numpy(), truth[0])
            slack = truth[1] * np.sqrt(raw / (a * a).sum())
            assert true <= sketch.certificate_ + slack, (kind, seed)


def test_resumed_streams_merges_and_moves(torch):
    x = rows(torch, 900, 60)
    straight = fed(gm.FrequentDirections(60, 9, center=True), x, [0, 300, 900])
    saved = fed(gm.FrequentDirections(60, 9, center=True), x, [0, 300])
    assert saved.certificate_ >= 0
    loaded = pickle.loads(pickle.dumps(saved)).partial_fit(x[300:])
    one, other = (e.state_dict()["state"] for e in (straight, loaded))
    for name in ("held", "factors", "totals", "mean", "center"):
        np.testing.assert_array_equal(one[name], other[name])
    there = pickle.loads(pickle.dumps(saved)).partial_fit(x[300:600].cpu())
    back = there.partial_fit(x[600:])
    began = gm.FrequentDirections(60, 9, center=True).partial_fit(x[:300].cpu())
    fed(began, x, [300, 900])
    for moved in (back, began):
        assert moved.sketch_.device.type == "cuda"
        assert moved.n_samples_seen_ == 900
        assert float((moved.mean_ - straight.mean_).abs().max()) <= 1e-6
        a, b = streams.stacked(x.cpu().numpy(), center=True), moved.sketch_.double().cpu().numpy()
        assert np.linalg.norm(a.T @ a - b.T @ b, 2) <= moved.covariance_error_bound_


def test_partial_fit_and_merge_do_not_wait(torch):
    x = rows(torch, 300, 512)
    sketch = gm.FrequentDirections(512, 16, center=True).partial_fit(x)
    other = gm.FrequentDirections(512, 16, center=True).partial_fit(x)
    plain = fed(gm.FrequentDirections(512, 16, center=True), torch.cat([x, x]), [0, 300, 600])
    late = torch.zeros_like(x)
    sketch.merge(other)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        with nothing_waits(torch, late, x, 400_000_000):
            sketch.partial_fit(late)
            sketch.merge(other)
        assert torch.equal(sketch.sketch_, plain.sketch_)


def test_cupy_memory_and_nan(torch):
    cupy = pytest.importorskip("cupy")
    x = rows(torch, 700, 96)
    ours, other = (gm.FrequentDirections(96, 8, center=True) for _ in range(2))
    ours.partial_fit(x)
    other.partial_fit(cupy.asarray(x))
    assert isinstance(other.mean_, cupy.ndarray)
    same_state(other, ours, 1e-12)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    sketch = gm.FrequentDirections(96, 8, center=True)
    for _ in range(3):
        sketch.partial_fit(x)
    assert torch.cuda.max_memory_allocated() - before <= sketch.nbytes_bound(700)
    x[3, 4] = float("nan")
    sketch.partial_fit(x)
    assert torch.isnan(sketch.components_).all()
    assert sketch.covariance_error_bound_ == np.inf
