"""newton_schulz as an operator, and its derivative: the chain rule through its polynomials.

With ``A = Y Y^H`` a step is ``Y' = a Y + b A Y + c A^2 Y``. For a cotangent G of Y', with
``S = G Y^H + Y G^H`` that of Y is ``a G + b A G + c A^2 G + (b S + c (S A + A S)) Y``. So all is
products; the iterates of one sweep forward are kept while the sweep backward lasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _newton_schulz
from .. import coefficients as tables
from ._library import (
    as_given,
    check_options,
    followed,
    in_place_of,
    like,
    matrices,
    operator,
    plain,
    real_product,
    single,
)

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
        coefficients=_triples(rows) if rows else coefficients,
        normalization=normalization or bound,
        method=method,
        compute_dtype=compute_dtype,
        check_finite=check_finite,
    )
    return result


def _triples(rows: Sequence[float]) -> list[tuple[float, float, float]]:
    return [(rows[i], rows[i + 1], rows[i + 2]) for i in range(0, len(rows), 3)]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.options = inputs[1:8]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    steps, name, rows, normalization, bound, _, compute_dtype = ctx.options
    rule = normalization or "bound"
    table = _newton_schulz._table(_triples(rows) if rows else name, steps, rule)
    with as_given(x):
        found = pullback(x, grad, table, rule, bound, double=compute_dtype == "float64")
    return found, *[None] * 8


_operator.register_autograd(_backward, setup_context=_setup)


def pullback(
    x: Tensor,
    grad: Tensor,
    table: Sequence[tuple[float, float, float]],
    rule: str,
    bound: float,
    *,
    double: bool = False,
) -> Tensor:
    """The gradient by `x` of a loss whose gradient by the result is `grad`."""
    if x.numel() == 0:
        return torch.zeros_like(x)
    dtype = torch.promote_types(x.dtype, torch.float64) if double else single(x).dtype
    y, g = x.to(dtype), grad.to(dtype)
    flip = x.shape[-2] > x.shape[-1]
    if flip:
        y, g = y.mH, g.mH
    if rule == "bound":
        pulled = _through_steps(y / bound, g, table)[1] / bound
    else:
        # The result does not depend on the scale: by powers of two it is brought near 1, so that
        # no power of an entry below leaves the range of its dtype.
        first, second = _unit_scales(y)
        y = y * first * second
        norm, zero = _norm(y, rule)
        y = y / norm
        y, pulled = _through_steps(y, g, table)
        # Of the norm, by y: y itself, or (y y^H)^3 y where it is of the eighth powers.
        direction = y
        if rule == "schatten":
            gram = y @ y.mH
            direction = gram @ (gram @ (gram @ y))
        pulled = (pulled - real_product(pulled, y) * direction) / norm
        pulled = torch.where(zero, torch.zeros_like(pulled), pulled) * first * second
    return (pulled.mH if flip else pulled).to(x.dtype)


def _unit_scales(y: Tensor) -> tuple[Tensor, Tensor]:
    """Two powers of two whose product brings the Frobenius norm to between a half and one."""
    y = y.detach()
    parts = torch.view_as_real(y.resolve_conj()).flatten(-2) if y.is_complex() else y
    top = parts.abs().amax((-2, -1), keepdim=True)
    exponent = -torch.frexp(top).exponent
    exponent = torch.where(top > 0, exponent, torch.zeros_like(exponent))
    one = torch.ones_like(top)
    # Half of the exponent at a time: the whole one may be out of range.
    half = torch.div(exponent, 2, rounding_mode="floor")
    first, second = torch.ldexp(one, half), torch.ldexp(one, exponent - half)
    size = torch.linalg.vector_norm(y * first * second, dim=(-2, -1), keepdim=True)
    return first, second * torch.ldexp(one, -torch.frexp(size).exponent)


def _norm(y: Tensor, rule: str) -> tuple[Tensor, Tensor]:
    """What `y` is divided by, 1 where that is 0; and where it is."""
    power, factor = 2, y
    if rule == "schatten":
        gram = y @ y.mH
        power, factor = 8, gram @ gram
    sums = real_product(factor, factor)
    zero = sums == 0
    return torch.where(zero, torch.ones_like(sums), sums) ** (1 / power), zero


def _through_steps(
    y: Tensor, g: Tensor, table: Sequence[tuple[float, float, float]]
) -> tuple[Tensor, Tensor]:
    """The normalized matrix, and the cotangent `g` pulled back to it."""
    start, kept = y, []
    for step, (a, b, c) in enumerate(table):
        gram = y @ y.mH
        polynomial = b * gram + c * (gram @ gram)
        kept.append((y, gram, polynomial))
        if step + 1 < len(table):
            y = a * y + polynomial @ y
    for a, b, c in reversed(table):
        y, gram, polynomial = kept.pop()
        s = g @ y.mH
        s = s + s.mH
        k = s @ gram
        g = a * g + polynomial @ g + (b * s + c * (k + k.mH)) @ y
    return start, g


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

    The backward pass takes :math:`T (5 n/m + 2) m^3` multiply-adds for :math:`T` steps and
    :math:`m \le n`, and keeps the iterates, :math:`T (mn + 2m^2)` numbers, while it lasts; from the
    forward pass it keeps `x` alone. It is computed in the precision of `x`, or of `compute_dtype`
    if that is float64; of half-precision `x` in float32.

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
    check_options(
        _plain,
        x,
        steps,
        method=method,
        compute_dtype=compute_dtype,
        check_finite=check_finite,
    )
    name, rows = "", _NO_ROWS
    if isinstance(coefficients, str):
        name = coefficients
    else:
        rows = [number for row in tables._rows("coefficients", coefficients) for number in row]
    rule, bound = _newton_schulz._normalization(normalization)
    arithmetic = compute_dtype
    if compute_dtype is not None and not isinstance(compute_dtype, str):
        arithmetic = _newton_schulz._dtype_name(compute_dtype)
    result = _operator(
        x, int(steps), name, rows, "" if rule == "bound" else rule, bound, method, arithmetic,
        check_finite,
    )  # fmt: skip
    return result
