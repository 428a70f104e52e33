"""The arguments of a convolution, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from ._conv_geometry import Axis


@dataclass(frozen=True)
class Layer:
    """The convolution that was asked for; a transposed one as that which it is the adjoint of.

    The layout of the weight is the same for both: (channels of the convolution's output, channels
    of its input per group, kernel), and so is the norm.
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    circular: bool
    groups: int
    sizes: tuple[int, ...] | None  # of the convolution's input

    @property
    def extents(self) -> tuple[int, ...]:
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    def axes(self, sizes: Sequence[int]) -> list[Axis]:
        return [
            Axis(tuple(range(k)), n, s, d, p[0], p[1], e, self.circular)
            for k, n, s, d, p, e in zip(
                self.kernel_size, sizes, self.stride, self.dilation, self.padding, self.extents,
                strict=True,
            )
        ]  # fmt: skip


def _whole(value: Any, name: str, least: int) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}; it must be an int of at least {least}")
    if value < least:
        raise ValueError(f"{name} is {value!r}; it must be at least {least}")
    return int(value)


def _per_axis(value: Any, name: str, axes: int, least: int) -> tuple[int, ...]:
    if isinstance(value, Integral):
        return (_whole(value, name, least),) * axes
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        raise TypeError(f"{name} is {value!r}; it must be an int or {axes} of them")
    if len(value) != axes:
        raise ValueError(
            f"{name} is {value!r}; it must be one int or {axes}, one for each axis of the kernel"
        )
    return tuple(_whole(v, name, least) for v in value)


def _padding(
    padding: Any, extents: Sequence[int], stride: Sequence[int], transposed: bool
) -> tuple[tuple[int, int], ...]:
    if not isinstance(padding, str):
        return tuple((p, p) for p in _per_axis(padding, "padding", len(extents), 0))
    if padding == "valid":
        return ((0, 0),) * len(extents)
    if padding != "same":
        raise ValueError(
            f"padding is {padding!r}; it must be 'same', 'valid', an int or one for each axis"
        )
    if transposed:
        raise ValueError(
            "padding is 'same', which has no meaning with transposed=True; it must be 'valid', an "
            "int or one for each axis"
        )
    if any(s != 1 for s in stride):
        raise ValueError(
            f"padding is 'same', which goes with stride 1 only; stride is {tuple(stride)}. "
            "padding must be 'valid', an int or one for each axis"
        )
    # As torch does: an odd one more goes to the end.
    return tuple(((e - 1) // 2, e - 1 - (e - 1) // 2) for e in extents)


def checked_layer(
    shape: tuple[int, ...],
    input_size: Any,
    stride: Any,
    padding: Any,
    padding_mode: Any,
    dilation: Any,
    groups: Any,
    transposed: Any,
) -> Layer:
    """Raises TypeError or ValueError, naming the argument, its value and what is allowed."""
    if len(shape) not in (3, 4, 5):
        raise ValueError(
            f"weight has shape {shape}; it must be (c_out, c_in/groups, *kernel), or (c_in, "
            "c_out/groups, *kernel) for a transposed convolution, with a kernel of 1 to 3 axes"
        )
    kernel_size, axes = shape[2:], len(shape) - 2
    if 0 in kernel_size:
        raise ValueError(f"weight has shape {shape}; its kernel must hold at least one tap")
    if not isinstance(transposed, bool | np.bool_):
        raise TypeError(f"transposed is {transposed!r}; it must be True or False")
    count = _whole(groups, "groups", 1)
    if shape[0] % count:
        raise ValueError(
            f"groups is {count}; it must divide the first dimension of weight, {shape[0]}"
        )
    strides = _per_axis(stride, "stride", axes, 1)
    dilations = _per_axis(dilation, "dilation", axes, 1)
    extents = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilations, strict=True)]
    pads = _padding(padding, extents, strides, bool(transposed))
    _check_mode(padding_mode, bool(transposed))
    sizes = None
    if input_size is not None:
        sizes = _per_axis(input_size, "input_size", axes, 1)
        if transposed:
            sizes = _transposed_sizes(sizes, strides, pads, extents)
        _check_sizes(sizes, pads, extents, padding_mode == "circular", padding)
    return Layer(tuple(kernel_size), strides, dilations, pads, padding_mode == "circular", count,
                 sizes)  # fmt: skip


def _check_mode(padding_mode: Any, transposed: bool) -> None:
    if not isinstance(padding_mode, str):
        raise TypeError(f"padding_mode is {padding_mode!r}; it must be 'zeros' or 'circular'")
    if padding_mode in ("reflect", "replicate"):
        raise ValueError(
            f"padding_mode is {padding_mode!r}, for which there are no bounds here: the padded "
            "convolution is no part of a circulant matrix; it must be 'zeros' or 'circular'"
        )
    if padding_mode not in ("zeros", "circular"):
        raise ValueError(f"padding_mode is {padding_mode!r}; it must be 'zeros' or 'circular'")
    if padding_mode == "circular" and transposed:
        raise ValueError(
            "padding_mode is 'circular'; with transposed=True it must be 'zeros', as in torch"
        )


def _transposed_sizes(
    sizes: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    extents: Sequence[int],
) -> tuple[int, ...]:
    """Sizes of a transposed convolution's result, which the convolution takes as its input."""
    results = tuple(
        (n - 1) * s - left - right + e
        for n, s, (left, right), e in zip(sizes, strides, pads, extents, strict=True)
    )
    if min(results) < 1:
        raise ValueError(
            f"input_size is {tuple(sizes)}, for which the transposed convolution's result has size "
            f"{results}; with this padding input_size must be larger"
        )
    return results


def _check_sizes(
    sizes: Sequence[int],
    pads: Sequence[tuple[int, int]],
    extents: Sequence[int],
    circular: bool,
    padding: Any,
) -> None:
    for n, (left, right), extent in zip(sizes, pads, extents, strict=True):
        if n + left + right < extent:
            raise ValueError(
                f"input_size is {tuple(sizes)}, which with its padding is smaller than the kernel "
                f"(extent {tuple(extents)}); input_size must be larger"
            )
        if circular and max(left, right) > n:
            raise ValueError(
                f"padding is {padding!r}, wider than an input of size {tuple(sizes)}; circular "
                "padding must not wrap around more than once"
            )
