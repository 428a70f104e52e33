"""conv_spectral_norm_bounds as an operator, with its derivative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import _arrays, _bounds, _conv_bounds
from .._conv_layer import Layer, checked_layer
from . import _library as library
from ._conv_gradient import logarithmic_gradient
from ._library import followed, in_place_of, operator, plain
from ._norms import NormBounds

_plain = plain(_conv_bounds.conv_spectral_norm_bounds)


def _padding(padding: Sequence[int], padding_name: str) -> Any:
    return padding_name or list(padding)


def _shapes(
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    padding_name: str,
    padding_mode: str,
    dilation: Sequence[int],
    groups: int,
    transposed: bool,
    rtol: float,
) -> tuple[Tensor, Tensor, Tensor]:
    real = library.real_dtype(weight)
    return (
        weight.new_empty((), dtype=real),
        weight.new_empty((), dtype=real),
        weight.new_empty((), dtype=torch.bool),
    )


@operator("conv_spectral_norm_bounds", _shapes)
def _operator(
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    padding_name: str,
    padding_mode: str,
    dilation: Sequence[int],
    groups: int,
    transposed: bool,
    rtol: float,
) -> tuple[Tensor, Tensor, Tensor]:
    found = _plain(
        weight,
        input_size=list(input_size) or None,
        stride=list(stride),
        padding=_padding(padding, padding_name),
        padding_mode=padding_mode,
        dilation=list(dilation),
        groups=groups,
        transposed=transposed,
        rtol=rtol,
    )
    return found.lower, found.upper, found.converged


@operator("_conv_norm_gradient", lambda weight, *_: library.like(weight))
def _gradient_operator(
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    padding_name: str,
    padding_mode: str,
    dilation: Sequence[int],
    groups: int,
    transposed: bool,
    rtol: float,
) -> Tensor:
    return logarithmic_gradient(
        weight,
        _layer(
            weight,
            list(input_size) or None,
            list(stride),
            _padding(padding, padding_name),
            padding_mode,
            list(dilation),
            groups,
            transposed,
        ),
        rtol,
    )


def _layer(weight: Tensor, *options: Any) -> Layer:
    return checked_layer(tuple(weight.shape), *options)


# Each kernel of a batch is bounded on its own: there is nothing to share.
def _one_by_one(called: Any) -> Any:
    def batched(info: Any, in_dims: tuple[Any, ...], weight: Tensor, *options: Any) -> Any:
        kernels = weight.unbind(in_dims[0])
        if not kernels:
            raise ValueError("weight has no kernel in the dimension that vmap maps over")
        results = [called(w, *options) for w in kernels]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(map(torch.stack, zip(*results, strict=True))), (0,) * len(results[0])

    return batched


_operator.set_batched(_one_by_one(_operator))
_gradient_operator.set_batched(_one_by_one(_gradient_operator))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    library.save(ctx, inputs[0], output[0], output[1])
    ctx.mark_non_differentiable(output[2])
    ctx.options = inputs[1:]


def _backward(ctx: Any, lower: Tensor, upper: Tensor, _: Any) -> tuple[Any, ...]:
    weight, low, high = ctx.saved_tensors
    direction = _gradient_operator(weight, *ctx.options)
    found = (lower * low + upper * high).to(direction.dtype) * direction
    return found, *[None] * len(ctx.options)


def _forward(ctx: Any, dw: Tensor, *_: Any) -> tuple[Any, ...]:
    weight, low, high = ctx.saved_tensors
    direction = library.single(_gradient_operator(weight, *ctx.options))
    product = direction.conj() * library.single(dw)
    found = (product.real if product.is_complex() else product).sum()
    return low * found, high * found, None


_operator.register_autograd(_backward, setup_context=_setup, forward=_forward)


def conv_spectral_norm_bounds(
    weight: Tensor,
    *,
    input_size: int | Sequence[int] | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = "same",
    padding_mode: str = "zeros",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    transposed: bool = False,
    rtol: float = 1e-3,
) -> NormBounds:
    r""":func:`gramian.conv_spectral_norm_bounds` as an operator of torch, differentiable once.

    Parameters
    ----------
    weight : tensor of shape (c_out, c_in / groups, \*kernel)
    input_size, stride, padding, padding_mode, dilation, groups, transposed, rtol
        As for :func:`gramian.conv_spectral_norm_bounds`.

    Returns
    -------
    NormBounds
        ``(lower, upper, converged)``, each of shape (), certified for rounding.

    Raises
    ------
    TypeError, ValueError, ImportError
        As :func:`gramian.conv_spectral_norm_bounds`.

    Notes
    -----
    The gradient is that of the norm :math:`\sigma`, from a pair of vectors that attains it to
    `rtol`, times bound over norm: each bound is homogeneous, and the gradient's product with the
    weight is the bound. Where the operator is small the vectors are those of its dense matrix;
    where the norm is that of a symbol, they are waves of the frequency at which it is largest,
    known to about the square root of `rtol`; else a Krylov space of at most 30 steps finds them. At
    a tie, of frequencies or of groups, one of them counts: a subgradient. At a zero kernel the
    gradient is 0. It costs about as much as the bounds.

    References
    ----------
    .. [1] Sedghi, Gupta, Long, "The Singular Values of Convolutional Layers", ICLR 2019.
    .. [2] Clarke, "Optimization and Nonsmooth Analysis", 1983, section 2.8 (maxima of families).

    Examples
    --------
    >>> import torch
    >>> import gramian.torch as gt
    >>> weight = torch.ones(1, 1, 3, 3, requires_grad=True)
    >>> gt.conv_spectral_norm_bounds(weight, padding_mode="circular", input_size=8).upper.backward()
    >>> bool(torch.allclose(weight.grad, torch.ones(1, 1, 3, 3), atol=1e-2))
    True
    """
    options = dict(
        input_size=input_size, stride=stride, padding=padding, padding_mode=padding_mode,
        dilation=dilation, groups=groups, transposed=transposed, rtol=rtol,
    )  # fmt: skip
    if not followed(weight):
        found = _plain(weight, **options)
        return NormBounds(found.lower, found.upper, found.converged)
    if not torch.compiler.is_compiling():
        # The operator's schema would take True for 1, and say less clearly what it does not take.
        layer_options = [value for name, value in options.items() if name != "rtol"]
        _layer(weight, *layer_options)
        _conv_bounds.checked_tolerance(rtol)
    return NormBounds(*_operator(weight, *_for_operator(weight, options)))


def _for_operator(weight: Tensor, options: dict[str, Any]) -> tuple[Any, ...]:
    """The options as the operator takes them; what is wrong with them its kernel will say."""
    axes = max(1, weight.ndim - 2)

    def each(value: Any) -> list[int]:
        one = isinstance(value, int | np.integer)
        return [int(value)] * axes if one else [int(v) for v in value]

    size, padding = options["input_size"], options["padding"]
    return (
        [] if size is None else each(size),
        each(options["stride"]),
        [] if isinstance(padding, str) else each(padding),
        padding if isinstance(padding, str) else "",
        options["padding_mode"],
        each(options["dilation"]),
        int(options["groups"]),
        bool(options["transposed"]),
        float(options["rtol"]),
    )


class _Attached(torch.autograd.Function):
    """A bound already found, as a function of the weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bound: Tensor, *options: Any) -> Tensor:
        ctx.save_for_backward(weight, bound)
        ctx.options = options
        return bound.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        weight, bound = ctx.saved_tensors
        direction = _gradient_operator(weight, *ctx.options)
        return (grad * bound).to(direction.dtype) * direction, None, *[None] * len(ctx.options)


@in_place_of(_conv_bounds.conv_spectral_norm_bounds)
def _bounds_of_package(weight: Tensor, **options: Any) -> _bounds.Bounds:
    """gramian's own result, which tells more than an operator can, with gradients."""
    if torch.compiler.is_compiling() or _arrays.is_watched(weight.detach()):
        raise TypeError(
            "weight is on the meta device or inside torch.func or torch.compile; call "
            "gramian.torch.conv_spectral_norm_bounds, which returns tensors alone"
        )
    found: _bounds.Bounds = _plain(weight.detach(), **options)
    defaults = dict(
        input_size=None, stride=1, padding="same", padding_mode="zeros", dilation=1, groups=1,
        transposed=False, rtol=1e-3,
    )  # fmt: skip
    rest = _for_operator(weight, defaults | options)
    attach: Any = _Attached.apply
    lower, upper = (attach(weight, b, *rest) for b in (found.lower, found.upper))
    return replace(found, lower=lower, upper=upper)
