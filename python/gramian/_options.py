"""Options that many functions have, checked."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from ._arrays import refuse_gradient


def check_flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {value!r}; it must be True or False")
    return bool(value)


def check_finite_option(check_finite: Any, default: bool) -> bool:
    """Whether to look for NaN and infinity. The default is that of None: mostly on the CPU alone,
    as the answer has to be waited for on a GPU."""
    if check_finite is None:
        return default
    if not isinstance(check_finite, bool | np.bool_):
        raise TypeError(f"check_finite is {check_finite!r}; it must be None, True or False")
    return bool(check_finite)


def check_whole_number(value: Any, name: str) -> int:
    if isinstance(value, bool | np.bool_) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{name} is {value!r}; it must be an int of at least 0")
    number = operator.index(value)
    if number < 0:
        raise ValueError(f"{name} is {number}; it must be at least 0")
    return min(number, 2**31 - 1)


def check_tolerance(rtol: Any) -> float:
    allowed = "it must be a positive number"
    if isinstance(rtol, bool | np.bool_ | str):
        raise TypeError(f"rtol is {rtol!r}; {allowed}")
    refuse_gradient(rtol, "rtol")
    try:
        number = float(rtol)
    except OverflowError as error:
        raise ValueError(f"rtol is {rtol!r}; {allowed}") from error
    except (TypeError, ValueError) as error:
        raise TypeError(f"rtol is {rtol!r}; {allowed}") from error
    if not 0 < number < math.inf:
        raise ValueError(f"rtol is {rtol!r}; {allowed}")
    return number


def check_choice(value: Any, name: str, allowed: tuple[str, ...]) -> None:
    message = f"{name} is {value!r}; it must be one of {', '.join(map(repr, allowed))}"
    if not isinstance(value, str):
        raise TypeError(message)
    if value not in allowed:
        raise ValueError(message)


def seed_of(rng: Any) -> int:
    """64 bits; None always gives the same ones, a generator its next."""
    if rng is None:
        return 0
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**64, dtype=np.uint64))
    if isinstance(rng, bool | np.bool_) or not hasattr(type(rng), "__index__"):
        raise TypeError(f"rng is {rng!r}; it must be None, an int or a numpy.random.Generator")
    seed = operator.index(rng)
    if seed < 0:
        raise ValueError(f"rng is {seed}; it must be None, an int of at least 0 or a generator")
    return seed % 2**64
