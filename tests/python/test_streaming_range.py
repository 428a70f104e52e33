"""Streams whose earlier rows decay to what no double beside them would hold, and old states."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from gramian import _random_order, _streaming_gpu_random


def sine(one, other):
    one, other = (v / np.linalg.norm(v) for v in (one, other))
    return np.linalg.norm(one - (one @ other) * other)


@pytest.mark.parametrize("zeros", [60, 62, 63, 64, 90])
def test_rows_merged_after_long_decay_keep_their_digits(zeros):
    row = 1e150 * np.array([[1, 0.37]])
    later = np.zeros((zeros + 1, 2))
    later[-1, 1] = 1e150 * 1e-10 ** (zeros / 2 + 10)  # less than what is left of the row
    parts = [gm.FrequentDirections(2, 2, decay=1e-10).partial_fit(x) for x in (row, later)]
    merged = parts[0].merge(parts[1])
    assert sine(merged.components_[0], row[0]) <= merged.certificate_ < 1e-9


@pytest.mark.parametrize("zeros", [900, 1074, 1100, 2500])
def test_the_row_between_two_means_decays_with_those_before_it(zeros):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((10, 3)) * [0.1, 2, 0.1] + [20, 0, 0]
    later = np.zeros((zeros, 3))

    def fit(rows):
        return gm.FrequentDirections(3, 3, decay=0.5, center=True).partial_fit(rows)

    whole, merged = fit(np.concatenate([x, later])), fit(x).merge(fit(later))
    # Zeros decay all alike: the mean's direction stays on top.
    assert whole.certificate_ < 1e-9
    assert merged.certificate_ < 1e-9
    assert sine(merged.components_[0], whole.components_[0]) < 1e-9


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
@pytest.mark.parametrize(
    "make",
    [
        lambda decay: gm.FrequentDirections(40, 4, decay=decay),
        lambda decay: gm.BlockOja(40, 2, decay=decay, rng=0),
    ],
)
def test_small_rows_after_a_huge_one_that_decays(make, dtype):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((12, 40)).astype(dtype)
    rows[0] *= dtype(1e37)
    rows[1:] *= dtype(1e-4)
    last = rows[-1].astype(np.complex128)
    found = make(1e-100).partial_fit(rows)
    assert found.frobenius_squared_ == pytest.approx(np.linalg.norm(last) ** 2, rel=1e-9)
    v = found.components_[0].astype(np.complex128)
    off = last - (last @ v.conj()) / np.linalg.norm(v) ** 2 * v
    assert np.linalg.norm(off) / np.linalg.norm(last) <= found.certificate_ * (1 + 1e-9)


def test_state_dicts_of_other_versions_are_refused():
    one = gm.FrequentDirections(4, 3).partial_fit(np.eye(4))
    state = one.state_dict()
    before = state["format"]
    assert before > 1  # 1 had two rows held for each of the sketch
    state["format"] = before - 1
    with pytest.raises(ValueError, match=f"state_dict has format {before - 1}"):
        one.load_state_dict(state)


def test_random_order_reads_nan_on_a_gpu(monkeypatch):
    estimator = gm.RandomOrderTopEigenvector(3, rng=0).partial_fit(np.eye(3))
    monkeypatch.setattr(_streaming_gpu_random, "host_state", lambda estimator: None)
    reading = _random_order.RandomOrderTopEigenvector._read_on_gpu(estimator)
    assert np.isnan(reading.components).all()
    assert reading.certificate == np.inf
    assert np.isnan(reading.frobenius_squared)
