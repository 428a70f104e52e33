"""Options that many functions have, checked."""

from __future__ import annotations

from typing import Any

import numpy as np


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
