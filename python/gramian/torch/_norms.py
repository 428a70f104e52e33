"""The largest singular value, certified bounds on it and the stable rank, as operators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _arrays, _bounds, _options
from . import _library as library
from ._library import figures, followed, in_place_of, matrices, operator, plain, scaled

_plain_norm = plain(_bounds.spectral_norm)
_plain_bounds = plain(_bounds.spectral_norm_bounds)
_plain_rank = plain(_bounds.stable_rank)

# Each damps what belongs to sigma_1 (1 - d) to t / (t + d) at the tolerance t.
INVERSE_ITERATIONS = 8
_DOUBLE = (torch.float64, torch.complex128)


@operator("_spectral_norm_gradient", lambda a, norm, rtol: library.like(a))
def _gradient_operator(a: Tensor, norm: Tensor, rtol: float) -> Tensor:
    r"""``u v^H`` of the largest singular value, which `norm` is to `rtol`; 0 for a zero matrix.

    Inverse iteration with ``(1 + t)^2 I - W W^H``, ``W = a / norm`` with its shorter side first, by
    Cholesky: `t` covers the tolerance and what the bracket of `norm` may have missed it by, so that
    the matrix is positive definite.
    """
    norm = norm.to(torch.float64)[..., None, None]
    known = (norm > 0) & torch.isfinite(norm)
    w = library.wide(a).resolve_conj() / torch.where(known, norm, torch.ones_like(norm))
    w = torch.where(known, w, torch.zeros_like(w))
    flip = a.shape[-2] > a.shape[-1]
    if flip:
        w = w.mH
    m, n = w.shape[-2:]
    if w.numel() == 0:
        return library.like(a)
    reach = (10.0 * m * n + 2.0 * m * m + 600.0 * m) * 2.0**-53 * (3 if w.is_complex() else 1)
    unit = 0.0 if a.dtype in _DOUBLE else 2.0**-23  # the norm is rounded to single precision
    # Subnormal norms are multiples of the least number, and rounded to it.
    limits = torch.finfo(library.real_dtype(a))
    least = torch.full_like(norm, limits.smallest_normal * limits.eps)
    step = (least / torch.where(known, norm, torch.ones_like(norm)))[..., 0]
    tolerance = rtol + reach + unit + step
    shifted = -(w @ w.mH)
    shifted.diagonal(dim1=-2, dim2=-1).add_((1 + 2 * tolerance) ** 2)
    factor = torch.linalg.cholesky_ex(shifted)[0]
    # No random numbers: the gradient of a matrix is the same every time.
    start = torch.sin(torch.arange(1, m + 1, dtype=torch.float64, device=a.device) ** 2) + 0.1
    u = start.to(w.dtype)[:, None].expand(*w.shape[:-1], 1)
    for _ in range(INVERSE_ITERATIONS):
        u = torch.cholesky_solve(u, factor)
        u = u / torch.linalg.vector_norm(u, dim=-2, keepdim=True)
    v = w.mH @ u
    size = torch.linalg.vector_norm(v, dim=-2, keepdim=True)
    v = v / torch.where(size == 0, torch.ones_like(size), size)
    found = v @ u.mH if flip else u @ v.mH
    # Neither zero nor known: NaN in the matrix, or a norm that its dtype cannot hold.
    found = torch.where(known | (norm == 0), found, torch.nan).to(a.dtype)
    return found.contiguous()


def _norm_shapes(a: Tensor, rtol: float, seed: int, check_finite: bool | None) -> Tensor:
    matrices(a, "a")
    return figures(a)


@operator("spectral_norm", _norm_shapes)
def _norm_operator(a: Tensor, rtol: float, seed: int, check_finite: bool | None) -> Tensor:
    rng = library.seed_from(seed)
    result: Tensor = _plain_norm(a, rtol=rtol, rng=rng, check_finite=check_finite)
    return result


def _norm_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    library.save(ctx, inputs[0], output)
    ctx.rtol = inputs[1]


def _norm_forward(ctx: Any, da: Tensor, *_: Any) -> Tensor:
    return library.slope(_gradient_operator(*ctx.saved_tensors, ctx.rtol), da)


def _norm_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    a, norm = ctx.saved_tensors
    return scaled(grad, _gradient_operator(a, norm, ctx.rtol)), None, None, None


_norm_operator.register_autograd(_norm_backward, setup_context=_norm_setup, forward=_norm_forward)


@in_place_of(_bounds.spectral_norm)
def spectral_norm(
    a: Tensor, *, rtol: float = 1e-6, rng: Any = None, check_finite: bool | None = None
) -> Tensor:
    r""":func:`gramian.spectral_norm` as an operator of torch, differentiable once.

    Parameters
    ----------
    a : tensor of shape (..., m, n)
    rtol, rng, check_finite
        As for :func:`gramian.spectral_norm`.

    Returns
    -------
    norm : tensor of shape (...)

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :func:`gramian.spectral_norm`.

    Notes
    -----
    The gradient is :math:`u v^H`, the singular vectors, by inverse iteration on the Gram matrix in
    double precision: what belongs to a singular value :math:`\sigma_1 (1 - \delta)` is damped to
    about :math:`(\tau / (\tau + \delta))^8`, :math:`\tau` being `rtol`. Where singular values
    coincide, to rtol, the gradient is :math:`u v^H` with one vector :math:`u` of their space, the
    same at each call: one of the subgradients. At a zero matrix it is 0, the least of them.

    Cost of the gradient, with :math:`m \le n` the sides: :math:`m^2 n + m^3 / 3` multiply-adds.

    References
    ----------
    .. [1] Magnus, "On differentiating eigenvalues and eigenvectors", Econometric Theory 1, 1985.
    .. [2] Watson, "Characterization of the subdifferential of some matrix norms", Linear Algebra
       Appl. 170, 1992.

    Examples
    --------
    >>> import torch
    >>> import gramian.torch as gt
    >>> a = torch.diag(torch.tensor([3.0, 2.0])).requires_grad_()
    >>> gt.spectral_norm(a).backward()
    >>> bool(torch.allclose(a.grad, torch.diag(torch.tensor([1.0, 0.0]))))
    True
    """
    if not followed(a):
        result: Tensor = _plain_norm(a, rtol=rtol, rng=rng, check_finite=check_finite)
        return result
    matrices(a, "a")
    library.check_options(_plain_norm, a, rtol=rtol, check_finite=check_finite)
    result = _norm_operator(a, _options.check_tolerance(rtol), library.seed_of(rng), check_finite)
    return result


# ---- Certified bounds ---------------------------------------------------------------------------


class NormBounds(NamedTuple):
    """A bracket ``lower <= sigma_1 <= upper``, certified with every rounding error accounted for.

    Attributes
    ----------
    lower, upper : tensor of shape (...)
    converged : tensor of bool, of shape (...)
        Whether ``upper / lower - 1 <= rtol``, or both are 0.
    """

    lower: Tensor
    upper: Tensor
    converged: Tensor


def _bounds_shapes(
    a: Tensor, rtol: float, method: str, seed: int, check_finite: bool | None
) -> tuple[Tensor, Tensor, Tensor]:
    matrices(a, "a")
    return figures(a), figures(a), figures(a, torch.bool)


@operator("spectral_norm_bounds", _bounds_shapes)
def _bounds_operator(
    a: Tensor, rtol: float, method: str, seed: int, check_finite: bool | None
) -> tuple[Tensor, Tensor, Tensor]:
    rng = library.seed_from(seed)
    found = _plain_bounds(a, rtol=rtol, method=method, rng=rng, check_finite=check_finite)
    return found.lower, found.upper, found.converged


def _bounds_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    library.save(ctx, inputs[0], output[1])
    ctx.mark_non_differentiable(output[2])
    ctx.rtol = inputs[1]


def _bounds_forward(ctx: Any, da: Tensor, *_: Any) -> tuple[Any, ...]:
    found = _norm_forward(ctx, da)
    return found, found.clone(), None


def _bounds_backward(ctx: Any, lower: Tensor, upper: Tensor, _: Any) -> tuple[Any, ...]:
    a, norm = ctx.saved_tensors
    found = scaled(lower + upper, _gradient_operator(a, norm, ctx.rtol))
    return found, None, None, None, None


_bounds_operator.register_autograd(
    _bounds_backward, setup_context=_bounds_setup, forward=_bounds_forward
)


def spectral_norm_bounds(
    a: Tensor,
    *,
    rtol: float = 1e-6,
    method: str = "auto",
    rng: Any = None,
    check_finite: bool | None = None,
) -> NormBounds:
    r""":func:`gramian.spectral_norm_bounds` as an operator of torch, differentiable once.

    Parameters
    ----------
    a : tensor of shape (..., m, n)
    rtol, method, rng, check_finite
        As for :func:`gramian.spectral_norm_bounds`.

    Returns
    -------
    NormBounds
        ``(lower, upper, converged)``, certified for rounding.

    Raises
    ------
    TypeError, ValueError, NotImplementedError, RuntimeError
        As :func:`gramian.spectral_norm_bounds`.

    Notes
    -----
    Both bounds have the gradient of the norm that they enclose, as :func:`spectral_norm` has it.

    References
    ----------
    .. [1] Rump, "Verification of positive definiteness", BIT 46, 2006.

    Examples
    --------
    >>> import torch
    >>> import gramian.torch as gt
    >>> a = torch.diag(torch.tensor([3.0, 2.0])).requires_grad_()
    >>> bounds = gt.spectral_norm_bounds(a)
    >>> bool(bounds.lower <= 3 <= bounds.upper)
    True
    """
    if not followed(a):
        found = _plain_bounds(a, rtol=rtol, method=method, rng=rng, check_finite=check_finite)
        return NormBounds(found.lower, found.upper, found.converged)
    matrices(a, "a")
    library.check_options(_plain_bounds, a, method=method, check_finite=check_finite)
    _options.check_choice(method, "method", _bounds._METHODS)
    tolerance, seed = _options.check_tolerance(rtol), library.seed_of(rng)
    return NormBounds(*_bounds_operator(a, tolerance, method, seed, check_finite))


class _Attached(torch.autograd.Function):
    """Bounds already found, as functions of the matrix."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, norm: Tensor, rtol: float) -> Tensor:
        ctx.save_for_backward(a, norm)
        ctx.rtol = rtol
        return norm.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        a, norm = ctx.saved_tensors
        return scaled(grad, _gradient_operator(a, norm, ctx.rtol)), None, None


