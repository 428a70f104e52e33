"""What gramian asks of an array library, and what it calls dtypes and devices of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
ACCEPTED = (
    "a NumPy array, CuPy array, torch tensor or an object with __dlpack__, of dtype "
    + ", ".join(DTYPES)
)

Device = tuple[str, int]
CPU: Device = ("cpu", 0)


def real_dtype(dtype: str) -> str:
    """The dtype of real figures about an array: norms, bounds, residuals."""
    return "float64" if dtype in ("float64", "complex128") else "float32"


class Library(Protocol):
    """What gramian asks of an array library."""

    name: str

    def owns(self, kind: type) -> bool: ...

    def describe(self, value: Any, name: str) -> tuple[str, Device]:
        """dtype and device; raises TypeError for arrays that cannot be computed with."""

    def strides(self, value: Any) -> Sequence[int]: ...

    def writable(self, value: Any) -> bool: ...

    def empty(self, shape: tuple[int, ...], dtype: str, device: Device) -> Any: ...

    def capsule(self, value: Any, dtype: str) -> object:
        """Hands the memory over as it is; no stream waits for another."""

    def stream(self, device: Device) -> int:
        """The stream that the library would queue work for the device on now."""

    def written(self, value: Any) -> None:
        """Tells the library that the kernel has changed an array of the caller's."""

    def to_host(self, value: Any) -> np.ndarray:
        """NumPy's array of the same numbers; from a GPU it waits for the stream."""

    def from_host(self, value: np.ndarray, device: Device) -> Any:
        """The library's array of NumPy's numbers, on the device."""

    def current(self, device: Device) -> AbstractContextManager[Any]:
        """Where the library's own operations on arrays of the device are to be called."""

    def to_numpy(self, value: Any) -> Any:
        """The entries of an array on the CPU, without a copy; bfloat16 as its bits, uint16."""

    def from_numpy(self, values: Any, dtype: str) -> Any:
        """An array on the CPU of NumPy's entries, without a copy where the dtype is theirs."""


def type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
