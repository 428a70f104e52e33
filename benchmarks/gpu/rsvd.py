"""How many times as fast a randomized SVD is on a GPU as what else computes it, and how good.

    python3 benchmarks/gpu/rsvd.py [--out FILE.md] [--shapes MxN:RANK ...] [--rounds N]

float32 matrices of slowly decaying singular values over noise. Every contestant takes turns with
the others in one process; a time is the median over rounds, from a call to the moment its result is
there. Beside each time ||A - U S V^H||_F over the least that any contestant reached, and the reads
of A; a ratio is to the fastest of torch's rows whose error is no larger, but for a part in 1000:
none where torch reaches that error in no row. `restarted` beside the reads: the road without waits
gave up. On a GPU, how long at least one kernel or copy was on the device stands in a column of its
own, by torch's profiler.

cuSOLVER's Xgesvdr is called through its C interface. CuPy's svds is timed once a turn at most.

`--device cpu --smoke` runs all of it on tiny matrices, to test this program.
"""

from __future__ import annotations

import ctypes
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import command_line
import gramian as gm
import torch
from torch import Tensor

SHAPES = ["16384x4096:64", "8192x8192:128", "100000x1024:32"]
SMOKE = ["60x40:5", "30x50:4"]
SLOW_S = 0.3

Factors = tuple[Any, Any, Any]


def ours(a: Tensor, rank: int, passes: int | str = "auto", method: str = "auto") -> Factors:
    found = gm.rsvd(a, rank, passes=passes, method=method)
    return found.U, found.S, found.Vh


def lowrank(a: Tensor, rank: int, niter: int) -> Factors:
    u, s, v = torch.svd_lowrank(a, q=rank + 10, niter=niter)
    return u[:, :rank], s[:rank], v[:, :rank].mH


class Gesvdr:
    """cuSOLVER's own randomized SVD, of what it takes for a matrix by columns: the transpose."""

    def __init__(self) -> None:
        torch.linalg.inv(torch.eye(2, device="cuda"))  # has torch load cuSOLVER
        self._library = next(
            library
            for name in ("libcusolver.so.12", "libcusolver.so.11")
            if (library := _loaded(name)) is not None
        )
        self._handle, self._parameters = ctypes.c_void_p(), ctypes.c_void_p()
        self._check(self._library.cusolverDnCreate(ctypes.byref(self._handle)))
        self._check(self._library.cusolverDnCreateParams(ctypes.byref(self._parameters)))

    @staticmethod
    def _check(status: int) -> None:
        if status:
            raise RuntimeError(f"cuSOLVER failed with status {status}")

    def __call__(self, a: Tensor, rank: int) -> Factors:
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        self._check(self._library.cusolverDnSetStream(self._handle, stream))
        rows, cols = a.shape[1], a.shape[0]  # by columns: the transpose
        a = a.clone()
        s = a.new_empty(rank)
        u, v = a.new_empty(rank, rows), a.new_empty(rank, cols)
        info = torch.empty(1, dtype=torch.int32, device="cuda")
        wide, kind = ctypes.c_int64, ctypes.c_int(0)  # CUDA_R_32F

        def at(x: Tensor) -> ctypes.c_void_p:
            return ctypes.c_void_p(x.data_ptr())

        head = (
            self._handle, self._parameters, ctypes.c_byte(ord("S")), ctypes.c_byte(ord("S")),
            wide(rows), wide(cols), wide(rank), wide(10), wide(2), kind, at(a), wide(rows),
            kind, at(s), kind, at(u), wide(rows), kind, at(v), wide(cols), kind,
        )  # fmt: skip
        device, host = ctypes.c_size_t(), ctypes.c_size_t()
        self._check(
            self._library.cusolverDnXgesvdr_bufferSize(
                *head, ctypes.byref(device), ctypes.byref(host)
            )
        )
        work = torch.empty(device.value, dtype=torch.uint8, device="cuda")
        rest = ctypes.create_string_buffer(max(host.value, 1))
        self._check(self._library.cusolverDnXgesvdr(*head, at(work), device, rest, host, at(info)))
        return v.mT, s, u


