"""BlockOja's steps on a GPU that no kernel takes, run on the host: certificates, centring, moves.

The kernels and the caller's library on a device are compared with this in
test_streaming_gpu_general.py.
"""

from __future__ import annotations

import pickle

import gramian as gm
import numpy as np
import pytest
from gramian import _streaming_gpu, _streaming_gpu_general

from tests.reference import streaming as reference
from tests.reference import streams

TRIALS = 40  # per stream


@pytest.fixture(autouse=True)
def road(monkeypatch):
    monkeypatch.setattr(_streaming_gpu, "takes", lambda state, x: True)


def fed(estimator, rows, rng, weights=None):
    first = 0
    for batch in reference.cut(rng, rows):
        own = None if weights is None else weights[first : first + len(batch)]
        estimator.partial_fit(batch, own)
        first += len(batch)
    return estimator


def drawn(rng, d):
    """One of the estimators that go this road."""
    step, center = ("adaoja", "history")[rng.integers(2)], bool(rng.integers(3))
    return gm.BlockOja(
        d,
        int(rng.integers(1, d + 1)),
        step=step,
        center=center or step == "adaoja",
        decay=float(rng.choice([1.0, 1.0, 0.999, 0.9])),
        rng=int(rng.integers(9)),
    )


def check(estimator, rows, weights=None):
    a = streams.stacked(rows, weights, estimator.decay, estimator.center)
    raw = (streams.stacked(rows, weights, estimator.decay) ** 2).sum()
    assert estimator.frobenius_squared_ == pytest.approx((a * a).sum(), rel=1e-9, abs=1e-9 * raw)
    if not np.isfinite(estimator.certificate_) or not a.any():
        return False
    truth, doubt = reference.sine(estimator.components_[0], a)
    # The rows' own mean is rounded in float64, too.
    doubt *= max(1.0, np.sqrt(raw / (a * a).sum()))
    assert truth - doubt <= estimator.certificate_
    return True


