"""Complex rows: v^H, bounds, any cut."""

import math
import pickle
import tracemalloc

import gramian as gm
import numpy as np
import pytest
import scipy.sparse

from tests.reference import streams
from tests.reference.sketches import check_trees, cut, fed, merged, random_case


def spiked(rng, n, d, dtype=np.complex128):
    """Rows with a few complex directions of their own."""
    basis = np.linalg.qr(rng.standard_normal((d, d)) + 1j * rng.standard_normal((d, d)))[0]
    x = rng.standard_normal((n, d)) + 1j * rng.standard_normal((n, d))
    return ((x * 0.6 ** np.arange(d)) @ basis.conj().T).astype(dtype)


ESTIMATORS = {
    "FrequentDirections": lambda d, **changes: gm.FrequentDirections(d, 5, **changes),
    "RandomOrderTopEigenvector": lambda d: gm.RandomOrderTopEigenvector(d, rng=0),
    "OjaTopEigenvector": lambda d: gm.OjaTopEigenvector(d, rng=0),
    "BlockOja": lambda d: gm.BlockOja(d, 2, rng=0),
    "BlockOja, history": lambda d: gm.BlockOja(d, 2, step="history", center=True, rng=0),
}


@pytest.fixture(params=ESTIMATORS)
def make(request):
    return ESTIMATORS[request.param]


@pytest.mark.parametrize("seed", range(20))
def test_bounds_hold_for_any_stream_and_any_tree_of_merges(seed):
    rng = np.random.default_rng([seed, 21])
    assert check_trees(rng, 75, is_complex=True) > 10


@pytest.mark.parametrize("seed", range(4))
def test_certificates_hold_to_the_last_digit(seed):
    rng = np.random.default_rng([seed, 22])
    checked = 0
    for _ in range(25):
        x, weights, options, _, size = random_case(rng, is_complex=True)
        d = min(x.shape[1], 4)
        x = x[:, :d]
        estimators = [fed(gm.FrequentDirections(d, size, **options), x, weights, cut(rng, len(x)))]
        if not options["center"] and options["decay"] == 1:
            estimators.append(gm.RandomOrderTopEigenvector(d, rng=0).partial_fit(x, weights))
        for estimator in estimators:
            if estimator.n_samples_seen_ and math.isfinite(estimator.certificate_):
                true = streams.exact_sine(x, estimator.components_[0], weights, **options)
                assert true <= estimator.certificate_
                checked += 1
    assert checked >= 5


@pytest.mark.parametrize("seed", range(10))
def test_certificates_of_random_order_hold_in_any_order(seed):
    rng = np.random.default_rng([seed, 23])
    finite = 0
    for _ in range(75):
        d, n = int(rng.integers(1, 30)), int(rng.integers(1, 80))
        x = streams.complex_rows(rng, str(rng.choice(streams.KINDS)), n, d)
        x = x.astype(rng.choice([np.complex64, np.complex128]))
        w = rng.choice([0.0, 0.5, 1.0, 3.0, 1e4], n) if rng.random() < 0.3 else None
        heavy = int(rng.integers(0, 10))
        estimator = gm.RandomOrderTopEigenvector(d, max_heavy_rows=heavy, rng=int(rng.integers(9)))
        fed(estimator, x, w, cut(rng, n))
        a = streams.stacked(x, w)
        truth = streams.top(a)
        if truth is None:
            continue
        assert streams.sine(estimator.components_[0], truth[0]) <= estimator.certificate_ + truth[1]
        assert estimator.frobenius_squared_ == pytest.approx(np.linalg.norm(a) ** 2, rel=1e-6)
        finite += math.isfinite(estimator.certificate_)
    assert finite > 15


def test_nothing_is_certified_where_the_top_eigenvalue_is_repeated(make):
    rng = np.random.default_rng(24)
    for repeats in (1, 3, 40):
        x = np.tile(np.eye(5), (repeats, 1)) * 1j ** rng.integers(0, 4, (5 * repeats, 1))
        assert make(5).partial_fit(x).certificate_ == math.inf


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_components_are_right_singular_vectors_as_rows(make, dtype):
    x = spiked(np.random.default_rng(25), 300, 12, dtype)
    values, vectors = np.linalg.eigh(streams.double(x).conj().T @ streams.double(x))
    estimator = make(12).partial_fit(x)
    components = estimator.components_
    assert components.dtype == dtype
    assert estimator.explained_variance_.dtype == np.zeros(1, dtype).real.dtype
    assert isinstance(estimator.certificate_, float)
    # v is an eigenvector of A^H A and the row is v^H; its conjugate would not do.
    turned = abs(components[0] @ vectors[:, -1])
    assert turned == pytest.approx(1, abs=0.01)
    assert abs(components[0].conj() @ vectors[:, -1]) < 0.9
    assert estimator.explained_variance_[0] == pytest.approx(values[-1] / 300, rel=0.1)
    tops = components[np.arange(len(components)), np.abs(components).argmax(axis=1)]
    assert (tops.imag == 0).all()
    assert (tops.real > 0).all()


