"""What a randomized SVD returns, and what it raises where it falls short."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


class ConvergenceError(ArithmeticError):
    """What was asked for was not reached.

    Attributes
    ----------
    best : object
        The best result found, in the form that the function returns.
    residual : float
        The error of `best`, in the measure of the tolerance.
    """

    def __init__(self, message: str, best: Any = None, residual: float = math.nan) -> None:
        super().__init__(message)
        self.best = best
        self.residual = residual


@dataclass(frozen=True)
class SVDInfo:
    """How a randomized SVD was found and how good it is.

    For a batch `passes`, `error_estimate` and `fallbacks` are arrays or lists of shape (...) or of
    that many entries; `rank`, `error_kind` and `method` hold for all.

    Attributes
    ----------
    rank : int
        Number of singular values returned.
    passes : int or array of int
        Complete reads of the matrix. None was made to validate it or to find its size.
    error_estimate : float or array of float
        :math:`\\|A - U S V^H\\|_F / \\|A\\|_F`, `A` centered where that was asked for.
    error_kind : {"estimate", "upper bound"}
        ``"upper bound"``: proved, every rounding error accounted for.
    method : {"subspace", "krylov", "gram", "single_pass"}
        What ran.
    fallbacks : dict of str to int, or list of such
        How often Cholesky QR needed a ``"shifted"`` Gram matrix or ``"householder"`` QR; on a GPU
        also whether all was ``"restarted"`` because the road without waits did not do.
    """

    rank: int
    passes: Any
    error_estimate: Any
    error_kind: str
    method: str
    fallbacks: Any


@dataclass(frozen=True)
class SVDResult:
    """``U @ diag(S) @ Vh``; unpacks as ``U, S, Vh``.

    Attributes
    ----------
    U : array of shape (..., m, k)
    S : array of shape (..., k)
        Descending.
    Vh : array of shape (..., k, n)
    info : SVDInfo
    """

    U: Any
    S: Any
    Vh: Any
    info: SVDInfo

    def __iter__(self) -> Iterator[Any]:
        return iter((self.U, self.S, self.Vh))
