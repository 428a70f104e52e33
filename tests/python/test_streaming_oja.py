"""OjaTopEigenvector: the method row by row, its certificate, its status."""

from __future__ import annotations

import pickle

import gramian as gm
import numpy as np
import pytest

from tests.reference import streaming as reference
from tests.reference import streams

TRIALS = 300  # per stream; each is over in a millisecond or two


def trial(kind, seed, *, is_complex=False):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 250)), int(rng.integers(1, 24))
    rows = reference.ordered(rng, reference.STREAMS[kind](rng, n, d))
    if is_complex:
        rows = reference.turned(rng, rows).astype(rng.choice(["complex128", "complex64"]))
    else:
        rows = rows.astype(rng.choice(["float64", "float32"]))
    rate = "grid" if rng.integers(4) else float(10 ** rng.uniform(-5, 1))
    top = gm.OjaTopEigenvector(d, learning_rate=rate, rng=seed)
    for batch in reference.cut(rng, rows):
        top.partial_fit(batch)
    return top, rows


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("kind", reference.STREAMS)
def test_the_certificate_is_never_below_the_truth(kind, is_complex):
    finite = 0
    for seed in range(TRIALS):
        top, rows = trial(kind, seed, is_complex=is_complex)
        if not np.isfinite(top.certificate_):
            continue
        finite += 1
        truth, doubt = reference.sine(top.components_[0], rows)
        assert truth - doubt <= top.certificate_, (kind, seed)
    # The sketch alone says something of most short streams.
    assert finite > (0 if kind == "isotropic" else TRIALS // 20)


@pytest.mark.parametrize("kind", ["rank one", "nearly rank one", "spiked", "heavy rows"])
def test_the_certificate_holds_in_many_digits(kind):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows = reference.STREAMS[kind](rng, 40, 5)
        top = gm.OjaTopEigenvector(5, rng=seed).partial_fit(rows)
        assert reference.exact_sine(top.components_[0], rows) <= top.certificate_
        rows = reference.turned(rng, rows)
        top = gm.OjaTopEigenvector(5, rng=seed).partial_fit(rows)
        assert streams.exact_sine(rows, top.components_[0]) <= top.certificate_


def test_nothing_is_certified_where_the_top_eigenvalue_is_repeated():
    for seed in range(500):
        rng = np.random.default_rng(seed)
        rows = reference.repeated(rng, int(rng.integers(2, 300)), int(rng.integers(2, 24)))
        if seed % 2:
            rows = rows * 1j ** rng.integers(0, 4, rows.shape)
        top = gm.OjaTopEigenvector(rows.shape[1], rng=seed)
        for batch in reference.cut(rng, rows):
            top.partial_fit(batch)
        assert top.certificate_ == np.inf, seed


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_certificate_is_finite_where_one_direction_has_nearly_all(dtype):
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(1, 300)), int(rng.integers(1, 40))
        rows = reference.ordered(rng, reference.STREAMS["nearly rank one"](rng, n, d))
        rows = rows.astype(dtype)
        squares = np.linalg.svd(rows.astype(float), compute_uv=False) ** 2
        top = gm.OjaTopEigenvector(d, rng=seed).partial_fit(rows)
        if squares.sum() <= 1.01 * squares[0]:
            assert top.certificate_ < 0.05
        truth, doubt = reference.sine(top.components_[0], rows)
        assert truth - doubt <= top.certificate_


def test_the_certificate_is_small_on_an_easy_stream():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5000, 50))
    rows[:, 3] *= 300
    top = gm.OjaTopEigenvector(50, rng=0).partial_fit(rows)
    assert top.certificate_ < 1e-4
    assert top.status_ == "ok"
    largest = np.linalg.norm(rows, 2) ** 2 / len(rows)
    np.testing.assert_allclose(top.explained_variance_, largest, rtol=0.01)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize(("n", "d"), [(64, 5), (192, 33), (1600, 3), (128, 1)])
