"""Batches and parameters of the streaming estimators, checked."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import _arrays
from ._rsvd_rows import entries, is_sparse

HALF = ("float16", "bfloat16")
REAL = (*HALF, "float32", "float64")
COMPLEX = ("complex64", "complex128")

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
    """A checked batch: rows in pieces that fit in cache, in the precision of the stream.

    `dtypes` are those that an estimator takes.
    """

    def __init__(
        self, x: Any, sample_weight: Any, features: int, dtypes: tuple[str, ...] = REAL
    ) -> None:
        self._sparse = is_sparse(x)
        self.library = "numpy"
        if self._sparse:
            if x.format != "csr":
                raise TypeError(f"X is a sparse matrix of format {x.format}; convert it: X.tocsr()")
            # scipy has no sparse matrices of half precision.
            dtypes = tuple(name for name in dtypes if name not in HALF)
            self._value, self.dtype, shape = x, x.dtype.name, tuple(x.shape)
            if self.dtype not in dtypes:
                raise TypeError(
                    f"X is a sparse matrix of {self.dtype}; it must be one of {', '.join(dtypes)}"
                )
        else:
            checked = _arrays.array(x, "X", dtypes)
            if checked.device[0] != "cpu":
                raise NotImplementedError(
                    f"X lies on {checked.device[0]}:{checked.device[1]}; streaming estimators run "
                    "on the CPU so far"
                )
            self._value, self.dtype, shape = x, checked.dtype, checked.shape
            self.library = checked.library.name
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
        """Rows of nonzero weight, their weights (None: all 1) and the largest magnitude.

        Of complex entries that of real and imaginary parts.
        """
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
            top = _largest(rows)
            if not math.isfinite(top):
                raise ValueError("X contains NaN or infinity")
            if self.weights is not None:
                weights = self.weights[first:last]
                present = weights > 0
                if not present.all():
                    rows, weights = rows[present], weights[present]
                    if not rows.size:
                        continue
                    top = _largest(rows)
                if (weights == 1).all():
                    weights = None
            yield rows, weights, top


def _largest(rows: Any) -> float:
    reals = rows.view(rows.real.dtype) if rows.dtype.kind == "c" else rows
    return max(float(reals.max()), -float(reals.min()))


def _checked_weights(value: Any, rows: int) -> Any:
    if value is None:
        return None
    _arrays.refuse_gradient(value, "sample_weight")
    if getattr(value, "requires_grad", False):  # under torch.no_grad()
        value = value.detach()
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
    """What rows of a dtype are handed to the kernels in; half precision in float32."""
    return "float32" if dtype in HALF else dtype


def wide_name(dtype: str) -> str:
    """Double precision of the same kind, real or complex."""
    return "complex128" if dtype in COMPLEX else "float64"


def real_name(dtype: str, *, figures: bool = False) -> str:
    """What real vectors of a stream are returned in, or means and eigenvalues.

    Squares of entries above 256 are beyond float16.
    """
    if figures:
        return _arrays.real_dtype(dtype)
    return {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
