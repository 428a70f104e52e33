"""RandomOrderTopEigenvector on the GPU's road, with the kernels played by NumPy.

The kernels themselves are compared with this in test_streaming_gpu_random.py.
"""

from __future__ import annotations

import itertools
import pickle

import gramian as gm
import numpy as np
import pytest
from gramian import _streaming_gpu, _streaming_gpu_random, _streaming_gpu_sketch

from tests.reference import streams
from tests.reference.streaming_heavy import heavy_update
from tests.reference.streaming_sketch import Kernels

ARRAYS = (*_streaming_gpu._SKETCH_ARRAYS, *_streaming_gpu.HEAVY_ARRAYS)


@pytest.fixture(autouse=True)
def road(monkeypatch):
    monkeypatch.setattr(_streaming_gpu, "takes", lambda state, x: True)
    monkeypatch.setattr(_streaming_gpu_sketch, "_append", Kernels())
    monkeypatch.setattr(_streaming_gpu_random, "_take", heavy_update)


def on_cpu(monkeypatch, run):
    """What the estimators of the CPU do."""
    with monkeypatch.context() as patch:
        patch.setattr(_streaming_gpu, "takes", lambda state, x: _streaming_gpu.is_here(state))
        return run()


def random_case(rng, most=120):
    d, n = int(rng.integers(1, 24)), int(rng.integers(1, most))
    x = streams.rows(rng, str(rng.choice(streams.KINDS)), n, d)
    x = x.astype(rng.choice([np.float32, np.float64]))
    weights = rng.choice([0.0, 0.5, 1.0, 3.0, 1e4], n) if rng.random() < 0.3 else None
    return x, weights, int(rng.integers(0, 10))


def fed(estimator, x, weights, step):
    for first in range(0, len(x), step):
        part = slice(first, first + step)
        estimator.partial_fit(x[part], None if weights is None else weights[part])
    return estimator


def check(estimator, x, weights):
    a = streams.stacked(x, weights)
    truth = streams.top(a)
    assert estimator.frobenius_squared_ == pytest.approx((a * a).sum(), rel=1e-6, abs=1e-280)
    assert estimator.n_samples_seen_ == len(a)
    if truth is None:
        return False
    true = streams.sine(estimator.components_[0], truth[0])
    assert true <= estimator.certificate_ + truth[1]
    return np.isfinite(estimator.certificate_)


@pytest.mark.parametrize("seed", range(10))
def test_certificates_hold_in_any_order(seed):
    rng = np.random.default_rng([seed, 1])
    finite = 0
    for _ in range(40):
        x, weights, heavy = random_case(rng)
        estimator = gm.RandomOrderTopEigenvector(x.shape[1], max_heavy_rows=heavy, rng=seed)
        finite += check(fed(estimator, x, weights, int(rng.integers(1, 40))), x, weights)
    assert finite > 10


def alike(device, host, tolerance):
    """The same rows kept, the same iteration: states after the same rows."""
    np.testing.assert_allclose(device["stream"], host["stream"], rtol=tolerance)
    kept = int(device["stream"][2])
    np.testing.assert_allclose(
        device["heavy"][:kept], host["heavy"][:kept], rtol=tolerance, atol=1e-300
    )
    for a, b in zip(device["vectors"], host["vectors"], strict=True):
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


def test_it_is_the_estimator_of_the_cpu(monkeypatch):
    kinds = [kind for kind in streams.KINDS if "scale" not in kind]
    for seed in range(60):
        rng = np.random.default_rng([seed, 2])
        d, n, most = int(rng.integers(2, 24)), int(rng.integers(1, 300)), int(rng.integers(0, 9))
        x = streams.rows(rng, str(rng.choice(kinds)), n, d).astype(np.float64)
        if not 1e-3 < np.abs(x).max() < 1e3:
            continue  # the CPU's units are others
        device, host = (
            gm.RandomOrderTopEigenvector(d, max_heavy_rows=most, rng=seed) for _ in "ab"
        )
        fed(device, x, None, int(rng.integers(1, 60)))
        on_cpu(monkeypatch, lambda host=host, x=x: host.partial_fit(x))
        alike(device._state, host._state, 1e-9)


def test_how_rows_are_cut_changes_roundings_alone():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((400, 12)) * rng.lognormal(size=(400, 1))
    cuts = [fed(gm.RandomOrderTopEigenvector(12, rng=0), x, None, step) for step in (1, 7, 400)]
    for one in cuts[:2]:
        alike(one._state, cuts[2]._state, 1e-10)
        np.testing.assert_array_equal(one._state["held"], cuts[2]._state["held"])


