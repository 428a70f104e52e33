"""Frequent Directions on a GPU: the kernels beside NumPy's, bounds, streams, moves, memory.

The road itself, with its proof, is tested without a GPU in test_streaming_gpu_sketch_road.py.
"""

from __future__ import annotations

import itertools
import pickle

import gramian as gm
import numpy as np
import pytest

from tests.gpu_streams import DTYPES, nothing_waits, on_host
from tests.reference import streams
from tests.reference.streaming import cut, decayed
from tests.reference.streaming_sketch import DROPPED

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]

# Every size of the eigenproblem's kernel, odd and even, and more rows than twice fit.
SIZES = [
    (1, 5),
    (2, 1),
    (7, 40),
    (24, 100),
    (37, 260),
    (56, 130),
    (72, 500),
    (100, 300),
    (128, 200),
]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def rows(torch, n, d, dtype="float32", seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    x = torch.randn(n, d, generator=generator, device="cuda", dtype=torch.float64)
    x *= torch.arange(1, d + 1, device="cuda") ** -0.5
    return x.to(getattr(torch, dtype))


def same_state(device, host, tolerance):
    a, b = (e.state_dict()["state"] for e in (device, host))
    assert a["position"] == b["position"]
    filled = a["position"][0]
    one, other = ((s["held"] * s["factors"])[:, :filled] for s in (a, b))
    # Singular vectors may turn; what they stand for may not.
    gram = other @ other.T
    assert np.abs(one @ one.T - gram).max() <= tolerance * np.trace(gram)
    for i, scale in enumerate([np.trace(gram), None, np.trace(gram), None, None]):
        if scale is not None:
            assert abs(a["totals"][i] - b["totals"][i]) <= tolerance * max(scale, b["totals"][i])
    np.testing.assert_array_equal(a["totals"][3:], b["totals"][3:])
    assert a["totals"][DROPPED] == 0
    # What rounding costs is a bound in both; the measured parts of it differ.
    assert a["totals"][1] <= 100 * b["totals"][1] + 1e-12 * np.trace(gram)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "d"), [(1, 5), (7, 40), (24, 300)])
def test_kernels_do_what_the_host_does(torch, monkeypatch, size, d, dtype):
    x = rows(torch, 130, d, dtype)
    cuts = [0, 1, 20, 77, 130]
    weights = np.random.default_rng(0).choice([0.0, 0.5, 2.0], 130)
    for decay, own in [(1.0, None), (0.97, None), (0.97, weights)]:
        device, host = (gm.FrequentDirections(d, size, decay=decay) for _ in range(2))
        for first, last in itertools.pairwise(cuts):
            device.partial_fit(x[first:last], None if own is None else own[first:last])
        on_host(host, x.cpu(), monkeypatch, cuts, own)
        same_state(device, host, 1e-9)
        assert device.components_.device.type == "cuda"
        assert device.components_.dtype == x.dtype


@pytest.mark.parametrize(("size", "d"), SIZES)
def test_bounds_hold_at_every_size(torch, size, d):
    for kind in ("decaying", "low rank", "with zeros"):
        x = rows(torch, 700, d, "float64")
        if kind == "low rank":
            low = max(1, min(size, d) // 2)
            x = x[:, :low] @ rows(torch, low, d, "float64", 1)
        elif kind == "with zeros":
            x[::3] = 0
        sketch = gm.FrequentDirections(d, size)
        for batch in x.split(190):
            sketch.partial_fit(batch)
        a, b = x.cpu().numpy(), sketch.sketch_.cpu().numpy()
        energy = (a * a).sum()
        left = np.linalg.eigvalsh(a.T @ a - b.T @ b)
        bound = sketch.covariance_error_bound_
        assert np.abs(left).max() <= bound + 1e-14 * d * energy
        assert bound <= energy / (size + 1) * (1 + 1e-6) + 1e-9 * energy
        assert sketch.frobenius_squared_ == pytest.approx(energy, rel=1e-9)
        assert int(sketch._state["totals"][DROPPED]) == 0, kind


@pytest.mark.parametrize("kind", streams.KINDS)
def test_bounds_are_never_below_the_truth(torch, kind):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        d, size, n = int(rng.integers(1, 30)), int(rng.integers(1, 12)), int(rng.integers(1, 200))
        x = streams.rows(rng, kind, n, d).astype(rng.choice(["float64", "float32"]))
        decay = float(rng.choice([1.0, 0.99]))
        sketches = [gm.FrequentDirections(d, size, decay=decay) for _ in range(2)]
        half = n // 2
        for sketch, part in zip(sketches, (x[:half], x[half:]), strict=True):
            for batch in cut(rng, part):
                sketch.partial_fit(torch.from_numpy(np.array(batch)).cuda())
        whole = sketches[0].merge(sketches[1])
        a = decayed(x, decay=decay)
        b = whole.sketch_.cpu().numpy().astype(float)
        error = np.linalg.norm(a.T @ a - b.T @ b, 2)
        assert error <= whole.covariance_error_bound_ + 1e-14 * max(a.shape) * (a * a).sum()
        truth = streams.top(a)
        if truth is not None:
            vector = whole.components_[0].cpu().numpy()
            assert streams.sine(vector, truth[0]) <= whole.certificate_ + truth[1]
        assert whole.n_samples_seen_ == n


@pytest.mark.parametrize("layout", ["columns", "strided", "rows apart", "off by one"])
def test_rows_of_any_strides(torch, layout):
    x = rows(torch, 300, 260)
    given = {
        "columns": lambda: x.mT.contiguous().mT,
        "strided": lambda: x.repeat_interleave(2, dim=1)[:, ::2],
        "rows apart": lambda: torch.cat([x, x], dim=1)[:, :260],
        "off by one": lambda: torch.cat([x[:, :1], x], dim=1)[:, 1:],
    }[layout]()
    assert torch.equal(given, x)
    plain, other = (gm.FrequentDirections(260, 9).partial_fit(v) for v in (x, given))
    one, two = (e.state_dict()["state"] for e in (plain, other))
    for name in ("held", "factors", "totals"):
        np.testing.assert_array_equal(one[name], two[name])


def test_the_cut_of_a_stream_changes_no_bits_without_decay(torch):
    x = rows(torch, 900, 96)
    whole = gm.FrequentDirections(96, 20).partial_fit(x).state_dict()["state"]
    parts = gm.FrequentDirections(96, 20)
    for batch in x.split(17):
        parts.partial_fit(batch)
    loaded = gm.FrequentDirections(96, 20).partial_fit(x[:333])
    assert loaded.certificate_ >= 0  # reading changes nothing
    loaded = gm.FrequentDirections(96, 20).load_state_dict(loaded.state_dict())
    loaded.partial_fit(x[333:])
    for other in (parts.state_dict()["state"], loaded.state_dict()["state"]):
        for name in ("held", "factors", "totals"):
            np.testing.assert_array_equal(whole[name], other[name])


def test_partial_fit_does_not_wait(torch):
    x = rows(torch, 1024, 512)
    sketch = gm.FrequentDirections(512, 32, decay=0.999).partial_fit(x)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()), nothing_waits(torch):
        sketch.partial_fit(x)
    torch.cuda.synchronize()


