"""Where the rows of a matrix come from, once for each read: all at once, or block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import _arrays
from ._rsvd_rows import Block, OperatorRows, SparseRows, compute_dtype


class Pieces:
    """Where the rows of a matrix come from, once for each read."""

    device = _arrays.CPU

    def __init__(self, shape: tuple[int | None, int], dtype: np.dtype[Any]) -> None:
        self.rows, self.columns = shape
        self.dtype = dtype
        self.stored: int | None = None  # entries of a sparse matrix

    def __call__(self, width: int, read: int) -> Iterator[tuple[str, Any]]:
        """The rows, each piece with a name for errors: `Rows`, or an array on a GPU."""
        raise NotImplementedError


class Whole(Pieces):
    """All rows at once: a sparse matrix or an operator."""

    def __init__(self, rows: SparseRows | OperatorRows, dtype: np.dtype[Any]) -> None:
        super().__init__(rows.shape, dtype)
        self.is_operator = isinstance(rows, OperatorRows)
        self.stored = rows.stored if isinstance(rows, SparseRows) else None
        self._all = rows

    def __call__(self, width: int, read: int) -> Iterator[tuple[str, Any]]:
        yield "a", self._all


class Single(Pieces):
    """All rows in one array."""

    def __init__(self, block: Block, dtype: np.dtype[Any]) -> None:
        super().__init__(block.shape, dtype)
        self.device = block.device
        self.first = None if block.is_on_host else block.array
        self._block = block

    def __call__(self, width: int, read: int) -> Iterator[tuple[str, Any]]:
        for piece in self._block.pieces(width, double=False):
            yield self._block.name, piece


class Blocks(Pieces):
    """Row blocks as they come out of an iterable; one of them is held at a time."""

    def __init__(
        self, a: Any, *, double: bool = False, center: bool = False, name: str = "a"
    ) -> None:
        self._name = name
        self._iterable = a
        self._iterator: Iterator[Any] | None = iter(a)
        self.one_shot = self._iterator is a
        self._first: Block | None = None
        self._prints: dict[int, int] = {}
        for value in self._iterator:
            self._first = Block(value, f"block 0 of {name}")
            break
        if self._first is None:
            raise ValueError(
                f"{name} has no row blocks; there must be at least one, if without rows"
            )
        self.library, self.block_dtype = self._first.library, self._first.dtype
        self._kind, self.device = self._first.kind, self._first.device
        # For what arrays on a GPU are to be like: none of its entries is kept.
        self.first = None if self._first.is_on_host else _without_entries(self._first.array)
        # Of sparse blocks no provisional means can be taken off: W of the first read knows what is
        # left to u of the whole.
        self._double = double or (center and self._kind == "scipy.sparse")
        dtype = compute_dtype(self.block_dtype, double=self._double)
        super().__init__((None, self._first.shape[1]), dtype)

    def __call__(self, width: int, read: int) -> Iterator[tuple[str, Any]]:
        rows = 0
        for block in self._checked():
            self._recognize(block, rows, read)
            rows += block.shape[0]
            if self.rows is not None and rows > self.rows:
                break
            for piece in block.pieces(width, double=self._double):
                yield block.name, piece
                del piece  # else the last one would keep its block while the next is made
            del block
        if self.rows is not None and rows != self.rows:
            raise ValueError(
                f"a gave {'more' if rows > self.rows else rows} rows on read {read}, where it gave "
                f"{self.rows} at first; a must give the same blocks each time it is iterated over "
                "(what can be read only once works with method='single_pass')"
            )
        self.rows = rows

    def _checked(self) -> Iterator[Block]:
        first, self._first = self._first, None
        # The first block was taken to learn the number of columns; that read goes on.
        iterator = iter(self._iterable) if self._iterator is None else self._iterator
        self._iterator = None
        if first is not None:
            yield first
        number = 0 if first is None else 1
        del first
        for value in iterator:
            block = Block(value, f"block {number} of {self._name}")
            number += 1
            self._compare(block)
            yield block
            del value, block

    def _recognize(self, block: Block, begin: int, read: int) -> None:
        """Finds a change of order, as by a loader that shuffles, where blocks are cut the same."""
        if block.shape[0] == 0:
            return
        own = block.fingerprint()
        if self._prints.setdefault(begin, own) != own:
            raise ValueError(
                f"{block.name} is another on read {read} than at first; a must give the same rows "
                "in the same order each time it is iterated over"
            )

    def _compare(self, block: Block) -> None:
        if block.shape[1] != self.columns:
            raise ValueError(
                f"{block.name} has shape {block.shape}; it must have {self.columns} columns, as "
                "block 0"
            )
        if block.dtype != self.block_dtype:
            raise ValueError(
                f"{block.name} has dtype {block.dtype}; it must be {self.block_dtype}, as block 0"
            )
        if block.kind != self._kind:
            raise TypeError(
                f"{block.name} is an array of {block.kind}; it must be of {self._kind}, as block 0"
            )
        if block.device != self.device:
            raise ValueError(
                f"{block.name} lies on {place(block.device)}; it must lie on "
                f"{place(self.device)}, as block 0"
            )


def place(device: _arrays.Device) -> str:
    return "the CPU" if device == _arrays.CPU else f"{device[0]}:{device[1]}"


def _without_entries(a: _arrays.Array) -> _arrays.Array:
    return a.empty_like((0, a.shape[1]), a.dtype)