@in_place_of(_bounds.spectral_norm_bounds)
def _bounds_of_package(a: Tensor, *, rtol: float = 1e-6, **options: Any) -> _bounds.Bounds:
    """gramian's own result, which tells more than an operator can, with gradients."""
    if torch.compiler.is_compiling() or _arrays.is_watched(a.detach()):
        raise TypeError(
            "a is on the meta device or inside torch.func or torch.compile; call "
            "gramian.torch.spectral_norm_bounds, which returns tensors alone"
        )
    found: _bounds.Bounds = _plain_bounds(a.detach(), rtol=rtol, **options)
    attach: Any = _Attached.apply
    lower, upper = (attach(a, value, float(rtol)) for value in (found.lower, found.upper))
    return replace(found, lower=lower, upper=upper)


# ---- The stable rank ----------------------------------------------------------------------------


def _rank_shapes(a: Tensor, check_finite: bool | None) -> Tensor:
    matrices(a, "a")
    return figures(a)


@operator("stable_rank", _rank_shapes)
def _rank_operator(a: Tensor, check_finite: bool | None) -> Tensor:
    result: Tensor = _plain_rank(a, check_finite=check_finite)
    return result


def _rank_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    library.save(ctx, inputs[0])


def _rank_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (a,) = ctx.saved_tensors
    return scaled(grad, _rank_gradient(a)).to(a.dtype), None


