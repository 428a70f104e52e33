"""The one place that knows array libraries: what an argument is, where it lies, how it travels.

This file checks arguments and has results allocated; `_arrays_library.py` says what is asked of a
library, and `_arrays_numpy.py`, `_arrays_torch.py` and `_arrays_cupy.py` do it.

Every array goes to the compiled code as a DLPack capsule, and every result and all work space on
a GPU is allocated by the library the input came from, on the stream that it would use itself: so
memory that is freed while work is queued is handed out again in that stream's order. Neither torch
nor CuPy is imported here: an array of theirs can only exist once its library is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ._arrays_cupy import CuPy
from ._arrays_dlpack import from_dlpack
from ._arrays_library import ACCEPTED, CPU, DTYPES, Device, Library, real_dtype, type_name
from ._arrays_numpy import NumPy
from ._arrays_torch import Torch, WatchedTensor, is_watched, refuse_gradient

__all__ = [
    "CPU",
    "DTYPES",
    "LIBRARIES",
    "Array",
    "Device",
    "Library",
    "WatchedTensor",
    "array",
    "figures",
    "is_watched",
    "matrices",
    "output",
    "real_dtype",
    "refuse_gradient",
]


@dataclass(slots=True, eq=False)
class Array:
    """A checked argument; not to be changed (frozen dataclasses take 1 us to make)."""

    value: Any
    library: Library
    shape: tuple[int, ...]
    dtype: str
    device: Device

    def capsule(self) -> object:
        """A DLPack capsule; good for one call."""
        return self.library.capsule(self.value, self.dtype)

    def written(self) -> None:
        """To be called once a result has been put into the array."""
        self.library.written(self.value)

    def stream(self) -> int:
        """The caller's current stream on the array's device, as CUDA's handle."""
        return self.library.stream(self.device)

    def scratch(self, size: int) -> object:
        """A capsule of so many bytes on the array's device, in the order of its stream."""
        return self.library.capsule(self.library.empty((size,), "uint8", self.device), "uint8")

    def empty_like(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An array without values, of the same library and device, row-major."""
        value = self.library.empty(shape, dtype, self.device)
        return Array(value, self.library, shape, dtype, self.device)

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """The library's array of zeros, of the same dtype and device."""
        value = self.library.empty(shape, self.dtype, self.device)
        value[...] = 0
        return value

    def host(self) -> np.ndarray:
        """The numbers as NumPy's; from a GPU it waits for the stream."""
        return self.library.to_host(self.value)

    def put(self, value: np.ndarray) -> Any:
        """NumPy's numbers as an array of this one's library, on its device."""
        return self.library.from_host(value, self.device)

    @property
    def module(self) -> Any:
        """The library's module, for what NumPy, torch and CuPy call the same."""
        return sys.modules[self.library.name]


LIBRARIES: tuple[Library, ...] = (NumPy(), Torch(), CuPy())


@lru_cache(maxsize=64)
def _library_of(kind: type) -> Library:
    """The library that arrays of this type belong to; LookupError (which is not cached) if none."""
    for library in LIBRARIES:
        if library.owns(kind):
            return library
    raise LookupError(kind)


def array(value: Any, name: str, dtypes: tuple[str, ...] = DTYPES) -> Array:
    """Check an argument, whose dtype must be one of `dtypes`.

    Raises
    ------
    TypeError
        Not an array, or not of an accepted dtype.
    """
    kind: Any = type(value)
    try:
        library = _library_of(kind)
    except LookupError:
        if not (hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__")):
            raise TypeError(f"{name} is a {type_name(value)}; it must be {ACCEPTED}") from None
        value = from_dlpack(value, name)
        kind = type(value)
        library = _library_of(kind)
    dtype, device = library.describe(value, name)
    if dtype not in dtypes:
        raise TypeError(f"{name} has dtype {dtype}; it must be one of {', '.join(dtypes)}")
    return Array(value, library, tuple(value.shape), dtype, device)


def matrices(value: Any, name: str) -> Array:
    """Check an argument of shape (..., m, n)."""
    checked = array(value, name)
    if len(checked.shape) < 2:
        raise ValueError(
            f"{name} has shape {checked.shape}; it must have at least 2 dimensions (..., m, n)"
        )
    return checked


def figures(out: Any, of: Array) -> Array:
    """``out`` checked, or a new array: one real figure for each matrix of a batch."""
    wanted = Array(of.value, of.library, of.shape[:-2], real_dtype(of.dtype), of.device)
    return output(out, wanted, because=f"for {'x'.join(map(str, of.shape))} input of {of.dtype}")


def output(out: Any, like: Array, name: str = "out", *, because: str = "as the input's") -> Array:
    """``out`` checked against the array it must match, or a new array where it is None.

    `because` tells where the wanted dtype, shape and device come from.
    """
    if out is None:
        return like.empty_like(like.shape, like.dtype)
    library = like.library
    if not library.owns(type(out)):
        raise TypeError(
            f"{name} is a {type_name(out)}; it must be an array of the input's library, "
            f"{like.library.name}"
        )
    if not getattr(out.dtype, "isnative", True):  # NumPy alone has other byte orders
        raise ValueError(
            f"{name} has dtype {out.dtype.str}, the byte order of another machine; it must be "
            f"{like.dtype}, {because}"
        )
    dtype, device = library.describe(out, name)
    shape = tuple(out.shape)
    for what, given, wanted in (
        ("dtype", dtype, like.dtype),
        ("shape", shape, like.shape),
        ("device", device, like.device),
    ):
        if given != wanted:
            raise ValueError(f"{name} has {what} {given}; it must be {wanted}, {because}")
    if not library.writable(out):
        raise ValueError(
            f"{name} cannot be written in place: it is read-only, misaligned (as a field of a "
            "packed record), a torch view with a pending conjugation or negation, or a CuPy view "
            "with negative strides; it must be writable"
        )
    if _overlaps_itself(shape, library.strides(out)):
        raise ValueError(
            f"{name} has strides {tuple(library.strides(out))} for shape {shape}, so that several "
            "entries may share memory; it must hold each entry on its own"
        )
    return Array(out, library, shape, dtype, device)


def _overlaps_itself(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether entries may share memory: no dimension may step within the reach of the smaller ones.

    Sufficient for every layout made by slicing, transposing and broadcasting.
    """
    if 0 in shape:
        return False
    reach = 0
    for stride, size in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False
