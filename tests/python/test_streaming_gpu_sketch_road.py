"""Frequent Directions on the GPU's road, with the kernels played by NumPy: bounds, merges, moves.

The kernels themselves are compared with this in test_streaming_gpu_sketch.py.
"""

from __future__ import annotations

import pickle

import gramian as gm
import numpy as np
import pytest
from gramian import _streaming_gpu, _streaming_gpu_sketch

from tests.reference import streams
from tests.reference.streaming import cut, decayed, exact_sine
from tests.reference.streaming_sketch import DROPPED, Kernels


@pytest.fixture
def kernels():
    return Kernels()


@pytest.fixture(autouse=True)
def road(monkeypatch, kernels):
    monkeypatch.setattr(_streaming_gpu, "takes", lambda state, x: True)
    monkeypatch.setattr(_streaming_gpu_sketch, "_append", kernels)


def check_bounds(sketch, a, energy=1e-6):
    b = np.asarray(sketch.sketch_, np.float64)
    squares = float((a * a).sum())
    error = np.linalg.norm(a.T @ a - b.T @ b, 2)
    assert error <= sketch.covariance_error_bound_ + 1e-14 * max(a.shape) * squares
    assert sketch.frobenius_squared_ == pytest.approx(squares, rel=energy, abs=1e-280)
    truth = streams.top(a)
    if truth is not None:
        true = streams.sine(sketch.components_[0], truth[0])
        assert true <= sketch.certificate_ + truth[1]
    return np.isfinite(sketch.certificate_)


def tree(rng, parts):
    parts = list(parts)
    while len(parts) > 1:
        i = int(rng.integers(len(parts) - 1))
        parts[i : i + 2] = [parts[i].merge(parts[i + 1])]
    return parts[0]


def random_case(rng, most=60):
    d, size, n = (int(rng.integers(1, k)) for k in (9, 7, most))
    x = streams.rows(rng, str(rng.choice(streams.KINDS)), n, d)
    x = x.astype(rng.choice([np.float32, np.float64]))
    weights = rng.choice([0.0, 0.5, 1.0, 3.0, 1e4], n) if rng.random() < 0.3 else None
    return x, weights, float(rng.choice([1.0, 1.0, 0.99, 0.5])), size


@pytest.mark.parametrize("seed", range(12))
def test_bounds_hold_for_any_stream_and_any_tree_of_merges(seed, kernels):
    rng = np.random.default_rng(seed)
    finite = 0
    for _ in range(40):
        x, weights, decay, size = random_case(rng)
        ends = np.unique(np.append(rng.integers(1, len(x) + 1, rng.integers(0, 5)), len(x)))
        parts, first = [], 0
        for end in ends:
            own = int(rng.choice([size, rng.integers(1, 7)]))
            part = gm.FrequentDirections(x.shape[1], own, decay=decay)
            w = None if weights is None else weights[first:end]
            half = (end - first + 1) // 2
            part.partial_fit(x[first : first + half], None if w is None else w[:half])
            if first + half < end:
                part.partial_fit(x[first + half : end], None if w is None else w[half:])
            parts.append(part)
            first = end
        a = decayed(x, weights=weights, decay=decay)
        if weights is not None and decay != 1:
            # Rows of weight 0 decay nothing.
            present = weights > 0
            a = decayed(x[present], weights=weights[present], decay=decay)
        sketch = tree(rng, parts)
        if len(a):
            finite += check_bounds(sketch, a)
        assert sketch.n_samples_seen_ == len(x if weights is None else x[weights > 0])
    assert finite > 5
    assert kernels.shrinkings > 40


def test_certificates_hold_in_many_digits():
    finite = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((30, 5)) * 10.0 ** rng.uniform(-8, 0, 5)
        sketch = gm.FrequentDirections(5, int(rng.integers(1, 5)))
        for batch in cut(rng, x):
            sketch.partial_fit(batch)
        finite += np.isfinite(sketch.certificate_)
        assert exact_sine(sketch.components_[0], x) <= sketch.certificate_
    assert finite > 10


def test_the_papers_bound():
    rng = np.random.default_rng(0)
    for _ in range(20):
        n, d, size = int(rng.integers(20, 200)), int(rng.integers(2, 20)), int(rng.integers(2, 9))
        x = rng.standard_normal((n, d)) * np.arange(1, d + 1) ** -1.0
        sketch = gm.FrequentDirections(d, size).partial_fit(x)
        tail = np.linalg.svd(x, compute_uv=False) ** 2
        best = min(tail[k:].sum() / (size + 1 - k) for k in range(size + 1))
        # A reading shrinks once more; what rounding costs is far below.
        assert sketch.covariance_error_bound_ <= best * (1 + 1e-6) + 1e-9 * tail.sum()


