"""spectral_clip as an operator, with its derivative by divided differences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _polar, _spectral_clip
from . import _library as library
from ._library import followed, in_place_of, matrices, operator, plain

_plain = plain(_spectral_clip.spectral_clip)


def _shapes(
    x: Tensor, max_norm: float, kind: str, tol: float | None, check_finite: bool | None
) -> Tensor:
    matrices(x, "x")
    return library.like(x)


@operator("spectral_clip", _shapes)
def _operator(
    x: Tensor, max_norm: float, kind: str, tol: float | None, check_finite: bool | None
) -> Tensor:
    result: Tensor = _plain(x, max_norm, kind=kind, tol=tol, check_finite=check_finite)
    return result


@operator("_spectral_clip_backward", lambda x, grad, max_norm, kind: library.like(x))
def _backward_operator(x: Tensor, grad: Tensor, max_norm: float, kind: str) -> Tensor:
    r"""For ``f(x) = U f(S) V^H`` with odd f, by an SVD in double precision.

    With ``G = U^H grad V``, H and K its Hermitian and skew parts: H times the divided differences
    ``(f(s) - f(t)) / (s - t)`` and K times those of ``(s, -t)``, ``(f(s) + f(t)) / (s + t)``.
    """
    if x.numel() == 0:
        return library.like(x)
    flip = x.shape[-2] < x.shape[-1]
    a, g, nan = library.without_nan(*(library.wide(t.mH if flip else t) for t in (x, grad)))
    # Whichever is larger, matrix or bound, becomes 1: neither quotients nor squares overflow.
    unit = a.abs().amax((-2, -1), keepdim=True).clamp(min=max_norm)
    u, s, vh = torch.linalg.svd(a / unit, full_matrices=False)
    bound = (max_norm / unit).clamp(min=torch.finfo(unit.dtype).tiny)
    one, other = s[..., :, None], s[..., None, :]
    middle = u.mH @ g @ vh.mH
    hermitian = library.hermitian_part(middle)
    skew = middle - hermitian
    differences = _hard if kind == "hard" else _soft
    turned = differences(one, other, bound) * hermitian + differences(one, -other, bound) * skew
    found = u @ turned @ vh
    if a.shape[-2] > a.shape[-1]:
        beyond = g @ vh.mH - u @ middle
        gain = differences(other, torch.zeros_like(other), bound)
        found = found + beyond * gain @ vh
    found = found + nan
    result: Tensor = (found.mH if flip else found).to(x.dtype).contiguous()
    return result


def _hard(s: Tensor, t: Tensor, bound: Tensor) -> Tensor:
    """Divided differences of ``min(s, bound)``, odd; 1 for two of it, at the kink."""
    gap = s - t
    rise = s.clamp(-bound, bound) - t.clamp(-bound, bound)
    inside = ((s.abs() <= bound) & (t.abs() <= bound)).to(s.dtype)
    return torch.where(gap == 0, inside, rise / torch.where(gap == 0, torch.ones_like(gap), gap))


def _soft(s: Tensor, t: Tensor, bound: Tensor) -> Tensor:
    r"""Divided differences of ``f(s) = s p(s)``, ``p(s) = c / hypot(c, s)``, without cancellation.

    ``(f(s) - f(t)) / (s - t) = p(s)^2 p(t)^2 (s + t) / (f(s) + f(t))`` where s and t have the same
    sign, and ``f(s) + f(t)`` is ``f(s) - f(-t)``.
    """
    p, q = bound / torch.hypot(bound, s), bound / torch.hypot(bound, t)
    f, g = s * p, t * q
    same = s * t >= 0
    total = f + g
    safe = torch.where(total == 0, torch.ones_like(total), total)
    ratio = torch.where(total == 0, torch.ones_like(total), (s + t) / safe)
    gap = torch.where(s == t, torch.ones_like(s + t), s - t)
    return torch.where(same, ratio * (p * q) ** 2, (f - g) / gap)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    library.save(ctx, inputs[0])
    ctx.max_norm, ctx.kind = inputs[1:3]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    return _backward_operator(x, grad, ctx.max_norm, ctx.kind), *[None] * 4


def _forward(ctx: Any, dx: Tensor, *_: Any) -> Tensor:
    (x,) = ctx.saved_tensors
    found: Tensor = _backward_operator(x, dx, ctx.max_norm, ctx.kind)  # its own adjoint
    return found


_operator.register_autograd(_backward, setup_context=_setup, forward=_forward)


@in_place_of(_spectral_clip.spectral_clip)
def spectral_clip(
    x: Tensor,
    max_norm: float,
    *,
    kind: str = "hard",
    tol: float | None = None,
    check_finite: bool | None = None,
) -> Tensor:
    r""":func:`gramian.spectral_clip` as an operator of torch, differentiable once.

    Parameters
    ----------
    x : tensor of shape (..., m, n)
    max_norm, kind, tol, check_finite
        As for :func:`gramian.spectral_clip`.

    Returns
    -------
    y : tensor of shape (..., m, n)

    Raises
    ------
    TypeError, ValueError, ConvergenceError, NotImplementedError
        As :func:`gramian.spectral_clip`.

    Notes
    -----
    The gradient comes from divided differences of the function of the singular values, by an SVD in
    double precision. They are at most 1: clipping never enlarges a gradient, and singular values
    that coincide or are 0 do no harm. Of hard clipping, singular values of exactly `max_norm` count
    as not clipped.

    References
    ----------
    .. [1] Higham, "Functions of Matrices", SIAM, 2008, chapter 3 (Daleckii and Krein).
    .. [2] Noferini, "A formula for the Frechet derivative of a generalized matrix function", SIAM
       J. Matrix Anal. Appl. 38, 2017.

    Examples
    --------
    >>> import torch
    >>> import gramian.torch as gt
    >>> x = torch.diag(torch.tensor([3.0, 0.5])).requires_grad_()
    >>> gt.spectral_clip(x, 1.0).diagonal().sum().backward()
    >>> x.grad.round(decimals=4)
    tensor([[0., 0.],
            [0., 1.]])
    """
    if not followed(x):
        result: Tensor = _plain(x, max_norm, kind=kind, tol=tol, check_finite=check_finite)
        return result
    matrices(x, "x")
    library.check_options(_plain, x, max_norm, check_finite=check_finite)
    bound = _spectral_clip._bound(max_norm)
    _polar.choice(kind, "kind", _spectral_clip._KINDS)
    result = _operator(x, bound, kind, _polar.check_tolerance(tol) or None, check_finite)
    return result
