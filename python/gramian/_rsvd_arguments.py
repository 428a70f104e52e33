"""Arguments that every randomized SVD takes, checked: dense, on a GPU, sparse or in row blocks."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._options import check_choice, seed_of

_METHODS = ("auto", "subspace", "krylov", "gram", "single_pass")


@dataclass(frozen=True)
class Request:
    """`tolerance` is 0 for None, `passes` 0 for "auto"."""

    rank: int | None
    tolerance: float
    oversample: int
    passes: int
    method: str
    center: bool
    seed: int


def checked_request(
    rank: Any,
    tol: Any,
    oversample: Any,
    passes: Any,
    method: Any,
    center: Any,
    rng: Any,
    *,
    side: int | None = None,
) -> Request:
    """`side`: min(m, n), where it is known yet."""
    tolerance = _tolerance(tol)
    if rank is None and not tolerance:
        raise ValueError("rank is None and tol is None; give at least one of them")
    wanted = None if rank is None else count(rank, "rank", 1)
    if wanted is not None and side is not None and wanted > side:
        raise ValueError(f"rank is {wanted}; it must be from 1 to min(m, n) = {side}")
    more = count(oversample, "oversample", 0)
    check_choice(method, "method", _METHODS)
    reads = reads_of(passes, method, tolerance)
    if not isinstance(center, bool | np.bool_):
        raise TypeError(f"center is {center!r}; it must be True or False")
    return Request(wanted, tolerance, more, reads, method, bool(center), seed_of(rng))


def count(value: Any, name: str, least: int) -> int:
    if isinstance(value, bool | np.bool_) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{name} is {value!r}; it must be an int of at least {least}")
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name} is {number}; it must be at least {least}")
    return min(number, 2**31 - 1)


def _tolerance(tol: Any) -> float:
    """0 for None."""
    if tol is None:
        return 0.0
    allowed = "it must be None or a number in (0, 1)"
    if isinstance(tol, bool | np.bool_ | str):
        raise TypeError(f"tol is {tol!r}; {allowed}")
    try:
        number = float(tol)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"tol is {tol!r}; {allowed}") from error
    if not 0 < number < 1:
        raise ValueError(f"tol is {tol!r}; {allowed}")
    return number


def reads_of(passes: Any, method: str, tolerance: float) -> int:
    """0 for "auto"."""
    if isinstance(passes, str):
        if passes != "auto":
            raise ValueError(f"passes is {passes!r}; it must be 'auto' or an int of at least 1")
        if tolerance and method not in ("auto", "krylov", "gram"):
            raise ValueError(
                f"method is {method!r}; with tol it must be 'auto', 'krylov' or 'gram'"
            )
        return 0
    number = count(passes, "passes", 1)
    if tolerance:
        raise ValueError(f"passes is {number}; with tol it must be 'auto'")
    for name, reads in (("single_pass", 1), ("gram", 2)):
        if method == name and number != reads:
            raise ValueError(f"passes is {number}; method {name!r} makes {reads}")
    return number
