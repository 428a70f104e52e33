"""NumPy's arrays; with ml_dtypes, those of bfloat16 too."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ._arrays_library import CPU, DTYPES, Device


class NumPy:
    name = "numpy"

    def owns(self, kind: type) -> bool:
        return issubclass(kind, np.ndarray)

    def describe(self, value: Any, name: str) -> tuple[str, Device]:
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(
                f"{name} is a masked array; its mask would be ignored. Fill it first: "
                f"{name}.filled(...)"
            )
        if not value.dtype.isnative:
            raise TypeError(
                f"{name} has the byte order of another machine ({value.dtype.str}); convert it "
                f"with {name}.astype({name}.dtype.newbyteorder('='))"
            )
        return dtype_name(value.dtype), CPU

    def strides(self, value: Any) -> Sequence[int]:
        strides: Sequence[int] = value.strides
        return strides

    def writable(self, value: Any) -> bool:
        return bool(value.flags.writeable) and _whole_elements(value)

    def empty(self, shape: tuple[int, ...], dtype: str, device: Device) -> Any:
        return np.empty(shape, numpy_dtype(dtype))

    def capsule(self, value: Any, dtype: str) -> object:
        if dtype == "bfloat16":
            value = value.view(np.uint16)
        if not _whole_elements(value):
            value = value.copy()
        capsule: object = value.__dlpack__(max_version=(1, 1))
        return capsule

    def stream(self, device: Device) -> int:
        raise AssertionError("NumPy has no streams")

    def written(self, value: Any) -> None:
        pass

    def to_host(self, value: Any) -> np.ndarray:
        return np.asarray(value)

    def from_host(self, value: np.ndarray, device: Device) -> Any:
        return value

    def current(self, device: Device) -> AbstractContextManager[Any]:
        return nullcontext()

    def to_numpy(self, value: Any) -> Any:
        return value.view(np.uint16) if value.dtype.name == "bfloat16" else value

    def from_numpy(self, values: Any, dtype: str) -> Any:
        return values.astype(numpy_dtype(dtype), copy=False)


def _whole_elements(value: Any) -> bool:
    """False for fields of packed records and the like, which DLPack cannot describe."""
    return bool(value.flags.aligned) and whole_steps(value)


def whole_steps(value: Any) -> bool:
    item = value.itemsize
    return all(s % item == 0 for s in value.strides)


# NumPy composes the name of a dtype anew at each request, in 2 us.
_NUMPY_NAMES = {np.dtype(name): name for name in DTYPES if name != "bfloat16"}


def dtype_name(dtype: np.dtype[Any]) -> str:
    return _NUMPY_NAMES.get(dtype) or dtype.name


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    if dtype == "bfloat16":
        # Only ever asked for when the input was such an array, so its package is loaded.
        bfloat16: np.dtype[Any] = np.dtype(sys.modules["ml_dtypes"].bfloat16)
        return bfloat16
    return np.dtype(dtype)
