"""How many times as fast polar factors are on a GPU as by torch's SVD.

    python3 benchmarks/gpu/polar.py [--out FILE.md] [--cases DTYPE:BxMxN ...] [--rounds N]

The road that polar takes in torch is `U, S, Vh = torch.linalg.svd(x, full_matrices=False); U @ Vh`.
Both take turns on Gaussian matrices; a time is the median over rounds of a block of calls, on the
GPU's own clock (events); where the SVD takes longer than a third of a second it is called once.
Then follow gramian.polar with the Hermitian factor, matrix_sign, and hard and soft clipping at half
the norm, in milliseconds. Beside the times, largest of the batch:

  far     ||u - U V^H||_F / sqrt(r), by torch's SVD in float64 and with as many singular values as
          gramian takes for above the cutoff N u sigma_1 (float32 Gaussian matrices of 4096 x 4096
          mostly have one below). In float64 it says no more than torch's defect does.
  defect  ||I - G||_F / sqrt(r), G the Gram matrix of u
  skew    ||h - h^H||_F / ||x||_F, h = u^H x or x u^H on the shorter side: 0 for the polar factor

`--device cpu --smoke` runs all of it on tiny matrices, to test this program.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import command_line
import gramian as gm
import numpy as np
import torch
from torch import Tensor

CASES = [
    "float32:1024x1024", "float64:1024x1024", "float32:1024x4096", "float64:1024x4096",
    "float32:64x128x128", "float64:64x128x128", "float32:512x32x32", "float64:512x32x32",
    "float32:4096x4096", "float64:4096x4096",
]  # fmt: skip
SMOKE = ["float32:40x40", "float64:3x20x30"]
SLOW_MS = 300.0


def by_svd(x: Tensor) -> Tensor:
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    return u @ vh


def by_gramian(x: Tensor) -> Tensor:
    return gm.polar(x, compute_hermitian=False)


def milliseconds(call: Callable[[], object], device: str, calls: int) -> float:
    if device == "cpu":
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        return 1e3 * (time.perf_counter() - begun) / calls
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        call()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / calls


def race(calls: list[Callable[[], object]], device: str, rounds: int) -> list[float]:
    once = []
    for call in calls:
        first = milliseconds(call, device, 1)
        once.append(first if first > SLOW_MS else milliseconds(call, device, 1))
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for i, call in enumerate(calls):
            if once[i] > SLOW_MS:
                times[i] = [once[i]]
            else:
                count = max(1, min(50, round(30 / max(once[i], 0.1))))
                times[i].append(milliseconds(call, device, count))
    return [statistics.median(t) for t in times]


def judge(x: Tensor, u: Tensor, truth: Tensor) -> str:
    x, u = x.double(), u.double()
    r = min(x.shape[-2:])
    tall = x.shape[-2] >= x.shape[-1]
    g = u.mT @ u if tall else u @ u.mT
    h = u.mT @ x if tall else x @ u.mT
    norm = torch.linalg.matrix_norm
    far = norm(u - truth) / r**0.5
    defect = norm(torch.eye(r, dtype=g.dtype, device=g.device) - g) / r**0.5
    skew = norm(h - h.mT) / norm(x)
    return " ".join(f"{float(v.max()):.1e}" for v in (far, defect, skew))


def row(case: str, device: str, rounds: int) -> list[str]:
    dtype, shape = case.split(":")
    sides = [int(n) for n in shape.split("x")]
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(sides, generator=generator, device=device, dtype=getattr(torch, dtype))
    half = float(torch.linalg.matrix_norm(x[(0,) * (x.ndim - 2)].double(), 2)) / 2
    square = sides[-1] == sides[-2]
    a = (x + x.mT) / 2 if square else x
    found: dict[str, Tensor] = {}

    def keep(name: str, function: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def call() -> None:
            found[name] = function(x)

        return call

    others: dict[str, Callable[[], object]] = {
        "u and p": lambda: gm.polar(x),
        "sign": lambda: gm.matrix_sign(a),
        "hard": lambda: gm.spectral_clip(x, half),
        "soft": lambda: gm.spectral_clip(x, half, kind="soft"),
    }
    if not square:
        del others["sign"]
    peer, mine = race([keep("svd", by_svd), keep("u", by_gramian)], device, rounds)
    told = race(list(others.values()), device, max(1, rounds // 2))
    info = gm.polar(x, return_info=True)[-1]
    rank = int(np.min(info.rank))
    left, _, right = torch.linalg.svd(x.double(), full_matrices=False)
    truth = left[..., :rank] @ right[..., :rank, :]
    return [
        case,
        f"{np.max(info.steps)}, {rank}",
        f"{peer:.3g}",
        f"{mine:.3g}",
        f"{peer / mine:.3g}x",
        judge(x, found["svd"], truth),
        judge(x, found["u"], truth),
        " ".join(f"{name} {t:.3g}" for name, t in zip(others, told, strict=True)),
    ]


def main() -> int:
    options = command_line.options(__doc__, "cases", "DTYPE:BxMxN", 5, "tiny matrices")
    head = ["case", "steps, rank", "torch SVD, ms", "gramian, ms", "ratio",
            "torch: far defect skew", "gramian: far defect skew", "others, ms"]  # fmt: skip
    lines = [command_line.row(head), "|" + "---|" * len(head)]
    print(lines[0], flush=True)
    by_svd(torch.eye(40, device=options.device))  # loads the library
    for case in options.cases or (SMOKE if options.smoke else CASES):
        lines.append(command_line.row(row(case, options.device, options.rounds)))
        print(lines[-1], flush=True)
    return command_line.finish(lines, options.out)


if __name__ == "__main__":
    sys.exit(main())