@pytest.mark.parametrize("scale", [1.0, 1e12, 1e-20])
def test_states_move_both_ways(monkeypatch, scale):
    for seed in range(30):
        rng = np.random.default_rng([seed, 4])
        x, weights, most = random_case(rng)
        x = x.astype(np.float64) * scale
        thirds = np.linspace(0, len(x), 4).astype(int)
        estimator = gm.RandomOrderTopEigenvector(x.shape[1], max_heavy_rows=most, rng=seed)
        straight = gm.RandomOrderTopEigenvector(x.shape[1], max_heavy_rows=most, rng=seed)
        for turn, (first, last) in enumerate(itertools.pairwise(thirds)):
            if first == last:
                continue
            part = slice(first, last)
            given = (x[part], None if weights is None else weights[part])
            straight.partial_fit(*given)
            saved = estimator.state_dict()
            estimator = type(estimator)(**estimator.get_params()).load_state_dict(saved)
            if (turn + seed) % 2:
                estimator.partial_fit(*given)
                assert _streaming_gpu.is_here(estimator._state)
            else:
                with monkeypatch.context() as patch:
                    patch.setattr(_streaming_gpu, "takes", lambda s, x: _streaming_gpu.is_here(s))
                    patch.setattr(_streaming_gpu_sketch, "goes_to_cpu", lambda s, x: True)
                    estimator.partial_fit(*given)
                assert not _streaming_gpu.is_here(estimator._state)
        check(estimator, x, weights)
        if x.any() and abs(np.log10(scale)) < 1:
            one, other = (np.abs(e.components_[0]) for e in (estimator, straight))
            truth = streams.top(streams.stacked(x, weights))
            if truth is not None and truth[1] < 1e-12 and estimator.certificate_ < 1e-3:
                assert np.abs(one - other).max() <= 2e-3


def test_what_is_resumed_has_the_same_bits():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((300, 9)) * rng.lognormal(size=(300, 1))
    straight = fed(gm.RandomOrderTopEigenvector(9, max_heavy_rows=4, rng=0), x, None, 100)
    saved = fed(gm.RandomOrderTopEigenvector(9, max_heavy_rows=4, rng=0), x[:200], None, 100)
    assert saved.certificate_ >= 0  # reading changes nothing
    back = pickle.loads(pickle.dumps(saved)).partial_fit(x[200:])
    for name in ARRAYS:
        np.testing.assert_array_equal(back._state[name], straight._state[name])


def test_repeated_eigenvalues_and_misleading_orders():
    for repeats in (1, 3, 40):
        x = np.tile(np.eye(5), (repeats, 1))
        assert gm.RandomOrderTopEigenvector(5, rng=0).partial_fit(x).certificate_ == np.inf
    x = np.vstack([np.tile(2 * np.eye(9)[0], (300, 1)), np.tile(np.eye(9)[1], (600, 1))])
    estimator = gm.RandomOrderTopEigenvector(9, max_heavy_rows=0, rng=0).partial_fit(x)
    assert abs(estimator.components_[0, 0]) > 0.999
    assert estimator.certificate_ < 0.01


def test_a_bad_batch_changes_nothing():
    x = np.random.default_rng(8).standard_normal((9, 5))
    estimator = gm.RandomOrderTopEigenvector(5, rng=0).partial_fit(x)
    before = pickle.dumps(estimator.state_dict())
    nan = x.copy()
    nan[8, 0] = np.nan
    for bad, error in [
        (nan, ValueError),
        (x[:, :4], ValueError),
        (x.astype("f4"), TypeError),
        (x.astype(complex), NotImplementedError),
    ]:
        with pytest.raises(error, match="X"):
            estimator.partial_fit(bad)
        assert pickle.dumps(estimator.state_dict()) == before
    with pytest.raises(ValueError, match="sample_weight"):
        estimator.partial_fit(x, -np.ones(9))
    assert pickle.dumps(estimator.state_dict()) == before


def test_zeros_and_numbers_that_are_none(monkeypatch):
    estimator = gm.RandomOrderTopEigenvector(4, rng=0).partial_fit(np.zeros((3, 4)))
    assert estimator.certificate_ == np.inf
    estimator.partial_fit(np.eye(4)[:1])
    assert estimator.certificate_ < 1e-12
    estimator._state["heavy"][0, 0] = np.nan
    estimator._results = []
    assert np.isnan(estimator.components_).all()
    assert estimator.certificate_ == np.inf
    held = sum(estimator._state[name].nbytes for name in ARRAYS)
    assert estimator.nbytes_bound(40) >= 2 * held


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_arrays_of_torch(dtype):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(np.random.default_rng(9).standard_normal((60, 7)) * np.arange(1, 8))
    x = x.to(getattr(torch, dtype))
    estimator = gm.RandomOrderTopEigenvector(7, rng=0)
    for part in x.split(30):
        estimator.partial_fit(part, torch.full((30,), 2.0))
    assert estimator.components_.dtype == x.dtype
    figures = torch.promote_types(x.dtype, torch.float32)
    assert estimator.explained_variance_.dtype == figures
    assert estimator.n_samples_seen_ == 60
    a = streams.stacked(x.double().numpy(), np.full(60, 2.0))
    true = streams.sine(estimator.components_[0].double().numpy(), streams.top(a)[0])
    assert true <= estimator.certificate_
