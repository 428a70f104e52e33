"""rsvd of dense tensors as an operator; it has no derivative."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from .. import _rsvd, _rsvd_arguments
from . import _library as library
from ._library import followed, matrices, operator


class Factors(NamedTuple):
    """``U @ diag(S) @ Vh``.

    Attributes
    ----------
    U : tensor of shape (..., m, k)
    S : tensor of shape (..., k)
        Descending.
    Vh : tensor of shape (..., k, n)
    """

    U: Tensor
    S: Tensor
    Vh: Tensor


def _shapes(
    a: Tensor,
    rank: int,
    oversample: int,
    passes: int,
    method: str,
    center: bool,
    seed: int,
    check_finite: bool | None,
) -> tuple[Tensor, Tensor, Tensor]:
    matrices(a, "a")
    *batch, m, n = a.shape
    k = rank if min(m, n) else 0
    return (
        a.new_empty(*batch, m, k),
        a.new_empty(*batch, k, dtype=library.real_dtype(a)),
        a.new_empty(*batch, k, n),
    )


@operator("rsvd", _shapes)
def _operator(
    a: Tensor,
    rank: int,
    oversample: int,
    passes: int,
    method: str,
    center: bool,
    seed: int,
    check_finite: bool | None,
) -> tuple[Tensor, Tensor, Tensor]:
    found = _rsvd.rsvd(
        a,
        rank,
        oversample=oversample,
        passes=passes or "auto",
        method=method,
        center=center,
        rng=library.seed_from(seed),
        check_finite=check_finite,
    )
    return found.U, found.S, found.Vh


def rsvd(
    a: Tensor,
    rank: int,
    *,
    oversample: int = 10,
    passes: int | str = "auto",
    method: str = "auto",
    center: bool = False,
    rng: Any = None,
    check_finite: bool | None = None,
) -> Factors:
    r""":func:`gramian.rsvd` of a dense tensor as an operator of torch, for a rank given beforehand.

    Parameters
    ----------
    a : tensor of shape (..., m, n)
    rank, oversample, passes, method, center, rng, check_finite
        As for :func:`gramian.rsvd`.

    Returns
    -------
    Factors
        Unpacks as ``U, S, Vh``.

    Raises
    ------
    TypeError
        `a` requires grad while gradients are recorded: there is no derivative. Else as
        :func:`gramian.rsvd`.
    ValueError
        As :func:`gramian.rsvd`.

    References
    ----------
    .. [1] Halko, Martinsson, Tropp, "Finding Structure with Randomness", SIAM Review 53, 2011.

    Examples
    --------
    >>> import torch
    >>> import gramian.torch as gt
    >>> a = torch.outer(torch.arange(1.0, 5.0), torch.ones(3))
    >>> U, S, Vh = gt.rsvd(a, 1)
    >>> bool(torch.allclose(U * S @ Vh, a))
    True
    """
    if not followed(a):
        found = _rsvd.rsvd(
            a, rank, oversample=oversample, passes=passes, method=method, center=center, rng=rng,
            check_finite=check_finite,
        )  # fmt: skip
        return Factors(found.U, found.S, found.Vh)
    matrices(a, "a")
    library.without_gradient(a, "a", "rsvd")
    asked = _rsvd_arguments.checked_request(
        rank, None, oversample, passes, method, center, None, side=min(a.shape[-2:])
    )
    seed = library.seed_of(rng)
    return Factors(
        *_operator(
            a, int(rank), asked.oversample, asked.passes, method, asked.center, seed, check_finite
        )
    )
