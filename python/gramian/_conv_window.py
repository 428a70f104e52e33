"""What the ends of a convolution take off the norm of its circulant matrix, one axis at a time.

On its torus a convolution is P C Q: C block circulant with symbol W, P keeps (or repeats) rows and
Q keeps columns. With h(theta) = ||W(theta)||^2 we have C^H C <= H (x) I and C C^H <= H (x) I, H the
scalar circulant of symbol h. So along one axis ||P C Q||^2 is at most the largest eigenvalue of the
small Toeplitz matrix P H P^H (or Q^H H Q) at each frequency of the other axes, and those
eigenvalues are the h of the axes that remain. See docs/conv_bounds.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from . import _arrays
from ._conv_geometry import Axis, combinations
from ._conv_operator import Operator
from ._conv_road import road_of
from ._conv_symbol import UNIT, Kernel, full_grid, half_grid, norms, same_kind


def window_cost(axes: Sequence[Axis]) -> float:
    """Floating-point operations, roughly."""
    total, rest = 0.0, math.prod(a.torus for a in axes)
    for axis in axes:
        rest //= axis.torus
        total += 0.0 if axis.is_circulant else 16.0 * rest * len(_positions(axis)) ** 3
    return total


def window_bound(
    squares: np.ndarray, axes: Sequence[Axis], rtol: float, of: _arrays.Array
) -> float:
    """Upper bound on the norm of one group.

    ``squares`` holds upper bounds on ``||W||**2`` on the whole grid of the torus. The matrices are
    bracketed where ``of`` lies.
    """
    for axis in axes:
        squares = _compress(np.moveaxis(squares, 0, -1), axis, rtol, of)
    return math.sqrt(float(squares)) * (1 + 2 * UNIT)


def block_cost(kernel: Kernel, axes: Sequence[Axis], exact: Sequence[int]) -> float:
    """Sum of the cubed sides of :func:`block_bound`'s matrices."""
    _, _, outputs, inputs = kernel.weight.shape
    chosen = [axes[e] for e in exact]
    side = min(
        outputs * math.prod(a.outputs for a in chosen), inputs * math.prod(a.size for a in chosen)
    )
    # By index: axes of the same size are equal.
    points = math.prod(a.torus for number, a in enumerate(axes) if number not in exact)
    return points * float(side) ** 3


def block_bound(kernel: Kernel, axes: Sequence[Axis], exact: Sequence[int], rtol: float) -> float:
    """Upper bound on the norm of one group, with some axes, not all, as they are.

    At each frequency of the other axes the convolution along the ``exact`` ones is a dense matrix.
    """
    others = [a for a in range(len(axes)) if a not in exact]
    channels = kernel.weight.shape[2:]
    weight = kernel.weight.value[:, 0].reshape(*[len(a.taps) for a in axes], *channels)
    weight = kernel.weight.module.moveaxis(weight, tuple(others), tuple(range(len(others))))
    taps = math.prod(len(axes[a].taps) for a in others)
    partial = Kernel(
        same_kind(kernel.weight, weight.reshape(taps, -1, *channels)),
        combinations([axes[a].shifts for a in others]),
        combinations([axes[a].phases for a in others]),
    )
    torus = np.array([axes[a].torus for a in others])
    indices = half_grid(torus, kernel.is_complex)
    operator = Operator(partial.symbols(indices, torus), [axes[e] for e in exact])
    _, high = operator.dense_brackets(rtol)
    # The taps along the exact axes each carry their own symbol's error.
    error = float(partial.error.sum()) * math.sqrt(operator.repeats)
    squares = full_grid(((high + error) * (1 + 2 * UNIT))[:, None] ** 2 * (1 + 2 * UNIT), torus,
                        kernel.is_complex)  # fmt: skip
    return window_bound(squares[0], [axes[a] for a in others], rtol, kernel.weight)


def _positions(axis: Axis) -> np.ndarray:
    """Outputs or blocks of inputs, whichever are fewer; outputs if any is repeated."""
    if axis.repeats > 1 or len(axis.rows) <= len(axis.columns):
        return axis.rows
    return axis.columns


def _compress(h: np.ndarray, axis: Axis, rtol: float, of: _arrays.Array) -> np.ndarray:
    """Bounds for each of the leading frequencies; the last dimension is the axis'."""
    top = h.max(axis=-1)
    if axis.is_circulant:
        return np.asarray(top)
    positions, torus = _positions(axis), axis.torus
    h, shape = h.reshape(-1, torus), h.shape[:-1]
    # Entries of H by lag: r_q = mean_j h_j exp(2 pi i j q / torus).
    turns = np.outer(np.arange(torus), np.arange(torus)) % torus / torus
    angles = 2 * np.pi * (turns - np.rint(turns))
    lags = (h @ np.cos(angles) + 1j * (h @ np.sin(angles))) / torus
    where = of.put((positions[:, None] - positions[None, :]) % torus)
    bounds = np.empty(len(h))
    count = road_of(of).batch(len(positions) ** 2)
    for first in range(0, len(h), count):
        part = lags[first : first + count]
        if not np.any(part.imag):
            part = np.ascontiguousarray(part.real)
        _, bounds[first : first + count] = norms(of.put(part)[:, where], rtol)
    # Every entry errs by at most (2 torus + 48) u max h, so the matrix by that times its side.
    error = len(positions) * (2 * torus + 48) * UNIT * h.max(axis=-1)
    bounds = ((bounds + error) * (1 + 2 * UNIT)).reshape(shape)
    result: np.ndarray = np.minimum(bounds, axis.repeats * top)
    return result
