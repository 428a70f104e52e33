"""Timing: blocks of back-to-back calls, in turns, on the GPU's own clock."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

BLOCK_MS = 6.0  # long against the microseconds of an event pair
BLOCKS = 3  # per turn; the median of these is the turn's time
LEAST_CALLS, MOST_CALLS = 2, 200
MOST_BUFFERS = 64


def buffers_for(x: Tensor) -> int:
    """How many copies of x to take turns with, so that none is found in the L2 cache."""
    if x.device.type == "cpu":
        return 1
    cache = torch.cuda.get_device_properties(x.device).L2_cache_size
    return max(1, min(MOST_BUFFERS, -(-2 * cache // x.nbytes)))


def timed_block(step: Callable[[], object], calls: int, device: str) -> float:
    """Milliseconds a call, over that many calls with nothing between them."""
    if device == "cpu":
        begun = time.perf_counter()
        for _ in range(calls):
            step()
        return 1e3 * (time.perf_counter() - begun) / calls
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        step()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / calls


@dataclass
class Entry:
    """One contestant by one clock: "stream" (called from Python) or "graph" (replayed)."""

    name: str
    clock: str
    step: Callable[[], object]
    calls_per_step: int = 1
    calls: int = 1
    turns: list[float] = field(default_factory=list)

    def turn(self, device: str) -> None:
        blocks = [timed_block(self.step, self.calls, device) for _ in range(BLOCKS)]
        self.turns.append(statistics.median(blocks) / self.calls_per_step)


def stream_entry(name: str, call: Callable[[Tensor], Tensor], buffers: list[Tensor]) -> Entry:
    turn = itertools.cycle(buffers)
    return Entry(name, "stream", lambda: call(next(turn)))


def graph_entry(name: str, call: Callable[[Tensor], Tensor], buffers: list[Tensor]) -> Entry:
    """One CUDA graph that makes the call on each buffer in turn, as an optimizer's step would.

    Its results are checked against those of the eager call.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # compiles, chooses kernels, allocates what is kept
            expected = call(buffers[-1]).clone()
    torch.cuda.synchronize()
    # torch keeps cuBLAS's workspace per stream, and whoever records with inductor's graph trees
    # drops those of all streams: a recording that uses one from before would be left with freed
    # memory (pytorch issue 193402). So this one gets its own from the graph's pool, and nobody
    # else goes on using it.
    torch._C._cuda_clearCublasWorkspaces()
    graph = torch.cuda.CUDAGraph()
    # The compilers' threads may talk to the driver meanwhile.
    with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        for buffer in buffers:
            result = call(buffer)
    torch._C._cuda_clearCublasWorkspaces()
    result.fill_(float("nan"))
    graph.replay()
    torch.cuda.synchronize()
    far = float((result.float() - expected.float()).norm() / expected.float().norm())
    # A function that divides its argument in place shifts by bfloat16 rounding from call to call;
    # a recording that misses an operation is off by 1 or more.
    if not far <= 0.05:  # also where it is NaN
        raise ArithmeticError(f"the graph's result differs from the eager one by {far:.2g}")
    return Entry(name, "graph", graph.replay, calls_per_step=len(buffers))


def race(entries: list[Entry], rounds: int, device: str) -> dict[tuple[str, str], float]:
    """Milliseconds by contestant and clock: the median over rounds of each turn's median block."""
    for entry in entries:
        entry.turns.clear()
        for _ in range(2):
            entry.step()
        once = max(timed_block(entry.step, 2, device), 1e-3)
        entry.calls = max(LEAST_CALLS, min(MOST_CALLS, round(BLOCK_MS / once)))
    for number in range(rounds):
        # Who goes first changes, so that no one always follows the same neighbour.
        shift = number * len(entries) // rounds
        for entry in entries[shift:] + entries[:shift]:
            entry.step()
            entry.turn(device)
    return {(entry.name, entry.clock): statistics.median(entry.turns) for entry in entries}
