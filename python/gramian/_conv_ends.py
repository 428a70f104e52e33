"""Convolutions too large to be formed, with ends: bounds from symbols, then what the ends take off.

Cheap means come first; the costlier ones are for operators where those leave a wide bracket.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from ._conv_geometry import Axis
from ._conv_operator import Operator
from ._conv_symbol import (
    UNIT,
    Kernel,
    Peak,
    affordable,
    brackets,
    full_grid,
    half_grid,
    host,
    on_grid,
    supremum,
)
from ._conv_window import block_bound, block_cost, window_bound, window_cost

# Where symbols leave more than this between the bounds, costlier means are tried.
LOOSE = 1.04
# Frequencies of a full grid that are cheaper than branch and bound over all angles.
GRID_POINTS = 2048
# Floating-point operations for windows: what is always worth a try, and what is where it is loose.
WINDOW_COST, LOOSE_WINDOW_COST = 1e8, 1e12
# Entries of all symbols of a full grid, where it is loose.
LOOSE_GRID_ENTRIES = 1 << 30
# What a point counts at least, however small its matrix.
LOOSE_POINT_ENTRIES = 1 << 8
# Sum of the cubed sides of the dense matrices, where it is loose.
LOOSE_BLOCK_COST = 1.5e11
LANCZOS_STEPS = 30
SINGLE_RTOL = 1e-5


@dataclass(frozen=True)
class Bracket:
    lower: float
    upper: float
    method: str
    steps: int = 0


def fine_tolerance(rtol: float) -> float:
    """Tolerance of a grid's symbols: what they lose is lost for good, and digits are cheap."""
    return min(rtol / 4, 1e-5)