def _rank_forward(ctx: Any, da: Tensor, *_: Any) -> Tensor:
    (a,) = ctx.saved_tensors
    return library.slope(_rank_gradient(a), da).to(library.real_dtype(a))


def _rank_gradient(a: Tensor) -> Tensor:
    """In double precision."""
    dtype, a = a.dtype, library.wide(a)
    rtol = 1e-9 if dtype in _DOUBLE else 1e-6
    norm = _norm_operator(a, rtol, 0, False)
    outer = _gradient_operator(a, norm, rtol)
    norm = norm[..., None, None]
    safe = torch.where(norm == 0, torch.ones_like(norm), norm)
    # The norm is known to rtol, u^H a v to the square of the vectors' error: far better.
    a = a / safe
    value = library.real_product(outer, a)
    rank = library.real_product(a, a) / value**2
    direction = (a / value - rank * outer) * 2 / value / safe
    return torch.where(norm == 0, 0.0, direction)


_rank_operator.register_autograd(_rank_backward, setup_context=_rank_setup, forward=_rank_forward)


@in_place_of(_bounds.stable_rank)
def stable_rank(a: Tensor, *, check_finite: bool | None = None) -> Tensor:
    r""":func:`gramian.stable_rank` as an operator of torch, differentiable once.

    Parameters
    ----------
    a : tensor of shape (..., m, n)
    check_finite : bool or None, default None
        As for :func:`gramian.stable_rank`.

    Returns
    -------
    rank : tensor of shape (...)

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :func:`gramian.stable_rank`.

    Notes
    -----
    The gradient is :math:`2 (a / \sigma_1 - \rho\, u v^H) / \sigma_1`, :math:`\rho` the stable rank
    and :math:`u v^H` as for :func:`spectral_norm`; 0 at a zero matrix, where there is none.

    References
    ----------
    .. [1] Rudelson, Vershynin, "Sampling from large matrices", J. ACM 54, 2007.

    Examples
    --------
    >>> import torch
    >>> import gramian.torch as gt
    >>> a = torch.diag(torch.tensor([2.0, 1.0, 1.0])).requires_grad_()
    >>> gt.stable_rank(a).backward()
    >>> a.grad.diagonal().round(decimals=4)
    tensor([-0.5000,  0.5000,  0.5000])
    """
    if not followed(a):
        result: Tensor = _plain_rank(a, check_finite=check_finite)
        return result
    matrices(a, "a")
    library.check_options(_plain_rank, a, check_finite=check_finite)
    result = _rank_operator(a, check_finite)
    return result
