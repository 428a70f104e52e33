"""gm.coefficients: arguments that are refused, and the core's own guards."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gramian import _cpu, coefficients


@pytest.mark.parametrize("steps", [0, -1, 10**9])
def test_steps_out_of_range_are_refused(steps):
    with pytest.raises(ValueError, match=rf"steps={steps}"):
        coefficients.table("muon", steps)
    with pytest.raises(ValueError, match=rf"steps={steps}"):
        coefficients.polar_express(1e-3, steps)


@pytest.mark.parametrize("steps", [True, 2.0, "3", None, np.bool_(True)])
def test_steps_of_wrong_type_are_refused(steps):
    with pytest.raises(TypeError, match="steps must be an integer"):
        coefficients.table("muon", steps)
    with pytest.raises(TypeError, match="steps must be an integer"):
        coefficients.polar_express(1e-3, steps)


def test_steps_may_be_any_integer():
    assert len(coefficients.table("muon", np.int64(3))) == 3


def test_unknown_names_and_normalizations_are_refused():
    with pytest.raises(ValueError, match=r"name='newton'.*'polar_express'.*'taylor'"):
        coefficients.table("newton", 5)
    with pytest.raises(TypeError, match="name must be a string"):
        coefficients.table(5, 5)
    for bad in ("spectral", 0.0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"normalization=.*'schatten', 'frobenius'"):
            coefficients.table("muon", 5, normalization=bad)
    for bad in (None, True, [1.0], 1j):
        with pytest.raises(TypeError, match=r"normalization=.*'schatten', 'frobenius'"):
            coefficients.table("muon", 5, normalization=bad)


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("lower", [0.0, -0.1, 1.0, 2.0, math.nan, math.inf]),
        ("cushion", [-0.1, 1.0, math.nan]),
        ("safety", [0.99, math.inf, math.nan]),
    ],
)
def test_numbers_out_of_range_are_refused_by_polar_express(argument, values):
    for value in values:
        with pytest.raises(ValueError, match=f"{argument}={value!r}"):
            coefficients.polar_express(**({"lower": 0.1, "steps": 3} | {argument: value}))
    for value in (None, "0.1", True, 1j):
        with pytest.raises(TypeError, match=f"{argument} must be a real number"):
            coefficients.polar_express(**({"lower": 0.1, "steps": 3} | {argument: value}))


def test_tables_that_are_none_are_refused_by_lint():
    for lower in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="lower="):
            coefficients.lint([(1.5, -0.5, 0.0)], lower=lower)
    with pytest.raises(ValueError, match="no rows"):
        coefficients.lint([])
    with pytest.raises(ValueError, match=r"table\[1\].*2 entries"):
        coefficients.lint([(1.5, -0.5, 0.0), (1.0, 2.0)])
    with pytest.raises(ValueError, match=r"table\[0\].*finite"):
        coefficients.lint([(1.5, math.nan, 0.0)])
    for bad in (None, "muon", 3.0, [1.5, -0.5, 0.0], [("1", 0, 0)], [None]):
        with pytest.raises(TypeError, match="table"):
            coefficients.lint(bad)
    array = np.array(coefficients.table("muon", 3))
    assert coefficients.lint(array) == coefficients.lint(coefficients.table("muon", 3))


def test_core_guards_its_own_entry():
    for call in (
        lambda: _cpu.coefficients_table("newton", 3),
        lambda: _cpu.coefficients_table("muon", 0),
        lambda: _cpu.coefficients_table("muon", 3, "spectral"),
        lambda: _cpu.coefficients_lower(0),
        lambda: _cpu.polar_express(0.0, 3, 0.0, 1.0),
        lambda: _cpu.lint_table([], 1e-3),
        lambda: _cpu.lint_table([(1.0, 0.0, 0.0)], 0.0),
        lambda: _cpu.best_restarts([], -4e-4, 1),
    ):
        with pytest.raises(ValueError, match=r"allowed|needs|needed"):
            call()
