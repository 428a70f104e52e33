"""polar, matrix_sign and spectral_clip as operators, with their derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _matrix_sign, _polar, _spectral_clip
from .._options import check_flag
from . import _library as library
from ._library import followed, hermitian_part, in_place_of, matrices, operator, plain, square
from ._lyapunov import lyapunov

_plain_polar = plain(_polar.polar)
_plain_sign = plain(_matrix_sign.matrix_sign)
_plain_clip = plain(_spectral_clip.spectral_clip)

# ---- polar --------------------------------------------------------------------------------------


def _polar_shapes(
    x: Tensor, tol: float | None, side: str, method: str, check_finite: bool | None
) -> tuple[Tensor, Tensor]:
    matrices(x, "x")
    order = x.shape[-1] if side == "right" else x.shape[-2]
    return library.like(x), x.new_empty(*x.shape[:-2], order, order)


@operator("polar", _polar_shapes)
def _polar_operator(
    x: Tensor, tol: float | None, side: str, method: str, check_finite: bool | None
) -> tuple[Tensor, Tensor]:
    u, p = _plain_polar(x, tol=tol, side=side, method=method, check_finite=check_finite)
    return u, p


def _factor_shapes(x: Tensor, tol: float | None, method: str, check_finite: bool | None) -> Tensor:
    matrices(x, "x")
    return library.like(x)


@operator("polar_factor", _factor_shapes)
def _factor_operator(
    x: Tensor, tol: float | None, method: str, check_finite: bool | None
) -> Tensor:
    result: Tensor = _plain_polar(
        x, tol=tol, compute_hermitian=False, method=method, check_finite=check_finite
    )
    return result


def _polar_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    library.save(ctx, inputs[0], output[0])
    ctx.right = inputs[2] == "right"
    ctx.set_materialize_grads(False)


def _polar_backward(ctx: Any, grad_u: Tensor | None, grad_p: Tensor | None) -> tuple[Any, ...]:
    x, u = ctx.saved_tensors
    found = torch.zeros_like(x)
    if grad_u is not None:
        found = found + factor_pullback(x, u, grad_u)
    if grad_p is not None:
        found = found + hermitian_pullback(x, u, grad_p, right=ctx.right)
    return found, *[None] * 4


def _factor_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    library.save(ctx, inputs[0], output)


def _factor_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, u = ctx.saved_tensors
    return factor_pullback(x, u, grad), *[None] * 3


def factor_pullback(x: Tensor, u: Tensor, grad: Tensor) -> Tensor:
    """From the cotangent of the unitary factor of ``x = u p`` to that of `x`; its own adjoint.

    ``P W + W P = u^H dx - dx^H u`` gives ``du = u W + (I - u u^H) dx P^-1`` where `x` is tall
    (Kenney and Laub, SIAM J. Matrix Anal. Appl. 12, 1991).
    """
    if x.numel() == 0:
        return torch.zeros_like(x)
    dtype, flip = x.dtype, x.shape[-2] < x.shape[-1]
    x, u, grad = (library.wide(t) for t in (x, u, grad))
    if flip:
        x, u, grad = x.mH, u.mH, grad.mH
    p = hermitian_part(u.mH @ x)
    k = u.mH @ grad
    found = u @ lyapunov(p, k - k.mH, dtype)
    if x.shape[-2] != x.shape[-1]:
        eye = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device).expand_as(p)
        found = found + (grad - u @ k) @ lyapunov(p, 2 * eye, dtype)
    return (found.mH if flip else found).to(dtype)


def hermitian_pullback(x: Tensor, u: Tensor, grad: Tensor, *, right: bool) -> Tensor:
    """From the cotangent of ``p = (x^H x)^(1/2)``, or ``(x x^H)^(1/2)``, to that of `x`."""
    if x.numel() == 0:
        return torch.zeros_like(x)
    dtype = x.dtype
    x, u, grad = (library.wide(t) for t in (x, u, grad))
    if not right:
        x, u = x.mH, u.mH
    p = hermitian_part(u.mH @ x)
    found = 2 * x @ lyapunov(p, hermitian_part(grad), dtype)
    return (found if right else found.mH).to(dtype)


def _polar_forward(ctx: Any, dx: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    x, u = ctx.saved_tensors
    return factor_pullback(x, u, dx), hermitian_pushforward(x, u, dx, right=ctx.right)


def _factor_forward(ctx: Any, dx: Tensor, *_: Any) -> Tensor:
    x, u = ctx.saved_tensors
    return factor_pullback(x, u, dx)


def hermitian_pushforward(x: Tensor, u: Tensor, dx: Tensor, *, right: bool) -> Tensor:
    """``P dP + dP P = dx^H x + x^H dx``, or the same of adjoints."""
    if x.numel() == 0:
        order = x.shape[-1] if right else x.shape[-2]
        return x.new_zeros(*x.shape[:-2], order, order)
    dtype = x.dtype
    x, u, dx = (library.wide(t) for t in (x, u, dx))
    if not right:
        x, u, dx = x.mH, u.mH, dx.mH
    p = hermitian_part(u.mH @ x)
    return lyapunov(p, 2 * hermitian_part(x.mH @ dx), dtype).to(dtype)


_polar_operator.register_autograd(
    _polar_backward, setup_context=_polar_setup, forward=_polar_forward
)
_factor_operator.register_autograd(
    _factor_backward, setup_context=_factor_setup, forward=_factor_forward
)


@in_place_of(_polar.polar)
def polar(
    x: Tensor,
    *,
    tol: float | None = None,
    side: str = "right",
    compute_hermitian: bool = True,
    method: str = "auto",
    check_finite: bool | None = None,
) -> Any:
    r""":func:`gramian.polar` as an operator of torch, differentiable any number of times.

    Parameters
    ----------
    x : tensor of shape (..., m, n)
    tol, side, compute_hermitian, method, check_finite
        As for :func:`gramian.polar`.

    Returns
    -------
    u : tensor of shape (..., m, n)
    p : tensor of shape (..., n, n), or (..., m, m) on the left
        Only with `compute_hermitian`.

    Raises
    ------
    TypeError, ValueError, ConvergenceError, NotImplementedError
        As :func:`gramian.polar`.

    Notes
    -----
    The derivatives solve :math:`PW + WP = u^H dx - dx^H u` for the unitary factor and
    :math:`P\,dP + dP\,P = dx^H x + x^H dx` for the other, by eigenvectors of :math:`P` in double
    precision. Denominators are sums of two singular values, never differences: ties do no harm.
    The factor's gradient grows as the smallest singular value goes to 0 (of square `x`, the
    smallest sum of two). What belongs to singular values that count as zero gets no gradient by way
    of the factor: it is finite everywhere, and that of the partial isometry while the rank stays.

    References
    ----------
    .. [1] Kenney, Laub, "Polar Decomposition and Matrix Sign Function Condition Estimates", SIAM J.
       Sci. Stat. Comput. 12, 1991.
    .. [2] Higham, "Functions of Matrices", SIAM, 2008, chapter 8.

    Examples
    --------
    >>> import torch
    >>> import gramian.torch as gt
    >>> x = torch.diag(torch.tensor([3.0, 2.0])).requires_grad_()
    >>> gt.polar(x, compute_hermitian=False)[0, 1].backward()
    >>> x.grad.round(decimals=4)
    tensor([[ 0.0000,  0.2000],
            [-0.2000,  0.0000]])
    """
    if not followed(x):
        return _plain_polar(
            x,
            tol=tol,
            side=side,
            compute_hermitian=compute_hermitian,
            method=method,
            check_finite=check_finite,
        )
    matrices(x, "x")
    library.check_options(_plain_polar, x, method=method, check_finite=check_finite)
    _polar.choice(side, "side", _polar._SIDES)
    tolerance = _polar.check_tolerance(tol) or None
    if check_flag(compute_hermitian, "compute_hermitian"):
        return _polar_operator(x, tolerance, side, method, check_finite)
    return _factor_operator(x, tolerance, method, check_finite)


# ---- matrix_sign --------------------------------------------------------------------------------


def _sign_shapes(a: Tensor, tol: float | None, check_finite: bool | None) -> Tensor:
    square(a, "a")
    return library.like(a)


@operator("matrix_sign", _sign_shapes)
def _sign_operator(a: Tensor, tol: float | None, check_finite: bool | None) -> Tensor:
    result: Tensor = _plain_sign(a, tol=tol, check_finite=check_finite)
    return result


def _sign_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    library.save(ctx, inputs[0], output)


def _sign_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _sign_forward(ctx, grad), None, None


def _sign_forward(ctx: Any, da: Tensor, *_: Any) -> Tensor:
    """Its own adjoint."""
    a, s = (library.wide(t) for t in ctx.saved_tensors)
    dtype = ctx.saved_tensors[0].dtype
    magnitude = hermitian_part(s @ hermitian_part(a))
    z = lyapunov(magnitude, hermitian_part(library.wide(da)), dtype)
    return hermitian_part(z - s @ z @ s).to(dtype)


_sign_operator.register_autograd(_sign_backward, setup_context=_sign_setup, forward=_sign_forward)


@in_place_of(_matrix_sign.matrix_sign)
def matrix_sign(a: Tensor, *, tol: float | None = None, check_finite: bool | None = None) -> Tensor:
    r""":func:`gramian.matrix_sign` as an operator of torch, differentiable any number of times.

    Parameters
    ----------
    a : tensor of shape (..., n, n)
        Hermitian. Its gradient is Hermitian too: that of the function of ``(a + a^H) / 2``.
    tol, check_finite
        As for :func:`gramian.matrix_sign`.

    Returns
    -------
    s : tensor of shape (..., n, n)

    Raises
    ------
    TypeError, ValueError, ConvergenceError, NotImplementedError
        As :func:`gramian.matrix_sign`.

    Notes
    -----
    The derivative solves :math:`|a|\,ds + ds\,|a| = da - s\,da\,s`: denominators are sums of two
    magnitudes of eigenvalues. Two eigenvalues that both count as zero get no gradient.

    References
    ----------
    .. [1] Kenney, Laub, "Polar Decomposition and Matrix Sign Function Condition Estimates", SIAM J.
       Sci. Stat. Comput. 12, 1991.
    .. [2] Higham, "Functions of Matrices", SIAM, 2008, chapter 5.

    Examples
    --------
    >>> import torch
    >>> import gramian.torch as gt
    >>> a = torch.diag(torch.tensor([3.0, -1.0])).requires_grad_()
    >>> gt.matrix_sign(a)[0, 1].backward()
    >>> a.grad.round(decimals=4)
    tensor([[0.0000, 0.2500],
            [0.2500, 0.0000]])
    """
    if not followed(a):
        result: Tensor = _plain_sign(a, tol=tol, check_finite=check_finite)
        return result
    square(a, "a")
    library.check_options(_plain_sign, a, check_finite=check_finite)
    result = _sign_operator(a, _polar.check_tolerance(tol) or None, check_finite)
    return result
