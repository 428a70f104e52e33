"""Streams on the GPU's road, run on the host: blocks, steps, stages and the proof.

The host's counterpart of the kernels is what a state from a GPU goes on with on the CPU. The
kernels themselves are compared with it in test_streaming_gpu.py.
"""

from __future__ import annotations

import math
import pickle

import gramian as gm
import numpy as np
import pytest
from gramian import _streaming_gpu, _streaming_gpu_host, _streaming_gpu_proof

from tests.reference import streaming as reference

TRIALS = 120  # per stream


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


def stream(kind, seed, most=1500):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, most)), int(rng.integers(1, 24))
    rows = reference.ordered(rng, reference.STREAMS[kind](rng, n, d))
    return rows.astype(rng.choice(["float64", "float32"])), rng


@pytest.mark.parametrize("kind", reference.STREAMS)
def test_the_certificate_is_never_below_the_truth(kind):
    finite = 0
    for seed in range(TRIALS):
        rows, rng = stream(kind, seed)
        rate = "grid" if rng.integers(4) else float(10 ** rng.uniform(-5, 1))
        d = rows.shape[1]
        for estimator in (
            gm.OjaTopEigenvector(d, learning_rate=rate, rng=seed),
            gm.BlockOja(d, int(rng.integers(1, d + 1)), rng=seed),
        ):
            with np.errstate(over="ignore", invalid="ignore"):
                fed(estimator, rows, rng)
            if not np.isfinite(estimator.certificate_):
                continue
            finite += 1
            truth, doubt = reference.sine(estimator.components_[0], rows)
            assert truth - doubt <= estimator.certificate_, (kind, seed)
    assert finite > (0 if kind == "isotropic" else TRIALS // 20)


@pytest.mark.parametrize("kind", ["rank one", "nearly rank one", "spiked", "heavy rows"])
def test_the_certificate_holds_in_many_digits(kind):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows = reference.STREAMS[kind](rng, 40, 5)
        for estimator in (gm.OjaTopEigenvector(5, rng=seed), gm.BlockOja(5, 2, rng=seed)):
            estimator.partial_fit(rows)
            truth = reference.exact_sine(estimator.components_[0], rows)
            assert truth <= estimator.certificate_


def test_nothing_is_certified_where_the_top_eigenvalue_is_repeated():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rows = reference.repeated(rng, int(rng.integers(2, 1500)), int(rng.integers(2, 24)))
        for estimator in (
            gm.OjaTopEigenvector(rows.shape[1], rng=seed),
            gm.BlockOja(rows.shape[1], 2, rng=seed),
        ):
            assert fed(estimator, rows, rng).certificate_ == np.inf, seed


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_certificate_is_finite_where_one_direction_has_nearly_all(dtype):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(1, 1500)), int(rng.integers(1, 100))
        rows = reference.ordered(rng, reference.STREAMS["nearly rank one"](rng, n, d))
        rows = rows.astype(dtype)
        squares = np.linalg.svd(rows.astype(float), compute_uv=False) ** 2
        top = gm.OjaTopEigenvector(d, rng=seed).partial_fit(rows)
        if squares.sum() <= 1.01 * squares[0]:
            assert top.certificate_ < 0.7
        truth, doubt = reference.sine(top.components_[0], rows)
        assert truth - doubt <= top.certificate_


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_has_figures_in_float32(dtype):
    """Entries of up to 60000, whose squares are beyond float16."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(5).uniform(0, 1, (300, 6))
    x[:, 1:] = 0.5 + x[:, 1:] / 20  # so that one direction stands out, centred too
    x = torch.from_numpy(6e4 * x)
    x = x.to(getattr(torch, dtype))
    wide = x.double().numpy()
    for estimator in (
        gm.OjaTopEigenvector(6, rng=0),
        gm.BlockOja(6, 2, rng=0),
        gm.BlockOja(6, 2, center=True, rng=0),
    ):
        for batch in x.split(77):
            estimator.partial_fit(batch)
        center = getattr(estimator, "center", False)
        mean = wide.mean(axis=0) if center else 0
        top = np.linalg.norm(wide - mean, 2) ** 2 / (300 - center)
        assert estimator.components_.dtype == x.dtype
        assert estimator.explained_variance_.dtype == torch.float32
        np.testing.assert_allclose(estimator.explained_variance_[0], top, rtol=0.05)
        if center:
            assert estimator.mean_.dtype == torch.float32
            np.testing.assert_allclose(estimator.mean_, mean, rtol=1e-6)


@pytest.mark.parametrize("exponent", [-200, -400, -520, -535, -537, -538, -539])
def test_nothing_is_certified_of_squares_that_underflow(exponent):
    rows = np.zeros((128, 64))
    rows[0::2, 0], rows[1::2, 1:] = 4, 1
    for estimator in (gm.OjaTopEigenvector(64, rng=0), gm.BlockOja(64, 2, rng=0)):
        with np.errstate(all="ignore"):
            estimator.partial_fit(rows * 2.0**exponent)
            estimator.partial_fit(rows * 2.0**exponent)
            certificate = estimator.certificate_
        truth, doubt = reference.sine(estimator.components_[0], rows)
        assert certificate == np.inf or truth - doubt <= certificate


def test_factors_of_decay_that_are_below_all_doubles():
    # The first row has the factor 1e-590, and is taken for more; the last has 2^-620 of its own.
    rows = np.zeros((60, 3))
    rows[0, 0], rows[-1, 1] = 2.0**240, 2.0**-310
    pca = gm.BlockOja(3, 1, decay=1e-10, rng=0)
    with np.errstate(all="ignore"):
        pca.partial_fit(rows)
        assert pca.certificate_ == np.inf or abs(pca.components_[0, 1]) > 0.999


def test_the_proof_encloses_what_the_sketch_leaves_out():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(2, 60))
        rows = reference._decaying(rng, int(rng.integers(1, 6000)), d)
        top = fed(gm.OjaTopEigenvector(d, rng=seed), rows, rng)
        reading = _streaming_gpu.reading(top._on_gpu(), top._state, d)
        found = _streaming_gpu_proof.sketch(reading, 8, 1.0)
        m = rows.T @ rows
        assert found.second_bound() >= np.linalg.eigvalsh(m)[-2] * (1 - 1e-12)
        assert found.squares >= np.trace(m) * (1 - 1e-14)
        for z, w in [*reading.stages, (reading.vectors[8:], reading.gathered[8:])]:
            b, below = _streaming_gpu_proof._rows(z, w, 5.0, 1e-12 * found.squares)
            left = np.linalg.eigvalsh(m - b.T @ b)
            assert left[0] >= -below - 1e-12 * left[-1]
        assert found.above >= 0


@pytest.mark.parametrize("decay", [1.0, 0.999])
def test_the_certificate_of_a_decaying_stream(decay):
    for seed in range(40):
        rows, rng = stream("spiked", seed)
        weights = rng.uniform(0.5, 2, len(rows))
        d = rows.shape[1]
        pca = fed(gm.BlockOja(d, 1, decay=decay, rng=seed), rows, rng, weights)
        seen = reference.decayed(rows, weights=weights, decay=decay)
        np.testing.assert_allclose(pca.frobenius_squared_, (seen**2).sum(), rtol=1e-9)
        truth, doubt = reference.sine(pca.components_[0], seen)
        assert truth - doubt <= pca.certificate_


def test_cuts_change_rounding_alone():
    rng = np.random.default_rng(3)
    rows = reference._spiked(rng, 5000, 17)
    for make in (
        lambda: gm.OjaTopEigenvector(17, rng=1),
        lambda: gm.BlockOja(17, 3, decay=0.9999, rng=1),
    ):
        whole = make().partial_fit(rows)
        cut = fed(make(), rows, rng)
        # Products of rows are rounded in another order; the steps magnify that little.
        np.testing.assert_allclose(whole.components_[0], cut.components_[0], atol=1e-9)
        assert whole.n_samples_seen_ == cut.n_samples_seen_ == 5000
        np.testing.assert_allclose(whole.frobenius_squared_, cut.frobenius_squared_, rtol=1e-12)


def test_a_saved_stream_goes_on_with_the_same_bits():
    rng = np.random.default_rng(4)
    rows = reference._spiked(rng, 1300, 9)
    for make in (lambda: gm.OjaTopEigenvector(9, rng=1), lambda: gm.BlockOja(9, 2, rng=1)):
        straight = make().partial_fit(rows[:700])
        loaded = make().load_state_dict(straight.state_dict())
        pickled = pickle.loads(pickle.dumps(straight))
        before = straight.components_
        np.testing.assert_array_equal(before, loaded.components_)
        for estimator in (straight, loaded, pickled):
            estimator.partial_fit(rows[700:])
        for estimator in (loaded, pickled):
            np.testing.assert_array_equal(straight.components_, estimator.components_)
            assert straight.certificate_ == estimator.certificate_


def test_reading_changes_nothing():
    rng = np.random.default_rng(5)
    rows = reference._spiked(rng, 999, 6)
    read, unread = gm.OjaTopEigenvector(6, rng=1), gm.OjaTopEigenvector(6, rng=1)
    for batch in np.array_split(rows, 30):
        read.partial_fit(batch)
        unread.partial_fit(batch)
        assert read.certificate_ >= 0
    np.testing.assert_array_equal(read.components_, unread.components_)


def test_isotropic_rows_do_not_grow():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(2, 200))
        rows = rng.standard_normal((int(rng.integers(100, 20000)), d))
        top = fed(gm.OjaTopEigenvector(d, rng=seed), rows, rng)
        assert top.status_ == "no_growth", seed


def test_a_spike_grows():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((20000, 50))
    rows[:, 3] *= 300
    top = fed(gm.OjaTopEigenvector(50, rng=0), rows, rng)
    assert top.status_ == "ok"
    assert top.certificate_ < 1e-3
    largest = np.linalg.norm(rows, 2) ** 2 / len(rows)
    np.testing.assert_allclose(top.explained_variance_, largest, rtol=1e-3)


def test_oja_blocks_are_power_steps():
    """One rate, one block: w + eta X^T X w."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((64, 12))
    rate = 0.5 / (rows**2).sum(1).max()
    top = gm.OjaTopEigenvector(12, learning_rate=rate, rng=9)
    layout = top._on_gpu()
    top.partial_fit(rows)
    start = np.random.default_rng(9).standard_normal(12)
    start /= np.linalg.norm(start)
    state = top.state_dict()["state"]
    np.testing.assert_allclose(
        state["vectors"][0], start + rate * rows.T @ (rows @ start), rtol=1e-12
    )
    assert layout.columns == 16
    assert state["position"] == (64, 0, 0, 1, _streaming_gpu_host.stream_depth(64, 12))


