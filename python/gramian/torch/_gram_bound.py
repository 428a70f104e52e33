"""gram_bound as an operator, with its derivative in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _bounds, _options
from . import _library as library
from ._library import figures, followed, in_place_of, matrices, operator, plain, scaled

_plain_gram_bound = plain(_bounds.gram_bound)

# As many squarings as the core takes: further ones would change no bit.
MOST_SQUARINGS = 60


def _gram_shapes(a: Tensor, n_iter: int, check_finite: bool | None) -> Tensor:
    matrices(a, "a")
    return figures(a)


@operator("gram_bound", _gram_shapes)
def _gram_operator(a: Tensor, n_iter: int, check_finite: bool | None) -> Tensor:
    result: Tensor = _plain_gram_bound(a, n_iter, check_finite=check_finite)
    return result


@operator("_gram_bound_gradient", lambda a, n_iter: library.like(a))
def _gram_gradient_operator(a: Tensor, n_iter: int) -> Tensor:
    result: Tensor = _bounds._gram_bound_and_gradient(a, n_iter)[1]
    return result


def _gram_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    library.save(ctx, inputs[0], output)
    ctx.n_iter = inputs[1]


def _gram_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    a, bound = ctx.saved_tensors
    return scaled(grad, _gradient(a, bound, ctx.n_iter)), None, None


def _gram_forward(ctx: Any, da: Tensor, *_: Any) -> Tensor:
    a, bound = ctx.saved_tensors
    return library.slope(_gradient(a, bound, ctx.n_iter), da)


def _gradient(a: Tensor, bound: Tensor, n_iter: int) -> Tensor:
    if library.differentiated_again() or not a.is_cpu:
        with library.as_given(a):
            return _gram_derivative(a, bound, n_iter)
    found: Tensor = _gram_gradient_operator(a, n_iter)
    return found


def _gram_derivative(a: Tensor, bound: Tensor, n_iter: int) -> Tensor:
    """``(H_1 / b^2)(H_2 / b^4) ... (a / b)`` with the iterates H; 0 at 0. Differentiable.

    Each iterate is kept at norm 1, with ``s_k = ||H_k||_F / b^(2^k)`` apart: ``s_t = 1`` for the
    last, and ``s_(k+1) = f_k s_k^2`` where f_k is the norm of the square. So no error in the bound
    is raised to a power.
    """
    bound = bound[..., None, None]
    zero = bound == 0
    z = library.single(a) / torch.where(zero, torch.ones_like(bound), bound)
    flip = a.shape[-2] > a.shape[-1]
    if flip:
        z = z.mH
    if n_iter > 0:
        power = z @ z.mH
        power = power / _size(power)
        product, sizes = power, []
        for _ in range(min(n_iter - 1, MOST_SQUARINGS)):
            power = power @ power
            sizes.append(_size(power))
            power = power / sizes[-1]
            product = product @ power
        scale = torch.ones_like(bound)
        gain = scale
        for size in reversed(sizes):
            scale = torch.sqrt(scale / size)
            gain = gain * scale
        z = (gain * product) @ z
    z = torch.where(zero, torch.zeros_like(z), z)
    z = torch.where(torch.isinf(bound), torch.nan, z)  # too large for its dtype
    return (z.mH if flip else z).to(a.dtype)


def _size(matrices: Tensor) -> Tensor:
    """Frobenius norms, 1 for 0."""
    squares = library.real_product(matrices, matrices)
    return torch.sqrt(torch.where(squares == 0, torch.ones_like(squares), squares))


_gram_operator.register_autograd(_gram_backward, setup_context=_gram_setup, forward=_gram_forward)


@in_place_of(_bounds.gram_bound)
def gram_bound(a: Tensor, n_iter: int = 6, *, check_finite: bool | None = None) -> Tensor:
    r""":func:`gramian.gram_bound` as an operator of torch, differentiable any number of times.

    Parameters
    ----------
    a : tensor of shape (..., m, n)
    n_iter, check_finite
        As for :func:`gramian.gram_bound`.

    Returns
    -------
    bound : tensor of shape (...)

    Raises
    ------
    TypeError, ValueError
        As :func:`gramian.gram_bound`.

    Notes
    -----
    The bound :math:`b` is a Schatten norm, and its gradient
    :math:`(ZZ^H)^{2^t - 1} Z`, :math:`Z = a / b`, the product of the iterates: smooth but at a zero
    matrix, where the gradient is 0, the least of the subgradients. Where several singular values
    are equal each gets the same share.

    References
    ----------
    .. [1] Delattre, Barthelemy, Araujo, Allauzen, "Efficient Bound of Lipschitz Constant for
       Convolutional Layers by Gram Iteration", ICML 2023.

    Examples
    --------
    >>> import torch
    >>> import gramian.torch as gt
    >>> a = torch.diag(torch.tensor([3.0, 2.0])).requires_grad_()
    >>> gt.gram_bound(a).backward()
    >>> a.grad.round(decimals=4)
    tensor([[1., 0.],
            [0., 0.]])
    """
    if not followed(a):
        result: Tensor = _plain_gram_bound(a, n_iter, check_finite=check_finite)
        return result
    matrices(a, "a")
    library.check_options(_plain_gram_bound, a, n_iter, check_finite=check_finite)
    result = _gram_operator(a, _options.check_whole_number(n_iter, "n_iter"), check_finite)
    return result
