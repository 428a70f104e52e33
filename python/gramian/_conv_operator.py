"""The convolution itself, with its ends: products, the dense matrix, certified lower bounds.

One group at a time, in double precision on the host. Every entry of a product is a sum of products
of weights and vector entries, so its error is bounded by ``gamma_k |W| |x|`` with k terms (Higham,
Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), and by ``sqrt(2) gamma_2k``
times that if they are complex (docs/bounds.md, Lemma 1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from . import _bounds
from ._conv_geometry import Axis
from ._conv_symbol import UNIT

# Entries of a dense matrix that is worth forming: 128 MiB of float64. Beyond, only its Gram matrix.
DENSE_ENTRIES = 1 << 24


class Operator:
    """``weight`` has shape (groups, taps, outputs, inputs); taps combine those of the axes."""

    def __init__(self, weight: np.ndarray, axes: Sequence[Axis]):
        self.weight = weight
        self.axes = axes
        self.groups, _, self.out_channels, self.in_channels = weight.shape
        self.out_sizes = tuple(a.outputs for a in axes)
        self.in_sizes = tuple(a.size for a in axes)
        # Norm of |A|: the circulant matrix of the sums of |w|, rows repeated.
        sums = np.linalg.norm(np.abs(weight).sum(axis=1), axis=(1, 2))
        self.repeats = math.prod(a.repeats for a in axes)
        self.magnitude = sums * math.sqrt(self.repeats) * (1 + 1e-6)

    @property
    def side(self) -> int:
        """The smaller side of one group's matrix."""
        rows = self.out_channels * math.prod(self.out_sizes)
        return int(min(rows, self.in_channels * math.prod(self.in_sizes)))

    def dense(self) -> np.ndarray:
        """Matrices (groups, rows, columns)."""
        axes = len(self.axes)
        a = np.zeros(
            (*self.out_sizes, *self.in_sizes, self.groups, self.out_channels, self.in_channels),
            self.weight.dtype,
        )
        reads = itertools.product(*[[axis.reads(lag) for lag in axis.lags] for axis in self.axes])
        for tap, pairs in enumerate(reads):
            outputs, inputs = np.ix_(*[p[0] for p in pairs]), np.ix_(*[p[1] for p in pairs])
            a[(*outputs, *inputs)] += self.weight[:, tap]
        order = (2 * axes, 2 * axes + 1, *range(axes), 2 * axes + 2, *range(axes, 2 * axes))
        rows = self.out_channels * math.prod(self.out_sizes)
        return a.transpose(order).reshape(self.groups, rows, -1)

    def apply(self, x: np.ndarray) -> np.ndarray:
        """A x for x of shape (columns, in_channels, *in_sizes), of the first group."""
        for number, axis in enumerate(self.axes):
            x = axis.padded(x, number + 2)
        count, places = len(x), math.prod(self.out_sizes)
        y: Any = 0.0
        for part in self._tap_batches(count * self.in_channels):
            # All taps of a batch in one product: (outputs, taps x inputs) (taps x inputs, places).
            seen = np.stack([x[window] for window in self._windows[part]], axis=1)
            weight = self.weight[0, part].transpose(1, 0, 2).reshape(self.out_channels, -1)
            y = y + weight @ seen.reshape(count, -1, places)
        return np.asarray(y).reshape(count, self.out_channels, *self.out_sizes)

    def apply_adjoint(self, y: np.ndarray) -> np.ndarray:
        """A^H y for y of shape (columns, out_channels, *out_sizes), of the first group."""
        count = len(y)
        sizes = [axis.padded_size for axis in self.axes]
        x = np.zeros((count, self.in_channels, *sizes), np.result_type(y, self.weight))
        flat = y.reshape(count, self.out_channels, -1)
        for part in self._tap_batches(count * self.in_channels):
            windows = self._windows[part]
            weight = self.weight[0, part].transpose(0, 2, 1).reshape(-1, self.out_channels)
            sent = (weight.conj() @ flat).reshape(
                count, len(windows), self.in_channels, *self.out_sizes
            )
            for tap, window in enumerate(windows):
                x[window] += sent[:, tap]
        for number, axis in enumerate(self.axes):
            x = axis.folded(x, number + 2)
        return x

    @cached_property
    def _windows(self) -> list[tuple[slice, ...]]:
        """What each tap reads of the padded input."""
        per_axis = [[axis.window(lag) for lag in axis.lags] for axis in self.axes]
        return [(slice(None), slice(None), *w) for w in itertools.product(*per_axis)]

    def _tap_batches(self, channels: int) -> Iterator[slice]:
        count = max(1, DENSE_ENTRIES // max(1, channels * math.prod(self.out_sizes)))
        for first in range(0, len(self._windows), count):
            yield slice(first, first + count)

    def product_error(self) -> float:
        """Bound on ||computed A x - A x|| / ||x||, and the same for A^H."""
        # One product sums over taps and channels together.
        terms = self.weight.shape[1] * max(self.in_channels, self.out_channels) + 8
        each = 3 if self.weight.dtype.kind == "c" else 2
        return float(each * terms * UNIT * self.magnitude[0])

    def lower_bound(self, x: np.ndarray) -> float:
        """||A x|| / ||x|| less all rounding, for one x of the shape that :meth:`apply` takes."""
        scale = float(np.linalg.norm(x))
        if scale == 0:
            return 0.0
        y = self.apply(x)
        spread = 2 * (x.size + y.size + 16) * UNIT
        return max(0.0, float(np.linalg.norm(y)) / scale * (1 - spread) - self.product_error())

    def group(self, g: int) -> Operator:
        return Operator(self.weight[g : g + 1], self.axes)

    def single(self) -> Operator:
        """In single precision: good enough to look for vectors with."""
        kind = np.complex64 if self.weight.dtype.kind == "c" else np.float32
        return Operator(self.weight.astype(kind), self.axes)

    def ritz_vector(
        self, x: np.ndarray, target: float, gain: float, steps: int
    ) -> tuple[np.ndarray, int]:
        """Best vector of a Krylov space of A^H A and x, and its dimension.

        It grows until ||A v|| >= target ||v||, or by less than the relative ``gain``.
        """
        basis = np.empty((steps, x.size), np.result_type(x, self.weight))
        images = np.empty((steps, self.out_channels * math.prod(self.out_sizes)), basis.dtype)
        table = np.zeros((steps, steps), basis.dtype)
        shape, best, last, size = x.shape, x, 0.0, 0
        for k in range(steps):
            flat = x.reshape(-1)
            for _ in range(2):  # twice is enough (Kahan and Parlett)
                flat = flat - (basis[:k].conj() @ flat) @ basis[:k]
            norm = float(np.linalg.norm(flat))
            if norm == 0:
                break
            basis[k] = flat / norm
            image = self.apply(basis[k].reshape(shape))
            images[k] = image.reshape(-1)
            size = k + 1
            table[k, :size] = images[:size].conj() @ images[k]
            table[:size, k] = table[k, :size].conj()
            values, vectors = np.linalg.eigh(table[:size, :size].conj())
            best = (vectors[:, -1] @ basis[:size]).reshape(shape)
            value = math.sqrt(max(float(values[-1]), 0.0))
            if value >= target or value <= last * (1 + gain):
                break
            last = value
            x = self.apply_adjoint(image)
        return best, size

    def dense_brackets(self, rtol: float) -> tuple[np.ndarray, np.ndarray]:
        """Brackets of the norm of each group."""
        entries = math.prod((self.out_channels, self.in_channels, *self.out_sizes, *self.in_sizes))
        if entries > DENSE_ENTRIES:
            each = [self.group(g)._gram_bracket(rtol) for g in range(self.groups)]
            return np.array([e[0] for e in each]), np.array([e[1] for e in each])
        count = max(1, DENSE_ENTRIES // entries)
        lower, upper = np.empty(self.groups), np.empty(self.groups)
        for first in range(0, self.groups, count):
            part = slice(first, first + count)
            matrices = Operator(self.weight[part], self.axes).dense()
            found = _bounds.spectral_norm_bounds(matrices, rtol=rtol)
            lower[part], upper[part] = found.lower, found.upper
        if not any(a.circular for a in self.axes):
            return lower, upper  # every entry is a weight
        # Where a kernel is wider than a circular input, entries are sums of weights: their errors,
        # at most taps u times the sum of magnitudes, in the Frobenius norm.
        rows = math.prod(self.out_sizes)
        error = self.weight.shape[1] * UNIT * self.magnitude * math.sqrt(rows)
        return np.maximum(lower - error, 0.0) * (1 - 4 * UNIT), (upper + error) * (1 + 4 * UNIT)

    def _gram_bracket(self, rtol: float) -> tuple[float, float]:
        """From the Gram matrix of the smaller side, by products with unit vectors."""
        rows = self.out_channels * math.prod(self.out_sizes)
        columns = self.in_channels * math.prod(self.in_sizes)
        shape = (
            (self.out_channels, *self.out_sizes)
            if rows <= columns
            else (self.in_channels, *self.in_sizes)
        )
        side = min(rows, columns)
        gram = np.empty((side, side), self.weight.dtype)
        count = max(1, DENSE_ENTRIES // (4 * max(rows, columns)))
        for first in range(0, side, count):
            number = min(count, side - first)
            unit = np.zeros((number, side), self.weight.dtype)
            unit[np.arange(number), first + np.arange(number)] = 1
            unit = unit.reshape(number, *shape)
            if rows <= columns:
                image = self.apply(self.apply_adjoint(unit))
            else:
                image = self.apply_adjoint(self.apply(unit))
            gram[first : first + number] = image.reshape(number, side)
        found = _bounds.spectral_norm_bounds(gram, rtol=rtol)
        # Entrywise the error is at most (gamma_k + gamma_l + ...) |A| |A^H|.
        size = float(self.magnitude[0])
        error = 3 * self.product_error() * size
        lower = max(0.0, float(found.lower) - error) * (1 - 8 * UNIT)
        upper = (float(found.upper) + error) * (1 + 8 * UNIT)
        return math.sqrt(lower) * (1 - 2 * UNIT), math.sqrt(upper) * (1 + 2 * UNIT)
