"""The derivative of a convolution's norm by its kernel: from the vectors that attain the norm.

With ``||A x|| = sigma`` and ``y = A x / sigma`` it is, tap by tap, the sum over the positions of
``y`` times the conjugate of what the tap reads of ``x``. Where the norm is that of a symbol at some
frequency, one matrix takes the place of the sum. Scaled so that its product with the kernel is 1,
the derivative of the norm's logarithm: Euler's relation holds for whichever bound is asked for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import _arrays
from .._conv_bounds import DENSE_SIDE, _scaled, _without_ends
from .._conv_ends import GRID_POINTS, LANCZOS_STEPS, Ends, fine_tolerance
from .._conv_geometry import Axis, combinations, unlimited
from .._conv_layer import Layer
from .._conv_operator import Operator
from .._conv_road import road_of
from .._conv_symbol import Kernel, brackets, half_grid, norms, supremum
from ._norms import _gradient_operator

# Groups whose bounds are next to the largest, of which the best is looked for.
CANDIDATES = 3


def logarithmic_gradient(weight: Tensor, layer: Layer, rtol: float) -> Tensor:
    """Of `weight`'s shape and dtype, ``Re <gradient, weight> = 1``; zero for a zero kernel."""
    checked = _arrays.array(weight, "weight")
    taps, _ = _scaled(checked, layer.groups)
    if taps is None:
        return torch.zeros_like(weight)
    found = _every_size(taps, layer, rtol) if layer.sizes is None else _one_size(taps, layer, rtol)
    if found is None:
        return torch.zeros_like(weight)
    group, parts = found  # (taps, outputs, inputs)
    shape = (layer.groups, weight.shape[0] // layer.groups, *weight.shape[1:])
    result = torch.zeros(shape, dtype=parts.dtype, device=weight.device)
    result[group] = parts.permute(1, 2, 0).reshape(shape[1:])
    result = result.reshape(weight.shape)
    if not weight.is_complex() and result.is_complex():
        result = result.real
    # In steps of powers of two: weights may lie at either end of the range.
    scale = torch.linalg.vector_norm(weight.to(result.dtype), ord=torch.inf)
    product = (result.conj() * (weight.to(result.dtype) / scale)).sum()
    product = product.real if product.is_complex() else product
    result = result / torch.where(product > 0, product, torch.inf) / scale
    gradient: Tensor = result.to(weight.dtype).contiguous()
    return gradient


Found = tuple[int, Tensor]


def _every_size(taps: _arrays.Array, layer: Layer, rtol: float) -> Found:
    """At the frequency where the symbol without ends is largest."""
    kernel = _without_ends(taps, layer, layer.stride)
    low, _, peaks = supremum(kernel, rtol / 4)
    group = int(np.argmax(low))
    pairs = [
        unlimited(*arguments)
        for arguments in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    ]
    # Taps without weight have a derivative too, unless no other shares their phase.
    every = Kernel(taps, combinations([p[0] for p in pairs]), combinations([p[1] for p in pairs]))
    return group, _of_symbol(every.group(group), peaks.indices[group], peaks.sizes)


def _of_symbol(kernel: Kernel, index: np.ndarray, sizes: np.ndarray) -> Tensor:
    """``u v^H`` of the symbol at one frequency, block by block of its phases, turned back."""
    symbol = torch.as_tensor(kernel.symbols(index[None], sizes))[0, 0]
    norm = torch.as_tensor(norms(kernel.symbols(index[None], sizes), 1e-9)[1][0, 0])
    outer = _gradient_operator(symbol, norm.to(symbol.device), 1e-9)
    taps, _, outputs, inputs = kernel.weight.shape
    outer = outer.reshape(outputs, len(kernel.blocks), inputs)
    turns = ((index * kernel.shifts) % sizes / sizes).sum(axis=-1)
    parts = torch.empty(taps, outputs, inputs, dtype=outer.dtype, device=outer.device)
    for block, chosen in enumerate(kernel.blocks):
        wave = np.exp(-2j * np.pi * turns[chosen])[:, None, None]
        parts[chosen] = torch.as_tensor(wave, device=outer.device) * outer[:, block]
    return parts


def _one_size(taps: _arrays.Array, layer: Layer, rtol: float) -> Found | None:
    assert layer.sizes is not None
    axes = [axis.used() for axis in layer.axes(layer.sizes)]
    if any(not axis.taps for axis in axes):
        return None
    if all(axis.is_disjoint for axis in axes):
        return _every_size(taps, layer, rtol)
    flat = np.arange(taps.shape[0]).reshape(layer.kernel_size)
    read = flat[np.ix_(*[axis.taps for axis in axes])].reshape(-1)
    chosen = taps.empty_like((len(read), *taps.shape[1:]), taps.dtype)
    chosen.value[...] = taps.value[taps.put(read)]
    kernel = Kernel(
        chosen, combinations([a.shifts for a in axes]), combinations([a.phases for a in axes])
    )
    if all(axis.is_circulant for axis in axes):
        torus = np.array([axis.torus for axis in axes])
        indices = half_grid(torus, kernel.is_complex)
        floor = np.zeros(layer.groups)
        low, _ = brackets(kernel, indices, torus, fine_tolerance(rtol), floor, rtol)
        point, group = np.unravel_index(int(np.argmax(low)), low.shape)
        found = int(group), _of_symbol(kernel.group(int(group)), indices[point], torus)
    else:
        found = _of_operator(kernel, axes, layer.groups, rtol)
    parts = torch.zeros(taps.shape[0], *found[1].shape[1:], dtype=found[1].dtype,
                        device=found[1].device)  # fmt: skip
    parts[torch.as_tensor(read, device=parts.device)] = found[1]
    return found[0], parts


def _of_operator(kernel: Kernel, axes: Sequence[Axis], groups: int, rtol: float) -> Found:
    road = road_of(kernel.weight)
    weight = kernel.weight.value if road.on_device else kernel.host
    operator = Operator(weight.swapaxes(0, 1), axes)
    rows = operator.out_channels * math.prod(operator.out_sizes)
    entries = groups * rows * operator.in_channels * math.prod(operator.in_sizes)
    if operator.side * groups <= DENSE_SIDE and entries <= road.dense_entries:
        dense = torch.as_tensor(operator.dense())
        lower, upper = norms(operator.dense(), rtol / 4)
        group = int(np.argmax(lower))
        norm = torch.as_tensor(upper[group], device=dense.device)
        outer = _gradient_operator(dense[group], norm, rtol / 4)
        return group, _gathered(outer, operator, axes)
    ends = Ends(kernel, operator, list(axes), rtol)
    if ends.points > GRID_POINTS:
        _, ends.upper, peaks = supremum(kernel, rtol / 4, ends.points)
    else:
        peaks = ends.take_grid()
    best: tuple[float, int, Any] = (-math.inf, 0, None)
    for group in ends.over(CANDIDATES):
        one = operator.group(group)
        start = one.vector(ends.wave(group, peaks))
        vector, _ = one.ritz_vector(start, math.inf, rtol / 10, LANCZOS_STEPS)
        value = one.length(one.apply(vector)) / (one.length(vector) or 1.0)
        if value > best[0]:
            best = value, group, vector
    return best[1], _correlated(operator.group(best[1]), best[2])


def _correlated(operator: Operator, x: Any) -> Tensor:
    """For each tap the product of ``A x`` with what it reads of ``x``, both normalized."""
    x = x / (operator.length(x) or 1.0)
    y = torch.as_tensor(operator.apply(x))[0]
    y = (y / torch.linalg.vector_norm(y)).reshape(y.shape[0], -1)
    padded = operator._padded(x)
    seen = [torch.as_tensor(padded[window])[0] for window in operator._windows]
    return torch.stack([y @ s.reshape(s.shape[0], -1).mH for s in seen])


def _gathered(outer: Tensor, operator: Operator, axes: Sequence[Axis]) -> Tensor:
    """For each tap the sum of the blocks of a dense matrix that it stands in."""
    outputs, inputs = operator.out_channels, operator.in_channels
    blocks = outer.reshape(outputs, math.prod(operator.out_sizes), inputs, -1)
    places, ends = operator._reads()
    rows, cols = (torch.as_tensor(place, device=outer.device) for place in places)
    parts = [
        blocks[:, rows[first:last], :, cols[first:last]].sum(0)
        for first, last in itertools.pairwise(ends)
    ]
    return torch.stack(parts)
