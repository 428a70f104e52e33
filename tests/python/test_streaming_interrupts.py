"""Calls that end half-way, by Ctrl-C or for want of memory: no figure of an unknown stream."""

from __future__ import annotations

import copy
import pickle

import gramian as gm
import numpy as np
import pytest

OPTIONS = {
    gm.OjaTopEigenvector: {"rng": 0},
    gm.BlockOja: {"n_components": 2, "rng": 0},
    gm.FrequentDirections: {"sketch_size": 3},
    gm.RandomOrderTopEigenvector: {"rng": 0},
}


def new(kind):
    return kind(8, **OPTIONS[kind])


@pytest.fixture(params=OPTIONS)
def interrupted(request, monkeypatch):
    """An estimator, its state before, and the rows in the midst of which it was stopped."""
    rows = np.random.default_rng(0).standard_normal((600, 8))
    estimator = new(request.param).partial_fit(rows[:300])
    before = estimator.state_dict()
    update = request.param._update

    def stops(*arguments):
        update(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(request.param, "_update", stops)
        with pytest.raises(KeyboardInterrupt):
            estimator.partial_fit(rows[300:])
    return estimator, before, rows


@pytest.mark.parametrize("how", [lambda e: e, copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_nothing_is_read_off_or_added_to(interrupted, how):
    estimator, _, rows = interrupted
    estimator = how(estimator)
    for use in (lambda e: e.components_, lambda e: e.n_samples_seen_,
                lambda e: e.partial_fit(rows), lambda e: e.state_dict()):  # fmt: skip
        with pytest.raises(RuntimeError, match="partial_fit was interrupted"):
            use(estimator)
    if isinstance(estimator, gm.FrequentDirections):
        whole = new(gm.FrequentDirections).partial_fit(rows)
        for merge in (lambda: whole.merge(estimator), lambda: estimator.merge(whole)):
            with pytest.raises(RuntimeError, match="partial_fit was interrupted"):
                merge()


@pytest.mark.parametrize("way", ["load_state_dict", "fit", "set_params"])
def test_a_state_from_before_or_new_rows_end_it(interrupted, way):
    estimator, before, rows = interrupted
    if way == "load_state_dict":
        estimator.load_state_dict(before).partial_fit(rows[300:])
    elif way == "fit":
        estimator.fit(rows)
    else:
        other = 4 if isinstance(estimator, gm.FrequentDirections) else 7
        estimator.set_params(**{[*OPTIONS[type(estimator)]][-1]: other}).partial_fit(rows)
    expected = type(estimator)(**estimator.get_params()).partial_fit(rows)
    np.testing.assert_array_equal(estimator.components_, expected.components_)


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_fit_that_is_stopped_leaves_what_was_there(kind, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((600, 8))
    estimator = new(kind).partial_fit(rows[:300])
    before = estimator.components_.copy()

    def stops(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kind, "_update", stops)
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(rows[300:])
    np.testing.assert_array_equal(estimator.components_, before)
