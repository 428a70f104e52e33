"""Layers whose weights are kept under a certified bound, by ``torch.nn.utils.parametrize``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ._conv import conv_spectral_norm_bounds
from ._library import wide
from ._norms import spectral_norm_bounds

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LINEAR_RTOL, _CONV_RTOL = 1e-6, 1e-3


class SpectralBound(nn.Module):
    """Weight to ``weight * min(1, bound / norm)``, the norm that of the layer's linear map.

    Attributes
    ----------
    bound : float
    rtol : float
        Tolerance of the bracket of the norm.
    """

    def __init__(
        self,
        upper: Callable[[Tensor], Tensor],
        bound: float,
        rtol: float,
    ) -> None:
        super().__init__()
        self._upper = upper
        self.bound = bound
        self.rtol = rtol

    def forward(self, weight: Tensor) -> Tensor:
        if weight.numel() == 0:
            return weight
        upper = self._upper(weight).to(torch.float64)
        # Rounding the scaled weight changes the norm by at most eps times that of the magnitudes,
        # and where it is subnormal by the least number in each place; the scale, in double
        # precision, has some roundings. The bracket of the result may be wider than its norm by
        # rtol: that is taken off too.
        limits = torch.finfo(weight.dtype)
        magnitude, ones = _magnitudes(weight.detach())
        room = upper * (1 + self.rtol + 4 * limits.eps) + limits.eps * magnitude
        left = max(0.0, self.bound - limits.smallest_normal * limits.eps * ones)
        scaled = (wide(weight) * (left / room)).to(weight.dtype)
        return torch.where(room > self.bound, scaled, weight)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Any weight may be assigned; one over the bound comes back scaled."""
        return weight

    def extra_repr(self) -> str:
        return f"bound={self.bound}, rtol={self.rtol}"


def _magnitudes(weight: Tensor) -> tuple[Tensor, float]:
    """At least the norm of the layer's matrix of magnitudes, and of one with 1 for each of them.

    By the largest row and column sums. Circular padding of up to the input's size has an input
    read up to thrice by each tap and axis.
    """
    sizes = weight.abs().to(torch.float64)
    rows, columns = (sizes.transpose(0, d).flatten(1).sum(1).amax() for d in (0, 1))
    reads = 3 ** (weight.ndim - 2)
    parts = 2 if weight.is_complex() else 1
    count = weight[0].numel() * weight[:, 0].numel()
    return torch.sqrt(rows) * torch.sqrt(columns * reads), parts * (reads * count) ** 0.5


