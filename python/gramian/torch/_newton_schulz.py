"""newton_schulz as an operator, with its derivative."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from .. import _newton_schulz
from .. import coefficients as tables
from ._library import check_options, followed, in_place_of, like, matrices, operator, plain, save
from ._newton_schulz_derivative import derivative, triples

_plain = plain(_newton_schulz.newton_schulz)
_NO_ROWS: list[float] = []


def _shapes(
    x: Tensor,
    steps: int,
    coefficients: str,
    rows: Sequence[float],
    normalization: str,
    bound: float,
    method: str,
    compute_dtype: str | None,
    check_finite: bool | None,
) -> Tensor:
    matrices(x, "x")
    return like(x)


@operator("newton_schulz", _shapes)
def _operator(
    x: Tensor,
    steps: int,
    coefficients: str,
    rows: Sequence[float],
    normalization: str,
    bound: float,
    method: str,
    compute_dtype: str | None,
    check_finite: bool | None,
) -> Tensor:
    result: Tensor = _plain(
        x,
        steps,
        coefficients=triples(rows) if rows else coefficients,
        normalization=normalization or bound,
        method=method,
        compute_dtype=compute_dtype,
        check_finite=check_finite,
    )
    return result


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    save(ctx, inputs[0])
    ctx.options = inputs[1:8]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    return derivative(x, grad, ctx.options, adjoint=True), *[None] * 8


def _forward(ctx: Any, dx: Tensor, *_: Any) -> Tensor:
    (x,) = ctx.saved_tensors
    return derivative(x, dx, ctx.options, adjoint=False)


_operator.register_autograd(_backward, setup_context=_setup, forward=_forward)


@in_place_of(_newton_schulz.newton_schulz)
def newton_schulz(
    x: Tensor,
    steps: int = 5,
    *,
    coefficients: str | Iterable[Sequence[float]] = "polar_express",
    normalization: str | float = "schatten",
    method: str = "auto",
    compute_dtype: Any = None,
    check_finite: bool | None = None,
) -> Tensor:
    r""":func:`gramian.newton_schulz` as an operator of torch, differentiable any number of times.

    Parameters
    ----------
    x : tensor of shape (..., m, n)
    steps, coefficients, normalization, method, compute_dtype, check_finite
        As for :func:`gramian.newton_schulz`.

    Returns
    -------
    q : tensor of shape (..., m, n)
        Of `x`'s dtype and device.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As :func:`gramian.newton_schulz`.

    Notes
    -----
    The gradient is that of the polynomial map and its normalization, not that of the polar factor
    it approximates: it stays finite at any matrix, with the product of all ``a`` as the largest
    gain by the singular values. At a zero matrix, where the normalized map jumps, it is 0.

    The derivative of the polynomials is its own adjoint, so one sweep forward gives it in either
    mode. On the CPU it takes :math:`((4.5K - 1) n/m + 6T - 4.5K) m^3` multiply-adds for :math:`T`
    steps and :math:`m \le n`, by products of which half is computed, and with the Schatten norm
    :math:`(n/m + 1/2) m^3` more. :math:`K` is the number of times that the matrix itself is
    touched, :math:`T` near square, for :math:`n \ge 2m` 2 with the default rows. Memory while it
    lasts: :math:`3mn + 9m^2` numbers at most; from the forward pass it keeps `x` alone. It is
    computed in the precision of `x`, or of `compute_dtype` if that is float64; of half-precision
    `x` in float32.

    References
    ----------
    .. [1] Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    .. [2] Higham, "Functions of Matrices", SIAM, 2008, chapter 3.

    Examples
    --------
    >>> import torch
    >>> import gramian.torch as gt
    >>> x = torch.diag(torch.tensor([3.0, 2.0, 1.0])).requires_grad_()
    >>> gt.newton_schulz(x).sum().backward()
    >>> bool(torch.isfinite(x.grad).all())
    True
    """
    if not followed(x):
        result: Tensor = _plain(
            x,
            steps,
            coefficients=coefficients,
            normalization=normalization,
            method=method,
            compute_dtype=compute_dtype,
            check_finite=check_finite,
        )
        return result
    matrices(x, "x")
    name, rows = "", _NO_ROWS
    if isinstance(coefficients, str):
        name = coefficients
    else:
        rows = [number for row in tables._rows("coefficients", coefficients) for number in row]
    check_options(
        _plain,
        x,
        steps,
        coefficients=triples(rows) if rows else name,
        method=method,
        compute_dtype=compute_dtype,
        check_finite=check_finite,
    )
    rule, bound = _newton_schulz._normalization(normalization)
    arithmetic = compute_dtype
    if compute_dtype is not None and not isinstance(compute_dtype, str):
        arithmetic = _newton_schulz._dtype_name(compute_dtype)
    result = _operator(
        x, int(steps), name, rows, "" if rule == "bound" else rule, bound, method, arithmetic,
        check_finite,
    )  # fmt: skip
    return result
