"""Centred Frequent Directions on the GPU's road, with the kernels played by NumPy."""

from __future__ import annotations

import pickle

import gramian as gm
import numpy as np
import pytest
from gramian import _streaming_gpu, _streaming_gpu_center, _streaming_gpu_sketch

from tests.reference import streams
from tests.reference.streaming_sketch import Kernels


@pytest.fixture(autouse=True)
def road(monkeypatch):
    monkeypatch.setattr(_streaming_gpu, "takes", lambda state, x: True)
    monkeypatch.setattr(_streaming_gpu_sketch, "_append", Kernels())


def random_case(rng, most=80):
    d, size, n = (int(rng.integers(1, k)) for k in (9, 7, most))
    x = streams.rows(rng, str(rng.choice(streams.KINDS)), n, d)
    x = x + np.abs(x).max() * rng.choice([0.0, 1.0, 30.0]) * rng.standard_normal(d)
    x = x.astype(rng.choice([np.float32, np.float64]))
    weights = rng.choice([0.0, 0.5, 1.0, 3.0, 1e4], n) if rng.random() < 0.3 else None
    return x, weights, float(rng.choice([1.0, 1.0, 0.99, 0.5])), size


def check(sketch, x, weights, decay):
    a = streams.stacked(x, weights, decay, center=True)
    raw = float((streams.stacked(x, weights, decay) ** 2).sum())
    if not len(a):
        return False
    b = np.asarray(sketch.sketch_, np.float64)
    squares = float((a * a).sum())
    doubt = 1e-14 * max(a.shape) * np.sqrt(squares * raw) + 1e-25 * raw
    error = np.linalg.norm(a.T @ a - b.T @ b, 2)
    assert error <= sketch.covariance_error_bound_ + doubt
    assert sketch.frobenius_squared_ == pytest.approx(squares, rel=1e-6, abs=doubt)
    assert sketch.n_samples_seen_ == len(a)
    truth = streams.top(a)
    if truth is not None and squares > 1e-20 * raw:
        true = streams.sine(sketch.components_[0], truth[0])
        assert true <= sketch.certificate_ + truth[1] * np.sqrt(raw / squares)
    return np.isfinite(sketch.certificate_)


def parts_of(rng, x, weights):
    ends = np.unique(np.append(rng.integers(1, len(x) + 1, rng.integers(0, 5)), len(x)))
    first = 0
    for end in ends:
        yield x[first:end], None if weights is None else weights[first:end]
        first = end


@pytest.mark.parametrize("seed", range(10))
def test_bounds_hold_for_any_stream_and_any_tree_of_merges(seed):
    rng = np.random.default_rng([seed, 1])
    finite = 0
    for _ in range(40):
        x, weights, decay, size = random_case(rng)
        d = x.shape[1]
        whole = gm.FrequentDirections(d, size, decay=decay, center=True)
        parts = []
        for part, own in parts_of(rng, x, weights):
            whole.partial_fit(part, own)
            parts.append(gm.FrequentDirections(d, size, decay=decay, center=True))
            parts[-1].partial_fit(part, own)
        while len(parts) > 1:
            i = int(rng.integers(len(parts) - 1))
            parts[i : i + 2] = [parts[i].merge(parts[i + 1])]
        finite += check(whole, x, weights, decay)
        check(parts[0], x, weights, decay)
    assert finite > 5


def test_certificates_hold_to_the_last_digit():
    checked = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, 2])
        x, weights, decay, size = random_case(rng, 40)
        if x.shape[1] > 4 or (weights is not None and not (weights > 0).any()):
            continue
        sketch = gm.FrequentDirections(x.shape[1], size, decay=decay, center=True)
        for part, own in parts_of(rng, x, weights):
            sketch.partial_fit(part, own)
        if np.isfinite(sketch.certificate_):
            v = sketch.components_[0]
            true = streams.exact_sine(x, v, weights, decay, center=True)
            assert true <= sketch.certificate_
            checked += 1
    assert checked > 5


def test_means_are_as_near_as_is_said():
    for seed in range(40):
        rng = np.random.default_rng([seed, 3])
        d, n = int(rng.integers(1, 20)), int(rng.integers(1, 3000))
        x = rng.standard_normal((n, d)) + 10.0 ** rng.uniform(0, 9) * rng.standard_normal(d)
        weights = rng.uniform(0, 2, n) * (rng.random(n) < 0.9)
        if not weights.any():
            continue
        decay = float(rng.choice([1.0, 0.999, 0.9]))
        sketch = gm.FrequentDirections(d, 3, decay=decay, center=True)
        for part, own in parts_of(rng, x, weights):
            sketch.partial_fit(part, own)
        present = weights > 0
        wide = x[present].astype(np.longdouble)
        after = np.arange(present.sum() - 1, -1, -1)
        w = weights[present] * np.longdouble(decay) ** after
        mean = (w @ wide) / w.sum()
        weight, error, offsets = sketch._state["center"]
        assert np.linalg.norm(sketch._state["mean"] - mean) <= error
        assert error <= 1e-10 * np.linalg.norm(mean)
        assert abs(weight / w.sum() - 1) <= _streaming_gpu_center.weight_error(
            sketch._state["chunks"] + 1
        )
        assert offsets >= 0