def test_work_is_in_the_order_of_the_current_stream(torch):
    x = torch.zeros(1024, 512, device="cuda")
    late = rows(torch, 1024, 512)
    plain = gm.FrequentDirections(512, 16).partial_fit(late)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(100_000_000)
        x.copy_(late)
        other = gm.FrequentDirections(512, 16).partial_fit(x)
        x.zero_()
        assert torch.equal(other.components_, plain.components_)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("more", [0, 500])
def test_nan_reaches_the_result_and_nothing_is_certified(torch, bad, more):
    x = rows(torch, 500, 64)
    sketch = gm.FrequentDirections(64, 10).partial_fit(x)
    x[497, 3] = bad
    sketch.partial_fit(x)
    if more:
        sketch.partial_fit(rows(torch, more, 64))
    assert torch.isnan(sketch.components_).all()
    assert sketch.certificate_ == np.inf
    assert sketch.covariance_error_bound_ == np.inf


def test_a_stream_moves_to_the_host(torch):
    x = rows(torch, 600, 96)
    device = gm.FrequentDirections(96, 12).partial_fit(x[:400])
    moved = pickle.loads(pickle.dumps(device))
    moved.partial_fit(x[400:].cpu())
    device.partial_fit(x[400:])
    assert moved.components_.device.type == "cpu"
    a, b = (e.sketch_.cpu().numpy().astype(float) for e in (moved, device))
    # The CPU's sketch shrinks more rows at once; both are below A^T A by at most their bounds.
    bound = max(moved.covariance_error_bound_, device.covariance_error_bound_)
    assert np.linalg.norm(a.T @ a - b.T @ b, 2) <= bound + 1e-6 * np.trace(b.T @ b)
    assert moved.n_samples_seen_ == device.n_samples_seen_ == 600
    with pytest.raises(ValueError, match="X lies on cpu:0"):
        device.partial_fit(x.cpu())


def test_memory_stays_below_its_bound(torch):
    for size, d, batch in [(32, 1024, 4096), (128, 64, 500)]:
        x = rows(torch, batch, d)
        sketch = gm.FrequentDirections(d, size)
        sketch.partial_fit(x)
        del sketch
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        sketch = gm.FrequentDirections(d, size)
        for _ in range(3):
            sketch.partial_fit(x)
        assert torch.cuda.max_memory_allocated() - before <= sketch.nbytes_bound(batch)


def test_cupy(torch):
    cupy = pytest.importorskip("cupy")
    x = rows(torch, 300, 96)
    ours = gm.FrequentDirections(96, 8, decay=0.99).partial_fit(x)
    other = gm.FrequentDirections(96, 8, decay=0.99).partial_fit(cupy.asarray(x))
    assert isinstance(other.components_, cupy.ndarray)
    one, two = (e.state_dict()["state"] for e in (ours, other))
    np.testing.assert_array_equal(one["held"], two["held"])
    whole = other.merge(other)
    assert isinstance(whole.sketch_, cupy.ndarray)
    assert whole.n_samples_seen_ == 600


def test_transform(torch):
    x = rows(torch, 300, 96)
    sketch = gm.FrequentDirections(96, 8).partial_fit(x)
    y = sketch.transform(x)
    assert y.device == x.device
    assert y.dtype == x.dtype
    truth = x.double() @ sketch.components_.double().mT
    assert float((y - truth).norm()) <= 1e-5 * float(truth.norm())