def test_blocks_do_what_single_rows_do(n, d, dtype):
    """Against extended precision: the error bound of the state covers the difference."""
    rng = np.random.default_rng(n + d)
    rows = rng.standard_normal((n, d)) + 1
    source = np.random.default_rng(1)
    start = source.standard_normal(d)
    if dtype[0] == "c":
        rows = rows + 1j * rng.standard_normal((n, d))
        start = start + 1j * source.standard_normal(d)
    rows = rows.astype(dtype)
    rate = 0.9 / float((np.abs(streams.double(rows)) ** 2).sum(axis=1).max())
    top = gm.OjaTopEigenvector(d, learning_rate=rate, rng=1).partial_fit(rows)
    vector, growth = reference.oja_rows(rows, start.conj(), rate)
    state = top.state_dict()["state"]
    w = state["vectors"][0].conj()
    norm, linear_error, exponent = state["figures"][0, [1, 3, 5]]
    error = np.linalg.norm(w / np.linalg.norm(w) - vector)
    # A row's product is off by at most product * |x| |w|: g(40) and a few roundings more.
    unit = np.finfo(dtype if dtype[0] == "f" else "float64").eps / 2
    product = (200 if dtype[0] == "c" else 50) * unit
    assert error <= 4 * (linear_error / norm + n * product)
    assert linear_error / norm < 1e7 * unit
    grown = np.log(norm) + exponent * np.log(2)
    np.testing.assert_allclose(grown, growth, rtol=n * product, atol=n * product)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_threads_give_the_bits_of_one(dtype, weighted):
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((2000, 150)) * np.linspace(6, 1, 150)).astype(dtype)
    weights = rng.choice([1.0, 1.0, 2.5], 2000) if weighted else None
    states = []
    before = gm.get_num_threads()
    try:
        for threads in (1, 2):
            gm.set_num_threads(threads)
            top = gm.OjaTopEigenvector(150, rng=0).partial_fit(rows[:5], None)
            states.append(top.partial_fit(rows, weights).state_dict()["state"])
    finally:
        gm.set_num_threads(before)
    for name in ("vectors", "figures", "totals"):
        np.testing.assert_array_equal(states[0][name], states[1][name])