@pytest.mark.parametrize("by", [1e-7, 1e-4, 0.5])
def test_eigenvectors_that_are_wrong_cost_what_they_are_off_by(monkeypatch, by):
    rng = np.random.default_rng(1)

    def spoiled(u):
        return u + by * rng.standard_normal(u.shape) / len(u)

    kernels, dropped = Kernels(spoiled), 0
    monkeypatch.setattr(_streaming_gpu_sketch, "_append", kernels)
    for _ in range(60):
        x, _, _, size = random_case(rng, 40)
        sketch = gm.FrequentDirections(x.shape[1], size).partial_fit(x)
        check_bounds(sketch, x.astype(float), energy=0.01)
        dropped += sketch._state["totals"][DROPPED]
    assert kernels.shrinkings > 60
    # Too far off to prove anything: rows are dropped.
    assert dropped == (kernels.shrinkings if by == 0.5 else 0)


def longer(u):
    return u * (1 + 1e-4)


def turned(u):
    v = u.copy()
    c, s = np.cos(1e-3), np.sin(1e-3)
    v[:, 0], v[:, -1] = c * u[:, 0] + s * u[:, -1], c * u[:, -1] - s * u[:, 0]
    return v


@pytest.mark.parametrize("spoiled", [longer, turned])
def test_each_side_of_the_enclosure_holds_alone(monkeypatch, spoiled):
    monkeypatch.setattr(_streaming_gpu_sketch, "_append", Kernels(spoiled))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        d, size = int(rng.integers(6, 20)), int(rng.integers(2, 6))
        # Of so low a rank that nothing has to be taken: what is off is due to the eigenvectors.
        x = rng.standard_normal((2 * size, size)) @ rng.standard_normal((size, d))
        state = gm.FrequentDirections(d, size).partial_fit(x)._state
        b = state["held"][:, :size].T
        left = np.linalg.eigvalsh(x.T @ x - b.T @ b)
        delta, rounding = state["totals"][:2]
        doubt = 1e-13 * (x * x).sum()
        assert -rounding - doubt <= left[0]
        assert left[-1] <= delta + rounding + doubt
        assert max(-left[0], left[-1]) > 1e3 * doubt


def test_no_shrinking_drops_rows_where_numbers_are_ordinary(kernels):
    rng = np.random.default_rng(2)
    for _ in range(100):
        x, weights, decay, size = random_case(rng)
        sketch = gm.FrequentDirections(x.shape[1], size, decay=decay).partial_fit(x, weights)
        assert sketch._state["totals"][DROPPED] == 0
    assert kernels.shrinkings > 100


def test_it_stands_for_the_rows_that_the_sketch_of_the_cpu_does(monkeypatch):
    # The CPU's holds more rows and takes less off: both are below A^T A by at most their bounds.
    rng = np.random.default_rng(3)
    for _ in range(30):
        x, weights, decay, size = random_case(rng)
        device = gm.FrequentDirections(x.shape[1], size, decay=decay).partial_fit(x, weights)
        with monkeypatch.context() as patch:
            patch.setattr(_streaming_gpu, "takes", lambda state, x: False)
            # Rows of zeros and of weight 0 fill the GPU's sketch alone.
            if (x.any(axis=1) if weights is None else x.any(axis=1) & (weights > 0)).all():
                host = gm.FrequentDirections(x.shape[1], size, decay=decay).partial_fit(x, weights)
                a, b = (e.sketch_.astype(float) for e in (device, host))
                bound = max(device.covariance_error_bound_, host.covariance_error_bound_)
                apart = np.linalg.norm(a.T @ a - b.T @ b, 2)
                assert apart <= bound + 1e-5 * np.abs(a.T @ a).max() + 1e-30
                assert device.n_samples_seen_ == host.n_samples_seen_


def test_a_state_goes_on_on_the_cpu_and_back(monkeypatch):
    rng = np.random.default_rng(4)
    for _ in range(60):
        x, weights, decay, size = random_case(rng)
        d, half = x.shape[1], len(x) // 2
        if half == 0:
            continue
        w = (None, None) if weights is None else (weights[:half], weights[half:])
        device = gm.FrequentDirections(d, size, decay=decay).partial_fit(x[:half], w[0])
        saved = device.state_dict()
        assert saved["state"]["device"] is None
        back = pickle.loads(pickle.dumps(device)).partial_fit(x[half:], w[1])
        straight = device.partial_fit(x[half:], w[1])
        np.testing.assert_array_equal(back._state["held"], straight._state["held"])
        np.testing.assert_array_equal(back._state["totals"], straight._state["totals"])
        loaded = gm.FrequentDirections(d, size, decay=decay).load_state_dict(saved)
        with monkeypatch.context() as patch:
            patch.setattr(_streaming_gpu, "takes", lambda s, x: _streaming_gpu.is_here(s))
            loaded.partial_fit(x[half:], w[1])
            assert not _streaming_gpu.is_here(loaded._state)
        present = np.ones(len(x), bool) if weights is None else weights > 0
        a = decayed(x[present], weights=None if weights is None else weights[present], decay=decay)
        for end in (straight, loaded):
            if len(a):
                check_bounds(end, a)
            assert end.n_samples_seen_ == present.sum()