def spectral_norm(
    module: nn.Module,
    name: str = "weight",
    bound: float = 1.0,
    *,
    input_size: int | Sequence[int] | None = None,
    rtol: float | None = None,
) -> nn.Module:
    r"""Keep the spectral norm of a layer's linear map at or under a bound, with proof.

    The weight becomes :math:`W \min(1, c / \beta(W))`, :math:`\beta` the certified upper bound of
    :func:`gramian.spectral_norm_bounds`, or of :func:`gramian.conv_spectral_norm_bounds` for a
    convolution: the norm of the layer with its stride, padding and all, not of a reshaped kernel.
    Training goes through it, by the bound's gradient.

    Parameters
    ----------
    module : torch.nn.Module
        ``Linear``, ``Conv1d`` to ``Conv3d``, ``ConvTranspose1d`` to ``ConvTranspose3d``, or another
        with a parameter of 2 dimensions that it multiplies by. Changed in place.
    name : str, default "weight"
        Of the parameter.
    bound : float, default 1.0
        :math:`c`, above 0.
    input_size : int, sequence of int or None, default None
        Of a convolution's input, without batch and channels. None: the bound holds for every size.
    rtol : float, optional
        Tolerance of the bracket; that much is lost of the bound. Default: 1e-6, for convolutions
        1e-3.

    Returns
    -------
    torch.nn.Module
        `module`.

    Raises
    ------
    TypeError
        `module` is no layer of these, or an argument has the wrong type.
    ValueError
        `module` has no such parameter; `bound` is not above 0; `input_size` is given for a layer
        that is no convolution, or with output padding; the layer's padding mode has no bound. The
        module is then as it was.

    Notes
    -----
    The weight stays as it is where :math:`\beta (1 + \mathrm{rtol})` is under the bound already.
    The scale allows for the rounding of the scaled weight and for the width of its own bracket, so
    that where brackets converge the upper bound of the layer's weight, computed anew, is under
    `bound` too.

    ``torch.nn.utils.parametrize.remove_parametrizations(module, name)`` takes it off and leaves the
    scaled weight; ``state_dict`` holds ``parametrizations.<name>.original``; an assignment to the
    weight sets that one. Each use of the weight computes the bound: use
    ``torch.nn.utils.parametrize.cached()`` where a layer runs several times between two steps.

    A transposed convolution with output padding is bounded over all sizes: its output is part of
    that of a longer input.

    References
    ----------
    .. [1] Miyato, Kataoka, Koyama, Yoshida, "Spectral Normalization for Generative Adversarial
       Networks", ICLR 2018.
    .. [2] Gouk, Frank, Pfahringer, Cree, "Regularisation of Neural Networks by Enforcing Lipschitz
       Continuity", Machine Learning 110, 2021.

    Examples
    --------
    >>> import gramian as gm
    >>> import torch
    >>> from gramian.torch.parametrizations import spectral_norm
    >>> layer = spectral_norm(torch.nn.Conv2d(3, 8, 3, padding=1), bound=0.5)
    >>> with torch.no_grad():
    ...     bool(gm.conv_spectral_norm_bounds(layer.weight, padding=1).upper <= 0.5)
    True
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module is a {type(module).__name__}; it must be a torch.nn.Module")
    weight = getattr(module, name, None) if isinstance(name, str) else None
    if not isinstance(weight, Tensor):
        raise ValueError(f"name is {name!r}, and module, a {type(module).__name__}, has no such "
                         "parameter")  # fmt: skip
    if isinstance(bound, bool) or not isinstance(bound, Real):
        raise TypeError(f"bound is {bound!r}; it must be a number above 0")
    bound = float(bound)
    if not (bound > 0 and math.isfinite(bound)):
        raise ValueError(f"bound is {bound!r}; it must be finite and above 0")
    is_convolution = isinstance(module, (*_CONVOLUTIONS, *_TRANSPOSED)) and name == "weight"
    tolerance = _tolerance(rtol, _CONV_RTOL if is_convolution else _LINEAR_RTOL)
    upper: Callable[[Tensor], Tensor]
    if is_convolution:
        upper = _of_convolution(module, input_size, tolerance)
    elif input_size is not None:
        raise ValueError(
            f"input_size is {input_size!r}, and module is a {type(module).__name__}; it goes with "
            "convolutions only"
        )
    elif weight.ndim != 2:
        raise TypeError(
            f"module is a {type(module).__name__} and {name} has shape {tuple(weight.shape)}; it "
            "must be a Linear, a convolution or another layer with a matrix for a parameter"
        )
    else:
        upper = _OfMatrix(tolerance)
    with torch.no_grad():
        upper(weight)  # what is wrong with the layer is said before it is changed
    parametrize.register_parametrization(module, name, SpectralBound(upper, bound, tolerance))
    return module


def _tolerance(rtol: Any, default: float) -> float:
    if rtol is None:
        return default
    if isinstance(rtol, bool) or not isinstance(rtol, Real):
        raise TypeError(f"rtol is {rtol!r}; it must be None or a positive number")
    if not 0 < float(rtol) < math.inf:
        raise ValueError(f"rtol is {rtol!r}; it must be positive and finite")
    return float(rtol)


class _OfMatrix:
    def __init__(self, rtol: float) -> None:
        self.rtol = rtol

    def __call__(self, weight: Tensor) -> Tensor:
        return spectral_norm_bounds(weight, rtol=self.rtol).upper


class _OfConvolution:
    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options

    def __call__(self, weight: Tensor) -> Tensor:
        return conv_spectral_norm_bounds(weight, **self.options).upper


def _of_convolution(module: Any, input_size: Any, rtol: float) -> _OfConvolution:
    transposed = isinstance(module, _TRANSPOSED)
    if transposed and any(module.output_padding) and input_size is not None:
        raise ValueError(
            f"input_size is {input_size!r}, and module has output padding "
            f"{module.output_padding}; with it input_size must be None"
        )
    return _OfConvolution(
        dict(
            input_size=input_size,
            stride=module.stride,
            padding=module.padding,
            padding_mode=module.padding_mode,
            dilation=module.dilation,
            groups=module.groups,
            transposed=transposed,
            rtol=rtol,
        )
    )
