"""How many times as fast bounds on the spectral norm are on a GPU as what else computes it.

    python3 benchmarks/gpu/bounds.py [--out FILE.md] [--shapes BxMxN ...] [--rounds N]

float32 matrices. Every contestant takes turns with the others in one process; a time is the median
over rounds, from a call to the moment its result is there, as a caller sees it. Beside each time:

  error  value / sigma_1 - 1 for the matrix of the batch where it is of largest magnitude, sigma_1
         by a float64 SVD. A negative one is no upper bound.
  holds  whether the bracket contains sigma_1 for every matrix (to the SVD's own rounding).

torch's norm takes a second and more at 4096 x 4096: it is timed once there.

`--device cpu --smoke` runs all of it on tiny matrices, to test this program.
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

SHAPES = ["1024x1024", "4096x4096", "64x256x256", "1024x64x64", "8192x2048"]
SMOKE = ["40x40", "3x20x30"]
STEPS = 6
RTOL = 1e-6
SLOW_S = 0.3  # beyond, one call a turn and one turn


CONTESTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "gramian.spectral_norm_bounds": lambda a: gm.spectral_norm_bounds(a, rtol=RTOL).upper,
    "gramian.gram_bound": lambda a: gm.gram_bound(a, STEPS),
    "torch norm(ord=2)": lambda a: torch.linalg.matrix_norm(a, ord=2),
    "torch Gram iteration": lambda a: gram_iteration(a, STEPS),
}
AGAINST = {
    "gramian.spectral_norm_bounds": "torch norm(ord=2)",
    "gramian.gram_bound": "torch Gram iteration",
}


def seconds(call: Callable[[Tensor], Tensor], a: Tensor, calls: int) -> float:
    def settle() -> None:
        if a.is_cuda:
            torch.cuda.synchronize()

    settle()
    begun = time.perf_counter()
    for _ in range(calls):
        call(a)
    settle()
    return (time.perf_counter() - begun) / calls


def race(a: Tensor, rounds: int) -> dict[str, float]:
    once = {}
    for name, call in CONTESTANTS.items():
        call(a)
        once[name] = seconds(call, a, 1)
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in range(rounds):
        for name, call in CONTESTANTS.items():
            if once[name] > SLOW_S and number > 0:
                continue
            calls = 1 if once[name] > SLOW_S else max(1, round(0.03 / once[name]))
            times[name].append(seconds(call, a, calls))
    return {name: statistics.median(found) for name, found in times.items()}


def row(shape: str, device: str, rounds: int) -> list[str]:
    generator = torch.Generator(device).manual_seed(0)
    a = torch.randn([int(n) for n in shape.split("x")], generator=generator, device=device)
    sigma = torch.linalg.svdvals(a.double())[..., 0]
    bounds = gm.spectral_norm_bounds(a, rtol=RTOL)
    # The SVD is off by some units of rounding in float64.
    holds = bool(
        ((bounds.lower <= sigma * (1 + 1e-12)) & (sigma <= bounds.upper * (1 + 1e-12))).all()
    )
    state = "holds" if holds else "VIOLATED"
    state += "" if bool(bounds.converged.all()) else ", wide"
    times = race(a, rounds)
    cells = []
    for name, call in CONTESTANTS.items():
        error = call(a).double() / sigma - 1
        worst = error.reshape(-1)[error.reshape(-1).abs().argmax()].item()
        against = AGAINST.get(name)
        ratio = f" ({times[against] / times[name]:.3g}x)" if against else ""
        cells.append(f"{1e3 * times[name]:.3g} ms{ratio} {worst:+.0e}")
    return [shape, *cells, state]


def main() -> int:
    options = command_line.options(__doc__, "shapes", "BxMxN", 7, "tiny matrices")
    head = ["shape", *CONTESTANTS, "bracket"]
    lines = [command_line.row(head), "|" + "---|" * len(head)]
    for shape in options.cases or (SMOKE if options.smoke else SHAPES):
        lines.append(command_line.row(row(shape, options.device, options.rounds)))
        print(lines[-1], flush=True)
    return command_line.finish(lines, options.out)


if __name__ == "__main__":
    sys.exit(main())
