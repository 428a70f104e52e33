"""Batches of streams on a GPU: what is checked of rows and weights without waiting for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays, _backend
from ._streaming_batch import _checked_weights

if TYPE_CHECKING:
    from ._streaming_base import State

_DTYPES = ("float16", "bfloat16", "float32", "float64")

# A decayed row counts as one until its factor is below.
_LEAST_FACTOR = 2.0**-1000


def checked(x: Any, features: int) -> _arrays.Array:
    batch = _arrays.array(x, "X")
    if batch.dtype.startswith("complex"):
        raise NotImplementedError(
            f"X has dtype {batch.dtype}; streams on a GPU take real rows only so far"
        )
    if batch.dtype not in _DTYPES:
        raise TypeError(f"X has dtype {batch.dtype}; it must be one of {', '.join(_DTYPES)}")
    if len(batch.shape) != 2:
        raise ValueError(f"X has shape {batch.shape}; it must have 2 dimensions (rows, n_features)")
    if batch.shape[1] != features:
        raise ValueError(f"X has {batch.shape[1]} columns; n_features is {features}")
    if batch.shape[0] < 1:
        raise ValueError(f"X has shape {batch.shape}; it must have at least 1 row")
    return batch


def must_match(batch: _arrays.Array, state: State) -> None:
    device = state["device"]
    if device is not None and batch.device != device:
        raise ValueError(
            f"X lies on {batch.device[0]}:{batch.device[1]}; the rows before lay on "
            f"{device[0]}:{device[1]}. state_dict() and load_state_dict() move an estimator"
        )
    if batch.dtype != state["dtype"] or (
        device is not None and batch.library.name != state["library"]
    ):
        raise TypeError(
            f"X is a {batch.library.name} array of {batch.dtype}; the rows before were of "
            f"{state['library']} and {state['dtype']}"
        )


def weights_of(batch: _arrays.Array, given: Any) -> Any:
    """float64 on the batch's device; not a number where negative, which nobody waits to see."""
    if given is None:
        return None
    on_device = not isinstance(given, np.ndarray) and hasattr(given, "__dlpack__")
    if on_device:
        own = _arrays.array(given, "sample_weight")
        if own.device[0] == "cpu":
            given = own.host()
        else:
            return _device_weights(batch, own)
    weights = _checked_weights(given, batch.shape[0])
    return batch.library.from_host(weights, batch.device)


def _device_weights(batch: _arrays.Array, weights: _arrays.Array) -> Any:
    if weights.device != batch.device or weights.library is not batch.library:
        raise ValueError(
            f"sample_weight is a {weights.library.name} array on {weights.device[0]}:"
            f"{weights.device[1]}; X is one of {batch.library.name} on {batch.device[0]}:"
            f"{batch.device[1]}"
        )
    if weights.shape != (batch.shape[0],):
        raise ValueError(f"sample_weight has shape {weights.shape}; X has {batch.shape[0]} rows")
    if weights.dtype not in _DTYPES:
        raise TypeError(f"sample_weight has dtype {weights.dtype}; it must be real numbers")
    with batch.library.current(batch.device):
        w = cast(batch, weights.value, "float64")
        return batch.module.where(w >= 0, w, w * float("nan"))


def decayed(batch: _arrays.Array, weights: Any, decay: float) -> Any:
    """Weights times decay^(rows of weight above 0 that follow)."""
    module, count = batch.module, batch.shape[0]
    if batch.device[0] != "cpu":
        return _decayed_there(batch, weights, decay)
    with batch.library.current(batch.device):
        if weights is None:
            like = batch.library.empty((count,), "float64", batch.device)
            weights = module.ones_like(like)
        present = module.cumsum(cast(batch, weights != 0, "float64"), 0)
        factors = decay ** (present[-1:] - present)
        factors = module.where(factors > _LEAST_FACTOR, factors, _LEAST_FACTOR + 0 * factors)
        return weights * factors


def _decayed_there(batch: _arrays.Array, weights: Any, decay: float) -> Any:
    """The same by one kernel."""
    library, count = batch.library, batch.shape[0]
    found = library.empty((count,), "float64", batch.device)
    _backend.for_device(batch.device).stream_decay(
        weights=None if weights is None else library.capsule(weights, "float64"),
        decayed=library.capsule(found, "float64"),
        rows=count,
        decay=decay,
        device=batch.device[1],
        stream=batch.stream(),
    )
    return found


def cast(batch: _arrays.Array, value: Any, dtype: str) -> Any:
    kind = getattr(batch.module, dtype)
    if batch.library.name == "torch":
        return value.to(kind).contiguous()
    return batch.module.ascontiguousarray(value.astype(kind, copy=False))


def copy(library: _arrays.Library, x: Any) -> Any:
    return x.clone() if library.name == "torch" else x.copy()
