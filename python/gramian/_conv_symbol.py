"""The symbol of a convolution: one small matrix per frequency, and brackets of their norms.

At angles theta the symbol is ``sum_t w[:, :, t] exp(i theta . shift_t)``, the channels of different
phases side by side. Errors of its computed entries are bounded here; the constants are derived in
docs/conv_bounds.md.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from . import _arrays, _bounds
from ._conv_geometry import has_small_factors
from ._conv_road import road_of

UNIT = 2.0**-53
# Angles of one batch, with an index for each axis: 32 MiB on the host, some times over.
BATCH_ANGLES = 1 << 22
# Tolerance of brackets in boxes that are still wide.
COARSE = 0.03
# An FFT is taken for more taps than this times the binary logarithm of the grid's points: the
# product with exponentials runs about that many times faster, flop for flop.
FFT_TAPS = 16
FFT_ENTRIES = 1 << 24
# Error of an FFT, in u for each binary digit of its size (docs/conv_bounds.md).
FFT_ERROR = 24
# Branch and bound stops short of its tolerance where a round would take more entries of symbols,
# more multiplications in products of them, more points, more matrices (the smallest cost 1 us too;
# four times as many rows, whose norms are sums) or more exponentials: some seconds.
BOX_ENTRIES = 1 << 28
BOX_PRODUCTS = 1 << 35
BOX_POINTS = 1 << 20
BOX_MATRICES = 1 << 23
BOX_TERMS = 1 << 26
# Share of boxes kept from which a grid with no more points is the better way.
CROWDED = 0.5


@dataclass(frozen=True)
class Kernel:
    """A kernel in double precision with entries of magnitude about 1, groups apart.

    ``weight`` has shape (taps, groups, outputs, inputs) in the caller's library, ``shifts`` and
    ``phases`` have shape (taps, axes).
    """

    weight: _arrays.Array
    shifts: np.ndarray
    phases: np.ndarray

    @property
    def is_complex(self) -> bool:
        return self.weight.dtype == "complex128"

    @property
    def groups(self) -> int:
        return self.weight.shape[1]

    @cached_property
    def host(self) -> np.ndarray:
        return self.weight.host()

    @cached_property
    def magnitude(self) -> np.ndarray:
        """Of each group: at least the norm of the symbol of |w|, anywhere.

        It also bounds what the rows and columns of |w| can do without a stride, since the
        phases only split the sums.
        """
        sums = abs(self.weight.value).sum(0)
        return np.asarray(np.sqrt(host((sums * sums).sum((1, 2)))) * (1 + 1e-6))

    @cached_property
    def blocks(self) -> list[np.ndarray]:
        """The taps of each phase that occurs."""
        _, which = np.unique(self.phases, axis=0, return_inverse=True)
        which = which.reshape(-1)
        return [np.flatnonzero(which == p) for p in range(which.max() + 1)]

    @property
    def matrix_shape(self) -> tuple[int, int]:
        _, _, outputs, inputs = self.weight.shape
        return outputs, inputs * len(self.blocks)

    def group(self, g: int) -> Kernel:
        """One group alone."""
        return Kernel(same_kind(self.weight, self.weight.value[:, g : g + 1]), self.shifts,
                      self.phases)  # fmt: skip

    @property
    def error(self) -> np.ndarray:
        """Bound on the error of each group's computed symbols, in the spectral norm."""
        # Real weights make two real sums, complex ones complex products (docs/conv_bounds.md).
        sums = road_of(self.weight).rounding(self.weight.shape[0], self.is_complex)
        return (sums + 48) * UNIT * self.magnitude

    def symbols(self, indices: np.ndarray, sizes: np.ndarray) -> Any:
        """Matrices at the angles ``2 pi indices / sizes``: (points, groups, rows, columns).

        A product with the matrix of exponentials: for the short kernels of convolutions it takes
        fewer operations than an FFT, and the grid may be any set of points.
        """
        put = self.weight.put
        points = len(indices)
        taps, groups, outputs, inputs = self.weight.shape
        flat = self.weight.value.reshape(taps, -1)
        # The index is reduced exactly, so the angle of every term is in [-pi, pi].
        steps = (indices[:, None, :] * self.shifts[None, :, :]) % sizes
        turns = (steps / sizes).sum(axis=-1)
        angles = 2 * np.pi * (turns - np.rint(turns))
        wave = np.stack([np.cos(angles), np.sin(angles)])
        result = self.weight.empty_like(
            (points, groups, outputs, len(self.blocks), inputs), "complex128"
        ).value
        shape = (points, groups, outputs, inputs)
        for phase, chosen in enumerate(self.blocks):
            rows = flat if len(self.blocks) == 1 else flat[put(chosen)]
            part = np.ascontiguousarray(wave[..., chosen])
            if self.is_complex:
                result[:, :, :, phase] = (put(part[0] + 1j * part[1]) @ rows).reshape(shape)
            else:
                both = (put(part.reshape(2 * points, -1)) @ rows).reshape(2, *shape)
                result.real[:, :, :, phase] = both[0]
                result.imag[:, :, :, phase] = both[1]
        return result.reshape(points, groups, outputs, -1)


