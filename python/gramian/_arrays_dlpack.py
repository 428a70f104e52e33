"""Arrays of libraries that are known by DLPack alone, taken over by NumPy or CuPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._arrays_library import type_name


def from_dlpack(value: Any, name: str) -> Any:
    """An array of a library that only speaks DLPack, as NumPy's (CPU) or CuPy's (CUDA)."""
    kind = int(value.__dlpack_device__()[0])
    try:
        if kind in (1, 3):  # DLPack's CPU and pinned host memory
            return np.from_dlpack(value)
        if kind in (2, 13):  # CUDA and CUDA managed memory
            return _imported_cupy(value, name).from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"{name} is a {type_name(value)} whose __dlpack__ gave no usable array: {error} (of "
            "the accepted dtypes, bfloat16 cannot be taken from an object with only __dlpack__)"
        ) from error
    raise TypeError(f"{name} lies on DLPack device type {kind}; it must be a CPU (1) or CUDA (2)")


def _imported_cupy(value: Any, name: str) -> Any:
    try:
        import cupy  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ImportError(
            f"{name} is a {type_name(value)} on a GPU, known by its __dlpack__ alone; its result "
            "would be a CuPy array, and CuPy cannot be imported. Pass a CuPy array or torch tensor"
        ) from error
    return cupy
