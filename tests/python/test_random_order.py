"""RandomOrderTopEigenvector: the paper's streams, its certificate, streams cut anywhere."""

import math
import pickle

import gramian as gm
import numpy as np
import pytest
import scipy.sparse
import sklearn.base

from tests.reference import paper_streams as papers
from tests.reference import streams


def sin2(estimator, a):
    return streams.sine(estimator.components_[0], streams.top(a)[0]) ** 2


@pytest.mark.parametrize("gap", [3, 6, 13, 27, 54])
@pytest.mark.parametrize("seed", range(3))
def test_gap_sweep_in_random_order(gap, seed):
    # Rows a e_1 + e_{i+1}: lambda_1 = n a^2 + 1, all others 1.
    d = 200
    n = d - 1
    x = np.hstack([np.full((n, 1), math.sqrt((gap - 1) / n)), np.eye(n)])
    x = x[np.random.default_rng(seed).permutation(n)]
    # The paper promises a correlation of 1 - O(1 / sqrt(R)); what is seen is 1 / R.
    assert sin2(gm.RandomOrderTopEigenvector(d, rng=seed).partial_fit(x), x) < 1.2 / gap


def test_heavy_rows_over_noise():
    n, d, heavy = 5000, 200, 5
    errors = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((n, d))
        u = rng.standard_normal(d)
        x[rng.choice(n, heavy, replace=False)] += math.sqrt(10 * n / heavy) * u / np.linalg.norm(u)
        kept = gm.RandomOrderTopEigenvector(d, rng=seed).partial_fit(x)
        light = gm.RandomOrderTopEigenvector(d, max_heavy_rows=0, rng=seed).partial_fit(x)
        errors.append((sin2(kept, x), sin2(light, x)))
    assert max(kept for kept, _ in errors) < 5e-3
    # It is keeping them that does it.
    kept, light = np.mean(errors, axis=0)
    assert light > 10 * kept


@pytest.mark.parametrize("seed", range(3))
def test_gaussian_rows_with_a_spike(seed):
    rng = np.random.default_rng([seed, 1])
    x = rng.standard_normal((4000, 100))
    x[:, 0] *= 2
    estimator = gm.RandomOrderTopEigenvector(100, rng=seed)
    for batch in np.array_split(x, 17):
        estimator.partial_fit(batch)
    assert sin2(estimator, x) < 0.02
    true = np.linalg.norm(x, 2) ** 2 / len(x)
    assert estimator.explained_variance_[0] == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_certificates_hold_in_any_order(seed):
    rng = np.random.default_rng([seed, 2])
    finite = 0
    for _ in range(100):
        d, n = int(rng.integers(1, 30)), int(rng.integers(1, 80))
        x = streams.rows(rng, str(rng.choice(streams.KINDS)), n, d)
        x = x.astype(rng.choice([np.float32, np.float64]))
        w = rng.choice([0.0, 0.5, 1.0, 3.0, 1e4], n) if rng.random() < 0.3 else None
        heavy = int(rng.integers(0, 10))
        estimator = gm.RandomOrderTopEigenvector(d, max_heavy_rows=heavy, rng=int(rng.integers(9)))
        for first in range(0, n, 13):
            estimator.partial_fit(
                x[first : first + 13], None if w is None else w[first : first + 13]
            )
        a = streams.stacked(x, w)
        truth = streams.top(a)
        if truth is None:
            continue
        true = streams.sine(estimator.components_[0], truth[0])
        assert true <= estimator.certificate_ + truth[1]
        assert estimator.frobenius_squared_ == pytest.approx((a * a).sum(), rel=1e-9)
        assert np.linalg.norm(estimator.components_[0]) == pytest.approx(1, abs=1e-6)
        finite += math.isfinite(estimator.certificate_)
    assert finite > 20


def test_certificates_hold_to_the_last_digit():
    rng = np.random.default_rng(3)
    checked = 0
    for _ in range(100):
        d, n = int(rng.integers(2, 5)), int(rng.integers(1, 40))
        x = streams.rows(rng, str(rng.choice(streams.KINDS)), n, d)
        estimator = gm.RandomOrderTopEigenvector(d, rng=0).partial_fit(x)
        if math.isfinite(estimator.certificate_):
            assert streams.exact_sine(x, estimator.components_[0]) <= estimator.certificate_
            checked += 1
    assert checked > 40


def test_certificate_is_small_where_one_direction_has_almost_all_energy():
    rng = np.random.default_rng(4)
    for _ in range(50):
        noise = rng.standard_normal((300, 30))
        x = rng.standard_normal((300, 1)) * rng.standard_normal(30)
        x += noise * 0.095 * np.linalg.norm(x) / np.linalg.norm(noise)
        for order in (x, x[np.argsort((x**2).sum(1))]):
            assert gm.RandomOrderTopEigenvector(30, rng=0).partial_fit(order).certificate_ < 0.01


def test_nothing_is_certified_where_the_top_eigenvalue_is_repeated():
    for repeats in (1, 3, 40):
        x = np.tile(np.eye(5), (repeats, 1))
        assert gm.RandomOrderTopEigenvector(5, rng=0).partial_fit(x).certificate_ == math.inf


def test_of_two_vectors_the_one_of_which_more_is_proved_is_returned():
    rows = papers.gap(np.random.default_rng(0), 27)
    estimator = gm.RandomOrderTopEigenvector(200, rng=0).partial_fit(rows)
    # The iteration's own leaves 0.1 / R.
    assert sin2(estimator, rows) < 1e-4
    assert estimator.certificate_ < 0.4
    top = np.linalg.norm(rows, 2) ** 2 / len(rows)
    assert estimator.explained_variance_[0] == pytest.approx(top, rel=0.01)


