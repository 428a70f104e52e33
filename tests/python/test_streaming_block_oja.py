"""BlockOja: its steps against plain NumPy, its certificate, decay and centering."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.reference import streaming as reference
from tests.reference import streams

TRIALS = 60  # per stream and step


def start(d, k, seed, *, is_complex=False):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((k, d))
    if is_complex:
        rows = rows + 1j * rng.standard_normal((k, d))
    return np.linalg.qr(rows.T)[0].conj()


@pytest.mark.parametrize("step", ["adaoja", "history"])
@pytest.mark.parametrize("decay", [1.0, 0.995])
@pytest.mark.parametrize(("n", "d", "k"), [(640, 30, 4), (333, 8, 8), (50, 20, 1), (1000, 12, 3)])
@pytest.mark.parametrize("is_complex", [False, True])
def test_steps_are_those_of_the_papers(step, decay, n, d, k, is_complex):
    rng = np.random.default_rng(n)
    rows = rng.standard_normal((n, d)) * np.linspace(5, 1, d)
    if is_complex:
        rows = reference.turned(rng, rows)
    pca = gm.BlockOja(d, k, step=step, decay=decay, rng=2).partial_fit(rows)
    method = reference.adaoja if step == "adaoja" else reference.history
    q, values = method(rows, start(d, k, 2, is_complex=is_complex), block=64, decay=decay)
    order = np.argsort(-values)
    np.testing.assert_allclose(pca.explained_variance_ * n, values[order], rtol=1e-8)
    along = np.abs((pca.components_ * q.T[order]).sum(axis=1))
    np.testing.assert_allclose(along, 1, atol=1e-8)
    gram = pca.components_ @ pca.components_.conj().T
    np.testing.assert_allclose(gram, np.eye(k), atol=1e-12)


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("step", ["adaoja", "history"])
@pytest.mark.parametrize("kind", reference.STREAMS)
def test_the_certificate_is_never_below_the_truth(kind, step, is_complex):
    finite = 0
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(2, 300)), int(rng.integers(1, 24))
        rows = reference.ordered(rng, reference.STREAMS[kind](rng, n, d))
        if is_complex:
            rows = reference.turned(rng, rows).astype(rng.choice(["complex128", "complex64"]))
        else:
            rows = rows.astype(rng.choice(["float64", "float32"]))
        weights = rng.choice([0.0, 0.5, 1.0, 3.0], n) if rng.integers(2) else None
        if weights is not None and not weights.any():
            continue
        center = bool(rng.integers(2))
        if center:
            rows += rows.dtype.type(10 ** rng.uniform(-2, 4) * (1 - 2j if is_complex else 1))
        decay = float(rng.choice([1.0, 0.999, 0.9, 0.3]))
        pca = gm.BlockOja(
            d, int(rng.integers(1, d + 1)), step=step, decay=decay, center=center, rng=seed
        )
        for first in range(0, n, 97):
            pca.partial_fit(
                rows[first : first + 97], None if weights is None else weights[first : first + 97]
            )
        if not np.isfinite(pca.certificate_):
            continue
        finite += 1
        # Rows that are left out count as none for decay as well.
        kept = slice(None) if weights is None else weights > 0
        a = reference.decayed(
            rows[kept],
            weights=None if weights is None else weights[kept],
            decay=decay,
            center=center,
        )
        truth, doubt = reference.sine(pca.components_[0], a)
        assert truth - doubt <= pca.certificate_, (kind, seed)
        squares = (np.abs(a) ** 2).sum()
        # Centred rows are as good as their difference from the mean: to u of the rows.
        raw = np.finfo(float).eps * float((np.abs(rows).astype(float) ** 2).sum())
        assert abs(pca.frobenius_squared_ - squares) <= 1e-6 * squares + 100 * raw * (
            weights.max() if weights is not None else 1
        )
    assert finite > (0 if kind == "isotropic" else TRIALS // 20)


def test_nothing_is_certified_where_the_top_eigenvalue_is_repeated():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rows = reference.repeated(rng, int(rng.integers(2, 300)), int(rng.integers(2, 24)))
        if seed % 2:
            rows = rows * 1j ** rng.integers(0, 4, rows.shape)
        pca = gm.BlockOja(rows.shape[1], 1, rng=seed).partial_fit(rows)
        assert pca.certificate_ == np.inf, seed


@pytest.mark.parametrize("exponent", [-400, -530, -538, -545, -1000])
@pytest.mark.parametrize("center", [False, True])
def test_rows_may_be_far_smaller_than_those_that_decay_has_forgotten(exponent, center):
    rows = np.zeros((128, 64))
    rows[0::2, 0], rows[1::2, 1:] = 4, 1
    rows[:, 5] += np.arange(128) / 128
    pca = gm.BlockOja(64, 1, decay=0.5, center=center, rng=0).partial_fit(np.ones((1, 64)))
    pca.partial_fit(np.zeros((2560, 64))).partial_fit(rows * 2.0**exponent)
    a = reference.decayed(rows, decay=0.5, center=center)
    truth, doubt = reference.sine(pca.components_[0], a)
    assert truth - doubt <= pca.certificate_
    alone = gm.BlockOja(64, 1, decay=0.5, center=center, rng=0).partial_fit(rows)
    assert pca.certificate_ == pytest.approx(alone.certificate_, rel=1e-6)
    assert pca.certificate_ < 1
    wanted = np.ldexp((a**2).sum(), 2 * exponent)
    assert pca.frobenius_squared_ == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("decay", [0.99, 0.5, 1e-3, 1e-8])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_decay_through_many_scales_is_cut_anywhere(decay, dtype):
    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((900, 6)) * np.arange(6, 0, -1)).astype(dtype)
    rows *= 2.0 ** (-90.0 * np.arange(900) / 900)[:, None].astype(rows.real.dtype)
    rows[200:500] = 0
    whole = gm.BlockOja(6, 2, decay=decay, rng=0).partial_fit(rows)
    parts = gm.BlockOja(6, 2, decay=decay, rng=0)
    for batch in reference.cut(rng, rows):
        parts.partial_fit(batch)
    for name in ("components_", "explained_variance_"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    assert whole.certificate_ == parts.certificate_
    assert whole.frobenius_squared_ == parts.frobenius_squared_ > 0
    values = streams.double(whole.explained_variance_ * 900)
    assert values.sum() <= whole.frobenius_squared_ * (1 + 1e-6)
    truth, doubt = reference.sine(whole.components_[0], reference.decayed(rows, decay=decay))
    assert truth - doubt <= whole.certificate_


def test_a_direction_that_comes_last_is_found_by_the_sketch():
    rng = np.random.default_rng(0)
    rows = np.concatenate([0.001 * rng.standard_normal((2000, 30)), np.ones((1, 30))])
    pca = gm.BlockOja(30, 2, rng=0).partial_fit(rows)
    assert reference.sine(pca.components_[0], rows)[0] <= pca.certificate_ < 0.02
    assert (pca.explained_variance_ * len(rows)).sum() <= pca.frobenius_squared_ * (1 + 1e-12)


def test_the_top_of_a_matrix_is_found():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((30000, 40)) * np.r_[8, 5, 3, np.ones(37)]
    exact = np.linalg.svd(rows, full_matrices=False)[2][:3]
    for step, limit in (("adaoja", 0.05), ("history", 0.05)):
        pca = gm.BlockOja(40, 3, step=step, rng=0).partial_fit(rows)
        along = np.abs((pca.components_ * exact).sum(axis=1))
        assert (np.sqrt(1 - along**2) < limit).all()
        np.testing.assert_allclose(pca.explained_variance_, [64, 25, 9], rtol=0.06)


def test_the_mean_is_taken_off():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5000, 10)) * np.r_[5, np.ones(9)] + 100
    pca = gm.BlockOja(10, 2, center=True, rng=0).partial_fit(rows)
    np.testing.assert_allclose(pca.mean_, rows.mean(axis=0), rtol=1e-13)
    assert abs(pca.components_[0, 0]) > 0.999
    # AdaOja's values are sums along directions that were still on their way.
    assert pca.explained_variance_[0] == pytest.approx(np.var(rows[:, 0], ddof=1), rel=0.05)
    better = gm.BlockOja(10, 2, step="history", center=True, rng=0).partial_fit(rows)
    assert better.explained_variance_[0] == pytest.approx(np.var(rows[:, 0], ddof=1), rel=0.01)
    plain = gm.BlockOja(10, 2, rng=0).partial_fit(rows)
    np.testing.assert_allclose(np.abs(plain.components_[0]), 10**-0.5, rtol=0.01)
    np.testing.assert_array_equal(plain.mean_, np.zeros(10))
    y = pca.transform(rows)
    np.testing.assert_allclose(y, (rows - pca.mean_) @ pca.components_.T, atol=1e-10)
    np.testing.assert_array_equal(gm.BlockOja(10, 2, center=True, rng=0).fit_transform(rows), y)


@pytest.mark.parametrize("step", ["adaoja", "history"])
def test_decay_follows_a_change(step):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((20000, 10))
    rows[:10000, 0] *= 10
    rows[10000:, 1] *= 5
    kept = gm.BlockOja(10, 1, step=step, rng=0).partial_fit(rows)
    followed = gm.BlockOja(10, 1, step=step, decay=0.998, rng=0).partial_fit(rows)
    assert abs(kept.components_[0, 0]) > 0.99
    assert abs(followed.components_[0, 1]) > 0.99


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e290])
@pytest.mark.parametrize("center", [False, True])
def test_the_scale_does_not_matter(scale, center):
    rng = np.random.default_rng(0)
    rows = reference._spiked(rng, 300, 12)
    exact = 2.0 ** round(np.log2(scale))
    one = gm.BlockOja(12, 3, center=center, rng=0).partial_fit(rows)
    other = gm.BlockOja(12, 3, center=center, rng=0).partial_fit(rows * exact)
    np.testing.assert_allclose(other.components_, one.components_, atol=1e-12)
    assert other.certificate_ == pytest.approx(one.certificate_, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"n_components": 4}, ValueError),
        ({"n_components": 0}, ValueError),
        ({"step": "sgd"}, ValueError),
        ({"step": 1}, TypeError),
        ({"step": ["adaoja"]}, TypeError),
        ({"decay": 0.0}, ValueError),
        ({"decay": 1.5}, ValueError),
        ({"center": "yes"}, TypeError),
    ],
)
def test_bad_parameters_are_named(arguments, error):
    pca = gm.BlockOja(**({"n_features": 3, "n_components": 1} | arguments))
    with pytest.raises(error, match=next(iter(arguments))):
        pca.partial_fit(np.ones((2, 3)))
