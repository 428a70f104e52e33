"""How fast bounds on convolutions are on a GPU, beside Gram iteration on an FFT in torch.

    python3 benchmarks/gpu/conv_bounds.py [--out FILE.md] [--cases CxK-N ...] [--rounds N]

CxK-N: C to C channels, K x K taps, inputs of N x N, float32. The peer is rfft2 and six steps of
batched Gram iteration in complex64, as its paper publishes it. Contestants take turns in one
process; a time is the median over rounds, from a call to the moment its result is there, as a
caller sees it. With zero padding the peer's grid has K // 2 more than the input along each axis,
without which it would bound nothing. Beside each time:

  excess   the bound over the largest singular value on the circular grid, less 1. For zero padding
           it may well be negative: the ends take something off the norm.
  bracket  whether the certified bracket holds for circular padding, by a float64 SVD of every
           frequency; upper / lower - 1 of both paddings.

`--device cpu --smoke` runs all of it on tiny layers, to test this program.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import command_line
import gramian as gm
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1]))
from benchmarks.spectral_norm import gram_iteration

# The first two are those of the comparison on the CPU, all but them layers of ResNet-18.
CASES = ["64x3-32", "128x3-16", "256x3-14", "512x3-7", "64x3-56", "128x3-28"]
SMOKE = ["4x3-6", "6x3-5"]
STEPS = 6
MODES = ("circular", "zeros")


def bracket(weight: Tensor, size: int, mode: str) -> gm.Bounds:
    return gm.conv_spectral_norm_bounds(weight, input_size=size, padding_mode=mode)


def gramian(weight: Tensor, size: int, mode: str) -> float:
    return float(bracket(weight, size, mode).upper)


def symbols(weight: Tensor, size: int) -> Tensor:
    return torch.fft.rfft2(weight, (size, size)).flatten(2).permute(2, 0, 1)


def fft_and_gram_iteration(weight: Tensor, size: int, mode: str) -> float:
    grid = size + weight.shape[-1] // 2 if mode == "zeros" else size
    return float(gram_iteration(symbols(weight, grid), STEPS).max())


CONTESTANTS: dict[str, Callable[[Tensor, int, str], float]] = {
    "gramian": gramian,
    "rfft2 and Gram iteration": fft_and_gram_iteration,
}


def race(weight: Tensor, size: int, mode: str, rounds: int) -> dict[str, float]:
    """Milliseconds; every contestant returns a number on the host, so it has waited."""
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in range(rounds + 2):
        for name, call in CONTESTANTS.items():
            if weight.is_cuda:
                torch.cuda.synchronize()
            begun = time.perf_counter()
            call(weight, size, mode)
            if number >= 2:  # the first load kernels and fill the allocator
                times[name].append(1e3 * (time.perf_counter() - begun))
    return {name: statistics.median(found) for name, found in times.items()}


def grid_norm(weight: Tensor, size: int) -> float:
    """The largest singular value on the circular grid, in float64."""
    parts = symbols(weight.double(), size).split(64)
    return max(float(torch.linalg.svdvals(part).max()) for part in parts)


def rows(case: str, device: str, rounds: int) -> list[list[str]]:
    layer, size = case.split("-")
    channels, kernel = (int(n) for n in layer.split("x"))
    generator = torch.Generator(device).manual_seed(0)
    shape = (channels, channels, kernel, kernel)
    weight = torch.randn(shape, generator=generator, device=device)
    weight *= (channels * kernel**2) ** -0.5
    truth = grid_norm(weight, int(size))
    found = []
    for mode in MODES:
        bounds = bracket(weight, int(size), mode)
        lower, upper = float(bounds.lower), float(bounds.upper)
        state = f"{upper / lower - 1:.1e}"
        if mode == "circular":
            holds = lower <= truth * (1 + 1e-11) and truth <= upper * (1 + 1e-11)
            state = ("holds, " if holds else "VIOLATED, ") + state
        times = race(weight, int(size), mode, rounds)
        ours, peer = times.values()
        cells = [
            f"{times[name]:.3g} ms, {call(weight, int(size), mode) / truth - 1:+.1e}"
            for name, call in CONTESTANTS.items()
        ]
        found.append([f"{channels}→{channels} {kernel}x{kernel}, {size}²", mode, *cells,
                      f"{peer / ours:.3g}", state])  # fmt: skip
    return found


def main() -> int:
    options = command_line.options(__doc__, "cases", "CxK-N", 11, "tiny layers")
    head = ["layer", "padding", *CONTESTANTS, "ratio", "bracket"]
    lines = [command_line.row(head), "|" + "---|" * len(head)]
    print("\n".join(lines))
    for case in options.cases or (SMOKE if options.smoke else CASES):
        for cells in rows(case, options.device, options.rounds):
            lines.append(command_line.row(cells))
            print(lines[-1], flush=True)
    return command_line.finish(lines, options.out)


if __name__ == "__main__":
    sys.exit(main())
