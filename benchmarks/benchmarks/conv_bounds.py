"""conv_spectral_norm_bounds beside Gram iteration on a grid and the SVD of every frequency.

Circular padding, where all of them bound the same number: the largest singular value over the
grid. With zero padding gramian takes off what the ends take off the norm; the peer has a grid so
large that its maximum is a bound there too.
"""

from __future__ import annotations

from functools import cache

import numpy as np

# channels, kernel, input: the last three are ResNet-18's layers.
CASES = {
    "64x3x3-32": (64, 64, 3, 32),
    "128x3x3-16": (128, 128, 3, 16),
    "3-64x7x7-32": (64, 3, 7, 32),
    "64x3x3-56": (64, 64, 3, 56),
    "128x3x3-28": (128, 128, 3, 28),
    "256x3x3-14": (256, 256, 3, 14),
}


@cache
def weight(case: str) -> np.ndarray:
    outputs, inputs, kernel, _ = CASES[case]
    rng = np.random.default_rng(0)
    scale = (inputs * kernel**2) ** -0.5
    return (scale * rng.standard_normal((outputs, inputs, kernel, kernel))).astype(np.float32)


def gramian(padding_mode: str):
    def prepare(case: str):
        import gramian as gm

        kernel, size = weight(case), CASES[case][3]

        def bound():
            found = gm.conv_spectral_norm_bounds(kernel, input_size=size, padding_mode=padding_mode)
            return float(found.upper)

        return bound

    return prepare


def gram_iteration(steps: int, padding_mode: str):
    """Delattre et al., ICML 2023: rfft2, then Gram iteration with Frobenius scaling, in torch.

    In float32, as published; the bound may fall below the norm by rounding.
    """

    def prepare(case: str):
        import torch

        kernel, size = torch.from_numpy(weight(case)), CASES[case][3]
        if padding_mode == "zeros":
            size += kernel.shape[-1] // 2

        def bound():
            x = torch.fft.rfft2(kernel, (size, size)).flatten(2).permute(2, 0, 1)
            if x.shape[-2] < x.shape[-1]:
                x = x.mH
            log = torch.zeros(len(x))
            for _ in range(steps):
                norm = torch.linalg.matrix_norm(x)
                x = x / norm[:, None, None]
                x = x.mH @ x
                log = 2 * (log + norm.log())
            log = (log + torch.linalg.matrix_norm(x).log()) / 2**steps
            return float(log.exp().max())

        return bound

    return prepare


def svd(case: str):
    """The exact answer of the grid, in float64."""
    kernel, size = weight(case).astype(np.float64), CASES[case][3]

    def bound():
        x = np.fft.rfft2(kernel, (size, size))
        x = np.moveaxis(x.reshape(*x.shape[:2], -1), -1, 0)
        return float(np.linalg.svd(x, compute_uv=False).max())

    return bound


IMPLEMENTATIONS = {
    "gramian": gramian("circular"),
    "gramian, zero padding": gramian("zeros"),
    "gram-iteration-5": gram_iteration(5, "circular"),
    "gram-iteration-6": gram_iteration(6, "circular"),
    "gram-iteration-6, zero padding": gram_iteration(6, "zeros"),
    "svd": svd,
}


class ConvBounds:
    params = (list(CASES), list(IMPLEMENTATIONS))
    param_names = ("case", "implementation")
    timeout = 600
    repeat = (3, 10, 10.0)
    warmup_time = 0.2

    def setup(self, case, implementation):
        self.call = IMPLEMENTATIONS[implementation](case)

    def time_conv_bounds(self, case, implementation):
        self.call()

    time_conv_bounds.pretty_name = "conv_spectral_norm_bounds: time"

    def track_relative_excess(self, case, implementation):
        """Upper bound over the grid's largest singular value, less 1; negative where it is none.

        With zero padding it is below 0 by what the ends take off the norm.
        """
        return float(f"{self.call() / truth(case) - 1:.4g}")

    track_relative_excess.pretty_name = "conv_spectral_norm_bounds: excess"
    track_relative_excess.unit = "relative error"


@cache
def truth(case: str) -> float:
    return svd(case)()


def race(cases=("64x3x3-32", "128x3x3-16"), rounds=11):
    """Interleaved medians and each bound's excess: python -m benchmarks.conv_bounds."""
    import statistics
    import time

    for case in cases:
        calls = {name: prepare(case) for name, prepare in IMPLEMENTATIONS.items() if name != "svd"}
        times = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
        for name, call in calls.items():
            middle, excess = statistics.median(times[name]), call() / truth(case) - 1
            print(f"{case:12} {name:30} {1e3 * middle:8.1f} ms   excess {excess:+.1e}")


if __name__ == "__main__":
    race()