@pytest.mark.parametrize("kind", reference.STREAMS)
def test_the_certificate_is_never_below_the_truth(kind):
    finite = 0
    for seed in range(TRIALS):
        rng = np.random.default_rng([seed, 1])
        n, d = int(rng.integers(1, 1500)), int(rng.integers(1, 24))
        rows = reference.ordered(rng, reference.STREAMS[kind](rng, n, d))
        rows = rows + rng.choice([0.0, 1.0, 100.0]) * rng.standard_normal(d)
        rows = rows.astype(rng.choice(["float64", "float32"]))
        weights = rng.choice([0.0, 0.5, 3.0], n) if rng.random() < 0.2 else None
        estimator = drawn(rng, d)
        with np.errstate(over="ignore", invalid="ignore"):
            fed(estimator, rows, rng, weights)
        finite += check(estimator, rows, weights)
    assert finite > (0 if kind in ("isotropic", "light rows", "late direction") else TRIALS // 20)


def test_the_certificate_holds_in_many_digits():
    checked = 0
    for seed in range(40):
        rng = np.random.default_rng([seed, 2])
        kind = ("rank one", "nearly rank one", "spiked")[seed % 3]
        rows = reference.STREAMS[kind](rng, 40, 5) + 10.0 ** rng.uniform(-2, 4)
        for step in ("adaoja", "history"):
            pca = gm.BlockOja(5, 2, step=step, center=True, rng=seed).partial_fit(rows)
            if np.isfinite(pca.certificate_):
                truth = streams.exact_sine(rows, pca.components_[0], center=True)
                assert truth <= pca.certificate_
                checked += 1
    assert checked > 30


def test_nothing_is_certified_where_the_top_eigenvalue_is_repeated():
    for seed in range(60):
        rng = np.random.default_rng([seed, 3])
        rows = reference.repeated(rng, int(rng.integers(2, 1500)), int(rng.integers(2, 24)))
        rows = np.concatenate([rows, -rows]) + 5.0 * bool(rng.integers(2))  # centred alike
        for step in ("adaoja", "history"):
            pca = gm.BlockOja(rows.shape[1], 2, step=step, center=True, rng=seed)
            assert fed(pca, rows, rng).certificate_ == np.inf, seed


def test_products_of_centred_rows_are_as_near_as_is_said():
    for seed in range(40):
        rng = np.random.default_rng([seed, 4])
        d, n = int(rng.integers(1, 20)), int(rng.integers(1, 6000))
        rows = rng.standard_normal((n, d)) + 10.0 ** rng.uniform(0, 6) * rng.standard_normal(d)
        pca = fed(gm.BlockOja(d, 1, center=True, rng=seed), rows, rng)
        reading = _streaming_gpu.reading(pca._on_gpu(), pca._state, d)
        stages = [*reading.stages, (reading.vectors[1:], reading.gathered[1:])]
        ends = [512 * 8**i for i in range(len(reading.stages))]
        raw = (rows * rows).sum()
        wide = rows.astype(np.longdouble)
        scatter, before = np.zeros((d, d), np.longdouble), 0
        for (z, w), end in zip(stages, [*ends, n], strict=True):
            total = _scatter(wide[:end])
            off = w - z @ (total - scatter).astype(float)
            error = 24 * 1.01 * 2.0**-53 * (d + reading.roundings + 24) * raw * np.linalg.norm(z)
            assert np.linalg.norm(off) <= error + 1e-17 * raw * np.linalg.norm(z)
            scatter, before = total, end
        assert before == n


def _scatter(rows):
    if not len(rows):
        return np.zeros((rows.shape[1],) * 2, np.longdouble)
    off = rows - rows.mean(axis=0)
    return off.T @ off


@pytest.mark.parametrize("k", [8, 57, 150])
def test_many_vectors_are_those_of_the_kernels_steps(k, monkeypatch):
    rng = np.random.default_rng(5)
    d = 160
    rows = rng.standard_normal((2000, d)) * np.r_[50.0, 20, 9, np.ones(d - 3)]
    pca = gm.BlockOja(d, k, rng=0)
    layout = _streaming_gpu.block_layout(k, "adaoja", 1.0, False)
    general = _streaming_gpu.Layout("adaoja", k, 1.0, np.zeros((2, k)), general=True)
    plain = _streaming_gpu.Layout("adaoja", k, 1.0, np.zeros((2, k)))
    assert layout.general == (k > 56)
    found = []
    for used in (general, plain):
        monkeypatch.setattr(gm.BlockOja, "_on_gpu", lambda self, used=used: used)
        pca = gm.BlockOja(d, k, rng=0)
        for batch in np.array_split(rows, 7):
            pca.partial_fit(batch)
        found.append(pca._state)
        q = pca._state["vectors"][:k]
        np.testing.assert_allclose(q @ q.T, np.eye(k), atol=1e-8)
    one, other = found
    assert one["position"] == other["position"]
    np.testing.assert_allclose(one["vectors"][:3], other["vectors"][:3], atol=1e-6)
    np.testing.assert_allclose(one["totals"], other["totals"], rtol=1e-12)


@pytest.mark.parametrize("step", ["adaoja", "history"])
@pytest.mark.parametrize("center", [False, True])
def test_it_finds_what_the_cpu_finds(step, center, monkeypatch):
    rng = np.random.default_rng(6)
    scales = np.r_[30.0, 15, 6, np.ones(27)]
    rows = rng.standard_normal((6000, 30)) * scales + 4
    for decay in (1.0, 0.999):
        device, host = (
            gm.BlockOja(30, 3, step=step, center=center, decay=decay, rng=0) for _ in range(2)
        )
        fed(device, rows, rng)
        with monkeypatch.context() as patch:
            patch.setattr(_streaming_gpu, "takes", lambda s, x: False)
            host.partial_fit(rows)
        a = streams.stacked(rows, None, decay, center)
        truth = np.linalg.svd(a, full_matrices=False)
        for estimator in (device, host):
            along = np.abs(np.einsum("ij,ij->i", estimator.components_, truth[2][:3]))
            assert (along > 0.995).all()
        values = device.explained_variance_ * (6000 - center)
        np.testing.assert_allclose(values, truth[1][:3] ** 2, rtol=0.2)
        np.testing.assert_allclose(device.mean_, host.mean_, rtol=1e-9, atol=1e-9)
        assert device.frobenius_squared_ == pytest.approx(host.frobenius_squared_, rel=1e-9)
        assert device.certificate_ < 0.2


def test_how_rows_are_cut_changes_roundings_alone():
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((1500, 12)) * np.arange(1, 13) + 3
    for step in ("adaoja", "history"):
        states = []
        for size in (1500, 64, 37):
            pca = gm.BlockOja(12, 3, step=step, center=True, decay=0.9999, rng=0)
            for first in range(0, 1500, size):
                pca.partial_fit(rows[first : first + size])
            states.append(pca._state)
        for one in states[1:]:
            assert one["position"][:2] == states[0]["position"][:2]
            for name in ("vectors", "gathered", "sums"):
                scale = np.abs(states[0][name]).max()
                assert np.abs(one[name] - states[0][name]).max() <= 1e-9 * scale


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_torch_and_pickles(dtype):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(np.random.default_rng(9).standard_normal((700, 7)) * np.arange(1, 8) + 2)
    x = x.to(getattr(torch, dtype))
    for step in ("adaoja", "history"):
        pca = gm.BlockOja(7, 3, step=step, center=True, rng=0)
        for part in x.split(150):
            pca.partial_fit(part)
            assert pca.certificate_ >= 0  # reading changes nothing
        saved = gm.BlockOja(7, 3, step=step, center=True, rng=0).partial_fit(x[:150])
        loaded = pickle.loads(pickle.dumps(saved))
        for part in x[150:].split(150):
            loaded.partial_fit(part)
        for name in ("vectors", "gathered", "figures", "totals", "sums"):
            mine, its = (np.asarray(e._state[name]) for e in (pca, loaded))
            np.testing.assert_array_equal(mine, its)
        assert pca.components_.dtype == x.dtype
        figures = torch.promote_types(x.dtype, torch.float32)
        assert pca.mean_.dtype == pca.explained_variance_.dtype == figures
        wide = x.double().numpy()
        np.testing.assert_allclose(pca.mean_, wide.mean(axis=0), rtol=1e-5)
        y = pca.transform(x).double().numpy()
        exact = (wide - wide.mean(axis=0)) @ pca.components_.double().numpy().T
        assert np.abs(y - exact).max() <= 0.05 * np.abs(exact).max()


def test_zeros_nan_and_limits():
    for step in ("adaoja", "history"):
        pca = gm.BlockOja(4, 2, step=step, center=True, rng=0)
        with np.errstate(all="ignore"):
            pca.partial_fit(np.zeros((100, 4)))
            assert pca.certificate_ == np.inf
            pca.partial_fit(np.eye(4)[:1] * 8)
        assert abs(pca.components_[0, 0]) > 0.99
        assert pca.certificate_ < 1e-4
        same = gm.BlockOja(4, 2, step=step, center=True, rng=0).partial_fit(np.ones((300, 4)))
        assert same.certificate_ == np.inf  # nothing but roundings
        pca._state["totals"][:] = np.nan
        pca._state["figures"][:] = np.nan
        pca._results = []
        with np.errstate(all="ignore"):
            assert np.isnan(pca.components_).all()
            assert pca.certificate_ == np.inf
    with pytest.raises(NotImplementedError, match="n_components is 145"):
        gm.BlockOja(200, 145, step="history").partial_fit(np.ones((3, 200)))
    before = pickle.dumps(same.state_dict())
    for bad in (np.ones((3, 5)), np.full((3, 4), np.nan)):
        with pytest.raises(ValueError, match="X"):
            same.partial_fit(bad)
        assert pickle.dumps(same.state_dict()) == before
    held = sum(same._state[k].nbytes for k in ("vectors", "gathered", "sums"))
    assert same.nbytes_bound(300) >= 2 * held
    assert _streaming_gpu_general.MOST_HISTORY == 144