def test_the_depth_covers_any_number_of_clusters():
    """A GPU has room for some number of them, each of which adds up the rows of its tiles."""
    for d in (1, 512, 513, 4096, 9000):
        blocks = 1 << (-(-d // 512) - 1).bit_length()
        for rows in (*range(1, 600), 4096, 65535, 65536):
            tiles = -(-rows // 16)
            depth = _streaming_gpu_host.stream_depth(rows, d)
            for clusters in range(1, max(1, 128 // blocks) + 1):
                in_one = min(rows, 16 * -(-tiles // clusters))
                assert depth >= in_one + clusters + 1


def test_lengths_have_the_same_bits_by_every_library():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    for d in (1, 2, 3, 7, 96, 100, 1023, 4096):
        x = rng.standard_normal((4, d)) * 10.0 ** rng.integers(-9, 9, (4, 1))
        found = _streaming_gpu._lengths(np, x)
        np.testing.assert_array_equal(
            found, _streaming_gpu._lengths(torch, torch.from_numpy(x)).numpy()
        )
        exact = [math.sqrt(math.fsum(row**2)) for row in x]
        np.testing.assert_allclose(found[:, 0], exact, rtol=(d.bit_length() + 2) * 2.0**-53)


def test_the_steps_span_is_orthonormal():
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((3000, 40)) * np.r_[50.0, 20, 9, np.ones(37)]
    pca = gm.BlockOja(40, 8, rng=0).partial_fit(rows)
    q = pca._state["vectors"][:8]
    np.testing.assert_allclose(q @ q.T, np.eye(8), atol=1e-9)
    np.testing.assert_allclose(pca.components_ @ pca.components_.T, np.eye(8), atol=1e-12)
    assert (abs(pca.components_[[0, 1], [0, 1]]) > 0.99).all()


def test_nan_reaches_the_result_and_nothing_is_certified():
    rows = np.ones((100, 4))
    state_of = gm.OjaTopEigenvector(4, rng=0).partial_fit(rows)
    state_of._state["gathered"][:] = np.nan
    state_of._state["totals"][:] = np.nan
    assert np.isnan(state_of.components_).all()
    assert state_of.certificate_ == np.inf


def test_a_batch_that_is_not_accepted_changes_nothing():
    top = gm.OjaTopEigenvector(4, rng=0).partial_fit(np.ones((100, 4)))
    before = top.state_dict()["state"]
    for bad, error in (
        (np.ones((3, 5)), ValueError),
        (np.ones((3, 4), np.float32), TypeError),
        (np.full((3, 4), np.nan), ValueError),
        (np.ones((3, 4), complex), NotImplementedError),
        (np.ones((0, 4)), ValueError),
    ):
        with pytest.raises(error, match="X"):
            top.partial_fit(bad)
    with pytest.raises(ValueError, match="sample_weight"):
        top.partial_fit(np.ones((3, 4)), [-1.0, 1.0, 1.0])
    after = top.state_dict()["state"]
    assert before["position"] == after["position"]
    np.testing.assert_array_equal(before["vectors"], after["vectors"])
