"""How many times as fast inverse roots are on a GPU as the ways that optimizers take.

    python3 benchmarks/gpu/inverse_root.py [--out FILE.md] [--shapes BxNxN ...] [--rounds N]

float32 matrices as Shampoo has them, (A + ridge lambda_1 I)^(-1/p) with ridge 1e-6:

  eigh     torch.linalg.eigh in float32, then V diag V^T: the usual one
  eigh64   the same in float64, rounded: an error as small as gramian's
  newton   Guo and Higham's coupled iteration by torch's products in float32, lambda_1 by 30 power
           iterations, until max |I - M| <= 1e-6, or grows, or 100 steps: Shampoo's other one
  newton'  the same with products in three tf32 parts ("high"), where torch does that

Contestants take turns in one process; a time is the median over rounds between two events on the
stream. Beside each the worst matrix' ||X - truth||_F / ||truth||_F, the truth by eigh in float64.

`--device cpu --smoke` runs all of it on tiny matrices, to test this program.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import command_line
import gramian as gm
import torch
from torch import Tensor

SHAPES = ["1x4096x4096", "4x2048x2048", "8x1024x1024", "1x512x512", "16x256x256", "64x128x128",
          "512x32x32"]  # fmt: skip
SMOKE = ["3x20x20"]
ROOTS = (2, 4)
RIDGE = 1e-6
MOST_STEPS = 100
TOLERANCE = 1e-6
SLOW_MS = 150.0  # beyond, two turns


# ---- Inputs: what an optimizer accumulates ------------------------------------------------------


def gradients(count: int, n: int, generator: torch.Generator, device: str) -> Tensor:
    """Sums of G G^T, gradients of 2n columns whose directions decay."""
    decay = torch.arange(1, n + 1, device=device) ** -0.75
    g = torch.randn(count, n, 2 * n, generator=generator, device=device) * decay[:, None]
    turn = torch.linalg.qr(torch.randn(n, n, generator=generator, device=device))[0]
    g = turn @ g
    return g @ g.mT


def power_law(count: int, n: int, generator: torch.Generator, device: str) -> Tensor:
    """Eigenvalues i^-2."""
    values = torch.arange(1, n + 1, device=device, dtype=torch.float64) ** -2
    g = torch.randn(count, n, n, generator=generator, device=device, dtype=torch.float64)
    q = torch.linalg.qr(g)[0]
    a = (q * values) @ q.mT
    return ((a + a.mT) / 2).float()


INPUTS = {"G Gt": gradients, "i^-2": power_law}


# ---- Contestants --------------------------------------------------------------------------------


def by_gramian(a: Tensor, p: int) -> Tensor:
    return gm.inverse_root(a, p, ridge=RIDGE)


def by_eigh(a: Tensor, p: int) -> Tensor:
    w, v = torch.linalg.eigh(a)
    top = w[..., -1:]
    # Rounding leaves some eigenvalues below 0.
    powers = (w.clamp(min=0) + RIDGE * top) ** (-1 / p)
    return (v * powers[..., None, :]) @ v.mT


def by_eigh64(a: Tensor, p: int) -> Tensor:
    return by_eigh(a.double(), p).to(a.dtype)


def by_newton(a: Tensor, p: int) -> Tensor:
    n = a.shape[-1]
    v = torch.ones(*a.shape[:-1], 1, device=a.device) / n**0.5
    for _ in range(30):
        v = a @ v
        v /= torch.linalg.vector_norm(v, dim=-2, keepdim=True)
    top = v.mT @ (a @ v)
    eye = torch.eye(n, device=a.device)
    z = (1 + p) / (2 * (1 + RIDGE) * top)
    m = (a + RIDGE * top * eye) * z
    x = eye * z ** (1 / p)
    error = (m - eye).abs().amax()
    for _ in range(MOST_STEPS):
        t = ((p + 1) * eye - m) / p
        power = t
        for _ in range(p.bit_length() - 1):  # p is a power of two here
            power = power @ power
        m, next_x = power @ m, x @ t
        now = (m - eye).abs().amax()
        if not bool(now < error * 1.2):  # rounding has the upper hand
            break
        x, error = next_x, now
        if bool(error <= TOLERANCE):
            break
    return x


def by_newton_high(a: Tensor, p: int) -> Tensor:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        return by_newton(a, p)
    finally:
        torch.set_float32_matmul_precision(before)


CONTESTANTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "gramian": by_gramian,
    "eigh": by_eigh,
    "eigh64": by_eigh64,
    "newton": by_newton,
    "newton'": by_newton_high,
}


def truth_of(a: Tensor, p: int) -> Tensor:
    w, v = torch.linalg.eigh(a.double())
    return (v * ((w.clamp(min=0) + RIDGE * w[..., -1:]) ** (-1 / p))[..., None, :]) @ v.mT


def error_of(x: Tensor, truth: Tensor) -> float:
    far = (x.double() - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    return float(far.max())  # NaN if there is any


def milliseconds(call: Callable[[], object], calls: int, device: str) -> float:
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


def race(a: Tensor, p: int, rounds: int, device: str) -> dict[str, float]:
    once = {}
    for name, call in CONTESTANTS.items():
        once[name] = milliseconds(lambda call=call: call(a, p), 1, device)
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in range(rounds):
        for name, call in CONTESTANTS.items():
            if once[name] > SLOW_MS and number >= 2:
                continue
            calls = max(1, min(20, round(20 / once[name])))
            times[name].append(milliseconds(lambda call=call: call(a, p), calls, device))
    return {name: statistics.median(found) for name, found in times.items()}


def rows(shape: str, device: str, rounds: int) -> list[list[str]]:
    count, n, _ = (int(k) for k in shape.split("x"))
    found = []
    for kind, build in INPUTS.items():
        a = build(count, n, torch.Generator(device).manual_seed(0), device)
        for p in ROOTS:
            truth = truth_of(a, p)
            errors = {name: error_of(call(a, p), truth) for name, call in CONTESTANTS.items()}
            _, info = gm.inverse_root(a, p, ridge=RIDGE, return_info=True)
            times = race(a, p, rounds, device)
            cells = [shape, kind, str(p), f"{info.steps} {info.method}"]
            for name, ms in times.items():
                ratio = "" if name == "gramian" else f" ({ms / times['gramian']:.3g}x)"
                cells.append(f"{ms:.3g} ms{ratio} {errors[name]:.0e}")
            found.append(cells)
    return found


def main() -> int:
    options = command_line.options(__doc__, "shapes", "BxNxN", 5, "tiny matrices")
    head = ["shape", "input", "p", "steps", *CONTESTANTS]
    lines = [command_line.row(head), "|" + "---|" * len(head)]
    for shape in options.cases or (SMOKE if options.smoke else SHAPES):
        for cells in rows(shape, options.device, options.rounds):
            lines.append(command_line.row(cells))
            print(lines[-1], flush=True)
    return command_line.finish(lines, options.out)


if __name__ == "__main__":
    sys.exit(main())
