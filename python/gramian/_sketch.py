"""The random signs of every sketch, by place: cpp/include/gramian/sketch.hpp in NumPy.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
key (seed mod 2^32, seed / 2^32), counter (i mod 2^32, i / 2^32, floor(j / 128), 0x67726d6e).
Entry (i, j) is -1 if bit j mod 32 of word floor((j mod 128) / 32) is set, else +1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_STEPS = (0x9E3779B9, 0xBB67AE85)
_NAME = np.uint64(0x67726D6E)

# Rows made at a time: the words of the generator take 32 bytes a counter.
_BAND = 1 << 14


def sketch(seed: int, rows: int, columns: int, dtype: Any, *, first_column: int = 0) -> Any:
    """Entries (i, j) of rows 0 to `rows` - 1 and `columns` columns from `first_column` on."""
    out = np.empty((rows, columns), dtype)
    for begin in range(0, rows, _BAND):
        end = min(rows, begin + _BAND)
        out[begin:end] = _signs(seed, begin, end, first_column, columns)
    return out


def _signs(seed: int, begin: int, end: int, first_column: int, columns: int) -> Any:
    skipped = first_column // 128
    groups = np.arange(skipped, -(-(first_column + columns) // 128), dtype=np.uint64)
    i = np.arange(begin, end, dtype=np.uint64)[:, None]
    shape = (end - begin, groups.size)
    words = _philox(
        [
            np.broadcast_to(i & _LOW, shape),
            np.broadcast_to(i >> _HIGH, shape),
            np.broadcast_to(groups, shape),
            np.broadcast_to(_NAME, shape),
        ],
        seed,
    )
    octets = np.ascontiguousarray(words.astype("<u4")).view(np.uint8).reshape(end - begin, -1)
    bits = np.unpackbits(octets, axis=1, bitorder="little")
    start = first_column - 128 * skipped
    return 1 - 2 * bits[:, start : start + columns].astype(np.int8)


def _philox(counter: list[Any], seed: int) -> Any:
    """Four words of 32 bits for each counter, in the last axis."""
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p = counter[0] * _MULTIPLIERS[0]
        q = counter[2] * _MULTIPLIERS[1]
        counter = [
            (q >> _HIGH) ^ counter[1] ^ np.uint64(key[0]),
            q & _LOW,
            (p >> _HIGH) ^ counter[3] ^ np.uint64(key[1]),
            p & _LOW,
        ]
        key = [(k + step) & 0xFFFFFFFF for k, step in zip(key, _STEPS, strict=True)]
    return np.stack(counter, axis=-1)
