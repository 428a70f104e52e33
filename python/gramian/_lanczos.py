"""Lanczos on a Gram operator: its largest eigenvalue from below, and from above with a probability.

The Hermitian operator H = A^H A is known by its products alone. Lanczos with full
reorthogonalization runs in a fixed number of vectors and restarts from its best Ritz vectors (thick
restart: Wu and Simon, SIAM J. Matrix Anal. Appl. 22, 2000). The bound from above takes what
Kuczynski and Wozniakowski (SIAM J. Matrix Anal. Appl. 13, 1992) assume, a start vector with a
component of at least tau along the top eigenvector, and Bessel's inequality; the proof is in
docs/operator_bounds.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Vector = np.ndarray[Any, np.dtype[Any]]

UNIT_ROUNDOFF: float = 2.0**-53

_COLUMNS = 4096  # of the basis, turned at a time


def least_component(size: int, is_complex: bool, failure: float) -> float:
    """A tau with P(|<x, v>| < tau) <= failure: v uniform on the sphere, x any fixed unit vector.

    Real: |<x, v>| has the density 2 G(n/2) / (sqrt(pi) G((n-1)/2)) (1 - t^2)^((n-3)/2) on [0, 1],
    G the gamma function, and G(z + 1/2) <= sqrt(z) G(z). Two dimensions alone have a density that
    grows; there (2/pi) arcsin(t) <= t. Complex: 1 - (1 - t^2)^(n-1) <= (n-1) t^2.
    """
    if size <= 1:
        return 1.0
    if is_complex:
        return min(1.0, math.sqrt(failure / (size - 1)))
    return failure / max(1.0, math.sqrt(2 * (size - 1) / math.pi))


@dataclass
class _Sweep:
    """Scalars between two restarts: H V = V T + beta v e^T, T an arrow and then tridiagonal."""

    kept: Vector  # Ritz values carried over; empty at first
    coupling: Vector  # <kept vector, H v>, v the first new vector
    alpha: list[float] = field(default_factory=list)
    beta: list[float] = field(default_factory=list)

    def matrix(self) -> Vector:
        """T, of the basis without its last vector."""
        k = len(self.kept)
        t = np.diag(np.r_[self.kept, self.alpha])
        t[:k, k] = t[k, :k] = self.coupling
        j = np.arange(k, len(t) - 1)
        t[j, j + 1] = t[j + 1, j] = self.beta[: len(j)]
        return t

    def growth(self, x: Vector, noise: float) -> tuple[Vector, Vector]:
        """Logarithms of the squared component of the last vector, and of the sum over all vectors.

        Along an eigenvector of eigenvalue x, for a component of 1 of the first new vector. x lies
        above T's eigenvalues, so that all pivots are positive; where rounding says otherwise, the
        sum is 0, on the safe side. The noise level is added to each beta: nothing smaller has
        been seen.
        """
        gap = x[:, None] - self.kept
        with np.errstate(all="ignore"):
            part = self.coupling / gap
            total = np.log1p(np.sum(part**2, axis=1))
            pivot = x - self.alpha[0] - part @ self.coupling
            last = np.zeros_like(x)
            valid = np.all(gap > 0, axis=1) & (pivot > 0)
            for j, beta in enumerate(self.beta):
                last = last + 2 * np.log(pivot / (beta + noise))
                total = np.logaddexp(total, last)
                if j + 1 < len(self.alpha):
                    pivot = x - self.alpha[j + 1] - beta * beta / pivot
                    valid &= pivot > 0
        total[~valid] = last[~valid] = -np.inf
        return last, total


@dataclass(frozen=True)
class Extreme:
    """What Lanczos found out about the largest eigenvalue.

    ``upper`` bounds it if the start vector had the least component; ``ritz`` is the Rayleigh
    quotient of ``vector``, up to rounding.
    """

    ritz: float
    upper: float
    vector: Vector
    steps: int


class _Basis:
    """Orthonormal vectors in the rows of one array, and the scalars that go with them."""

    def __init__(self, size: int, capacity: int, dtype: Any, rng: np.random.Generator) -> None:
        self.rows = np.empty((min(capacity, size) + 1, size), dtype)
        self.rng = rng
        self.count = 0
        self.append(self._random())
        self.sweeps = [_Sweep(np.empty(0), np.empty(0))]

    @property
    def full(self) -> bool:
        return self.count == len(self.rows)

    def append(self, w: Vector) -> float:
        """Normalizes w into the next row; returns its norm."""
        norm = float(np.linalg.norm(w))
        np.divide(w, norm, out=self.rows[self.count])
        self.count += 1
        return norm

    def project_out(self, w: Vector) -> float:
        """Takes the rows out of w, in place; the coefficient of the last row.

        That of the last row first, and again until what is found is small against w: then the
        result is orthogonal to the basis up to a few units of rounding.
        """
        v = self.rows[: self.count]
        coefficient = np.vdot(v[-1], w)
        w -= coefficient * v[-1]
        for _ in range(3):
            # The conjugate of the short vectors, so that the basis is not copied.
            h = np.conj(v @ np.conj(w))
            w -= h @ v
            coefficient += h[-1]
            if np.linalg.norm(h) <= 1e-3 * np.linalg.norm(w):
                break
        return float(coefficient.real)

    def fresh(self) -> Vector:
        """A random vector orthogonal to the rows: where a residual is zero, any will do."""
        w = self._random()
        w /= np.linalg.norm(w)
        self.project_out(w)
        return w

    def restart(self, keep: int) -> None:
        """Keeps the best Ritz vectors and the last row."""
        sweep = self.sweeps[-1]
        values, y = np.linalg.eigh(sweep.matrix())
        values, y = values[-keep:], y[:, -keep:]
        turn = y.T.astype(self.rows.dtype)
        for start in range(0, self.rows.shape[1], _COLUMNS):
            part = self.rows[:, start : start + _COLUMNS]
            part[:keep] = turn @ part[: self.count - 1]
        self.rows[keep] = self.rows[self.count - 1]
        self.count = keep + 1
        self.sweeps.append(_Sweep(values, sweep.beta[-1] * y[-1]))

    def _random(self) -> Vector:
        size = self.rows.shape[1]
        w: Vector = self.rng.standard_normal(size)
        if self.rows.dtype.kind == "c":
            w = w + 1j * self.rng.standard_normal(size)
        return w


class Lanczos:
    """The process on an operator H, which goes on where it stopped.

    Parameters
    ----------
    product
        H times a float64 or complex128 vector, as a new array of the same type.
    size
        Side of H, at least 1.
    least
        Component of the start vector along the top eigenvector that ``upper`` counts on.
    noise
        Relative rounding of the products: the level below which a beta means nothing.
    capacity
        Vectors to hold at a time, at least 3.
    """

    def __init__(
        self,
        product: Callable[[Vector], Vector],
        size: int,
        *,
        is_complex: bool,
        least: float,
        noise: float,
        capacity: int,
        rng: np.random.Generator,
    ) -> None:
        self.steps = 0
        self._product, self._least, self._noise = product, least, noise
        self._basis = _Basis(size, capacity, np.complex128 if is_complex else np.float64, rng)
        self.exhausted = False  # the basis spans the space

    def run(self, rtol: float, max_steps: int) -> Extreme:
        """Until the bracket of the square root is within rtol, or max_steps are made in all.

        At least one. What `rtol` asked for before does not matter to the bound: its
        probability is that of the start vector.
        """
        check = self.steps + max(1, self.steps // 8)
        while not self.exhausted and (self.steps < max_steps or self.steps == 0):
            self._step()
            done = self.exhausted or self.steps >= max_steps
            if done or self.steps >= check:
                check = self.steps + max(1, self.steps // 8)
                ritz, upper = self._bracket()
                if done or upper <= ritz * (1 + rtol) ** 2:
                    break
        return self._extreme()

    def _step(self) -> None:
        basis = self._basis
        if basis.full:
            basis.restart(max(1, (len(basis.rows) - 1) // 2))
        sweep = basis.sweeps[-1]
        w = self._product(basis.rows[basis.count - 1])
        self.steps += 1
        reach = float(np.linalg.norm(w))
        if sweep.beta:  # the three-term recurrence, so that one pass over the basis is enough
            w -= sweep.beta[-1] * basis.rows[basis.count - 2]
        sweep.alpha.append(basis.project_out(w))
        self.exhausted = basis.count == basis.rows.shape[1]
        if not self.exhausted:
            beta = float(np.linalg.norm(w))
            if beta <= 16 * UNIT_ROUNDOFF * reach:
                # What is left is rounding, and need not be orthogonal to the basis.
                w, beta = basis.fresh(), 0.0
            basis.append(w)
            sweep.beta.append(beta)

    def _bracket(self) -> tuple[float, float]:
        return _bracket(self._basis.sweeps, self._least, self._noise, self.exhausted)

    def _extreme(self) -> Extreme:
        basis = self._basis
        _, y = np.linalg.eigh(basis.sweeps[-1].matrix())
        vector = y[:, -1].astype(basis.rows.dtype) @ basis.rows[: len(y)]
        return Extreme(*self._bracket(), vector, self.steps)


def largest_eigenvalue(
    product: Callable[[Vector], Vector], size: int, *, rtol: float, max_steps: int, **options: Any
) -> Extreme:
    """A single run of :class:`Lanczos`, which tells of the arguments."""
    return Lanczos(product, size, **options).run(rtol, max_steps)


def _bracket(
    sweeps: list[_Sweep], least: float, noise: float, exhausted: bool
) -> tuple[float, float]:
    """The largest Ritz value, and where Bessel's sum of squared components reaches 1."""
    ritz = float(np.linalg.eigvalsh(sweeps[-1].matrix())[-1])
    if ritz <= 0:
        return 0.0, 0.0 if exhausted else math.inf
    floor = max(noise, 4 * UNIT_ROUNDOFF)
    if exhausted:  # the basis spans the space, and the Ritz value is the eigenvalue
        return ritz, ritz * (1 + floor)
    goal = -2 * math.log(least)

    def reached(excess: Vector) -> Vector:
        x = ritz * (1 + excess)
        start = np.zeros_like(x)
        for sweep in sweeps[:-1]:
            last, _ = sweep.growth(x, noise * ritz)
            start = start + last
        _, total = sweeps[-1].growth(x, noise * ritz)
        return np.asarray(start + total >= goal)

    # The sum grows with x: narrow the excess over the Ritz value down to 4 % of itself.
    low, high = floor, 1e30
    for points in (64, 48):
        grid = np.geomspace(low, high, points)
        hit = reached(grid)
        if not hit[-1]:
            return ritz, math.inf
        # Rounding may flicker next to the Ritz value; only the last miss counts.
        misses = np.flatnonzero(~hit)
        if misses.size == 0:
            return ritz, ritz * (1 + low)
        low, high = float(grid[misses[-1]]), float(grid[misses[-1] + 1])
    return ritz, ritz * (1 + high)
