"""The iteration for inverse roots on eigenvalues, with rows found by exchange in plain NumPy.

Slow and obvious: what cpp/src/inverse_root_plan.cpp does by closed forms, without its limits on how
far a row reaches.
"""

from __future__ import annotations

import numpy as np

NEAR_ONE = 1e-3


def minimax(p: int, lower: float, upper: float, kind: str):
    """The T whose m^(1/p) T(m) is closest to 1 on [lower, upper], quadratic or rational."""
    grid = np.geomspace(lower, upper, 4001)
    root = grid ** (1 / p)
    points = np.array([0, 1300, 3000, 4000])
    signs = np.array([-1.0, 1, -1, 1]) if kind == "rational" else np.array([1.0, -1, 1, -1])
    for _ in range(60):
        m, s = grid[points], root[points]
        if kind == "polynomial":
            a, b, c, _ = np.linalg.solve(np.stack([s, s * m, s * m * m, signs], 1), np.ones(4))
            values = root * (a + grid * (b + grid * c))
        else:
            # s (a + b m) = (1 + c m)(1 + sign E): an eigenvalue problem in E.
            left = np.stack([s, s * m, -m, -np.ones(4)], 1)
            right = np.stack([0 * s, 0 * s, signs * m, signs], 1)
            inverse, vectors = np.linalg.eig(np.linalg.solve(left, right))
            best = None
            for value, vector in zip(inverse, vectors.T, strict=True):
                if abs(value) < 1e-12 or abs(value.imag) > 1e-9 * abs(value):
                    continue
                a, b, c = (vector[:3] / vector[3]).real
                if c > 0 and abs(1 / value.real) < 1:
                    best = (a, b, c)
            a, b, c = best
            values = root * (a + b * grid) / (1 + c * grid)
        inner = np.flatnonzero(np.diff(np.sign(np.diff(values)))) + 1
        if len(inner) != 2:
            break
        new = np.array([0, *inner, 4000])
        if np.array_equal(new, points):
            break
        points = new
    if kind == "polynomial":
        return lambda m: a + m * (b + m * c)
    return lambda m: (a + b * m) / (1 + c * m)


def first_rows(p: int, lower: float) -> dict:
    """T of the first step for eigenvalues in [lower, 1], by kind."""
    return {
        "rational": minimax(p, lower, 1.0, "rational"),
        "polynomial": minimax(p, lower, 1.0, "polynomial"),
        "Guo and Higham": lambda m: (p + 1 - m) / p,
    }


def taylor(p: int):
    """1 + e/p + (1 + p) e^2 / (2 p^2), e = 1 - m."""
    return lambda m: 1 + (1 - m) / p + (1 + p) * (1 - m) ** 2 / (2 * p * p)


def convergence(kind: str, p: int, lower: float, steps: int = 20) -> list[float]:
    """Largest |1 - m| before the first and after each step, m in [lower, 1] at first."""
    m = np.geomspace(lower, 1, 4001)
    left = [float(np.max(np.abs(1 - m)))]
    while len(left) <= steps and left[-1] > 1e-15:
        if kind == "Guo and Higham":
            t = first_rows(p, lower)[kind]
        elif left[-1] > NEAR_ONE:
            t = minimax(p, m.min(), m.max(), kind)
        else:
            t = taylor(p)
        m = m * t(m) ** p
        left.append(float(np.max(np.abs(1 - m))))
    return left
