"""The convolution itself, with its ends: products, the dense matrix, certified lower bounds.

One group at a time, in double precision, by the weight's library and where it lies. Every entry of
a product is a sum of products of weights and vector entries, so its error is bounded by
``gamma_k |W| |x|`` with k terms (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
section 3.1), and by ``sqrt(2) gamma_2k`` times that if they are complex (docs/bounds.md, Lemma 1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from . import _arrays
from ._conv_geometry import Axis
from ._conv_road import road_of
from ._conv_symbol import UNIT, host, norms


def _lead(axis: int) -> tuple[slice, ...]:
    """All of every dimension before that of the axis."""
    return (slice(None),) * (axis + 2)


class Operator:
    """``weight`` has shape (groups, taps, outputs, inputs); taps combine those of the axes."""

    def __init__(self, weight: Any, axes: Sequence[Axis]):
        self.weight = weight
        self.axes = axes
        self.array = _arrays.array(weight, "weight")
        self.is_complex = self.array.dtype.startswith("complex")
        self.road = road_of(self.array)
        self.groups, _, self.out_channels, self.in_channels = self.array.shape
        self.out_sizes = tuple(a.outputs for a in axes)
        self.in_sizes = tuple(a.size for a in axes)
        self.repeats = math.prod(a.repeats for a in axes)

    @cached_property
    def magnitude(self) -> np.ndarray:
        """Norm of |A|: that of the circulant matrix of the sums of |w|, rows repeated."""
        sums = abs(self.weight).sum(1)
        sizes = np.sqrt(host((sums * sums).sum((1, 2))))
        return np.asarray(sizes * math.sqrt(self.repeats) * (1 + 1e-6))

    @property
    def side(self) -> int:
        """The smaller side of one group's matrix."""
        rows = self.out_channels * math.prod(self.out_sizes)
        return int(min(rows, self.in_channels * math.prod(self.in_sizes)))

    def dense(self) -> Any:
        """Matrices (groups, rows, columns)."""
        a = self.array.zeros(
            (math.prod(self.out_sizes), math.prod(self.in_sizes), self.groups,
             self.out_channels, self.in_channels)
        )  # fmt: skip
        places, ends = self._reads()
        outputs, inputs = self.array.put(places[0]), self.array.put(places[1])
        for tap, (first, last) in enumerate(itertools.pairwise(ends)):
            a[outputs[first:last], inputs[first:last]] += self.weight[:, tap]
        rows = self.out_channels * math.prod(self.out_sizes)
        a = self.array.module.moveaxis(a, (0, 1), (2, 4))
        return a.reshape(self.groups, rows, -1)

    def _reads(self) -> tuple[np.ndarray, list[int]]:
        """Pairs of outputs and inputs that meet, tap by tap, and where each tap's begin and end."""
        pairs, ends = [], [0]
        for axes in itertools.product(*[[a.reads(lag) for lag in a.lags] for a in self.axes]):
            outputs = np.ravel_multi_index(np.ix_(*[p[0] for p in axes]), self.out_sizes)
            inputs = np.ravel_multi_index(np.ix_(*[p[1] for p in axes]), self.in_sizes)
            pairs.append(np.stack([outputs.reshape(-1), inputs.reshape(-1)]))
            ends.append(ends[-1] + outputs.size)
        return np.concatenate(pairs, axis=1), ends

    def apply(self, x: Any) -> Any:
        """A x for x of shape (columns, in_channels, *in_sizes), of the first group."""
        x = self._padded(x)
        count, places = len(x), math.prod(self.out_sizes)
        y: Any = None
        for part in self._tap_batches(count * self.in_channels):
            # All taps of a batch in one product: (outputs, taps x inputs) (taps x inputs, places).
            seen = self.array.module.stack([x[window] for window in self._windows[part]], 1)
            weight = self._receiving[:, part].reshape(self.out_channels, -1)
            more = weight @ seen.reshape(count, -1, places)
            y = more if y is None else y + more
        return y.reshape(count, self.out_channels, *self.out_sizes)

    def apply_adjoint(self, y: Any) -> Any:
        """A^H y for y of shape (columns, out_channels, *out_sizes), of the first group."""
        count = len(y)
        sizes = [axis.padded_size for axis in self.axes]
        x = self.array.zeros((count, self.in_channels, *sizes))
        flat = y.reshape(count, self.out_channels, -1)
        for part in self._tap_batches(count * self.in_channels):
            windows = self._windows[part]
            sent = (self._sending[part].reshape(-1, self.out_channels) @ flat).reshape(
                count, len(windows), self.in_channels, *self.out_sizes
            )
            for tap, window in enumerate(windows):
                x[window] += sent[:, tap]
        return self._folded(x)

    @cached_property
    def _receiving(self) -> Any:
        """Weights (outputs, taps, inputs) of the first group, side by side in memory."""
        weight = self.array.module.moveaxis(self.weight[0], 1, 0)
        result = self.array.empty_like(tuple(weight.shape), self.array.dtype).value
        result[...] = weight
        return result

    @cached_property
    def _sending(self) -> Any:
        """Conjugate weights (taps, inputs, outputs) of the first group, likewise."""
        weight = self.array.module.moveaxis(self.weight[0], 2, 1).conj()
        result = self.array.empty_like(tuple(weight.shape), self.array.dtype).value
        result[...] = weight
        return result

    def _padded(self, x: Any) -> Any:
        """x with what the outputs read before and after it."""
        if self.axes[0].circular:
            for number, axis in enumerate(self.axes):
                x = x[(*_lead(number), self.array.put(axis.wrapped))]
            return x
        result = self.array.zeros((*x.shape[:2], *[axis.padded_size for axis in self.axes]))
        sources, targets = zip(*[axis.kept for axis in self.axes], strict=True)
        result[(*_lead(0), *targets)] = x[(*_lead(0), *sources)]
        return result

    def _folded(self, x: Any) -> Any:
        """The adjoint of :meth:`_padded`."""
        if not self.axes[0].circular:
            sources, targets = zip(*[axis.kept for axis in self.axes], strict=True)
            inner = x[(*_lead(0), *targets)]
            shape = (*x.shape[:2], *self.in_sizes)
            if tuple(inner.shape) == shape:
                return inner
            result = self.array.zeros(shape)
            result[(*_lead(0), *sources)] = inner
            return result
        for number, axis in enumerate(self.axes):
            shape = (*x.shape[: number + 2], axis.size, *x.shape[number + 3 :])
            result = self.array.zeros(shape)
            for position in range(0, axis.padded_size, axis.size):  # no index twice in one
                part = slice(position, position + axis.size)
                where = self.array.put(axis.wrapped[part])
                result[(*_lead(number), where)] += x[(*_lead(number), part)]
            x = result
        return x

    @cached_property
    def _windows(self) -> list[tuple[slice, ...]]:
        """What each tap reads of the padded input."""
        per_axis = [[axis.window(lag) for lag in axis.lags] for axis in self.axes]
        return [(slice(None), slice(None), *w) for w in itertools.product(*per_axis)]

    def _tap_batches(self, channels: int) -> Iterator[slice]:
        entries = self.road.dense_entries
        count = max(1, entries // max(1, channels * math.prod(self.out_sizes)))
        for first in range(0, len(self._windows), count):
            yield slice(first, first + count)

    def product_error(self) -> float:
        """Bound on ||computed A x - A x|| / ||x||, and the same for A^H."""
        # One product sums over taps and channels together.
        terms = self.array.shape[1] * max(self.in_channels, self.out_channels) + 8
        return float(self.road.rounding(terms, self.is_complex) * UNIT * self.magnitude[0])

    def length(self, x: Any) -> float:
        """Norm of a vector of the weight's dtype, on the host."""
        squares = x.real * x.real + x.imag * x.imag if self.is_complex else x * x
        return math.sqrt(float(squares.sum()))

    def lower_bound(self, x: Any) -> float:
        """||A x|| / ||x|| less all rounding, for one x of the shape that :meth:`apply` takes."""
        scale = self.length(x)
        if scale == 0:
            return 0.0
        y = self.apply(x)
        spread: float = 2 * (math.prod(x.shape) + math.prod(y.shape) + 16) * UNIT
        return max(0.0, self.length(y) / scale * (1 - spread) - self.product_error())

    def group(self, g: int) -> Operator:
        return Operator(self.weight[g : g + 1], self.axes)

    def single(self) -> Operator:
        """In single precision: good enough to look for vectors with."""
        weight = self.array.empty_like(
            self.array.shape, "complex64" if self.is_complex else "float32"
        )
        weight.value[...] = self.weight
        return Operator(weight.value, self.axes)

    def vector(self, x: Any) -> Any:
        """x in the weight's library and dtype."""
        result = self.array.empty_like(tuple(x.shape), self.array.dtype).value
        result[...] = self.array.put(x) if isinstance(x, np.ndarray) else x
        return result

    def ritz_vector(self, x: Any, target: float, gain: float, steps: int) -> tuple[Any, int]:
        """Best vector of a Krylov space of A^H A and x, and its dimension.

        It grows until ||A v|| >= target ||v||, or by less than the relative ``gain``.
        """
        shape = tuple(x.shape)
        basis = self.array.empty_like((steps, math.prod(shape)), self.array.dtype).value
        rows = self.out_channels * math.prod(self.out_sizes)
        images = self.array.empty_like((steps, rows), self.array.dtype).value
        table = np.zeros((steps, steps), complex if self.is_complex else float)
        noise = 64 * float(np.finfo(self.array.dtype).eps)
        last, size, looked = 0.0, 0, 0
        while True:
            flat = x.reshape(-1)
            before = self._norm(flat)
            for _ in range(2 if size else 0):  # twice is enough (Kahan and Parlett)
                flat = flat - (basis[:size].conj() @ flat) @ basis[:size]
            # Not looked at: each look waits for a GPU. Zero stays zero, and gains nothing below.
            # What is all rounding becomes zero, lest it repeat what the basis has.
            after = self._norm(flat)
            basis[size] = flat * (after > noise * before) / (after + 1e-30)
            image = self.apply(basis[size].reshape(shape))
            images[size] = image.reshape(-1)
            size += 1
            if size == 1 or size % self.road.look_every == 0 or size == steps:
                new = images[looked:size].conj() @ images[:size].swapaxes(0, 1)
                table[looked:size, :size] = host(new)
                table[:looked, looked:size] = table[looked:size, :looked].conj().T
                values, vectors = np.linalg.eigh(table[:size, :size])
                value = math.sqrt(max(float(values[-1]), 0.0))
                enough = (1 + gain) ** (size - looked)
                if value >= target or value <= last * enough or size == steps:
                    break
                last, looked = value, size
            x = self.apply_adjoint(image)
        return (self.vector(vectors[:, -1]) @ basis[:size]).reshape(shape), size

    @staticmethod
    def _norm(flat: Any) -> Any:
        """As a number of the caller's library: nothing waits."""
        return (abs(flat) ** 2).sum() ** 0.5

    def dense_brackets(self, rtol: float) -> tuple[np.ndarray, np.ndarray]:
        """Brackets of the norm of each group."""
        entries = math.prod((self.out_channels, self.in_channels, *self.out_sizes, *self.in_sizes))
        if entries > self.road.dense_entries:
            each = [self.group(g)._gram_bracket(rtol) for g in range(self.groups)]
            return np.array([e[0] for e in each]), np.array([e[1] for e in each])
        count = max(1, self.road.dense_entries // entries)
        lower, upper = np.empty(self.groups), np.empty(self.groups)
        for first in range(0, self.groups, count):
            part = slice(first, first + count)
            matrices = Operator(self.weight[part], self.axes).dense()
            lower[part], upper[part] = norms(matrices, rtol)
        if not any(a.circular for a in self.axes):
            return lower, upper  # every entry is a weight
        # Where a kernel is wider than a circular input, entries are sums of weights: their errors,
        # at most taps u times the sum of magnitudes, in the Frobenius norm.
        rows = math.prod(self.out_sizes)
        error = self.array.shape[1] * UNIT * self.magnitude * math.sqrt(rows)
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
        gram = self.array.empty_like((side, side), self.array.dtype).value
        count = max(1, self.road.dense_entries // (4 * max(rows, columns)))
        for first in range(0, side, count):
            number = min(count, side - first)
            unit = self.array.zeros((number, side))
            one = np.arange(number)
            unit[self.array.put(one), self.array.put(first + one)] = 1
            unit = unit.reshape(number, *shape)
            if rows <= columns:
                image = self.apply(self.apply_adjoint(unit))
            else:
                image = self.apply_adjoint(self.apply(unit))
            gram[first : first + number] = image.reshape(number, side)
        found = norms(gram, rtol)
        # Entrywise the error is at most (gamma_k + gamma_l + ...) |A| |A^H|.
        size = float(self.magnitude[0])
        error = 3 * self.product_error() * size
        lower = max(0.0, float(found[0]) - error) * (1 - 8 * UNIT)
        upper = (float(found[1]) + error) * (1 + 8 * UNIT)
        return math.sqrt(lower) * (1 - 2 * UNIT), math.sqrt(upper) * (1 + 2 * UNIT)