def test_rows_that_ask_for_another_unit_or_are_not_finite_in_a_large_batch():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2000, 20))
    top = gm.OjaTopEigenvector(20, rng=0).partial_fit(rows)
    for spoil in (np.nan, np.inf, -np.inf):
        bad = rows.copy()
        bad[1500, 7] = spoil
        before = pickle.dumps(top.state_dict())
        with pytest.raises(ValueError, match="NaN or infinity"):
            top.partial_fit(bad)
        assert pickle.dumps(top.state_dict()) == before
    far = rows.copy()
    far[1500] *= 2.0**60
    whole = gm.OjaTopEigenvector(20, rng=0).partial_fit(rows).partial_fit(far)
    single = gm.OjaTopEigenvector(20, rng=0).partial_fit(rows)
    for first in range(0, 2000, 50):
        single.partial_fit(far[first : first + 50])
    np.testing.assert_allclose(whole.components_, single.components_, rtol=1e-12, atol=1e-300)
    assert whole.certificate_ < 1e-3


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", reference.STREAMS)
def test_the_sketch_bounds_what_it_leaves_out(kind, dtype, weighted):
    """Shrunk by eigenvectors or compressed without them, in either precision."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(2, 60))
        rows = reference.ordered(rng, reference.STREAMS[kind](rng, 192, d)).astype(dtype)
        weights = rng.uniform(0.5, 3, 192) if weighted else None
        top = gm.OjaTopEigenvector(d, rng=0).partial_fit(rows, weights)
        state = top.state_dict()["state"]
        b, (_, above, below) = state["vectors"][8:], state["totals"][:3]
        rows = rows.astype(float) * (1 if weights is None else np.sqrt(weights)[:, None])
        left = np.linalg.eigvalsh(rows.T @ rows - b.T @ b)
        s = np.linalg.svd(rows, compute_uv=False) ** 2
        slack = 1e-13 * s.sum()
        assert -below <= left[0] + slack
        assert left[-1] <= above + slack
        # With 4 rows kept: at most the energy outside the top k directions over 5 - k.
        assert above <= min(s[k:].sum() / (5 - k) for k in range(5)) + 1e-4 * s.sum()
        # Which is so since five times as much is taken off, but for rounding.
        assert s.sum() - (b**2).sum() >= 5 * above - 1e-4 * s.sum()


def test_steep_rows_are_shrunk_and_flat_ones_only_combined():
    """Both ways of the sketch run: how much each takes off shows which it was."""
    rng = np.random.default_rng(0)
    for rows, least, most in (
        (rng.standard_normal((192, 2000)), 9, 13),
        (rng.standard_normal((192, 20)) * np.arange(1.0, 21) ** -2, 5, 8),
    ):
        state = gm.OjaTopEigenvector(rows.shape[1], rng=0).partial_fit(rows).state_dict()["state"]
        taken = (rows**2).sum() - (state["vectors"][8:] ** 2).sum()
        assert least <= taken / state["totals"][1] <= most


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e-30, 1e30, 1e150, 1e290])
def test_the_scale_does_not_matter(scale):
    rng = np.random.default_rng(0)
    rows = reference._spiked(rng, 300, 12)
    exact = 2.0 ** round(np.log2(scale))
    one = gm.OjaTopEigenvector(12, rng=0).partial_fit(rows)
    other = gm.OjaTopEigenvector(12, rng=0).partial_fit(rows * exact)
    np.testing.assert_allclose(other.components_, one.components_, rtol=1e-12)
    assert other.certificate_ == pytest.approx(one.certificate_, rel=1e-9)
    assert other.status_ == one.status_


def test_a_stream_may_grow_beyond_its_first_scale():
    rng = np.random.default_rng(0)
    rows = reference._spiked(rng, 300, 12)
    both = np.concatenate([rows * 1e-290, rows, rows * 1e200])
    top = gm.OjaTopEigenvector(12, rng=0)
    for batch in reference.cut(rng, both):
        top.partial_fit(batch)
    truth, doubt = reference.sine(top.components_[0], rows)
    assert truth - doubt <= top.certificate_ < 0.1


@pytest.mark.parametrize("seed", range(10))
def test_isotropic_rows_do_not_grow(seed):
    rng = np.random.default_rng(seed)
    for n, d in ((200, 50), (1000, 50), (5000, 20), (3000, 200)):
        top = gm.OjaTopEigenvector(d, rng=seed).partial_fit(rng.standard_normal((n, d)))
        assert top.status_ == "no_growth"
        assert top.certificate_ == np.inf
    rows = rng.standard_normal((1000, 50)) + 1j * rng.standard_normal((1000, 50))
    assert gm.OjaTopEigenvector(50, rng=seed).partial_fit(rows).status_ == "no_growth"
    eye = np.tile(np.eye(30), (50, 1))
    assert gm.OjaTopEigenvector(30, rng=seed).partial_fit(eye).status_ == "no_growth"


@pytest.mark.parametrize("seed", range(10))
def test_a_gap_grows_in_random_order(seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((20000, 50))
    rows[:, 0] *= 3
    for given in (rows, reference.turned(rng, rows)):
        top = gm.OjaTopEigenvector(50, rng=seed).partial_fit(given)
        assert top.status_ == "ok"
        assert reference.sine(top.components_[0], given)[0] < 0.1


def test_a_rate_that_rows_outgrow_is_not_used():
    rows = np.ones((200, 4))
    top = gm.OjaTopEigenvector(4, learning_rate=0.1, rng=0).partial_fit(rows)
    assert top.status_ == "ok"
    assert top.partial_fit(10 * rows).status_ == "no_growth"
    assert top.certificate_ < 1e-9  # the sketch's


def test_zero_rows_are_seen():
    top = gm.OjaTopEigenvector(5, rng=0).partial_fit(np.zeros((40, 5)))
    assert top.n_samples_seen_ == 40
    assert top.frobenius_squared_ == 0
    assert top.certificate_ == np.inf
    assert np.linalg.norm(top.components_) == 1
    rows = np.ones((40, 5))
    assert top.partial_fit(rows).certificate_ < 1e-9


def test_weights_are_rows_repeated():
    rng = np.random.default_rng(0)
    rows = reference._spiked(rng, 200, 10)
    weights = rng.integers(0, 4, 200)
    for given in (rows, reference.turned(rng, rows)):
        weighted = gm.OjaTopEigenvector(10, rng=0).partial_fit(given, weights)
        repeated = np.repeat(given, weights, axis=0)
        truth, doubt = reference.sine(weighted.components_[0], repeated)
        assert truth - doubt <= weighted.certificate_ < 1
        squares = (np.abs(repeated) ** 2).sum()
        assert weighted.frobenius_squared_ == pytest.approx(squares, rel=1e-13)
    assert weighted.n_samples_seen_ == np.count_nonzero(weights)


def test_any_cut_and_any_resumption_give_the_same_bits():
    rng = np.random.default_rng(0)
    rows = reference._spiked(rng, 500, 17).astype(np.float32)
    whole = gm.OjaTopEigenvector(17, rng=0).partial_fit(rows)
    parts = gm.OjaTopEigenvector(17, rng=0)
    for number, batch in enumerate(reference.cut(rng, rows)):
        parts.partial_fit(batch)
        assert parts.certificate_ > 0
        if number % 2:
            parts = pickle.loads(pickle.dumps(parts))
        else:
            parts = gm.OjaTopEigenvector(17, rng=0).load_state_dict(parts.state_dict())
    np.testing.assert_array_equal(parts.components_, whole.components_)
    assert parts.certificate_ == whole.certificate_
    for name, value in whole.state_dict()["state"].items():
        if not name.startswith("pending"):
            np.testing.assert_array_equal(parts.state_dict()["state"][name], value)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"n_features": 0}, ValueError),
        ({"n_features": 2.5}, TypeError),
        ({"learning_rate": "adam"}, ValueError),
        ({"learning_rate": -1.0}, ValueError),
        ({"learning_rate": None}, TypeError),
        ({"rng": "seed"}, TypeError),
    ],
)
def test_bad_parameters_are_named(arguments, error):
    top = gm.OjaTopEigenvector(**({"n_features": 3} | arguments))
    with pytest.raises(error, match=next(iter(arguments))):
        top.partial_fit(np.ones((2, 3)))
