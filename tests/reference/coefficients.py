"""Slow, plain oracles for coefficient tables: many digits, dense grids, linear programming."""

from __future__ import annotations

import itertools

import mpmath as mp
import numpy as np
from scipy.optimize import linprog


def compose(table, x):
    """Apply the rows of a table to singular values, one after another."""
    x = np.asarray(x, dtype=np.float64)
    for a, b, c in table:
        x = a * x + b * x**3 + c * x**5
    return x


def minimax_error_lp(lower, upper, points=2000):
    """Return the least max |1 - p(x)| over odd quintics p on a grid of [lower, upper]."""
    x = 0.5 * (lower + upper) - 0.5 * (upper - lower) * np.cos(np.linspace(0, np.pi, points))
    basis = np.stack([x, x**3, x**5], axis=1)
    ones = np.ones((points, 1))
    result = linprog(
        [0, 0, 0, 1],
        A_ub=np.block([[basis, -ones], [-basis, -ones]]),
        b_ub=np.concatenate([ones[:, 0], -ones[:, 0]]),
        bounds=[(None, None)] * 3 + [(0, None)],
        method="highs",
    )
    return result.fun


def minimax_quintic(lower, upper):
    """Return the best odd quintic to 1 on [lower, upper] by Remez in many digits."""
    nodes = [lower, (3 * lower + upper) / 4, (lower + 3 * upper) / 4, upper]
    for _ in range(40):
        system = mp.matrix([[x, x**3, x**5, (-1) ** i] for i, x in enumerate(nodes)])
        a, b, c, _ = mp.lu_solve(system, mp.matrix([1, 1, 1, 1]))
        turning = mp.polyroots([5 * c, 3 * b, a], maxsteps=200, extraprec=200)
        inner = sorted(mp.sqrt(mp.re(z)) for z in turning)
        moved = max(abs(inner[0] - nodes[1]), abs(inner[1] - nodes[2]))
        nodes[1:3] = inner
        if moved < mp.mpf(10) ** (-mp.mp.dps // 2):
            return a, b, c
    raise AssertionError("Remez did not settle")


def polar_express(lower, steps, cushion=0.02407, safety=1.0, digits=80):
    """Return composed minimax rows in `digits` digits, as floats."""
    rows = []
    with mp.workdps(digits):
        low, high, s = mp.mpf(lower), mp.mpf(1), mp.mpf(safety)
        for step in range(steps):
            if 1 - low / high < mp.mpf(10) ** -12:
                row = (mp.mpf(15) / 8 / high, -mp.mpf(10) / 8 / high**3, mp.mpf(3) / 8 / high**5)
            else:
                row = minimax_quintic(max(low, mp.mpf(cushion) * high), high)

            def value(x, row=row):
                return row[0] * x + row[1] * x**3 + row[2] * x**5

            if mp.mpf(cushion) * high > low:
                centre = 2 / (value(low) + value(high))
                row = tuple(centre * k for k in row)
            if step < steps - 1:
                row = (row[0] / s, row[1] / s**3, row[2] / s**5)
            low = row[0] * low + row[1] * low**3 + row[2] * low**5
            high = 2 - low
            rows.append(tuple(float(k) for k in row))
    return rows


def dense_grid(lower, upper, points=400_001):
    """Return linear and logarithmic points of [lower, upper] together."""
    return np.unique(
        np.concatenate(
            [np.linspace(lower, upper, points), np.geomspace(max(lower, 1e-12), upper, points)]
        )
    )


def gram_condition(table, restarts, delta, points=201):
    """Return max over steps of max|q|/min|q| for Gram eigenvalues that err by delta."""
    s = 1 + 125 * abs(delta)
    x = np.logspace(0, -10, points)
    r, q, worst = x * x + delta, np.ones(points), 1.0
    with np.errstate(all="ignore"):
        for t, (a, b, c) in enumerate(table):
            if t in restarts:
                x = x * q
                r, q = x * x + delta, np.ones(points)
            z = a / s + b / s**3 * r + c / s**5 * r * r
            q, r = q * z, r * z * z
            worst = max(worst, np.max(np.abs(q)) / np.min(np.abs(q)))
    return worst if np.isfinite(worst) else np.inf


def best_restarts(table, delta, count):
    """Try every set of restarts."""
    sets = itertools.combinations(range(1, len(table)), count)
    return list(min(sets, key=lambda restarts: gram_condition(table, restarts, delta)))


def gram_error(table, restarts, delta, points=20_001):
    """Return max |p_gram - p| over [0, 1], each fresh Gram matrix off by +-delta."""
    start = np.geomspace(1e-4 * np.sqrt(abs(delta)), 1, points)
    worst = 0.0
    for signs in itertools.product([-1, 1], repeat=len(restarts) + 1):
        x, left = start, list(signs)
        r, q = x * x + left.pop() * delta, np.ones(points)
        for t, (a, b, c) in enumerate(table):
            if t in restarts:
                x = x * q
                r, q = x * x + left.pop() * delta, np.ones(points)
            z = a + b * r + c * r * r
            q, r = q * z, r * z * z
        worst = max(worst, np.max(np.abs(x * q - compose(table, start))))
    return worst
