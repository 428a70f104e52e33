"""Certified bounds on the spectral norm of convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from . import _arrays, _backend
from ._bounds import Bounds
from ._conv_ends import Bracket, Ends, fine_tolerance
from ._conv_geometry import Axis, combinations, unlimited
from ._conv_layer import Layer, checked_layer
from ._conv_operator import Operator
from ._conv_road import road_of
from ._conv_symbol import UNIT, Kernel, brackets, half_grid, on_grid, same_kind, supremum
from ._watched import through_torch

# Up to this smaller side the dense matrix is bracketed as it stands.
DENSE_SIDE = 1024
SMALL = float(np.finfo(float).tiny) * 2


@through_torch
def conv_spectral_norm_bounds(
    weight: Any,
    *,
    input_size: int | Sequence[int] | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = "same",
    padding_mode: str = "zeros",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    transposed: bool = False,
    rtol: float = 1e-3,
) -> Bounds:
    r"""Certified bracket of the spectral norm of a convolution, or of its transpose.

    The norm is that of the whole linear map from an input of `input_size` to its output, with
    stride, padding and all: the layer's Lipschitz constant. Every rounding error is accounted for.

    Parameters
    ----------
    weight : array of shape (c_out, c_in / groups, \*kernel)
        As torch keeps it, with a kernel of 1 to 3 axes; for a transposed convolution
        (c_in, c_out / groups, \*kernel). NumPy or CuPy array, torch tensor or any object with
        ``__dlpack__``; float16, bfloat16, float32, float64, complex64 or complex128. Never written
        to.
    input_size : int, sequence of int or None, default None
        Size of the layer's input along each axis of the kernel; an int stands for all. None: the
        bracket is of the supremum over all sizes that the layer takes.
    stride, dilation : int or sequence of int, default 1
        As in torch.
    padding : {"same", "valid"}, int or sequence of int, default "same"
        Entries put before and after, along each axis. ``"same"`` gives the output the input's size,
        an odd one more at the end; it goes with stride 1 and not with `transposed`.
    padding_mode : {"zeros", "circular"}, default "zeros"
        What is put there. Transposed convolutions take ``"zeros"`` only.
    groups : int, default 1
        As in torch; the number of channels makes a convolution depthwise.
    transposed : bool, default False
        Whether `weight` belongs to a transposed convolution (without output padding).
    rtol : float, default 1e-3
        Wanted ``upper / lower - 1``, positive.

    Returns
    -------
    Bounds
        Of shape (), with ``certificate == "rounding"``; `method` says what the upper bound rests
        on: ``"symbol"`` (one small matrix per frequency), ``"symbol and window"``, ``"symbol and
        blocks"``, ``"dense"``, or ``"zero"``. `n_iter` counts Lanczos steps for the lower bound.

    Raises
    ------
    TypeError
        `weight` is no accepted array, or is inside torch.func or torch.compile (there
        :mod:`gramian.torch` has a function); an option has the wrong type.
    ValueError
        `weight` has not 3 to 5 dimensions, or holds NaN or infinity; `groups` does not divide its
        first dimension; `padding` is ``"same"`` with a stride or `transposed`; `padding_mode` is
        ``"reflect"`` or ``"replicate"``, for which there is no bound here; circular padding is
        wider than the input; the input is smaller than the kernel even with padding; an option has
        a value that is not allowed.
    ImportError
        `weight` lies on a GPU and the CUDA module is not installed.

    Notes
    -----
    The bracket converges for circular padding of the same size with a stride that divides it, for
    every operator whose smaller side is at most 1024, for patches that do not overlap, and over all
    sizes for zero padding if the channels are not too many: Gaussian kernels of up to 128 channels
    with 3x3 taps, up to 32 with 3x3x3. 256 channels leave 0.017, 512, or 48 in 3-D, 0.115. Larger
    operators with ends get an upper bound that is within 1.05 of the norm in all trials with inputs
    of at least 3 kernel widths and up to 64 channels, mostly far less. What is looser, the proofs
    and their constants: docs/conv_bounds.md.

    Cost: with :math:`N` frequencies, about one per entry of the input, half as many for a real
    kernel, :math:`O(N c^3)` operations with :math:`c` channels (each stride :math:`s` divides
    :math:`N` and multiplies the channels of the input). Beyond 2048 frequencies and over all sizes
    branch and bound takes some hundred or thousand. On a GPU the arithmetic is done there, by the
    weight's library and gramian, on the current stream; the call waits for it, and the weight is
    looked through for NaN and infinity there too.

    Scaling `weight` by a power of two scales the bounds by it.

    References
    ----------
    .. [1] Sedghi, Gupta, Long, "The Singular Values of Convolutional Layers", ICLR 2019.
    .. [2] Delattre, Barthelemy, Araujo, Allauzen, "Efficient Bound of Lipschitz Constant for
       Convolutional Layers by Gram Iteration", ICML 2023.
    .. [3] Rump, "Verification of positive definiteness", BIT 46, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> weight = np.ones((1, 1, 3, 3))
    >>> found = gm.conv_spectral_norm_bounds(weight, padding_mode="circular", input_size=8)
    >>> bool(found.lower <= 9 <= found.upper < 9.01)
    True
    >>> ends = gm.conv_spectral_norm_bounds(weight, input_size=8)  # zeros around: less than 9
    >>> bool(ends.upper < 8.4)
    True
    """
    checked = _arrays.array(weight, "weight")
    layer = checked_layer(
        checked.shape, input_size, stride, padding, padding_mode, dilation, groups, transposed
    )
    checked_tolerance(rtol)
    _backend.for_device(checked.device)  # raises where there is none
    with checked.library.current(checked.device):
        taps, exponent = _scaled(checked, layer.groups)
        if taps is None:
            found = Bracket(0.0, 0.0, "zero")
        elif layer.sizes is None:
            found = _every_size(taps, layer, float(rtol))
        else:
            found = _one_size(taps, layer, layer.sizes, float(rtol))
        return _result(checked, found, exponent, float(rtol))


def checked_tolerance(rtol: Any) -> None:
    if isinstance(rtol, bool | np.bool_) or not isinstance(rtol, Real):
        raise TypeError(f"rtol is {rtol!r}; it must be a positive number")
    if not 0 < float(rtol) < math.inf:
        raise ValueError(f"rtol is {rtol!r}; it must be positive and finite")


def _scaled(checked: _arrays.Array, groups: int) -> tuple[_arrays.Array | None, int]:
    """weight * 2**-exponent in double precision, entries at most 1, as (taps, groups, out, in).

    None for a kernel that is zero or has no entries.
    """
    if 0 in checked.shape:
        return None, 0
    outputs, inputs, *sizes = checked.shape
    shape = (math.prod(sizes), groups, outputs // groups, inputs)
    is_complex = checked.dtype.startswith("complex")
    double = checked.empty_like(checked.shape, "complex128" if is_complex else "float64")
    double.value[...] = checked.value
    parts = [double.value.real, double.value.imag] if is_complex else [double.value]
    tops = [float(abs(part).max()) for part in parts]
    if not all(math.isfinite(top) for top in tops):  # max() may pass over a NaN
        raise ValueError("weight holds NaN or infinity; its entries must be finite")
    top = max(tops)
    if top == 0:
        return None, 0
    exponent = math.frexp(top)[1]
    half = -exponent // 2  # 2**-exponent itself may be out of range
    for part in parts:
        part *= 2.0**half
        part *= 2.0 ** (-exponent - half)
    value = double.value.reshape(*shape[1:], shape[0])
    for axis in (3, 2, 1):
        value = value.swapaxes(axis, axis - 1)
    taps = double.empty_like(shape, double.dtype)
    taps.value[...] = value
    return taps, exponent


def _without_ends(taps: _arrays.Array, layer: Layer, stride: Sequence[int]) -> Kernel:
    pairs = [
        unlimited(*arguments)
        for arguments in zip(layer.kernel_size, stride, layer.dilation, strict=True)
    ]
    shifts, phases = combinations([p[0] for p in pairs]), combinations([p[1] for p in pairs])
    # Taps without weight would only make the symbol look more crooked than it is.
    used = np.flatnonzero(_weighty(taps))
    return Kernel(_chosen(taps, used), shifts[used], phases[used])


def _weighty(taps: _arrays.Array) -> np.ndarray:
    """Whether each tap has any weight."""
    return taps.library.to_host((taps.value != 0).reshape(taps.shape[0], -1).any(1))


def _chosen(taps: _arrays.Array, which: np.ndarray) -> _arrays.Array:
    if len(which) == taps.shape[0] and not np.any(np.diff(which) != 1):
        return taps
    return same_kind(taps, taps.value[taps.put(which)])


def _every_size(taps: _arrays.Array, layer: Layer, rtol: float) -> Bracket:
    low, high, _ = supremum(_without_ends(taps, layer, layer.stride), rtol / 4)
    lower, upper = float(low.max()), float(high.max())
    if not layer.circular:
        return Bracket(lower, upper, "symbol")
    if max(layer.stride) > 1:
        # Where a stride does not divide the size, the ends meet out of step; the outputs are some
        # of those without stride.
        ones = (1,) * len(layer.stride)
        upper = float(supremum(_without_ends(taps, layer, ones), rtol / 4)[1].max())
    smallest, repeats = [], 1
    for (left, right), extent in zip(layer.padding, layer.extents, strict=True):
        size = max(1, left, right, extent - left - right)
        extra = left + right - (extent - 1)
        if extra > 0:  # so many outputs more than positions
            repeats *= 1 + -(-extra // size)
        smallest.append(size)
    upper *= math.sqrt(repeats) * (1 + 4 * UNIT)
    if upper > lower * (1 + rtol):
        # The smallest size is the one where the ends count most.
        lower = max(lower, _one_size(taps, layer, smallest, rtol).lower)
    return Bracket(lower, upper, "symbol")


def _occupied(
    taps: _arrays.Array, layer: Layer, axes: list[Axis]
) -> tuple[_arrays.Array, list[Axis]]:
    """Without the taps of an axis that have no weight; no axes if nothing is left."""
    flat = np.arange(taps.shape[0]).reshape(layer.kernel_size)
    flat = flat[np.ix_(*[axis.taps for axis in axes])]
    weighty = _weighty(taps)[flat]
    if not weighty.any():
        return taps, []
    every = range(len(axes))
    kept = [
        np.flatnonzero(weighty.any(axis=tuple(b for b in every if b != a))).tolist() for a in every
    ]
    flat = flat[np.ix_(*kept)].reshape(-1)
    fewer = [
        replace(axis, taps=tuple(axis.taps[t] for t in k))
        for axis, k in zip(axes, kept, strict=True)
    ]
    return _chosen(taps, flat), fewer


def _one_size(taps: _arrays.Array, layer: Layer, sizes: Sequence[int], rtol: float) -> Bracket:
    axes = [axis.used() for axis in layer.axes(sizes)]
    if any(not axis.taps for axis in axes):
        return Bracket(0.0, 0.0, "zero")
    if all(axis.is_disjoint for axis in axes):
        # Outputs read inputs of their own: the matrix is block diagonal with one block, repeated.
        low, high, _ = supremum(_without_ends(taps, layer, layer.stride), rtol / 4)
        return Bracket(float(low.max()), float(high.max()), "symbol")
    taps, axes = _occupied(taps, layer, axes)
    if not axes:
        return Bracket(0.0, 0.0, "zero")
    kernel = Kernel(
        taps, combinations([a.shifts for a in axes]), combinations([a.phases for a in axes])
    )
    on_device = road_of(kernel.weight).on_device
    weight = kernel.weight.value if on_device else kernel.host
    operator = Operator(weight.swapaxes(0, 1), axes)
    if all(axis.is_circulant for axis in axes):
        torus = np.array([axis.torus for axis in axes])
        indices = half_grid(torus, kernel.is_complex)
        kernel = on_grid(kernel, torus)
        floor = np.zeros(layer.groups)
        low, high = brackets(kernel, indices, torus, fine_tolerance(rtol), floor, rtol)
        return Bracket(float(low.max()), float(high.max()), "symbol")
    if operator.side * layer.groups <= DENSE_SIDE:
        low, high = operator.dense_brackets(rtol / 4)
        return Bracket(float(low.max()), float(high.max()), "dense")
    return Ends(kernel, operator, axes, rtol).bracket()


def _result(checked: _arrays.Array, found: Bracket, exponent: int, rtol: float) -> Bounds:
    dtype = _arrays.real_dtype(checked.dtype)
    real = np.dtype(dtype).type
    # The factors stand for entries that scaling may have rounded, far under u of the largest.
    exact = found.lower * (1 - 4 * UNIT), found.upper * (1 + 4 * UNIT)
    with np.errstate(over="ignore", under="ignore"):
        low, high = (np.ldexp(value, exponent) for value in exact)
        # Subnormal numbers are rounded by the scaling; half the smallest is all that it can be.
        if 0 < low < SMALL:
            low = np.nextafter(low, 0)
        if exact[1] > 0 and high < SMALL:
            high = np.nextafter(high, np.inf)
        lower, upper = real(low), real(high)
        if float(lower) > low:
            lower = np.nextafter(lower, real(0))
        if float(upper) < high:
            upper = np.nextafter(upper, real(np.inf))
    lower = min(lower, np.finfo(real).max)
    values = []
    for value in (lower, upper):
        result = checked.empty_like((), dtype)
        result.value[...] = float(value)
        values.append(result.value)
    flag = checked.empty_like((), "bool")
    flag.value[...] = bool(float(upper) <= float(lower) * (1 + rtol))
    return Bounds(values[0], values[1], flag.value, found.steps, found.method, "rounding")
