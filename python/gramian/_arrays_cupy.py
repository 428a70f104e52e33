"""CuPy's arrays. CuPy is not imported here: an array of it can only exist once it is loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ._arrays_library import Device
from ._arrays_numpy import dtype_name, numpy_dtype, whole_steps


class CuPy:
    name = "cupy"

    def owns(self, kind: type) -> bool:
        cupy = sys.modules.get("cupy")
        return cupy is not None and issubclass(kind, getattr(cupy, "ndarray", ()))

    def describe(self, value: Any, name: str) -> tuple[str, Device]:
        return dtype_name(value.dtype), ("cuda", int(value.device.id))

    def strides(self, value: Any) -> Sequence[int]:
        strides: Sequence[int] = value.strides
        return strides

    def writable(self, value: Any) -> bool:
        return whole_steps(value) and not _backward(value)

    def empty(self, shape: tuple[int, ...], dtype: str, device: Device) -> Any:
        cupy = sys.modules["cupy"]
        if cupy.cuda.runtime.getDevice() == device[1]:
            return cupy.empty(shape, numpy_dtype(dtype))
        with cupy.cuda.Device(device[1]):
            return cupy.empty(shape, numpy_dtype(dtype))

    def capsule(self, value: Any, dtype: str) -> object:
        if dtype == "bfloat16":
            value = value.view(np.uint16)
        if not whole_steps(value) or _backward(value):
            with value.device:
                value = value.copy()
        capsule: object = value.__dlpack__(stream=-1)
        return capsule

    def stream(self, device: Device) -> int:
        return int(sys.modules["cupy"].cuda.get_current_stream(device[1]).ptr)

    def written(self, value: Any) -> None:
        pass

    def to_host(self, value: Any) -> np.ndarray:
        array: np.ndarray = value.get()
        return array

    def from_host(self, value: np.ndarray, device: Device) -> Any:
        with self.current(device):
            return sys.modules["cupy"].asarray(value)

    def current(self, device: Device) -> AbstractContextManager[Any]:
        # Operations go to the current device, and to its current stream.
        context: AbstractContextManager[Any] = sys.modules["cupy"].cuda.Device(device[1])
        return context

    def to_numpy(self, value: Any) -> Any:
        raise AssertionError("a CuPy array lies on a GPU")

    def from_numpy(self, values: Any, dtype: str) -> Any:
        raise AssertionError("a CuPy array lies on a GPU")


def _backward(value: Any) -> bool:
    """Whether CuPy's capsule would be wrong: it takes negative strides for positive ones."""
    return any(stride < 0 for stride in value.strides)