class Ends:
    """A convolution too large to be formed, with ends.

    ``upper`` holds the best bound on each group, ``lower`` that on the whole.
    """

    def __init__(self, kernel: Kernel, operator: Operator, axes: list[Axis], rtol: float):
        self.kernel, self.operator, self.axes, self.rtol = kernel, operator, axes, rtol
        self.torus = np.array([axis.torus for axis in axes])
        last = int(self.torus[-1])
        half = last if kernel.is_complex else last // 2 + 1
        self.points = math.prod(int(n) for n in self.torus[:-1]) * half
        self.upper = np.full(kernel.groups, np.inf)
        self.squares: np.ndarray | None = None
        self.lower, self.steps, self.method = 0.0, 0, "symbol"

    def bracket(self) -> Bracket:
        peaks = None
        if self.points > GRID_POINTS:
            low, high, peaks = supremum(self.kernel, self.rtol / 4, self.points)
            self.upper = high * math.sqrt(self.operator.repeats) * (1 + 2 * UNIT)
            if high.max() > low.max() * (1 + self.rtol / 2) and affordable(
                self.kernel, self.points
            ):
                peaks = None  # too many boxes are left
        if peaks is None:
            peaks = self.take_grid()
            self.take_windows(WINDOW_COST)
        self.raise_lower(peaks)
        if self.is_loose():
            rows, cols = self.kernel.matrix_shape
            entries = self.points * max(self.kernel.groups * rows * cols, LOOSE_POINT_ENTRIES)
            if self.squares is None and entries <= LOOSE_GRID_ENTRIES:
                self.take_grid()
            self.take_windows(LOOSE_WINDOW_COST)
        self.take_blocks()
        return Bracket(self.lower, float(self.upper.max()), self.method, self.steps)

    def is_loose(self) -> bool:
        return float(self.upper.max()) > LOOSE * self.lower

    def over(self, count: int) -> list[int]:
        """The groups that may hold the norm, the likeliest first."""
        order = np.argsort(-self.upper, kind="stable")[:count]
        return [int(g) for g in order if self.upper[g] > self.lower * (1 + self.rtol / 4)]

    def take_grid(self) -> Peak:
        floor = np.zeros(self.kernel.groups)
        kernel = on_grid(self.kernel, self.torus)
        indices = half_grid(self.torus, kernel.is_complex)
        fine, rest = fine_tolerance(self.rtol), self.rtol / 10
        low, high = brackets(kernel, indices, self.torus, fine, floor, rest)
        self.squares = full_grid(high * high * (1 + 2 * UNIT), self.torus, kernel.is_complex)
        upper = high.max(axis=0) * math.sqrt(self.operator.repeats) * (1 + 2 * UNIT)
        self.upper = np.minimum(self.upper, upper)
        return Peak(indices[low.argmax(axis=0)], self.torus)

    def take_windows(self, operations: float) -> None:
        count = int(operations // max(window_cost(self.axes), 1.0))
        if self.squares is None:
            return
        for g in self.over(count):
            rtol = min(self.rtol / 4, 1e-4)
            bound = window_bound(self.squares[g], self.axes, rtol, self.kernel.weight)
            self.upper[g] = min(self.upper[g], bound)
            self.method = "symbol and window"

    def take_blocks(self) -> None:
        """As many axes as can be afforded as they are, at the frequencies of the others."""
        number = len(self.axes)
        for count in range(number, 0, -1):
            for exact in itertools.combinations(range(number), count):
                cost = block_cost(self.kernel, self.axes, exact)
                for g in self.over(int(LOOSE_BLOCK_COST // cost)) if self.is_loose() else ():
                    if count == number:
                        found = self.operator.group(g).dense_brackets(self.rtol / 4)
                        low, high = float(found[0][0]), float(found[1][0])
                        self.method = "dense"
                    else:
                        alone = self.kernel.group(g)
                        low, high = 0.0, block_bound(alone, self.axes, exact, self.rtol / 4)
                        self.method = "symbol and blocks"
                    self.lower = max(self.lower, low)
                    self.upper[g] = min(self.upper[g], high)

    def raise_lower(self, peaks: Peak) -> None:
        """By a Krylov space that starts at a group's best wave, cut to the input."""
        for g in self.over(3):
            operator = self.operator.group(g)
            # Rounding in the search costs a bound nothing but the square of the vector's error.
            # On a GPU the steps wait for launches, and autocast would reach single precision.
            rough = self.rtol >= SINGLE_RTOL and not operator.road.on_device
            search = operator.single() if rough else operator
            start = search.vector(self.wave(g, peaks))
            target = float(self.upper[g]) / (1 + 0.9 * self.rtol)
            vector, steps = search.ritz_vector(start, target, self.rtol / 10, LANCZOS_STEPS)
            self.lower = max(self.lower, operator.lower_bound(operator.vector(vector)))
            self.steps = max(self.steps, steps)

    def wave(self, g: int, peaks: Peak) -> np.ndarray:
        """The right singular vector at the peak as a wave over the input, (1, channels, *sizes)."""
        alone = self.kernel.group(g)
        index = peaks.indices[g : g + 1]
        symbol = host(alone.symbols(index, peaks.sizes))[0, 0]
        random = np.random.default_rng(0)
        vector = random.standard_normal(symbol.shape[1]) + 0j
        for _ in range(8):
            image = (symbol * vector).sum(axis=1)
            vector = (symbol.conj() * image[:, None]).sum(axis=0)
            vector /= np.linalg.norm(vector) or 1.0
        # One row of channels for each phase that occurs, by the phase's coordinates.
        by_phase = vector.reshape(len(alone.blocks), -1)
        phases = [tuple(alone.phases[taps[0]]) for taps in alone.blocks]
        sizes = self.operator.in_sizes
        x = np.zeros((1, self.operator.in_channels, *sizes), complex)
        wave = np.ones(sizes, complex)
        places = []
        for a, axis in enumerate(self.axes):
            block, place = axis.blocks_of_inputs()
            turn = np.exp(2j * np.pi * index[0, a] / peaks.sizes[a] * block)
            if not axis.circular:
                turn *= np.sin(np.pi * (np.arange(axis.size) + 1) / (axis.size + 1))
            shape = [1] * len(sizes)
            shape[a] = -1
            wave = wave * turn.reshape(shape)
            places.append(place)
        for channels, phase in zip(by_phase, phases, strict=True):
            where = np.ix_(*[np.flatnonzero(p == q) for p, q in zip(places, phase, strict=True)])
            x[0][(slice(None), *where)] = channels.reshape(-1, *[1] * len(sizes)) * wave[where]
        x = x if alone.is_complex else x.real
        # A little of everything, lest the wave lie in a space that A^H A does not leave.
        noise = random.standard_normal(x.shape)
        return x / (np.linalg.norm(x) or 1.0) + 0.1 * noise / np.linalg.norm(noise)
