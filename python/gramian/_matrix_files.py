"""Matrices in .npy, .npz and .safetensors files, for the demo."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Matrix = np.ndarray[tuple[int, ...], np.dtype[Any]]

# What a safetensors file calls its types. BF16 is the upper half of a float32.
_SAFETENSORS = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
_LONGEST_HEADER = 100_000_000  # the format's own limit


class FileError(Exception):
    """A file that cannot be read, in words for its owner."""


def read_matrices(path: Path) -> Iterator[tuple[str, Matrix]]:
    """Names and values of all floating-point matrices of a file, one after the other.

    float16, float32, float64 and the complex types as they are, bfloat16 as float32. Whatever is
    not two-dimensional, of another type or empty is passed over.

    Raises
    ------
    FileError
        The file does not exist, is of another kind, or is damaged.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise FileError(f"{path} has the suffix {path.suffix!r}; it must be {', '.join(readers)}")
    try:
        with path.open("rb") as file:
            for name, value in reader(file, path):
                if value.ndim == 2 and value.dtype.kind in "fc" and value.size > 0:
                    if value.dtype.itemsize > 8 * (1 + (value.dtype.kind == "c")):
                        continue  # long double
                    yield name, value.astype(value.dtype.newbyteorder("="), copy=False)
    except FileNotFoundError:
        raise FileError(f"{path} does not exist") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_npy(file: BinaryIO, path: Path) -> Iterator[tuple[str, Matrix]]:
    try:
        value = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FileError(f"{path} is not a usable .npy file: {error}") from error
    yield path.stem, value


def _read_npz(file: BinaryIO, path: Path) -> Iterator[tuple[str, Matrix]]:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise FileError(f"{path} is not a usable .npz file: {error}") from error
    with archive:
        for name in archive.namelist():
            if not name.endswith(".npy"):
                continue
            try:
                with archive.open(name) as entry:
                    value = np.lib.format.read_array(entry, allow_pickle=False)
            except (ValueError, EOFError, zipfile.BadZipFile) as error:
                if "pickle" in str(error) or "Object arrays" in str(error):
                    continue  # Python objects: no matrix
                raise FileError(f"{path}: its entry {name} is damaged: {error}") from error
            yield name.removesuffix(".npy"), value


def _read_safetensors(file: BinaryIO, path: Path) -> Iterator[tuple[str, Matrix]]:
    """Eight bytes of header length, a JSON header, then the values."""

    def damaged(what: str) -> FileError:
        return FileError(f"{path} is not a usable .safetensors file: {what}")

    size = path.stat().st_size
    start = file.read(8)
    if len(start) < 8:
        raise damaged("it is shorter than 8 bytes")
    (length,) = struct.unpack("<Q", start)
    if length > min(size - 8, _LONGEST_HEADER):
        raise damaged(f"it states a header of {length} bytes in a file of {size}")
    try:
        header = json.loads(file.read(length))
        entries = [
            (name, _SAFETENSORS.get(entry["dtype"]), entry["dtype"],
             tuple(map(int, entry["shape"])), *map(int, entry["data_offsets"]))
            for name, entry in header.items() if name != "__metadata__"
        ]  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(f"its header is malformed ({error!r})") from error
    for name, code, kind, shape, begin, end in entries:
        if code is None or len(shape) != 2:
            continue
        dtype = np.dtype(code)
        if min(shape) < 0 or end - begin != shape[0] * shape[1] * dtype.itemsize:
            raise damaged(f"{name} of shape {shape} and type {kind} has {end - begin} bytes")
        if begin < 0 or 8 + length + end > size:
            raise damaged(f"{name} lies beyond its end")
        file.seek(8 + length + begin)
        value = np.frombuffer(file.read(end - begin), dtype).reshape(shape)
        if kind == "BF16":
            value = (value.astype(np.uint32) << 16).view(np.float32)
        yield name, value
