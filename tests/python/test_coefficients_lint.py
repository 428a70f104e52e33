"""gm.coefficients.lint: ranges, sign flips and divergence, against closed forms and dense grids."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from gramian import coefficients
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.newton_schulz import PRESETS
from tests.reference import coefficients as ref


def test_lint_finds_what_is_broken_in_tables_in_use():
    # The first rows of two tables in public use. This one sends 1 to a + b + c = -0.5852.
    report = coefficients.lint([(4.0098, -7.0585, 2.4635)])
    assert report.lower == pytest.approx(-0.5852)
    ((low, high),) = report.sign_flips
    z = (7.0585 - math.sqrt(7.0585**2 - 4 * 2.4635 * 4.0098)) / (2 * 2.4635)
    assert low == pytest.approx(math.sqrt(z), rel=1e-12)
    assert high == 1.0
    # However the rows go on: converging ones cannot turn the sign back.
    report = coefficients.lint([(4.0098, -7.0585, 2.4635)] + [(15 / 8, -10 / 8, 3 / 8)] * 6)
    assert report.sign_flips == ((low, 1.0),)
    assert report.lower == pytest.approx(-1.0, abs=1e-3)
    # This one sends 1 to 1.9915 and 1.01 to 2.26: past what a row made for [0, 2] bears.
    first = (8.4703, -25.1081, 18.6293)
    assert coefficients.lint([first]).divergence_margin == 0
    following = coefficients.polar_express(0.02, 4, cushion=0.0)
    following = [(a / 1.9915, b / 1.9915**3, c / 1.9915**5) for a, b, c in following]
    assert coefficients.lint([first, *following]).divergence_margin < 0.01


def test_lint_margins_are_those_of_closed_forms():
    # Taylor: the outer fixed point of p(x) = -x, 3z^2 - 10z + 23 has none; p = x at z = 7/3.
    report = coefficients.lint(coefficients.table("taylor", 3))
    assert report.divergence_margin == pytest.approx(math.sqrt(7 / 3) - 1, rel=1e-12)
    a, b, c = coefficients.table("muon", 1)[0]
    z = (-b + math.sqrt(b * b - 4 * c * (a - 1))) / (2 * c)
    report = coefficients.lint(coefficients.table("muon", 5))
    assert report.divergence_margin == pytest.approx(math.sqrt(z) - 1, rel=1e-12)
    assert coefficients.lint([(0.5, 0.0, 0.0)]).divergence_margin == math.inf
    assert coefficients.lint([(1.0, 0.0, 0.0)]).divergence_margin == math.inf
    assert coefficients.lint([(2.0, 0.0, 0.0)]).divergence_margin == 0
    # p(x) = 1.5x - 0.5x^3 is bounded up to sqrt(5), which lies past the cap of 2.
    assert coefficients.lint([(1.5, -0.5, 0.0)]).divergence_margin == math.inf


def test_lint_of_odd_tables():
    report = coefficients.lint([(-1.0, 0.0, 0.0)])
    assert report.sign_flips == ((0.0, 1.0),)
    assert (report.lower, report.upper) == (-1.0, -1e-3)
    report = coefficients.lint([(0.0, 0.0, 0.0)])
    assert (report.lower, report.upper, report.sign_flips) == (0.0, 0.0, ())
    report = coefficients.lint([(1e200, 1e200, 1e200)] * 3)
    assert report.upper == math.inf
    assert report.divergence_margin == 0
    assert not math.isnan(report.lower)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("steps", [1, 3, 5, 8])
def test_lint_range_matches_a_dense_grid(name, steps):
    rows = coefficients.table(name, steps)
    values = ref.compose(rows, ref.dense_grid(1e-3, 1.0))
    report = coefficients.lint(rows)
    assert report.lower <= values.min() + 1e-12
    assert report.upper >= values.max() - 1e-12
    assert report.lower == pytest.approx(values.min(), abs=2e-5)
    assert report.upper == pytest.approx(values.max(), abs=2e-5)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(0.5, 4), st.floats(-7, 1), st.floats(-1, 3)), min_size=1, max_size=3
    )
)
def test_sign_flips_match_a_dense_grid(rows):
    x = np.linspace(1e-4, 1, 5001)
    with np.errstate(over="ignore", invalid="ignore"):
        values = ref.compose(rows, x)
    report = coefficients.lint(rows)
    inside = np.zeros(x.shape, dtype=bool)
    near = np.zeros(x.shape, dtype=bool)
    for low, high in report.sign_flips:
        assert 0 <= low < high <= 1
        inside |= (low < x) & (x < high)
        near |= (np.abs(x - low) < 1e-9) | (np.abs(x - high) < 1e-9)
    clear = ~near & np.isfinite(values) & (np.abs(values) > 1e-9)
    np.testing.assert_array_equal(inside[clear], values[clear] < 0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(0.5, 4), st.floats(-7, 1), st.floats(0, 3)), min_size=1, max_size=4
    )
)
def test_nothing_diverges_within_the_margin(rows):
    margin = coefficients.lint(rows).divergence_margin
    safe = min(margin, 1.0)
    if margin > 1e-6:
        x = np.linspace(0, 1 + 0.999999 * safe, 2001)
        assert np.all(np.abs(ref.compose(rows + rows[-1:] * 60, x)) < 1e12)


def test_report_is_frozen_and_hashable():
    report = coefficients.lint(coefficients.table("muon", 5))
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.lower = 0.0
    assert hash(report) == hash(coefficients.lint(coefficients.table("muon", 5)))
