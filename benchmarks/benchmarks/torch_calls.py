"""What a call from torch costs beside its arithmetic: a 16 x 16 newton_schulz, one thread.

Wanted: at most 15 us for the whole call in eager mode without a gradient, where the operator is
bypassed. The others show what the operator, recording and the backward pass add.
"""

from __future__ import annotations

import statistics
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