def _loaded(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def svds(a: Tensor, rank: int) -> Factors:
    import cupy
    from cupyx.scipy.sparse.linalg import svds as of_cupy

    u, s, vh = (torch.from_dlpack(x) for x in of_cupy(cupy.from_dlpack(a), rank))
    return u.flip(1), s.flip(0), vh.flip(0)


def contestants(device: str) -> dict[str, Callable[[Tensor, int], Factors]]:
    found: dict[str, Callable[[Tensor, int], Factors]] = {
        "gramian.rsvd": ours,
        "gramian.rsvd, 1 read": partial(ours, passes=1),
        "gramian.rsvd, 2 reads": partial(ours, passes=2, method="subspace"),
        "gramian.rsvd, 3 reads": partial(ours, passes=3, method="subspace"),
        "gramian.rsvd, 4 reads": partial(ours, passes=4, method="subspace"),
        "gramian.rsvd, 3 reads, Krylov": partial(ours, passes=3, method="krylov"),
        "torch.svd_lowrank, niter=0": partial(lowrank, niter=0),
        "torch.svd_lowrank, niter=1": partial(lowrank, niter=1),
        "torch.svd_lowrank, niter=2": partial(lowrank, niter=2),
        "torch.svd_lowrank, niter=4": partial(lowrank, niter=4),
        "torch.svd_lowrank, niter=8": partial(lowrank, niter=8),
    }
    if device == "cuda":
        found["cuSOLVER Xgesvdr, 2 iterations"] = Gesvdr()
        found["cupyx svds"] = svds
    return found


def matrix(m: int, n: int, rank: int, device: str) -> Tensor:
    generator = torch.Generator(device).manual_seed(0)
    inner = min(8 * rank, m, n)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    s = 1 / torch.arange(1, inner + 1, device=device) ** 0.75
    return (normal(m, inner) * s) @ normal(inner, n) + 0.01 * normal(m, n)


def residual(a: Tensor, factors: Factors) -> float:
    u, s, vh = factors
    square = 0.0
    for rows in torch.arange(a.shape[0], device=a.device).split(4096):
        square += float((a[rows] - (u[rows] * s) @ vh).double().square().sum())
    return square**0.5


def seconds(call: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def busy_ms(call: Callable[[], Any]) -> float:
    """How long kernels or copies of one call ran, those that overlap counted once.

    A kernel that is set up while the one before ends (programmatic dependent launch) has an
    interval of its own from then on.
    """
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        call()
        torch.cuda.synchronize()
    spans = (event.time_range for event in profile.events())
    return union_ms([(span.start, span.end) for span in spans])


def union_ms(intervals: list[tuple[float, float]]) -> float:
    """Length of the union of intervals in microseconds."""
    length, reached = 0.0, -math.inf
    for start, end in sorted(intervals):
        length += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return length / 1e3


def reads_of(a: Tensor, rank: int, call: Callable[..., Any]) -> str:
    info = gm.rsvd(a, rank, **{"passes": "auto", **getattr(call, "keywords", {})}).info
    return str(info.passes) + (", restarted" if info.fallbacks.get("restarted") else "")


def race(shape: str, device: str, rounds: int) -> list[str]:
    size, rank = shape.split(":")
    m, n = map(int, size.split("x"))
    k = int(rank)
    a = matrix(m, n, k, device)
    errors: dict[str, float] = {}
    times: dict[str, list[float]] = {}
    calls = contestants(device)
    for name, call in list(calls.items()):
        try:
            errors[name] = residual(a, call(a, k))
            times[name] = [seconds(partial(call, a, k), device)]
        except Exception as error:  # a peer that cannot do it is left out, and said so
            if name.startswith("gramian"):
                raise
            print(f"{shape} {name}: {error}", file=sys.stderr)
            del calls[name]
    for turn in range(rounds):
        for name, call in calls.items():
            if times[name][0] > SLOW_S and turn > 0:
                continue
            times[name].append(seconds(partial(call, a, k), device))
    median = {name: statistics.median(found) for name, found in times.items()}
    best = min(errors.values())
    lines = []
    for name in calls:
        peers = [
            median[peer]
            for peer in calls
            if peer.startswith("torch") and errors[peer] <= errors[name] * (1 + 1e-3)
        ]
        ratio = f"{min(peers) / median[name]:.2f}" if name.startswith("gramian") and peers else ""
        own = name.startswith("gramian")
        reads = reads_of(a, k, calls[name]) if own else ""
        busy = f"{busy_ms(partial(calls[name], a, k)):.2f}" if own and device == "cuda" else ""
        figures = [f"{1e3 * median[name]:.2f}", busy, f"{errors[name] / best:.5f}", reads, ratio]
        lines.append(command_line.row([shape, name, *figures]))
    return lines


def main() -> int:
    options = command_line.options(__doc__, "shapes", "MxN:RANK", 7, "tiny matrices")
    head = [
        "shape:rank",
        "",
        "ms",
        "device busy, ms",
        "error / least",
        "reads",
        "times as fast as torch",
    ]
    lines = [command_line.row(head), "|---|---|--:|--:|--:|--:|--:|"]
    for shape in options.cases or (SMOKE if options.smoke else SHAPES):
        found = race(shape, options.device, options.rounds)
        print("\n".join(found), flush=True)
        lines += found
    return command_line.finish(lines, options.out)


if __name__ == "__main__":
    sys.exit(main())
