"""A host matrix larger than the device's memory, through two buffers; and how long that takes.

    python benchmarks/gpu/host_rows.py [--rows 400000] [--columns 4096] [--height 8192]

prints the seconds of gramian's randomized SVD of it beside those of its copies alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import gramian as gm
import torch


class HostRows:
    """Blocks of rows of a host array, on a GPU: one is copied while another is computed with.

    While block i is multiplied on the caller's stream, block i + 1 is copied on a stream of its own
    out of page-locked memory, and the host fills the other page-locked buffer.

    Parameters
    ----------
    rows : torch.Tensor of shape (m, n)
        On the CPU: of ``torch.from_numpy(numpy.memmap(...))`` nothing is read before its turn.
    height : int
        Rows of a block; two are in the device's memory and two in page-locked memory.
    """

    def __init__(self, rows: torch.Tensor, height: int, device: str = "cuda") -> None:
        self.rows, self.height = rows, height
        self.copies = torch.cuda.Stream(device)
        shape = (height, rows.shape[1])
        self.pinned = [torch.empty(shape, dtype=rows.dtype, pin_memory=True) for _ in range(2)]
        self.blocks = [torch.empty(shape, dtype=rows.dtype, device=device) for _ in range(2)]

    def __iter__(self) -> Iterator[torch.Tensor]:
        current = torch.cuda.current_stream(self.blocks[0].device)
        copied, used = ([torch.cuda.Event(), torch.cuda.Event()] for _ in range(2))
        starts = range(0, len(self.rows), self.height)

        def copy(i: int) -> torch.Tensor:
            slot, part = i % 2, self.rows[starts[i] : starts[i] + self.height]
            copied[slot].synchronize()  # what was in the page-locked buffer has been copied
            self.pinned[slot][: len(part)].copy_(part)
            self.copies.wait_event(used[slot])  # what was in the block has been multiplied
            with torch.cuda.stream(self.copies):
                block = self.blocks[slot][: len(part)]
                block.copy_(self.pinned[slot][: len(part)], non_blocking=True)
                copied[slot].record()
            return block

        self.copies.wait_stream(current)
        following = copy(0) if starts else None
        for i in range(len(starts)):
            block = following
            if i + 1 < len(starts):
                following = copy(i + 1)
            current.wait_event(copied[i % 2])
            yield block
            used[i % 2].record(current)


def seconds(call: Any) -> tuple[Any, float]:
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--height", type=int, default=8192)
    parser.add_argument("--rank", type=int, default=32)
    options = parser.parse_args()
    a = torch.empty(options.rows, options.columns)
    directions = torch.randn(2 * options.rank, options.columns)
    for part in a.split(options.height):
        torch.randn(part.shape, out=part)
        part += torch.randn(len(part), 2 * options.rank) @ directions
    blocks = HostRows(a, options.height)
    gm.rsvd(HostRows(a[: 2 * options.height], options.height), options.rank)  # warm

    def copies() -> None:
        for _ in blocks:
            pass

    gib = a.numel() * a.element_size() / 2**30
    print(f"{options.rows} x {options.columns} float32, {gib:.1f} GiB, k = {options.rank}")
    print(f"copies alone, one read: {seconds(copies)[1]:.2f} s")
    for given in ({"method": "single_pass"}, {"method": "subspace", "passes": 3}, {"tol": 0.9}):
        torch.cuda.reset_peak_memory_stats()
        result, took = seconds(
            lambda given=given: gm.rsvd(blocks, None if "tol" in given else options.rank, **given)
        )
        peak = torch.cuda.max_memory_allocated() / 2**30
        info = result.info
        print(
            f"{given}: {took:.2f} s, {info.passes} reads, rank {info.rank}, error "
            f"{info.error_estimate:.4f} ({info.error_kind}), peak {peak:.2f} GiB"
        )


if __name__ == "__main__":
    main()
