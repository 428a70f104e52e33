"""Arguments of operator_norm_bounds, checked: what an operator is, what its products return."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._lanczos import Vector
from ._options import seed_of

_ACCEPTED = (
    "a scipy sparse matrix or array, a scipy LinearOperator, a tuple (matvec, rmatvec, shape, "
    "dtype), or an object with shape, dtype, matvec and rmatvec"
)
_DTYPES = ("float32", "float64", "complex64", "complex128")


def check_probability(value: Any, name: str) -> float:
    allowed = "it must be a number between 0 and 1, neither of them included"
    if isinstance(value, bool | np.bool_ | str):
        raise TypeError(f"{name} is {value!r}; {allowed}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {value!r}; {allowed}") from error
    if not 0 < number < 1:
        raise ValueError(f"{name} is {value!r}; {allowed}")
    return number


def generator_of(rng: Any) -> np.random.Generator:
    if isinstance(rng, np.random.Generator):
        return rng
    # No seed of its own for None: the probability is over the start vector.
    seed = None if rng is None else seed_of(rng)
    return np.random.Generator(np.random.Philox(seed))


def is_sparse(op: Any) -> bool:
    # Such a matrix can only exist once its package is loaded.
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(op))


def dtype_of(dtype: Any) -> np.dtype[Any]:
    try:
        # NumPy takes None for float64.
        name = "None" if dtype is None else np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in _DTYPES:
        raise TypeError(f"op has dtype {name}; it must be one of {', '.join(_DTYPES)}")
    native: np.dtype[Any] = np.dtype(name)
    return native


def _shape_of(shape: Any) -> tuple[int, int]:
    try:
        m, n = shape
        sizes = (m.__index__(), n.__index__())
    except (AttributeError, TypeError, ValueError):
        sizes = (-1, -1)
    if min(sizes) < 0:
        raise ValueError(f"op has shape {shape!r}; it must be two sizes (m, n), each at least 0")
    return sizes


@dataclass(frozen=True)
class Operator:
    """Products with checked results, in the operator's dtype."""

    matvec: Callable[[Any], Any]
    rmatvec: Callable[[Any], Any]
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def apply(self, v: Vector, *, adjoint: bool) -> Vector:
        """A v or A^H v, from and to double precision."""
        name, call = ("rmatvec", self.rmatvec) if adjoint else ("matvec", self.matvec)
        size = self.shape[1] if adjoint else self.shape[0]
        try:
            result = np.asarray(call(v.astype(self.dtype)))
        except NotImplementedError as error:
            raise TypeError(
                f"op has no {name}; both A v (matvec) and A^H u (rmatvec) are needed"
            ) from error
        if result.shape not in ((size,), (size, 1)):
            raise ValueError(
                f"op.{name} returned shape {result.shape} for a vector of {v.size}; it must be "
                f"({size},), as op has shape {self.shape}"
            )
        if result.dtype.kind not in "fc" + "iu" or (
            result.dtype.kind == "c" and self.dtype.kind != "c"
        ):
            raise TypeError(
                f"op.{name} returned {result.dtype.name}; op has dtype {self.dtype.name}"
            )
        result = result.reshape(size).astype(v.dtype)
        if not np.all(np.isfinite(result)):
            raise ValueError(f"op.{name} returned NaN or infinity for a finite vector")
        return result


def operator_of(op: Any) -> Operator:
    if isinstance(op, tuple):
        if len(op) != 4:
            raise TypeError(f"op is a tuple of {len(op)}; it must be {_ACCEPTED}")
        matvec, rmatvec, shape, dtype = op
    else:
        missing = object()
        parts = [getattr(op, name, missing) for name in ("matvec", "rmatvec", "shape", "dtype")]
        if any(part is missing for part in parts):
            kind = f"{type(op).__module__}.{type(op).__qualname__}".removeprefix("builtins.")
            dense = "; a dense matrix goes to gramian.spectral_norm_bounds"
            raise TypeError(
                f"op is a {kind}; it must be {_ACCEPTED}{dense if hasattr(op, 'ndim') else ''}"
            )
        matvec, rmatvec, shape, dtype = parts
    for name, call in (("matvec", matvec), ("rmatvec", rmatvec)):
        if not callable(call):
            raise TypeError(f"op has {name} {call!r}; it must be a function")
    return Operator(matvec, rmatvec, _shape_of(shape), dtype_of(dtype))
