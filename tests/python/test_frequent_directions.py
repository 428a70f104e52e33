"""FrequentDirections: its bounds hold, sketches merge, streams may be cut anywhere."""

import functools
import math
import pickle
import subprocess
import sys
from fractions import Fraction

import gramian as gm
import numpy as np
import pytest
import scipy.sparse
import sklearn.base

from tests.reference import streams
from tests.reference.sketches import check_bounds, check_trees, cut, fed, merged, random_case


@pytest.mark.parametrize("seed", range(30))
def test_bounds_hold_for_any_stream_and_any_tree_of_merges(seed):
    rng = np.random.default_rng([seed, 1])
    assert check_trees(rng, 100) > 20


@pytest.mark.parametrize("seed", range(8))
def test_certificates_hold_to_the_last_digit(seed):
    rng = np.random.default_rng([seed, 2])
    checked = 0
    for _ in range(25):
        x, weights, options, _, size = random_case(rng)
        d = min(x.shape[1], 4)
        x = x[:, :d]
        sketch = fed(gm.FrequentDirections(d, size, **options), x, weights, cut(rng, len(x)))
        if sketch.n_samples_seen_ and math.isfinite(sketch.certificate_):
            true = streams.exact_sine(x, sketch.components_[0], weights, **options)
            assert true <= sketch.certificate_
            checked += 1
    assert checked >= 5