def test_sketch_of_all_directions_is_exact():
    rng = np.random.default_rng(26)
    x = spiked(rng, 60, 6) + (3 - 2j)
    w = rng.choice([0.0, 1.0, 2.0], 60)
    for options in ({}, {"center": True}, {"decay": 0.9}, {"decay": 0.9, "center": True}):
        sketch = gm.FrequentDirections(6, 6, **options).partial_fit(x, w)
        a = streams.stacked(x, w, **options)
        vectors = np.linalg.eigh(a.conj().T @ a)[1][:, ::-1]
        np.testing.assert_allclose(np.abs(np.diag(sketch.components_ @ vectors)), 1, atol=1e-9)
        b = sketch.sketch_
        np.testing.assert_allclose(b.conj().T @ b, a.conj().T @ a, rtol=1e-9, atol=1e-9)
        rows = (w > 0).sum() - options.get("center", False)
        given = sketch.explained_variance_ * rows
        np.testing.assert_allclose(given, np.linalg.svd(a, compute_uv=False) ** 2, rtol=1e-9)
        centred = x - (sketch.mean_ if "center" in options else 0)
        coordinates = sketch.transform(x)
        np.testing.assert_allclose(coordinates @ sketch.components_, centred, atol=1e-9)


@pytest.mark.parametrize("center", [False, True])
def test_real_rows_as_complex_ones_give_the_same(center):
    x = np.random.default_rng(27).standard_normal((200, 8)) * np.linspace(3, 1, 8)
    real = gm.FrequentDirections(8, 3, center=center).partial_fit(x)
    as_complex = gm.FrequentDirections(8, 3, center=center).partial_fit(x.astype(complex))
    np.testing.assert_allclose(as_complex.components_, real.components_, atol=1e-10)
    np.testing.assert_allclose(as_complex.explained_variance_, real.explained_variance_)
    assert as_complex.covariance_error_bound_ == pytest.approx(real.covariance_error_bound_)
    assert as_complex.certificate_ == pytest.approx(real.certificate_, rel=1e-6)
    lone = gm.RandomOrderTopEigenvector(8, rng=1).partial_fit(x)
    both = gm.RandomOrderTopEigenvector(8, rng=1).partial_fit(x.astype(complex))
    np.testing.assert_allclose(both.components_, lone.components_, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_error_bound_is_that_of_the_papers(seed):
    rng = np.random.default_rng([seed, 28])
    x = rng.standard_normal((400, 30)) + 1j * rng.standard_normal((400, 30))
    x *= np.arange(1, 31) ** -0.7
    squares = np.linalg.svd(x, compute_uv=False) ** 2
    sketches = [gm.FrequentDirections(30, 10).partial_fit(p) for p in np.array_split(x, 7)]
    for sketch in (gm.FrequentDirections(30, 10).partial_fit(x), merged(rng, sketches)):
        for k in range(11):
            assert sketch.covariance_error_bound_ <= (1 + 1e-9) * squares[k:].sum() / (11 - k)
        b = sketch.sketch_
        values = np.linalg.eigvalsh(x.conj().T @ x - b.conj().T @ b)
        assert values[0] > -1e-9 * squares[0]


def test_heavy_complex_rows_over_noise():
    n, d, heavy = 4000, 100, 5
    for seed in range(3):
        rng = np.random.default_rng([seed, 29])
        x = rng.standard_normal((n, d)) + 1j * rng.standard_normal((n, d))
        u = rng.standard_normal(d) + 1j * rng.standard_normal(d)
        places = rng.choice(n, heavy, replace=False)
        phases = np.exp(1j * rng.uniform(0, 7, (heavy, 1)))
        x[places] += phases * math.sqrt(20 * n / heavy) * u / np.linalg.norm(u)
        estimator = gm.RandomOrderTopEigenvector(d, rng=seed).partial_fit(x)
        assert streams.sine(estimator.components_[0], streams.top(x)[0]) ** 2 < 5e-3


def test_light_rows_alone_are_iterated_on():
    # No row is kept: block power iteration of complex rows.
    rng = np.random.default_rng(30)
    x = rng.standard_normal((4000, 60)) + 1j * rng.standard_normal((4000, 60))
    u = rng.standard_normal(60) + 1j * rng.standard_normal(60)
    x += 2 * rng.standard_normal((4000, 1)) * u.conj() / np.linalg.norm(u)
    estimator = gm.RandomOrderTopEigenvector(60, max_heavy_rows=0, rng=0).partial_fit(x)
    assert estimator.certificate_ == math.inf
    assert streams.sine(estimator.components_[0], streams.top(x)[0]) ** 2 < 0.02


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_cuts_readings_and_resuming_leave_the_bits_alone(make, dtype):
    rng = np.random.default_rng(31)
    x = (spiked(rng, 203, 12) * rng.lognormal(size=(203, 1))).astype(dtype)
    whole, cut_up = make(12).partial_fit(x), make(12)
    for i, (a, b) in enumerate([(0, 1), (1, 2), (2, 20), (20, 61), (61, 203)]):
        cut_up.partial_fit(x[a:b])
        assert cut_up.components_ is not None
        if i == 2:
            cut_up = pickle.loads(pickle.dumps(cut_up))
        if i == 3:
            cut_up = make(12).load_state_dict(cut_up.state_dict())
    for name in ("components_", "explained_variance_"):
        assert getattr(whole, name).tobytes() == getattr(cut_up, name).tobytes()
    assert whole.certificate_ == cut_up.certificate_


@pytest.mark.parametrize(("dtype", "scales"), [("c8", (-100, 100)), ("c16", (-996, 996))])
def test_results_do_not_depend_on_the_scale(make, dtype, scales):
    x = spiked(np.random.default_rng(32), 100, 8, dtype)
    base = make(8).partial_fit(x)
    for scale in scales:
        power = np.zeros(1, dtype).real.dtype.type(2.0**scale)
        other = make(8).partial_fit(x * power)
        assert other.components_.tobytes() == base.components_.tobytes()
        assert other.certificate_ == base.certificate_


def test_sparse_rows_and_tensors(make):
    torch = pytest.importorskip("torch")
    x = spiked(np.random.default_rng(33), 100, 10, np.complex64)
    x[np.abs(x) < 0.2] = 0
    dense = make(10).partial_fit(x).components_
    assert make(10).partial_fit(scipy.sparse.csr_array(x)).components_.tobytes() == dense.tobytes()
    given = make(10).partial_fit(torch.from_numpy(x)).components_
    assert given.dtype == torch.complex64
    assert given.numpy().tobytes() == dense.tobytes()


def test_rows_are_all_complex_or_none_is(make):
    x = spiked(np.random.default_rng(34), 20, 6)
    estimator = make(6).partial_fit(x)
    before = pickle.dumps(estimator.state_dict())
    for batch in (x.real.copy(), x.astype(np.complex64)):
        with pytest.raises(TypeError, match="complex128"):
            estimator.partial_fit(batch)
    for place in (math.nan, complex(0, math.inf)):
        bad = x.copy()
        bad[-1, -1] = place
        with pytest.raises(ValueError, match="NaN or infinity"):
            estimator.partial_fit(bad)
    assert pickle.dumps(estimator.state_dict()) == before
    assert make(6).partial_fit(x.real.copy()).components_.dtype == np.float64


def test_coordinates_are_complex_where_either_is():
    x = spiked(np.random.default_rng(35), 50, 6, np.complex64)
    sketch = gm.FrequentDirections(6, 3).partial_fit(x)
    wanted = x @ sketch.components_.conj().T
    np.testing.assert_allclose(sketch.transform(x), wanted, rtol=1e-4, atol=1e-5)
    real = sketch.transform(x.real.copy())
    assert real.dtype == np.complex64
    np.testing.assert_allclose(real, x.real @ sketch.components_.conj().T, rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="complex64"):
        sketch.merge(gm.FrequentDirections(6, 3).partial_fit(x.real.copy()))


@pytest.mark.thread_unsafe
@pytest.mark.parametrize(("d", "batch"), [(20, 1), (2000, 3), (500, 1000)])
def test_memory_is_below_its_bound(make, d, batch):
    x = spiked(np.random.default_rng(36), batch, 20, np.complex64)
    x = np.tile(x, (1, d // 20))
    make(d).partial_fit(x).components_  # noqa: B018
    tracemalloc.start()
    try:
        estimator = make(d)
        for _ in range(4):
            estimator.partial_fit(x, np.full(batch, 2.0)).components_  # noqa: B018
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= estimator.nbytes_bound(batch) + 2**14