def test_an_order_that_misleads_the_iteration_is_refuted():
    # The true direction comes first, then a block of another that the iteration ends on.
    x = np.vstack([np.tile(2 * np.eye(9)[0], (300, 1)), np.tile(np.eye(9)[1], (600, 1))])
    estimator = gm.RandomOrderTopEigenvector(9, max_heavy_rows=0, rng=0).partial_fit(x)
    assert abs(estimator.components_[0, 0]) > 0.999
    assert estimator.certificate_ < 0.01


def test_cuts_readings_and_resuming_leave_the_bits_alone():
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((303, 20)) * rng.lognormal(size=(303, 1))).astype(np.float32)
    whole = gm.RandomOrderTopEigenvector(20, max_heavy_rows=5, rng=7).partial_fit(x)
    cut_up = gm.RandomOrderTopEigenvector(20, max_heavy_rows=5, rng=7)
    for i, (a, b) in enumerate([(0, 1), (1, 2), (2, 20), (20, 61), (61, 303)]):
        cut_up.partial_fit(x[a:b])
        assert cut_up.components_.shape == (1, 20)
        if i == 2:
            cut_up = pickle.loads(pickle.dumps(cut_up))
        if i == 3:
            other = gm.RandomOrderTopEigenvector(20, max_heavy_rows=5, rng=7)
            cut_up = other.load_state_dict(cut_up.state_dict())
    assert whole.components_.tobytes() == cut_up.components_.tobytes()
    assert whole.certificate_ == cut_up.certificate_
    assert whole.explained_variance_ == cut_up.explained_variance_


@pytest.mark.parametrize(("dtype", "scales"), [("f4", (-100, 100)), ("f8", (-996, 996))])
def test_results_do_not_depend_on_the_scale(dtype, scales):
    x = np.random.default_rng(6).standard_normal((400, 8)).astype(dtype)
    x[:, 2] *= 3
    base = gm.RandomOrderTopEigenvector(8, rng=0).partial_fit(x)
    for scale in scales:
        scaled = np.ldexp(x, scale)
        other = gm.RandomOrderTopEigenvector(8, rng=0).partial_fit(scaled)
        assert other.components_.tobytes() == base.components_.tobytes()
        assert other.certificate_ == base.certificate_


def test_rows_that_grow_beyond_all_before():
    x = (
        np.random.default_rng(7).standard_normal((300, 6))
        * np.geomspace(1e-120, 1e120, 300)[:, None]
    )
    estimator = gm.RandomOrderTopEigenvector(6, rng=0)
    for row in x:
        estimator.partial_fit(row[None])
    # The last row has more than all others.
    true = streams.top(x / 1e120)[0]
    assert streams.sine(estimator.components_[0], true) <= estimator.certificate_ + 1e-14
    assert estimator.certificate_ < 0.2


def test_a_bad_batch_changes_nothing():
    x = np.random.default_rng(8).standard_normal((9, 5))
    estimator = gm.RandomOrderTopEigenvector(5, rng=0).partial_fit(x)
    before = pickle.dumps(estimator.state_dict())
    bad = x.copy()
    bad[8, 0] = math.nan
    for batch, error in ((bad, ValueError), (x[:, :4], ValueError), (x.astype("f4"), TypeError)):
        with pytest.raises(error):
            estimator.partial_fit(batch)
        assert pickle.dumps(estimator.state_dict()) == before
    for arguments in ({"n_features": 0}, {"n_features": 5, "max_heavy_rows": -1}):
        with pytest.raises(ValueError, match=list(arguments)[-1]):
            gm.RandomOrderTopEigenvector(**arguments).partial_fit(x)


def test_sparse_rows_weights_and_clones():
    rng = np.random.default_rng(9)
    x = scipy.sparse.random(200, 30, 0.2, format="csr", rng=rng)
    w = rng.integers(0, 2, 200).astype(float)
    estimator = gm.RandomOrderTopEigenvector(30, rng=1)
    sparse = sklearn.base.clone(estimator).partial_fit(x, w)
    dense = sklearn.base.clone(estimator).partial_fit(x.toarray()[w > 0])
    assert sparse.components_.tobytes() == dense.components_.tobytes()
    assert sparse.n_samples_seen_ == dense.n_samples_seen_ == w.sum()
    assert sparse.nbytes_bound(100) < 8 * 30 * 1500 + (4 << 20)


def test_zero_rows_are_no_answer_and_no_error():
    estimator = gm.RandomOrderTopEigenvector(4, rng=0).partial_fit(np.zeros((3, 4)))
    assert estimator.certificate_ == math.inf
    assert estimator.components_.shape == (1, 4)
    estimator.partial_fit(np.eye(4)[:1])
    assert estimator.certificate_ < 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_eigenvalue_of_rows_all_alike(seed):
    """The first vector of the iteration, of signs, may be orthogonal to all of them."""
    for count in (1, 3, 50, 500):
        for scale in (np.ones(count), np.random.default_rng(seed).standard_normal(count)):
            rows = np.outer(scale, np.full(4, 6.0))
            found = gm.RandomOrderTopEigenvector(4, rng=seed).partial_fit(rows)
            exact = np.linalg.norm(rows, 2) ** 2 / count
            np.testing.assert_allclose(found.explained_variance_, [exact], rtol=1e-9)
            np.testing.assert_allclose(np.abs(found.components_), 0.5, rtol=1e-12)
