"""The derivative of newton_schulz: the chain rule through its polynomials, in one sweep.

With Y = X / s, s the norm, the result is Q = f(Y), f the composed polynomials. The derivative L of
f at Y is self-adjoint in Re tr(A^H B), as divided differences are symmetric. So a sweep forward
gives both the derivative in a direction E, ``L(E - <D, E> Y) / s``, and the gradient by X where E
is that by Q, ``(L(E) - <L(E), Y> D) / s``, D being the gradient of s by Y. No iterate is kept for
a sweep back.

On the CPU the core does it (cpp/src/newton_schulz_derivative.cpp). Here it is made of torch's
products, for GPUs and where it is to be differentiated again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _newton_schulz
from ..coefficients import Row
from . import _library as library
from ._library import like, operator, real_product, single

# The Gram form has the fewer products from this aspect on: 10 n/m + 35 against 25 n/m + 11 m^3,
# with the default rows.
GRAM_ASPECT = 2


def table_of(rows: Sequence[float], name: str, steps: int, rule: str) -> tuple[Row, ...]:
    return _newton_schulz._table(triples(rows) if rows else name, steps, rule)


def triples(rows: Sequence[float]) -> list[Row]:
    return [(rows[i], rows[i + 1], rows[i + 2]) for i in range(0, len(rows), 3)]


def _shapes(x: Tensor, *_: Any) -> Tensor:
    return like(x)


@operator("_newton_schulz_derivative", _shapes)
def _operator(
    x: Tensor,
    direction: Tensor,
    steps: int,
    coefficients: str,
    rows: Sequence[float],
    normalization: str,
    bound: float,
    double: bool,
    adjoint: bool,
) -> Tensor:
    rule = normalization or "bound"
    table = table_of(rows, coefficients, steps, rule)
    if x.is_cpu:
        result: Tensor = _newton_schulz._derivative(
            x, direction.to(x.dtype), table, rule, bound, double, adjoint
        )
        return result
    return by_products(x, direction, table, rule, bound, double, adjoint).contiguous()


def derivative(x: Tensor, direction: Tensor, options: Sequence[Any], *, adjoint: bool) -> Tensor:
    """In a direction; or, `adjoint`, the gradient by `x` where `direction` is that by the result.

    `options` are the operator's from `steps` to `compute_dtype`.
    """
    steps, name, rows, normalization, bound, _, compute_dtype = options
    double = compute_dtype in ("float64", "complex128")
    if x.is_cpu and not library.differentiated_again():
        return _operator(x, direction, steps, name, rows, normalization, bound, double, adjoint)  # type: ignore[no-any-return]
    rule = normalization or "bound"
    with library.as_given(x):
        return by_products(
            x, direction, table_of(rows, name, steps, rule), rule, bound, double, adjoint
        )


def by_products(
    x: Tensor,
    direction: Tensor,
    table: Sequence[Row],
    rule: str,
    bound: float,
    double: bool,
    adjoint: bool,
) -> Tensor:
    if x.numel() == 0:
        return torch.zeros_like(x)
    dtype = torch.promote_types(x.dtype, torch.float64) if double else single(x).dtype
    y, d = x.to(dtype), direction.to(dtype)
    flip = x.shape[-2] > x.shape[-1]
    if flip:
        y, d = y.mH, d.mH
    restarts = _restarts(y, table)
    if rule == "bound":
        y = y / bound
        found = _sweep(y, d, _gram(y), _cross(y, d), None, table, restarts) / bound
    else:
        # The result does not depend on the scale: by powers of two it is brought near 1, so that
        # no power of an entry below leaves the range of its dtype.
        first, second = _unit_scales(y)
        y = y * first * second
        gram = _gram(y)
        square = gram @ gram if rule == "schatten" else None
        norm, zero = _norm(y, square)
        y, gram = y / norm, gram / norm**2
        half = torch.eye(gram.shape[-1], dtype=dtype, device=y.device)
        if square is not None:
            square = square / norm**4
            half = square @ gram  # D is half Y
        cross = _cross(y, d)
        if not adjoint:
            along = real_product(half, cross) / 2
            d, cross = d - along * y, cross - 2 * along * gram
        found = _sweep(y, d, gram, cross, square, table, restarts)
        if adjoint:
            slope = half @ y if square is not None else y
            found = found - real_product(found, y) * slope
        found = found / norm
        found = torch.where(zero, torch.zeros_like(found), found) * first * second
    return (found.mH if flip else found).to(x.dtype)


def _gram(y: Tensor) -> Tensor:
    return y @ y.mH


def _cross(y: Tensor, d: Tensor) -> Tensor:
    """The derivative of the Gram matrix."""
    return _twice_hermitian(d @ y.mH)


def _twice_hermitian(a: Tensor) -> Tensor:
    return a + a.mH


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


def _norm(y: Tensor, square: Tensor | None) -> tuple[Tensor, Tensor]:
    """What `y` is divided by, 1 where that is 0; and where it is."""
    power, factor = (2, y) if square is None else (8, square)
    sums = real_product(factor, factor)
    zero = sums == 0
    return torch.where(zero, torch.ones_like(sums), sums) ** (1 / power), zero


def _restarts(y: Tensor, table: Sequence[Row]) -> tuple[int, ...]:
    """Before which steps the matrix itself is made again: before each in the standard form."""
    if y.shape[-1] < GRAM_ASPECT * y.shape[-2]:
        return tuple(range(1, len(table)))
    precision = "float64" if y.dtype in (torch.float64, torch.complex128) else "float32"
    # Rows and precision decide; the shape only says what is cheap.
    return _newton_schulz._plan("cpu", 1, GRAM_ASPECT, tuple(table), precision, "gram")[1]


def _sweep(
    y: Tensor,
    d: Tensor,
    gram: Tensor,
    cross: Tensor,
    square: Tensor | None,
    table: Sequence[Row],
    restarts: Sequence[int],
) -> Tensor:
    """L(d) at `y`, by its Gram matrix, the derivative of that and its square, if known.

    With A the Gram matrix of a segment's first Y, M = a + bA + cA^2 is a step's polynomial; the
    next P is M P, the next A is M A M. At a segment's end P Y is the new Y. The derivative of each
    stands beside it; all matrices of the short side are Hermitian.
    """
    p = dp = None
    # On a GPU small matrices take as long as there are calls: few of them.
    one = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    for step, (a, b, c) in enumerate(table):
        if square is None:
            square = gram @ gram
        m = torch.add(torch.add(c * square, gram, alpha=b), one, alpha=a)
        dm = torch.add(b * cross, _twice_hermitian(gram @ cross), alpha=c)
        square = None
        old_p, old_dp = p, dp
        p, dp = (m, dm) if old_p is None else (m @ old_p, dm @ old_p + m @ old_dp)
        last = step + 1 == len(table)
        if last or step + 1 in restarts:
            d = p @ d + dp @ y
            if not last:
                y = p @ y
                gram, cross = _gram(y), _cross(y, d)
                p = dp = None
        else:
            half = m @ gram
            cross = m @ cross @ m + _twice_hermitian(dm @ half)
            gram = half @ m
    return d