def test_it_is_the_sketch_of_the_cpu(monkeypatch):
    for seed in range(40):
        rng = np.random.default_rng([seed, 4])
        x, weights, decay, size = random_case(rng)
        x = x.astype(np.float64)
        device, host = (
            gm.FrequentDirections(x.shape[1], size, decay=decay, center=True) for _ in range(2)
        )
        device.partial_fit(x, weights)
        with monkeypatch.context() as patch:
            patch.setattr(_streaming_gpu, "takes", lambda state, x: False)
            host.partial_fit(x, weights)
        if device.n_samples_seen_ == 0:
            continue
        size = np.abs(x).max()
        assert np.abs(device.mean_ - host.mean_).max() <= 1e-12 * size
        if not (x == x[:1]).all(axis=1).any():  # those fill the GPU's sketch alone
            a, b = (e.sketch_ for e in (device, host))
            assert np.abs(a.T @ a - b.T @ b).max() <= 1e-6 * (a * a).sum() + 1e-12 * size**2


def test_states_move_both_ways(monkeypatch):
    for seed in range(30):
        rng = np.random.default_rng([seed, 5])
        x, weights, decay, size = random_case(rng)
        sketch = gm.FrequentDirections(x.shape[1], size, decay=decay, center=True)
        for turn, (part, own) in enumerate(parts_of(rng, x, weights)):
            sketch = pickle.loads(pickle.dumps(sketch))
            here = bool((turn + seed) % 2)
            with monkeypatch.context() as patch:
                if not here:
                    patch.setattr(_streaming_gpu, "takes", lambda s, x: _streaming_gpu.is_here(s))
                    patch.setattr(_streaming_gpu_sketch, "goes_to_cpu", lambda s, x: True)
                sketch.partial_fit(part, own)
            assert _streaming_gpu.is_here(sketch._state) == here
        check(sketch, x, weights, decay)


def test_resumed_streams_cuts_and_merges_that_change_nothing():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((700, 5)) + 3
    straight = gm.FrequentDirections(5, 3, center=True).partial_fit(x[:300]).partial_fit(x[300:])
    saved = gm.FrequentDirections(5, 3, center=True).partial_fit(x[:300])
    assert saved.certificate_ >= 0
    back = pickle.loads(pickle.dumps(saved)).partial_fit(x[300:])
    for name in ("held", "factors", "totals", "mean", "center"):
        np.testing.assert_array_equal(back._state[name], straight._state[name])
    cut = gm.FrequentDirections(5, 3, center=True)
    for row in np.array_split(x, 90):
        cut.partial_fit(row)
    np.testing.assert_allclose(cut._state["held"], straight._state["held"], rtol=1e-7, atol=1e-9)
    before = pickle.dumps([straight.state_dict(), saved.state_dict()])
    merged = straight.merge(saved).partial_fit(x)
    assert merged.n_samples_seen_ == 1700
    assert pickle.dumps([straight.state_dict(), saved.state_dict()]) == before
    empty = gm.FrequentDirections(5, 3, center=True)
    for both in (straight.merge(empty), empty.merge(straight)):
        check(both, x, None, 1.0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_torch_transform_and_nan(dtype):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(np.random.default_rng(9).standard_normal((60, 7)) * np.arange(1, 8) + 2)
    x = x.to(getattr(torch, dtype))
    sketch = gm.FrequentDirections(7, 3, center=True)
    for part in x.split(25):
        sketch.partial_fit(part)
    wide = x.double().numpy()
    figures = torch.promote_types(x.dtype, torch.float32)
    assert sketch.mean_.dtype == sketch.explained_variance_.dtype == figures
    assert np.abs(sketch.mean_.double().numpy() - wide.mean(axis=0)).max() <= 1e-5
    y = sketch.transform(x).double().numpy()
    exact = (wide - wide.mean(axis=0)) @ sketch.components_.double().numpy().T
    assert np.abs(y - exact).max() <= 0.05 * np.abs(exact).max()
    held = sum(sketch._state[k].nbytes for k in ("held", "factors", "totals", "mean"))
    assert sketch.nbytes_bound(60) >= 2 * held
    sketch._state["mean"][0] = float("nan")
    sketch._results = []
    assert torch.isnan(sketch.components_).all()
    assert sketch.certificate_ == np.inf
