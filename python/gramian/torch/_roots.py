"""inverse_root and sqrt_psd as operators, with their derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _inverse_root
from . import _library as library
from ._library import followed, hermitian_part, in_place_of, operator, plain, square
from ._lyapunov import lyapunov

_plain_root = plain(_inverse_root.inverse_root)
_plain_sqrt = plain(_inverse_root.sqrt_psd)

# ---- inverse_root -------------------------------------------------------------------------------


def _root_shapes(
    a: Tensor, p: int, ridge: float, tol: float | None, check_finite: bool | None
) -> Tensor:
    square(a, "a")
    return library.like(a)


@operator("inverse_root", _root_shapes)
def _root_operator(
    a: Tensor, p: int, ridge: float, tol: float | None, check_finite: bool | None
) -> Tensor:
    result: Tensor = _plain_root(a, p, ridge=ridge, tol=tol, check_finite=check_finite)
    return result


@operator("_inverse_root_derivative", lambda a, direction, *_: library.like(a))
def _root_derivative(a: Tensor, direction: Tensor, p: int, ridge: float, adjoint: bool) -> Tensor:
    r"""In a direction or, `adjoint`, the gradient by `a` where `direction` is that by the result.

    By eigenvectors and divided differences of ``l^(-1/p)``, in double precision.

    With ``r = l^(1/p)`` they are ``-1 / (r s (r^(p-1) + r^(p-2) s + ... + s^(p-1)))``: nothing
    cancels.
    """
    if a.numel() == 0:
        return library.like(a)
    b, g, nan = library.without_nan(library.wide(a), library.wide(direction))
    values, vectors = torch.linalg.eigh(_lower_mirrored(b))
    top = values[..., -1:]
    safe = torch.where(top > 0, top, torch.ones_like(top))
    # Relative to the largest eigenvalue nothing leaves the range.
    relative = values / safe + ridge
    least = values.shape[-1] * torch.finfo(library.single(a).dtype).eps
    good = relative > least
    r = torch.where(good, relative, torch.ones_like(relative)) ** (1 / p)
    one, other = r[..., :, None], r[..., None, :]
    ratio = torch.minimum(one, other) / torch.maximum(one, other)
    total, power = torch.ones_like(ratio), torch.ones_like(ratio)
    for _ in range(p - 1):
        power = power * ratio
        total = total + power
    differences = -1 / (one * other * torch.maximum(one, other) ** (p - 1) * total)
    differences = differences * (good[..., :, None] & good[..., None, :])
    differences = differences * (safe ** (-1 - 1 / p))[..., None]
    turned = vectors.mH @ hermitian_part(g) @ vectors
    if ridge and not adjoint:  # it goes by the largest eigenvalue, which depends on a too
        turned.diagonal(dim1=-2, dim2=-1).add_(ridge * turned[..., -1, -1:])
    turned = differences * turned
    if ridge and adjoint:
        turned[..., -1, -1] += ridge * turned.diagonal(dim1=-2, dim2=-1).sum(-1)
    found = hermitian_part(vectors @ turned @ vectors.mH) + nan
    result: Tensor = found.to(a.dtype).contiguous()
    return result


def _lower_mirrored(a: Tensor) -> Tensor:
    """The matrix that the lower triangle stands for, as the function takes it."""
    lower = a.tril(-1)
    diagonal = a.diagonal(dim1=-2, dim2=-1)
    diagonal = diagonal.real.to(a.dtype) if a.is_complex() else diagonal
    return lower + lower.mH + torch.diag_embed(diagonal)


def _root_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    library.save(ctx, inputs[0])
    ctx.p, ctx.ridge = inputs[1:3]


def _root_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (a,) = ctx.saved_tensors
    return _root_derivative(a, grad, ctx.p, ctx.ridge, True), *[None] * 4


def _root_forward(ctx: Any, da: Tensor, *_: Any) -> Tensor:
    (a,) = ctx.saved_tensors
    found: Tensor = _root_derivative(a, da, ctx.p, ctx.ridge, False)
    return found


_root_operator.register_autograd(_root_backward, setup_context=_root_setup, forward=_root_forward)


@in_place_of(_inverse_root.inverse_root)
def inverse_root(
    a: Tensor,
    p: int,
    *,
    ridge: float = 0.0,
    tol: float | None = None,
    check_finite: bool | None = None,
) -> Tensor:
    r""":func:`gramian.inverse_root` as an operator of torch, differentiable once.

    Parameters
    ----------
    a : tensor of shape (..., n, n)
        Hermitian. Its gradient is Hermitian too, see Notes.
    p, ridge, tol, check_finite
        As for :func:`gramian.inverse_root`.

    Returns
    -------
    x : tensor of shape (..., n, n)

    Raises
    ------
    TypeError, ValueError, ConvergenceError, NotImplementedError
        As :func:`gramian.inverse_root`.

    Notes
    -----
    The gradient comes from eigenvectors in double precision and divided differences of
    :math:`\lambda^{-1/p}` in a form without differences of eigenvalues: ties do no harm. With a
    `ridge`, that of the largest eigenvalue counts, at a tie by one of its vectors.

    `a` stands for the Hermitian matrix of its lower triangle, as :func:`gramian.inverse_root` takes
    it, and the gradient for that matrix as a whole: it is the gradient in the space of Hermitian
    matrices, ``(G + G^H) / 2`` of that with all entries free, Hermitian to the last bit. A change
    ``d`` of `a` that is Hermitian changes a loss by ``Re tr(grad^H d)``, and a step along it keeps
    `a` Hermitian. (Of one entry off the diagonal alone, with its mirror image, the derivative is
    twice what stands there; the upper triangle is not read, and yet has its share.)

    References
    ----------
    .. [1] Higham, "Functions of Matrices", SIAM, 2008, chapters 3 and 7.

    Examples
    --------
    >>> import torch
    >>> import gramian.torch as gt
    >>> a = torch.diag(torch.tensor([4.0, 1.0])).requires_grad_()
    >>> gt.inverse_root(a, 2).diagonal().sum().backward()
    >>> a.grad.diagonal().round(decimals=4)
    tensor([-0.0625, -0.5000])
    """
    if not followed(a):
        result: Tensor = _plain_root(a, p, ridge=ridge, tol=tol, check_finite=check_finite)
        return result
    square(a, "a")
    library.check_options(_plain_root, a, p, check_finite=check_finite)
    root = _inverse_root._root(p)
    lift = _inverse_root._number(ridge, "ridge", "a finite number, at least 0")
    result = _root_operator(a, root, lift, _inverse_root._tolerance(tol) or None, check_finite)
    return result


# ---- sqrt_psd -----------------------------------------------------------------------------------


def _sqrt_shapes(a: Tensor, tol: float | None, check_finite: bool | None) -> tuple[Tensor, Tensor]:
    square(a, "a")
    return library.like(a), library.like(a)


@operator("sqrt_psd", _sqrt_shapes)
def _sqrt_operator(
    a: Tensor, tol: float | None, check_finite: bool | None
) -> tuple[Tensor, Tensor]:
    root, inverse = _plain_sqrt(a, tol=tol, check_finite=check_finite)
    return root, inverse


def _sqrt_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    library.save(ctx, *output)
    ctx.set_materialize_grads(False)


def _sqrt_backward(
    ctx: Any, grad_root: Tensor | None, grad_inverse: Tensor | None
) -> tuple[Any, ...]:
    dtype = ctx.saved_tensors[0].dtype
    root, inverse = (library.wide(t) for t in ctx.saved_tensors)
    total = torch.zeros_like(root)
    if grad_root is not None:
        total = total + hermitian_part(library.wide(grad_root))
    if grad_inverse is not None:  # d(R^-1) = -R^-1 dR R^-1
        total = total - inverse @ hermitian_part(library.wide(grad_inverse)) @ inverse
    return hermitian_part(lyapunov(root, total, dtype)).to(dtype), None, None


def _sqrt_forward(ctx: Any, da: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    dtype = ctx.saved_tensors[0].dtype
    root, inverse = (library.wide(t) for t in ctx.saved_tensors)
    change = lyapunov(root, hermitian_part(library.wide(da)), dtype)
    return change.to(dtype), (-inverse @ change @ inverse).to(dtype)


_sqrt_operator.register_autograd(_sqrt_backward, setup_context=_sqrt_setup, forward=_sqrt_forward)


@in_place_of(_inverse_root.sqrt_psd)
def sqrt_psd(
    a: Tensor, *, tol: float | None = None, check_finite: bool | None = None
) -> tuple[Tensor, Tensor]:
    r""":func:`gramian.sqrt_psd` as an operator of torch, differentiable any number of times.

    Parameters
    ----------
    a : tensor of shape (..., n, n)
        Hermitian. Its gradient is Hermitian too, see Notes.
    tol, check_finite
        As for :func:`gramian.sqrt_psd`.

    Returns
    -------
    root, inverse_root : tensor of shape (..., n, n)

    Raises
    ------
    TypeError, ValueError, ConvergenceError, NotImplementedError
        As :func:`gramian.sqrt_psd`.

    Notes
    -----
    The derivative solves :math:`R\,dR + dR\,R = da`, by eigenvectors of the root in double
    precision: denominators are sums of two square roots of eigenvalues.

    `a` stands for the Hermitian matrix of its lower triangle, as :func:`gramian.sqrt_psd` takes it,
    and the gradient for that matrix as a whole: it is the gradient in the space of Hermitian
    matrices, ``(G + G^H) / 2`` of that with all entries free, Hermitian to the last bit. A change
    ``d`` of `a` that is Hermitian changes a loss by ``Re tr(grad^H d)``, and a step along it keeps
    `a` Hermitian. (Of one entry off the diagonal alone, with its mirror image, the derivative is
    twice what stands there; the upper triangle is not read, and yet has its share.)

    References
    ----------
    .. [1] Higham, "Functions of Matrices", SIAM, 2008, chapter 6.

    Examples
    --------
    >>> import torch
    >>> import gramian.torch as gt
    >>> a = torch.diag(torch.tensor([4.0, 1.0])).requires_grad_()
    >>> gt.sqrt_psd(a)[0].diagonal().sum().backward()
    >>> a.grad.diagonal().round(decimals=4)
    tensor([0.2500, 0.5000])
    """
    if not followed(a):
        pair: tuple[Tensor, Tensor] = _plain_sqrt(a, tol=tol, check_finite=check_finite)
        return pair
    square(a, "a")
    library.check_options(_plain_sqrt, a, check_finite=check_finite)
    pair = _sqrt_operator(a, _inverse_root._tolerance(tol) or None, check_finite)
    return pair
