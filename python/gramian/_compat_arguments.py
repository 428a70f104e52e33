"""Arguments as other libraries take them, made into gramian's."""

from __future__ import annotations

import contextlib
import importlib
import operator
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import _arrays, _rsvd_rows
from ._options import seed_of


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """An argument has another name here than in gramian's own functions, and no check_finite."""
    try:
        yield
    except ValueError as error:
        _, contains, rest = str(error).partition(" contains NaN or infinity")
        if not contains:
            raise
        raise ValueError(f"{name}{contains}{rest.partition(';')[0]}") from None


def matrix_of(value: Any, name: str) -> Any:
    """One matrix in a floating dtype."""
    if not _rsvd_rows.is_sparse(value) and not hasattr(value, "__dlpack__"):
        value = np.asarray(value)
    if len(value.shape) != 2:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; it must be (m, n)")
    if isinstance(value.dtype, np.dtype) and value.dtype.kind in "biu":
        value = value.astype(np.float64)
    elif isinstance(value.dtype, np.dtype) and not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    if not _rsvd_rows.is_sparse(value):
        _arrays.matrices(value, name)
    return value


def warn_of_format(a: Any) -> None:
    if _rsvd_rows.is_sparse(a) and a.format in ("lil", "dok"):
        sparse = sys.modules["scipy.sparse"]
        kind = type(a).__name__
        warnings.warn(
            f"Calculating SVD of a {kind} is expensive. CSR format is more efficient.",
            sparse.SparseEfficiencyWarning,
            stacklevel=3,
        )


def seed_of_state(value: Any) -> int:
    if isinstance(value, np.random.RandomState):
        return int(value.randint(2**31 - 1))
    try:
        return seed_of(value)
    except TypeError:
        raise TypeError(
            f"random_state is {value!r}; it must be None, an int, a numpy.random.RandomState or a "
            "numpy.random.Generator"
        ) from None
    except ValueError as error:
        raise ValueError(f"random_state{str(error).removeprefix('rng')}") from None


def scipy_of(tensor: Any) -> tuple[Any, Any]:
    """A sparse tensor as scipy's matrix, and its values."""
    sparse = importlib.import_module("scipy.sparse")

    if len(tensor.shape) != 2:
        raise ValueError(f"A has shape {tuple(tensor.shape)}; a sparse one must be (m, n)")
    coalesced = tensor.to_sparse_coo().coalesce()
    values = _arrays.array(coalesced.values(), "A")
    places = coalesced.indices().numpy()
    data = _rsvd_rows.entries(values)
    sizes = tuple(operator.index(s) for s in tensor.shape)
    return sparse.coo_array((data, (places[0], places[1])), shape=sizes), values.value