@dataclass(frozen=True)
class TransformedKernel(Kernel):
    """A long kernel whose symbols on one grid come from an FFT of the caller's library."""

    grid: tuple[int, ...]

    @property
    def error(self) -> np.ndarray:
        """``c u log2(N) ||F w||_2`` over the grid bounds the error of each entry anywhere on it."""
        points = math.prod(self.grid)
        size = np.sqrt((np.abs(self.host) ** 2).sum(axis=(0, 2, 3))) * math.sqrt(points)
        return np.asarray(FFT_ERROR * UNIT * max(1.0, math.log2(points)) * size * (1 + 1e-6))

    @cached_property
    def transform(self) -> Any:
        """Symbols in the order of :func:`half_grid`: (points, groups, rows, columns)."""
        xp = self.weight.module
        _, groups, outputs, inputs = self.weight.shape
        blocks = len(self.blocks)
        array = self.weight.empty_like(
            (groups, outputs, blocks, inputs, *self.grid), self.weight.dtype
        ).value
        array[...] = 0
        for block, chosen in enumerate(self.blocks):
            for tap in chosen:
                place = tuple((self.shifts[tap] % self.grid).tolist())
                array[(slice(None), slice(None), block, slice(None), *place)] = self.weight.value[
                    int(tap)
                ].conj()
        first = xp.fft.fft if self.is_complex else xp.fft.rfft
        array = first(array, None, -1)
        for axis in range(2, len(self.grid) + 1):
            array = xp.fft.fft(array, None, -axis)
        axes = tuple(range(4, 4 + len(self.grid)))
        array = xp.moveaxis(array.conj(), axes, tuple(range(len(axes))))
        return array.reshape(-1, groups, outputs, blocks * inputs)

    def symbols(self, indices: np.ndarray, sizes: np.ndarray) -> Any:
        half = np.array(self.grid)
        if not self.is_complex:
            half[-1] = half[-1] // 2 + 1
        return self.transform[np.ravel_multi_index(tuple(indices.T), tuple(half)).tolist()]


def on_grid(kernel: Kernel, sizes: np.ndarray) -> Kernel:
    """The kernel, with an FFT for its symbols on a grid where that takes less time.

    It needs taps that do not meet on the grid, and sizes for which FFTs are products of small
    transforms, as the bound on their error supposes.
    """
    points = math.prod(int(n) for n in sizes)
    taps, groups, outputs, _ = kernel.weight.shape
    columns = kernel.matrix_shape[1]
    if (
        # On a GPU the product is fast enough, and no bound on cuFFT's error is needed.
        road_of(kernel.weight).on_device
        or taps <= FFT_TAPS * math.log2(max(points, 2))
        or points * groups * outputs * columns > FFT_ENTRIES
        or (np.ptp(kernel.shifts, axis=0) >= sizes).any()
        or not all(has_small_factors(int(n)) for n in sizes)
    ):
        return kernel
    grid = tuple(int(n) for n in sizes)
    return TransformedKernel(kernel.weight, kernel.shifts, kernel.phases, grid)


def same_kind(like: _arrays.Array, value: Any) -> _arrays.Array:
    """Part of a checked array."""
    return _arrays.Array(value, like.library, tuple(value.shape), like.dtype, like.device)


