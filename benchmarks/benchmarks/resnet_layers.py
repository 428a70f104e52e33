"""Bounds on the norm of convolutions beside what else computes them: time and error.

Random filters at the shapes of ResNet-18's layers, circular padding, for which the norm is known:
the largest singular value over all frequencies. The error is signed, value / sigma_1 - 1; a
negative one is no bound. docs/scripts/compare_bounds.py takes its peers from here.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from . import spectral_norm

GRAM_STEPS = 6
POWER_STEPS = 100
RTOL = 1e-3


@dataclass(frozen=True)
class Layer:
    """A square kernel of odd size, padded so that a stride of 1 keeps the size of the input."""

    inputs: int
    outputs: int
    kernel: int
    size: int
    stride: int = 1

    @property
    def name(self) -> str:
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.inputs}→{self.outputs} {self.kernel}×{self.kernel} at {self.size}²{stride}"  # noqa: RUF001

    @property
    def padding(self) -> int:
        return self.kernel // 2

    def weight(self) -> np.ndarray:
        """He's initialization, the same one every time."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        shape = (self.outputs, self.inputs, self.kernel, self.kernel)
        deviation = np.sqrt(2 / (self.inputs * self.kernel**2))
        return (rng.standard_normal(shape) * deviation).astype(np.float32)


RESNET = tuple(
    Layer(*sizes)
    for sizes in (
        (3, 64, 7, 224, 2),
        (64, 64, 3, 56),
        (128, 128, 3, 28),
        (256, 256, 3, 14),
        (512, 512, 3, 7),
    )
)
LAYERS = {layer.name: layer for layer in (*RESNET, Layer(64, 64, 3, 32), Layer(128, 128, 3, 16))}


def symbols(fft2, weight, layer: Layer):
    """The operator's matrix at each frequency of the output, shape (frequencies, outputs, inputs).

    A stride s folds s x s frequencies of the input onto one of the output: their matrices stand
    side by side, divided by s. Conjugate frequencies are left out. ``fft2`` is that of the
    weight's library, over the last two axes.
    """
    n, s, h = layer.size, layer.stride, layer.kernel
    if n >= h:
        hat = fft2(weight, (n, n))
    else:  # the kernel is wrapped around the input
        raise ValueError(f"the input, {n}, is smaller than the kernel, {h}")
    coarse = n // s
    hat = hat.reshape(layer.outputs, layer.inputs, s, coarse, s, coarse)[..., : coarse // 2 + 1]
    # (outputs, inputs, a, k, b, l) -> (k, l, outputs, a, b, inputs)
    for source, target in ((3, 0), (5, 1), (2, 2), (4, 3), (4, 4)):
        hat = _moved(hat, source, target)
    return hat.reshape(coarse * (coarse // 2 + 1), layer.outputs, s * s * layer.inputs) / s


def _moved(a, source, target):
    return (
        np.moveaxis(a, source, target) if isinstance(a, np.ndarray) else a.movedim(source, target)
    )


def truth(layer: Layer) -> float:
    """By an SVD in double precision at every frequency."""
    matrices = symbols(np.fft.fft2, layer.weight().astype(np.float64), layer)
    return float(np.linalg.svd(matrices, compute_uv=False)[:, 0].max())


# ---- Implementations: each takes a weight and a layer and returns a function that does the work -


def gramian(weight, layer: Layer, rtol: float = RTOL):
    import gramian as gm

    options = {
        "input_size": layer.size,
        "stride": layer.stride,
        "padding": layer.padding,
        "padding_mode": "circular",
        "rtol": rtol,
    }
    return lambda: float(gm.conv_spectral_norm_bounds(weight, **options).upper)


def gram_iteration(weight, layer: Layer, steps: int = GRAM_STEPS):
    """FFT and Gram iteration of all frequencies at once."""
    import torch

    t = torch.from_numpy(weight)
    return lambda: float(
        spectral_norm.gram_iteration(symbols(torch.fft.fft2, t, layer), steps).max()
    )


def power_iteration(weight, layer: Layer, steps: int = POWER_STEPS):
    """Convolution and its adjoint by turns, from a random image: an estimate from below."""
    import torch

    t = torch.from_numpy(weight)
    n, p = layer.size, layer.padding
    start = torch.randn(1, layer.inputs, n, n, generator=torch.Generator().manual_seed(0))

    def forward(x):
        padded = torch.nn.functional.pad(x, (p, p, p, p), mode="circular")
        return torch.nn.functional.conv2d(padded, t, stride=layer.stride)

    def adjoint(y):
        wide = torch.nn.grad.conv2d_input(
            (1, layer.inputs, n + 2 * p, n + 2 * p), t, y, stride=layer.stride
        )
        for axis in (-1, -2):  # what lies on the padding belongs to the other side
            x = wide.narrow(axis, p, n).clone()
            x.narrow(axis, n - p, p).add_(wide.narrow(axis, 0, p))
            x.narrow(axis, 0, p).add_(wide.narrow(axis, n + p, p))
            wide = x
        return wide

    def estimate():
        x = start / start.norm()
        for _ in range(steps):
            x = adjoint(forward(x))
            x = x / x.norm()
        return float(forward(x).norm())

    return estimate


def svd(weight, layer: Layer):
    """The exact answer in the precision of the weight."""
    import torch

    t = torch.from_numpy(weight)
    return lambda: float(torch.linalg.matrix_norm(symbols(torch.fft.fft2, t, layer), ord=2).max())


IMPLEMENTATIONS = {
    "gramian.conv_spectral_norm_bounds": gramian,
    "torch-gram-iteration": gram_iteration,
    "torch-power-iteration": power_iteration,
    "torch-svd": svd,
}


class ConvNorm:
    params = (list(LAYERS), list(IMPLEMENTATIONS))
    param_names = ("layer", "implementation")
    timeout = 600
    repeat = (3, 10, 5.0)
    warmup_time = 0.2

    def setup_cache(self):
        return {name: truth(layer) for name, layer in LAYERS.items()}

    def setup(self, truths, layer, implementation):
        self.call = IMPLEMENTATIONS[implementation](LAYERS[layer].weight(), LAYERS[layer])

    def time_conv_norm(self, truths, layer, implementation):
        self.call()

    time_conv_norm.pretty_name = "ResNet-18's convolutions: time"

    def track_error(self, truths, layer, implementation):
        return float(f"{self.call() / truths[layer] - 1:.4g}")

    track_error.pretty_name = "ResNet-18's convolutions: excess"
    track_error.unit = "value / sigma_1 - 1"
