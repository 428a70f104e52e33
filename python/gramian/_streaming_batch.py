"""Batches and parameters of the streaming estimators, checked."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import _arrays
from ._rsvd_rows import entries, is_sparse

_DTYPES = ("float16", "bfloat16", "float32", "float64")

# Entries that are checked and then used while they are in cache.
PIECE_ENTRIES = 2**18


def checked_size(value: Any, name: str, *, least: int = 1) -> int:
    """An integer parameter."""
    if isinstance(value, bool | np.bool_) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{name} is {value!r}; it must be an int of at least {least}")
    size = operator.index(value)
    if size < least:
        raise ValueError(f"{name} is {size}; it must be at least {least}")
    return size


def checked_number(value: Any, name: str, *, above: float, most: float = math.inf) -> float:
    """A real parameter in (above, most]."""
    if isinstance(value, bool | np.bool_) or not hasattr(type(value), "__float__"):
        raise TypeError(f"{name} is {value!r}; it must be a number")
    number = float(value)
    if not above < number <= most or math.isinf(number):
        limit = "" if math.isinf(most) else f" and at most {most:g}"
        raise ValueError(f"{name} is {value!r}; it must be above {above:g}{limit}")
    return number


class Batch:
    """A checked batch: rows in pieces that fit in cache, in the precision of the stream."""

    def __init__(self, x: Any, sample_weight: Any, features: int) -> None:
        self._sparse = is_sparse(x)
        self.library = "numpy"
        if self._sparse:
            if x.format != "csr":
                raise TypeError(f"X is a sparse matrix of format {x.format}; convert it: X.tocsr()")
            self._value, self.dtype, shape = x, x.dtype.name, tuple(x.shape)
        else:
            checked = _arrays.array(x, "X")
            if checked.device[0] != "cpu":
                raise NotImplementedError(
                    f"X lies on {checked.device[0]}:{checked.device[1]}; streaming estimators run "
                    "on the CPU so far"
                )
            self._value, self.dtype, shape = x, checked.dtype, checked.shape
            self.library = checked.library.name
        if self.dtype not in _DTYPES:
            raise TypeError(f"X has dtype {self.dtype}; it must be one of {', '.join(_DTYPES)}")
        if len(shape) != 2:
            raise ValueError(
                f"X has shape {shape}; it must have 2 dimensions (rows, n_features). Reshape your "
                "data: a single row is x.reshape(1, -1)"
            )
        if shape[1] != features:
            raise ValueError(f"X has {shape[1]} columns; n_features is {features}")
        if shape[0] < 1:
            raise ValueError(f"X has shape {shape}; it must have at least 1 row")
        if not self._sparse:
            self._value = entries(checked)
        self.rows = shape[0]
        self.weights = _checked_weights(sample_weight, self.rows)
        self._step = max(1, PIECE_ENTRIES // features)
        self.pieces_count = -(-self.rows // self._step)

    def as_stored(self) -> tuple[Any, Any] | None:
        """Rows and weights without a copy and unchecked; None where they must be made first."""
        rows = self._value
        if self._sparse or rows.dtype != compute_name(self.dtype):
            return None
        if not rows.flags.c_contiguous or (self.weights is not None and (self.weights <= 0).any()):
            return None
        return rows, self.weights

    def pieces(self, begin: int = 0, end: int | None = None) -> Iterator[tuple[Any, Any, float]]:
        """Rows of nonzero weight, their weights (None: all 1) and the largest magnitude."""
        compute = np.dtype(compute_name(self.dtype))
        end = self.rows if end is None else end
        for first in range(begin, end, self._step):
            last = min(end, first + self._step)
            rows = self._value[first:last]
            if self._sparse:
                rows = rows.toarray()
            rows = np.ascontiguousarray(rows, dtype=compute)
            weights = None
            # Before rows of weight 0 are left out: NaN in X is an error wherever it stands.
            top = max(float(rows.max()), -float(rows.min()))
            if not math.isfinite(top):
                raise ValueError("X contains NaN or infinity")
            if self.weights is not None:
                weights = self.weights[first:last]
                present = weights > 0
                if not present.all():
                    rows, weights = rows[present], weights[present]
                    if not rows.size:
                        continue
                    top = max(float(rows.max()), -float(rows.min()))
                if (weights == 1).all():
                    weights = None
            yield rows, weights, top


def _checked_weights(value: Any, rows: int) -> Any:
    if value is None:
        return None
    weights = np.asarray(value)
    if weights.dtype.kind not in "fiu":
        raise TypeError(f"sample_weight has dtype {weights.dtype}; it must be real numbers")
    weights = weights.astype(np.float64)
    if weights.shape != (rows,):
        raise ValueError(f"sample_weight has shape {weights.shape}; X has {rows} rows")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("sample_weight must be finite and at least 0")
    if ((weights > 0) & ((weights < 2.0**-200) | (weights > 2.0**200))).any():
        raise ValueError("sample_weight must be 0 or between 2^-200 and 2^200")
    return weights


def compute_name(dtype: str) -> str:
    """What rows of a dtype are computed in; half precision in float32."""
    return "float64" if dtype == "float64" else "float32"
