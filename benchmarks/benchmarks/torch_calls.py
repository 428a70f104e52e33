"""What a call from torch costs beside its arithmetic, and what a gradient costs; one thread.

A 16 x 16 newton_schulz is wanted to take at most 15 us for the whole call in eager mode without a
gradient, where the operator is bypassed. The others show what the operator, recording and the
backward pass add.

Gradients are held against torch's autograd through the same five steps and norm, in turns, so that
both see the same machine. ``python torch_calls.py [cpu|cuda]`` prints the table of docs/torch.md.
"""

from __future__ import annotations

import statistics
import sys
import time

LOOP = 100


def _numpy(gm, gt, torch):
    x = torch.randn(16, 16).numpy()
    return lambda: gm.newton_schulz(x)


def _gramian(gm, gt, torch):
    x = torch.randn(16, 16)
    return lambda: gm.newton_schulz(x)


def _gramian_torch(gm, gt, torch):
    x = torch.randn(16, 16)
    return lambda: gt.newton_schulz(x)


def _operator(gm, gt, torch):
    x = torch.randn(16, 16)
    call = torch.ops.gramian.newton_schulz.default
    return lambda: call(x, 5, "polar_express", [], "schatten", 1.0, "auto", None, None)


def _recorded(gm, gt, torch):
    x = torch.randn(16, 16, requires_grad=True)
    return lambda: gm.newton_schulz(x)


def _backward(gm, gt, torch):
    x = torch.randn(16, 16, requires_grad=True)
    g = torch.randn(16, 16)
    return lambda: torch.autograd.grad(gm.newton_schulz(x), x, g)


CALLS = {
    "numpy": _numpy,
    "gramian": _gramian,
    "gramian.torch": _gramian_torch,
    "operator": _operator,
    "recorded": _recorded,
    "recorded and backward": _backward,
}


def microseconds(call) -> float:
    """Median over loops of the mean of a loop, after a warm-up."""
    times = []
    for _ in range(60):
        start = time.perf_counter()
        for _ in range(LOOP):
            call()
        times.append((time.perf_counter() - start) / LOOP * 1e6)
    return statistics.median(times[10:])


class TorchCall:
    """Timed by itself: asv may set up anew before each call, which then finds cold caches."""

    params = (list(CALLS),)
    param_names = ("call",)

    def setup(self, call):
        import gramian as gm
        import gramian.torch as gt
        import torch

        torch.set_num_threads(1)
        gm.set_num_threads(1)
        self.call = CALLS[call](gm, gt, torch)

    def track_newton_schulz_16x16(self, call):
        return microseconds(self.call)

    track_newton_schulz_16x16.pretty_name = "a call from torch, 16 x 16"
    track_newton_schulz_16x16.unit = "microseconds"


# ---- Gradients ----------------------------------------------------------------------------------

SHAPES = ("16x16", "128x128", "64x256", "512x512", "256x1024", "1024x256")
SHAPES_GPU = ("128x128", "512x512", "256x1024", "1024x1024", "1024x4096", "4096x1024")


def reference(x, table):
    """What one writes in torch: the steps on the matrix itself, wide."""
    flip = x.shape[-2] > x.shape[-1]
    y = x.mT if flip else x
    gram = y @ y.mT
    square = gram @ gram
    y = y / square.square().sum() ** 0.125
    for a, b, c in table:
        gram = y @ y.mT
        y = a * y + (b * gram + c * (gram @ gram)) @ y
    return y.mT if flip else y


def gradient_calls(shape, dtype, device="cpu"):
    """Forward and backward together: torch's autograd, and gramian's operator."""
    import gramian as gm
    import gramian.torch as gt
    import torch

    torch.set_num_threads(1)
    gm.set_num_threads(1)
    rows, cols = map(int, shape.split("x"))
    dtype = getattr(torch, dtype)
    x = torch.randn(rows, cols, dtype=dtype, device=device).requires_grad_()
    g = torch.randn(rows, cols, dtype=dtype, device=device)
    table = gm.coefficients.table("polar_express", 5)

    def timed(function):
        def call():
            torch.autograd.grad(function(x), x, g)
            if device != "cpu":
                torch.cuda.synchronize()

        return call

    return timed(lambda x: reference(x, table)), timed(gt.newton_schulz)


def gradient_times(shape, dtype, device="cpu", seconds=3.0):
    """Medians in ms, in turns, and the median of the ratios of neighbours."""
    calls = gradient_calls(shape, dtype, device)
    for call in calls * 3:
        call()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < end and len(times) < 500):
        pair = []
        for call in calls:
            start = time.perf_counter()
            call()
            pair.append((time.perf_counter() - start) * 1e3)
        times.append(pair)
    theirs, ours = (statistics.median(column) for column in zip(*times, strict=True))
    return theirs, ours, statistics.median(own / other for other, own in times)


class TorchGradient:
    """newton_schulz forward and backward, as part of what torch's autograd takes."""

    params = (SHAPES, ["float32", "float64"])
    param_names = ("shape", "dtype")

    def track_ratio_to_autograd(self, shape, dtype):
        return gradient_times(shape, dtype)[2]

    track_ratio_to_autograd.pretty_name = (
        "newton_schulz with its gradient, as part of autograd's time"
    )
    track_ratio_to_autograd.unit = "ratio"


def main(device="cpu"):
    for dtype in ("float32", "float64") if device == "cpu" else ("float32", "float64", "bfloat16"):
        for shape in SHAPES if device == "cpu" else SHAPES_GPU:
            theirs, ours, ratio = gradient_times(shape, dtype, device)
            print(f"| {shape} | {dtype} | {theirs:.3g} | {ours:.3g} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
