"""Restarts of the Gram form: where they are put, and the model of the error that they follow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gramian import _cpu, coefficients

from tests.newton_schulz import PRESETS
from tests.reference import coefficients as ref

HALF = -4e-4


def test_five_steps_in_half_precision_restart_at_two():
    for name in ("polar_express", "polar_express_paper", "you"):
        rows = coefficients.table(name, 5)
        assert _cpu.best_restarts(rows, HALF, 1) == [2]
        assert coefficients.lint(rows).restarts == (2,)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("delta", [HALF, -3e-5, -6e-14])
@pytest.mark.parametrize(("steps", "count"), [(4, 1), (5, 1), (5, 2), (7, 2), (8, 3)])
def test_best_restarts_match_trying_all(name, delta, steps, count):
    rows = coefficients.table(name, steps)
    found = _cpu.best_restarts(rows, delta, count)
    assert found == sorted(set(found))
    assert len(found) == count
    wanted = ref.gram_condition(rows, ref.best_restarts(rows, delta, count), delta)
    if math.isfinite(wanted):
        assert ref.gram_condition(rows, found, delta) <= wanted * (1 + 1e-6)
        assert _cpu.gram_condition(rows, found, delta) == pytest.approx(wanted, rel=1e-5)


def test_restart_counts_are_capped():
    rows = coefficients.table("polar_express", 4)
    assert _cpu.best_restarts(rows, HALF, 0) == []
    assert _cpu.best_restarts(rows, HALF, -3) == []
    assert _cpu.best_restarts(rows, HALF, 9) == [1, 2, 3]
    assert _cpu.best_restarts(rows[:1], HALF, 2) == []
    long = coefficients.table("polar_express", 40)
    found = _cpu.best_restarts(long, HALF, 12)
    assert found == sorted(set(found))
    assert len(found) == 12
    assert 1 <= found[0] < found[-1] < 40


@pytest.mark.parametrize("name", ["polar_express", "muon", "you", "taylor"])
@pytest.mark.parametrize("delta", [1e-6, 1e-12])
@pytest.mark.parametrize(("steps", "restarts"), [(3, []), (5, [2]), (5, [1, 3]), (8, [2, 4])])
def test_gram_error_matches_a_dense_model(name, delta, steps, restarts):
    rows = coefficients.table(name, steps)
    wanted = ref.gram_error(rows, restarts, delta)
    assert _cpu.gram_error(rows, restarts, delta) == pytest.approx(wanted, rel=0.25)
    assert _cpu.gram_error(rows, restarts, -delta) == _cpu.gram_error(rows, restarts, delta)


def test_gram_error_overflows_to_infinity():
    rows = coefficients.table("polar_express", 12)
    assert _cpu.gram_error(rows, [], 4e-4) == math.inf
    assert _cpu.gram_condition(rows, [], HALF) == math.inf


def test_gram_error_bounds_a_float32_run():
    rng = np.random.default_rng(3)
    n = 128
    u = np.linalg.qr(rng.standard_normal((n, n)))[0]
    v = np.linalg.qr(rng.standard_normal((n, n)))[0]
    delta = math.sqrt(n) * 2.0**-24
    for name, restarts in (("polar_express", [2]), ("muon", [2]), ("you", [2])):
        rows = coefficients.table(name, 5)
        for values in (np.geomspace(1, 1e-6, n), np.linspace(1, 1e-3, n)):
            x = ((u * values) @ v.T).astype(np.float32)
            r = x @ x.T
            q = np.eye(n, dtype=np.float32)
            eye = q
            for t, row in enumerate(rows):
                a, b, c = map(np.float32, row)
                if t in restarts:
                    x = q @ x
                    r, q = x @ x.T, eye
                z = b * r + c * (r @ r)
                q = a * q + q @ z
                w = a * eye + z
                r = w @ r @ w
                r = (r + r.T) / 2
            error = np.linalg.norm(q @ x - (u * ref.compose(rows, values)) @ v.T, 2)
            # Between the model's own 4 n u of accumulated rounding and the model itself.
            assert error <= _cpu.gram_error(rows, restarts, delta) + 4 * n * 2.0**-24