def test_saved_sketches_merge(monkeypatch):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((50, 6))
    parts = [gm.FrequentDirections(6, 3).partial_fit(part) for part in np.split(x, 2)]
    saved = [gm.FrequentDirections(6, 3).load_state_dict(p.state_dict()) for p in parts]
    monkeypatch.setattr(_streaming_gpu, "takes", lambda s, x: _streaming_gpu.is_here(s))
    check_bounds(saved[0].merge(saved[1]), x)
    check_bounds(saved[0].merge(gm.FrequentDirections(6, 2)), x[:25])
    with pytest.raises(ValueError, match=r"other lies on .*; this one lies on"):
        parts[0].merge(saved[1])


def test_merging_leaves_both_as_they_were_and_takes_empty_ones():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((40, 6))
    one, two = (gm.FrequentDirections(6, 3, decay=0.9).partial_fit(part) for part in np.split(x, 2))
    before = [{k: np.copy(v) for k, v in e._state.items() if k != "stages"} for e in (one, two)]
    whole = one.merge(two)
    whole.partial_fit(x)
    for e, old in zip((one, two), before, strict=True):
        for name in ("held", "factors", "totals", "position"):
            np.testing.assert_array_equal(e._state[name], old[name])
    empty = gm.FrequentDirections(6, 2, decay=0.9)
    check_bounds(one.merge(empty), decayed(x[:20], decay=0.9))
    check_bounds(empty.merge(one), decayed(x[:20], decay=0.9))
    assert one.merge(empty)._state["held"] is not one._state["held"]
    other = gm.FrequentDirections(6, 3, decay=0.9).partial_fit(x.astype(np.float32))
    with pytest.raises(TypeError, match="float32"):
        one.merge(other)


def test_numbers_beyond_the_range_certify_nothing():
    rng = np.random.default_rng(7)
    x = rng.standard_normal((40, 4)) * [9, 1, 1, 1]
    for scale in (1e200, 1e-200):
        sketch = gm.FrequentDirections(4, 3)
        with np.errstate(all="ignore"):
            sketch.partial_fit(scale * x)
        assert sketch.certificate_ == np.inf
        assert sketch.covariance_error_bound_ > 0
    for scale in (1e-100, 1e100):
        sketch = gm.FrequentDirections(4, 3).partial_fit(scale * x)
        check_bounds(sketch, scale * x)
        assert sketch.certificate_ < 1


def test_what_a_gpu_does_not_take_says_so():
    with pytest.raises(ValueError, match="sketch_size is 129"):
        gm.FrequentDirections(4, 129).partial_fit(np.ones((3, 4)))
    sketch = gm.FrequentDirections(4, 2).partial_fit(np.ones((3, 4)))
    for bad, error in [
        (np.ones((3, 5)), ValueError),
        (np.ones((0, 4)), ValueError),
        (np.ones((3, 4), np.float32), TypeError),
        (np.ones((3, 4), int), TypeError),
        (np.full((3, 4), np.nan), ValueError),
    ]:
        before = sketch._state["position"]
        with pytest.raises(error, match="X"):
            sketch.partial_fit(bad)
        assert sketch._state["position"] == before
    assert sketch.n_samples_seen_ == 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_arrays_of_torch(dtype):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(np.random.default_rng(9).standard_normal((60, 7)) * np.arange(1, 8))
    x = x.to(getattr(torch, dtype))
    parts = [
        gm.FrequentDirections(7, 3, decay=0.99).partial_fit(part, torch.full((30,), 2.0))
        for part in x.split(30)
    ]
    whole = parts[0].merge(parts[1])
    for value in (whole.sketch_, whole.components_, whole.transform(x)):
        assert value.dtype == x.dtype
    assert whole.explained_variance_.dtype == torch.promote_types(x.dtype, torch.float32)
    a = decayed(x.double().numpy(), weights=np.full(60, 2.0), decay=0.99)
    b = whole.sketch_.double().numpy()
    assert np.linalg.norm(a.T @ a - b.T @ b, 2) <= whole.covariance_error_bound_
    assert whole.n_samples_seen_ == 60
    assert pickle.loads(pickle.dumps(whole)).certificate_ == whole.certificate_


def test_transform_and_memory():
    x = np.random.default_rng(8).standard_normal((40, 6))
    sketch = gm.FrequentDirections(6, 3).partial_fit(x)
    np.testing.assert_allclose(sketch.transform(x), x @ sketch.components_.T, atol=1e-12)
    held = sum(sketch._state[k].nbytes for k in ("held", "factors", "totals"))
    assert sketch.nbytes_bound(40) >= 2 * held
