"""Where the rows of a matrix come from, once for each read: all at once, or block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ._rsvd_rows import Block, OperatorRows, Rows, SparseRows, compute_dtype


class Pieces:
    """Where the rows of a matrix come from, once for each read."""

    def __init__(self, shape: tuple[int | None, int], dtype: np.dtype[Any]) -> None:
        self.rows, self.columns = shape
        self.dtype = dtype
        self.stored: int | None = None  # entries of a sparse matrix

    def __call__(self, width: int, read: int) -> Iterator[tuple[str, Rows]]:
        """The rows, each piece with a name for errors."""
        raise NotImplementedError


class Whole(Pieces):
    """All rows at once: a sparse matrix or an operator."""

    def __init__(self, rows: SparseRows | OperatorRows, dtype: np.dtype[Any]) -> None:
        super().__init__(rows.shape, dtype)
        self.is_operator = isinstance(rows, OperatorRows)
        self.stored = rows.stored if isinstance(rows, SparseRows) else None
        self._all = rows

    def __call__(self, width: int, read: int) -> Iterator[tuple[str, Rows]]:
        yield "a", self._all


class Single(Pieces):
    """All rows in one array."""

    def __init__(self, block: Block, dtype: np.dtype[Any]) -> None:
        super().__init__(block.shape, dtype)
        self._block = block

    def __call__(self, width: int, read: int) -> Iterator[tuple[str, Rows]]:
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
        self._kind = self._first.kind
        # Of sparse blocks no provisional means can be taken off: W of the first read knows what is
        # left to u of the whole.
        self._double = double or (center and self._kind == "scipy.sparse")
        dtype = compute_dtype(self.block_dtype, double=self._double)
        super().__init__((None, self._first.shape[1]), dtype)

    def __call__(self, width: int, read: int) -> Iterator[tuple[str, Rows]]:
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