@dataclass(frozen=True)
class Peak:
    """Where each group's symbol was largest: angles ``2 pi indices / sizes``, one row a group."""

    indices: np.ndarray
    sizes: np.ndarray


def host(value: Any) -> np.ndarray:
    """The caller's library's numbers as NumPy's."""
    return _arrays.array(value, "value").host()


def norms(matrices: Any, rtol: float) -> tuple[np.ndarray, np.ndarray]:
    """Certified brackets of the spectral norms of a batch, on the host."""
    found = _bounds.spectral_norm_bounds(matrices, rtol=rtol, check_finite=False)
    return host(found.lower), host(found.upper)


def frobenius(matrices: Any, dimensions: int) -> np.ndarray:
    """Norms over the last dimensions, on the host, rounded up."""
    flat = matrices.reshape(*matrices.shape[:-dimensions], -1)
    squares = (flat.real * flat.real).sum(-1) + (flat.imag * flat.imag).sum(-1)
    return np.asarray(np.sqrt(host(squares)) * (1 + (flat.shape[-1] + 8) * UNIT))


def brackets(
    kernel: Kernel,
    indices: np.ndarray,
    sizes: np.ndarray,
    rtol: float,
    floor: np.ndarray,
    rest: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Brackets of the symbol's norm at each point, for each group: (points, groups).

    ``floor`` holds each group's largest lower bound so far and is raised with every batch. Matrices
    whose Frobenius norm is under it are left at that upper bound, and a lower bound of 0. On a GPU,
    where a batch takes as long as its slowest matrix, the others get ``rtol`` only if their bounds
    to the tolerance ``rest`` are not under the floor.
    """
    groups, (rows, cols) = kernel.groups, kernel.matrix_shape
    road = road_of(kernel.weight)
    count = max(1, min(road.batch(rows * cols) // groups, BATCH_ANGLES // kernel.shifts.size))
    tolerances = [rest, rtol] if road.on_device and rest > rtol else [rtol]
    lower = np.zeros((len(indices), groups))
    upper = np.empty((len(indices), groups))
    error = kernel.error
    for first in range(0, len(indices), count):
        part = slice(first, first + count)
        matrices = kernel.symbols(indices[part], sizes)
        high = frobenius(matrices, 2)
        if min(rows, cols) == 1:  # there the Frobenius norm is exact
            low = high * (1 - (2 * rows * cols + 16) * UNIT)
        else:
            low = np.zeros_like(high)
            reached = np.full(high.shape, np.inf)
            for head, tolerance in [(True, tolerances[0]), *((False, t) for t in tolerances)]:
                over = (high + error >= floor) & (reached > tolerance)
                if tolerance < tolerances[0]:
                    over &= high > low * (1 + tolerance)
                points = _likeliest(high) if head else np.nonzero(over)
                if len(points[0]):
                    _narrow(kernel.weight, matrices, points, tolerance, low, high)
                    reached[points] = tolerance
                    np.maximum(floor, (low - error).max(axis=0), out=floor)
        np.maximum(floor, (low - error).max(axis=0), out=floor)
        lower[part], upper[part] = low - error, high + error
    return np.maximum(lower * (1 - 4 * UNIT), 0.0), upper * (1 + 4 * UNIT)


def _narrow(
    weight: _arrays.Array,
    matrices: Any,
    points: tuple[np.ndarray, ...],
    rtol: float,
    low: np.ndarray,
    high: np.ndarray,
) -> None:
    """Take the certified brackets of some matrices into ``low`` and ``high``."""
    # Picking out nearly all costs more than it spares.
    if 8 * len(points[0]) > 7 * high.size:
        points = (np.arange(high.shape[0])[:, None], np.arange(high.shape[1]))
        found = norms(matrices, rtol)
    else:
        found = norms(matrices[tuple(weight.put(p) for p in points)], rtol)
    low[points] = np.maximum(low[points], found[0])
    high[points] = np.minimum(high[points], found[1])


def _likeliest(high: np.ndarray) -> tuple[np.ndarray, ...]:
    """The largest of each group; nothing where the largest tells little."""
    best = high.argmax(axis=0)
    spread = np.median(high) < 0.7 * high.max()
    groups = np.arange(high.shape[1])
    return (best, groups) if spread else (best[:0], groups[:0])


def half_grid(sizes: np.ndarray, is_complex: bool) -> np.ndarray:
    """Indices of a grid; of a real kernel those that are not conjugates of others."""
    ranges = [np.arange(n) for n in sizes]
    if not is_complex:
        ranges[-1] = np.arange(sizes[-1] // 2 + 1)
    return np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, len(sizes))


def full_grid(values: np.ndarray, sizes: np.ndarray, is_complex: bool) -> np.ndarray:
    """Values per frequency of :func:`half_grid`, (points, groups), as (groups, *sizes)."""
    axes, groups = len(sizes), values.shape[1]
    if is_complex:
        return values.T.reshape(groups, *sizes)
    half = values.T.reshape(groups, *sizes[:-1], -1)
    mirror = half[..., 1 : (sizes[-1] + 1) // 2][..., ::-1]
    for axis in range(1, axes):  # the index -j of every other axis
        mirror = np.roll(np.flip(mirror, axis), 1, axis)
    return np.concatenate([half, mirror], axis=-1)


def affordable(kernel: Kernel, points: int) -> bool:
    """Whether symbols and their norms at so many points take some seconds."""
    rows, cols = kernel.matrix_shape
    matrices = points * kernel.groups
    return (
        points <= BOX_POINTS
        and matrices <= BOX_MATRICES * (4 if min(rows, cols) == 1 else 1)
        and points * len(kernel.shifts) <= BOX_TERMS
        and matrices * rows * cols <= BOX_ENTRIES
        and matrices * rows * cols * min(rows, cols) <= BOX_PRODUCTS
    )


def supremum(
    kernel: Kernel, rtol: float, grid: int | None = None
) -> tuple[np.ndarray, np.ndarray, Peak]:
    """Brackets of the norm of each group's symbol over all angles, by branch and bound.

    Let M be the supremum, reached at theta*. Along any line through theta* the symbol is of
    exponential type ``sum_a degree_a |h_a| / 2``, so within ``|h_a| <= r_a`` it stays at or over
    ``M cos(sum_a degree_a r_a / 2)`` (docs/conv_bounds.md). A box whose centre is below the largest
    lower bound times that cosine does not hold theta*.
    """
    degrees = np.ptp(kernel.shifts, axis=0)
    used = degrees > 0
    # Boxes around 2 pi index / sizes, of half width pi / sizes; an axis without lags needs one.
    sizes = np.where(used, np.maximum(4 * degrees * max(1, int(used.sum())), 8), 1)
    indices = half_grid(sizes, kernel.is_complex)
    best = np.zeros(kernel.groups)
    while True:
        cosine = math.cos(float((degrees * np.pi / (2 * sizes)).sum())) * (1 - 1e-12)
        low, high = brackets(kernel, indices, sizes, min(COARSE, max(1 - cosine, rtol / 2)), best)
        np.maximum(best, low.max(axis=0), out=best)
        bound = high / cosine * (1 + 4 * UNIT)
        keep = (bound >= best).any(axis=1)
        # Boxes left out do not hold theta*: the supremum is at most the largest of the others.
        upper = bound[keep].max(axis=0)
        points = int(keep.sum()) * 3 ** int(used.sum())
        crowded = grid is not None and points > grid and keep.mean() > CROWDED
        if cosine >= 1 - rtol / 2 or crowded or not affordable(kernel, points):
            return best, np.maximum(upper, best), Peak(indices[low.argmax(axis=0)], sizes)
        indices = _thirds(indices[keep], used)
        sizes = np.where(used, 3 * sizes, 1)


def _thirds(indices: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The boxes' halves by three; each centre remains one of the finer grid's."""
    offsets = _offsets(used)
    scale = np.where(used, 3, 1)
    split: np.ndarray = scale * indices[:, None] + offsets
    return split.reshape(-1, len(used))


def _offsets(used: np.ndarray) -> np.ndarray:
    return np.array(list(itertools.product(*[(-1, 0, 1) if axis else (0,) for axis in used])))