@pytest.mark.parametrize(("first", "small", "count"), [(1.0, 2.0**-54, 10**5), (0.1, 0.1, 10**5)])
@pytest.mark.parametrize("parts", [1, 100])
def test_weights_are_summed_to_the_last_digit(first, small, count, parts):
    # Rows of zeros, whose weight is all that they leave, and one heavy row after them.
    options = {"center": True}
    sketch = gm.FrequentDirections(2, 2, **options).partial_fit(np.zeros((1, 2)), [first])
    for _ in range(parts):
        part = gm.FrequentDirections(2, 2, **options)
        part.partial_fit(np.zeros((count // parts, 2)), np.full(count // parts, small))
        sketch = sketch.merge(part)
    sketch.partial_fit(np.array([[1.0, 0.0]]), [2.0**60])
    before = Fraction(first) + count * Fraction(small)
    true = before * 2**60 / (before + 2**60)
    error = abs(float(true - sum(Fraction(float(v)) ** 2 for v in sketch.sketch_[:, 0])))
    assert error <= sketch.covariance_error_bound_ < 1e-13 * float(true)


@pytest.mark.parametrize("center", [False, True])
def test_zeros_merge_with_rows_of_any_scale(center):
    x = np.random.default_rng(5).standard_normal((60, 6)) * [20, 1, 1, 1, 1, 1]
    for scale in (2.0**-600, 1.0, 2.0**500):
        tiny = gm.FrequentDirections(6, 3, center=center).partial_fit(scale * x)
        zeros = gm.FrequentDirections(6, 3, center=center).partial_fit(np.zeros((4, 6)))
        for sketch in (tiny.merge(zeros), zeros.merge(tiny)):
            assert sketch.certificate_ < 0.01


def test_rows_may_become_far_smaller_under_decay():
    x = np.random.default_rng(6).standard_normal((3000, 4)) * [9, 1, 1, 1]
    for decay, zeros in ((0.9, 15000), (0.5, 1), (0.5, 1100)):
        fresh = gm.FrequentDirections(4, 2, decay=decay).partial_fit(x)
        sketch = gm.FrequentDirections(4, 2, decay=decay).partial_fit(np.eye(4))
        sketch.partial_fit(np.zeros((zeros, 4))).partial_fit(2.0**-600 * x)
        assert sketch.certificate_ == pytest.approx(fresh.certificate_, rel=1e-6)
        assert sketch.covariance_error_bound_ < math.inf


def test_bounds_of_the_largest_numbers_are_infinite():
    with np.errstate(over="ignore"):
        sketch = gm.FrequentDirections(3, 2).partial_fit(np.full((40, 3), 1e308))
        assert sketch.covariance_error_bound_ == math.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_certificate_is_tight_where_nothing_was_shrunk(dtype):
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((500, 3)) * [3, 2, 1]) @ rng.standard_normal((3, 40))
    sketch = gm.FrequentDirections(40, 6).partial_fit(x.astype(dtype))
    assert sketch.certificate_ < (1e-9 if dtype == np.float64 else 1e-6)


def test_eigenvalues_that_stand_out_are_close():
    x = np.random.default_rng(14).standard_normal((3000, 100)) * np.arange(1, 101) ** -1.0
    true = np.linalg.svd(x, compute_uv=False) ** 2 / 3000
    sketch = gm.FrequentDirections(100, 8).partial_fit(x)
    np.testing.assert_allclose(sketch.explained_variance_[:3], true[:3], rtol=0.01)
    assert (np.diff(sketch.explained_variance_) <= 0).all()
    assert sketch.explained_variance_.sum() * 3000 <= sketch.frobenius_squared_ * (1 + 1e-9)


def test_directions_that_stand_out_lose_little():
    # Variances that fall like 1/i. Where each direction loses delta at every shrinking 0.039 of the
    # energy of the best 32 directions is missed, and with 80 rows held 0.076.
    x = np.random.default_rng(0).standard_normal((4096, 512)) * np.arange(1, 513) ** -0.5
    squares = np.linalg.svd(x, compute_uv=False) ** 2
    sketch = gm.FrequentDirections(512, 40).partial_fit(x)
    kept = np.linalg.norm(x @ sketch.components_[:32].T) ** 2
    assert kept > 0.998 * squares[:32].sum()
    # It pays for that with no more than the bound allows.
    for k in range(41):
        assert sketch.covariance_error_bound_ <= squares[k:].sum() / (41 - k)


def test_nothing_is_certified_where_the_top_eigenvalue_is_repeated():
    for size in (1, 2, 5, 8):
        for repeats in (1, 3, 10):
            x = np.tile(np.eye(5)[::-1] * 2.0**7, (repeats, 1))
            sketch = gm.FrequentDirections(5, size).partial_fit(x)
            assert sketch.certificate_ == math.inf


def test_certificate_is_small_where_one_direction_has_almost_all_energy():
    rng = np.random.default_rng(4)
    for size in (1, 2, 8):
        for _ in range(50):
            noise = rng.standard_normal((300, 30))
            v = rng.standard_normal(30)
            x = rng.standard_normal((300, 1)) * v
            x += noise * 0.095 * np.linalg.norm(x) / np.linalg.norm(noise)
            assert np.linalg.norm(x) ** 2 <= 1.01 * np.linalg.norm(x, 2) ** 2
            assert gm.FrequentDirections(30, size).partial_fit(x).certificate_ < 0.011 / size


@pytest.mark.parametrize("seed", range(10))
def test_error_bound_is_that_of_the_papers(seed):
    rng = np.random.default_rng([seed, 5])
    x = rng.standard_normal((400, 30)) * np.arange(1, 31) ** -0.7
    squares = np.linalg.svd(x, compute_uv=False) ** 2
    sketches = [gm.FrequentDirections(30, 10).partial_fit(p) for p in np.array_split(x, 7)]
    whole = gm.FrequentDirections(30, 10).partial_fit(x)
    for sketch in (whole, merged(rng, sketches)):
        for k in range(11):
            assert sketch.covariance_error_bound_ <= (1 + 1e-9) * squares[k:].sum() / (11 - k)
        b = sketch.sketch_
        values = np.linalg.eigvalsh(x.T @ x - b.T @ b)
        assert values[0] > -1e-9 * squares[0]


@pytest.mark.parametrize("center", [False, True])
def test_cuts_readings_and_resuming_leave_the_bits_alone(center):
    rng = np.random.default_rng(6)
    x = rng.standard_normal((203, 12)).astype(np.float32) * rng.lognormal(size=(203, 1)).astype(
        "f4"
    )
    make = functools.partial(gm.FrequentDirections, 12, 5, decay=0.97, center=center)
    whole = make().partial_fit(x)
    cut_up = make()
    for i, (a, b) in enumerate([(0, 1), (1, 2), (2, 20), (20, 61), (61, 203)]):
        cut_up.partial_fit(x[a:b])
        assert cut_up.components_ is not None
        if i == 2:
            cut_up = pickle.loads(pickle.dumps(cut_up))
        if i == 3:
            cut_up = make().load_state_dict(cut_up.state_dict())
    for name in ("components_", "sketch_", "explained_variance_"):
        assert getattr(whole, name).tobytes() == getattr(cut_up, name).tobytes()
    for name in ("certificate_", "covariance_error_bound_", "frobenius_squared_"):
        assert getattr(whole, name) == getattr(cut_up, name)


def test_merging_leaves_both_as_they_were():
    rng = np.random.default_rng(7)
    one = gm.FrequentDirections(9, 3, center=True).partial_fit(rng.standard_normal((20, 9)))
    two = gm.FrequentDirections(9, 4, center=True).partial_fit(rng.standard_normal((1, 9)))
    before = [pickle.dumps(e.state_dict()) for e in (one, two)]
    assert one.merge(two).n_samples_seen_ == two.merge(one).n_samples_seen_ == 21
    assert one.merge(two).sketch_.shape == (3, 9)
    assert [pickle.dumps(e.state_dict()) for e in (one, two)] == before


@pytest.mark.parametrize(("shift", "more"), [(0.0, 0), (1.0, 1)])
def test_centred_sketches_merge_with_a_row_more_only_where_means_differ(shift, more):
    x = np.kron(np.eye(5), [[1.0], [-1.0]])  # the mean of each pair is 0, exactly
    one = gm.FrequentDirections(5, 9, center=True).partial_fit(x[:2])
    two = gm.FrequentDirections(5, 9, center=True).partial_fit(x[4:6] + shift)
    filled = [e.state_dict()["state"]["figures"][2] for e in (one, two, one.merge(two))]
    assert filled[2] == filled[0] + filled[1] + more
    a = streams.stacked(np.concatenate([x[:2], x[4:6] + shift]), center=True)
    check_bounds(one.merge(two), a)


def test_merging_with_empty_sketches():
    empty = gm.FrequentDirections(4, 2)
    one = gm.FrequentDirections(4, 2).partial_fit(np.arange(20.0).reshape(5, 4))
    with pytest.raises(ValueError, match="no rows"):
        empty.merge(gm.FrequentDirections(4, 2)).sketch_  # noqa: B018
    for both in (empty.merge(one), one.merge(empty)):
        assert both.n_samples_seen_ == 5
        np.testing.assert_allclose(both.sketch_, one.sketch_, atol=1e-12)
        both.partial_fit(np.ones((3, 4)))
    assert one.n_samples_seen_ == 5


def test_merging_asks_for_the_same_stream():
    one = gm.FrequentDirections(4, 2).partial_fit(np.ones((1, 4)))
    with pytest.raises(TypeError, match="other is a int"):
        one.merge(3)
    with pytest.raises(ValueError, match="n_features"):
        one.merge(gm.FrequentDirections(5, 2))
    with pytest.raises(ValueError, match="decay"):
        one.merge(gm.FrequentDirections(4, 2, decay=0.5))
    with pytest.raises(ValueError, match="center"):
        one.merge(gm.FrequentDirections(4, 2, center=True))
    with pytest.raises(TypeError, match="float32"):
        one.merge(gm.FrequentDirections(4, 2).partial_fit(np.ones((1, 4), np.float32)))


def test_sketch_of_all_directions_is_exact():
    rng = np.random.default_rng(8)
    x = rng.standard_normal((60, 6)) + 3
    w = rng.choice([0.0, 1.0, 2.0], 60)
    for options in ({}, {"center": True}, {"decay": 0.9}, {"decay": 0.9, "center": True}):
        sketch = gm.FrequentDirections(6, 6, **options).partial_fit(x, w)
        a = streams.stacked(x, w, **options)
        s, vh = np.linalg.svd(a)[1:]
        rows = int((w > 0).sum()) - options.get("center", False)
        np.testing.assert_allclose(sketch.explained_variance_, s**2 / rows, rtol=1e-10)
        np.testing.assert_allclose(np.abs((sketch.components_ * vh).sum(1)), 1, atol=1e-10)
        assert sketch.n_samples_seen_ == (w > 0).sum()
        if "center" in options:
            weights = w[w > 0] * options.get("decay", 1.0) ** np.arange((w > 0).sum() - 1, -1, -1.0)
            np.testing.assert_allclose(sketch.mean_, np.average(x[w > 0], axis=0, weights=weights))


def test_integer_weights_are_repeated_rows():
    rng = np.random.default_rng(9)
    x, w = rng.standard_normal((20, 5)), rng.integers(0, 4, 20)
    for center in (False, True):
        one = gm.FrequentDirections(5, 5, center=center).partial_fit(x, w)
        many = gm.FrequentDirections(5, 5, center=center).partial_fit(np.repeat(x, w, axis=0))
        np.testing.assert_allclose(one.frobenius_squared_, many.frobenius_squared_)
        np.testing.assert_allclose(one.components_, many.components_, atol=1e-9)


@pytest.mark.parametrize(("dtype", "scales"), [("f4", (1e-30, 1e30)), ("f8", (1e-300, 1e300))])
def test_results_do_not_depend_on_the_scale(dtype, scales):
    x = np.random.default_rng(10).standard_normal((40, 6)).astype(dtype)
    for center in (False, True):
        base = gm.FrequentDirections(6, 3, center=center).partial_fit(x)
        for scale in scales:
            power = 2.0 ** math.floor(math.log2(scale))
            scaled = (x.astype("f8") * power).astype(dtype)
            other = gm.FrequentDirections(6, 3, center=center).partial_fit(scaled)
            assert other.components_.tobytes() == base.components_.tobytes()
            assert other.certificate_ == base.certificate_
            np.testing.assert_allclose(other.sketch_ / power, base.sketch_, rtol=1e-6, atol=1e-7)


def test_a_bad_batch_changes_nothing():
    rng = np.random.default_rng(11)
    sketch = gm.FrequentDirections(5, 2).partial_fit(rng.standard_normal((9, 5)))
    before = pickle.dumps(sketch.state_dict())
    bad = rng.standard_normal((8, 5))
    bad[7, 4] = math.nan
    for batch, error in (
        (bad, ValueError),
        (np.where(np.isnan(bad), np.inf, bad), ValueError),
        (np.ones((3, 4)), ValueError),
        (np.ones((0, 5)), ValueError),
        (np.ones(5), ValueError),
        (np.ones((3, 5), np.float32), TypeError),
        (np.ones((3, 5), int), TypeError),
        ([[1.0] * 5], TypeError),
    ):
        with pytest.raises(error):
            sketch.partial_fit(batch)
        assert pickle.dumps(sketch.state_dict()) == before
    for weights in (np.ones(2), -np.ones(3), np.full(3, math.nan)):
        with pytest.raises(ValueError, match="sample_weight"):
            sketch.partial_fit(np.ones((3, 5)), weights)
        assert pickle.dumps(sketch.state_dict()) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_features", 0), ("sketch_size", 0), ("decay", 0.0), ("decay", 1.5), ("center", 1)],
)
def test_parameters_are_checked_and_named(name, value):
    arguments = {"n_features": 3, "sketch_size": 2} | {name: value}
    with pytest.raises((TypeError, ValueError), match=name):
        gm.FrequentDirections(**arguments).partial_fit(np.ones((1, 3)))


def test_sparse_rows_give_the_bits_of_dense_ones():
    x = scipy.sparse.random(200, 30, 0.1, format="csr", rng=np.random.default_rng(12))
    for center in (False, True):
        sparse = gm.FrequentDirections(30, 5, center=center).partial_fit(x)
        dense = gm.FrequentDirections(30, 5, center=center).partial_fit(x.toarray())
        assert sparse.sketch_.tobytes() == dense.sketch_.tobytes()
        np.testing.assert_allclose(sparse.transform(x), dense.transform(x.toarray()))


def test_a_direction_that_grows_late_is_found():
    # Truncated incremental SVD keeps the five unit rows and drops each small one as it comes.
    x = np.vstack([np.eye(6)[:5], np.tile(0.1 * np.eye(6)[5], (2000, 1))])
    sketch = gm.FrequentDirections(6, 5)
    for row in x:
        sketch.partial_fit(row[None])
    assert abs(sketch.components_[0, 5]) > 1 - 1e-12
    assert sketch.certificate_ < 0.06


def test_scikit_learn_clones_and_sets_parameters():
    sketch = gm.FrequentDirections(4, 2, decay=0.5)
    copy = sklearn.base.clone(sketch)
    assert copy.get_params() == sketch.get_params()
    assert copy.set_params(sketch_size=3).sketch_size == 3
    x = np.random.default_rng(13).standard_normal((30, 4))
    np.testing.assert_allclose(copy.fit_transform(x), x @ copy.components_.T)
    assert copy.fit(x).n_samples_seen_ == 30


def test_arrays_of_torch_come_back_as_such():
    torch = pytest.importorskip("torch")
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        sketch = gm.FrequentDirections(8, 8).partial_fit(x.to(dtype))
        assert sketch.components_.dtype == sketch.sketch_.dtype == dtype
        a = x.to(dtype).double().numpy()
        b = sketch.sketch_.double().numpy()
        assert np.linalg.norm(a.T @ a - b.T @ b, 2) <= sketch.covariance_error_bound_
        vector, _ = streams.top(a)
        assert streams.sine(sketch.components_[0].double().numpy(), vector) <= sketch.certificate_


MEMORY = """
import resource
import sys
import numpy as np
import gramian as gm

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

d, size, batch = 20000, 64, 500
rng = np.random.default_rng(0)
x = rng.standard_normal((batch, d), dtype=np.float32).astype(sys.argv[1])
small = gm.FrequentDirections(d, 1).partial_fit(x[:3])  # what is loaded at the first call
small.components_
before = peak()
sketch = gm.FrequentDirections(d, size)
for _ in range(3):
    sketch.partial_fit(x)
    sketch.components_
sketch.merge(sketch)
print(peak() - before, sketch.nbytes_bound(batch))
"""


@pytest.mark.parametrize(("dtype", "parts"), [("float32", 1), ("complex64", 2)])
def test_memory_stays_within_its_bound(dtype, parts):
    command = [sys.executable, "-c", MEMORY, dtype]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    used, bound = map(int, run.stdout.split())
    assert used <= bound
    assert bound < parts * (40 * 8 * 20000 * 64 + 8 * 8 * 500 * 20000)
