"""The equation P Y + Y P = C, on which derivatives of polar factors and square roots rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _library as library
from ._library import operator


@operator("_lyapunov", lambda p, c, unit: library.like(c))
def _operator(p: Tensor, c: Tensor, unit: float) -> Tensor:
    """By eigenvectors of `p`, in double precision."""
    if p.numel() == 0:
        return library.like(c)
    wide_p, wide_c, nan = library.without_nan(library.wide(p), library.wide(c))
    values, vectors = torch.linalg.eigh(wide_p)
    sums = values[..., :, None] + values[..., None, :]
    least = unit * p.shape[-1] * values.abs().amax(-1)[..., None, None]
    turned = vectors.mH @ wide_c @ vectors
    solved = turned / torch.where(sums <= least, torch.full_like(sums, torch.inf), sums)
    result: Tensor = (vectors @ solved @ vectors.mH + nan).to(c.dtype).contiguous()
    return result


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    library.save(ctx, inputs[0], output)
    ctx.unit = inputs[2]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    p, y = ctx.saved_tensors
    z = _operator(p, grad, ctx.unit)
    return -(z @ y.mH + y.mH @ z).to(p.dtype), z, None


def _forward(ctx: Any, dp: Tensor, dc: Tensor, *_: Any) -> Tensor:
    p, y = ctx.saved_tensors
    found: Tensor = _operator(p, dc - (dp @ y + y @ dp), ctx.unit)
    return found


_operator.register_autograd(_backward, setup_context=_setup, forward=_forward)


def lyapunov(p: Tensor, c: Tensor, dtype: torch.dtype) -> Tensor:
    """Y with ``p Y + Y p = c``, `p` Hermitian positive semidefinite; differentiable.

    Where two eigenvalues of `p`, which stems from matrices of the dtype, sum to no more than its
    rounding, that part of `c` counts as 0.
    """
    half = dtype in (torch.float16, torch.bfloat16)
    result: Tensor = _operator(p, c, torch.finfo(torch.float32 if half else dtype).eps)
    return result
