"""Convolutions as dense matrices, slowly: straight from the definition, and through torch.

Both take the arguments of ``conv_spectral_norm_bounds`` and give a float64 or complex128 matrix
that maps the flattened input to the flattened output. They share no code, nor any with the package.
"""

from __future__ import annotations

import itertools
import math

import numpy as np


def per_axis(value, axes):
    return (value,) * axes if isinstance(value, int) else tuple(value)


def pads(padding, kernel, dilation):
    """Zeros or wrapped entries before and after, per axis; an odd one more goes to the end."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(t // 2, t - t // 2) for t in total]
    return [(p, p) for p in per_axis(padding, len(kernel))]


def dense(weight, input_size, *, stride=1, padding="same", padding_mode="zeros", dilation=1,
          groups=1, transposed=False):  # fmt: skip
    """By loops over outputs and taps."""
    weight = np.asarray(weight)
    axes = weight.ndim - 2
    kernel = weight.shape[2:]
    stride, dilation = per_axis(stride, axes), per_axis(dilation, axes)
    size = per_axis(input_size, axes)
    pad = pads(padding, kernel, dilation)
    out = []
    for n, s, (left, right), d, k in zip(size, stride, pad, dilation, kernel, strict=True):
        extent = d * (k - 1) + 1
        # Input position j of a transposed one adds to output positions s j + d t - left.
        out.append((n - 1) * s - left - right + extent if transposed
                   else (n + left + right - extent) // s + 1)  # fmt: skip
    first, per_group = weight.shape[:2]
    # The weight's first dimension counts outputs, or inputs of a transposed convolution; ``near``
    # are the positions on that side, ``far`` those on the other.
    near, far = (size, out) if transposed else (out, size)
    dtype = np.complex128 if weight.dtype.kind == "c" else np.float64
    matrix = np.zeros((first, math.prod(near), per_group * groups, math.prod(far)), dtype)
    for row, j in enumerate(itertools.product(*map(range, near))):
        for t in itertools.product(*map(range, kernel)):
            p = [s * a + d * b - side[0]
                 for s, a, d, b, side in zip(stride, j, dilation, t, pad, strict=True)]  # fmt: skip
            if padding_mode == "circular":
                p = [a % n for a, n in zip(p, far, strict=True)]
            if any(not 0 <= a < n for a, n in zip(p, far, strict=True)):
                continue
            column = int(np.ravel_multi_index(p, far))
            for c in range(first):
                g = c // (first // groups)
                matrix[c, row, g * per_group : (g + 1) * per_group, column] += weight[
                    (c, slice(None), *t)
                ]
    matrix = matrix.reshape(first * math.prod(near), -1)
    return matrix.T if transposed else matrix


def torch_dense(weight, input_size, *, stride=1, padding="same", padding_mode="zeros", dilation=1,
                groups=1, transposed=False):  # fmt: skip
    """What torch's convolution does to unit vectors."""
    import torch

    functional = torch.nn.functional
    weight = torch.as_tensor(weight)
    weight = weight.cdouble() if weight.is_complex() else weight.double()
    axes = weight.ndim - 2
    size = per_axis(input_size, axes)
    channels = weight.shape[0] if transposed else weight.shape[1] * groups
    count = channels * math.prod(size)
    x = torch.eye(count, dtype=weight.dtype).reshape(count, channels, *size)
    name = f"conv_transpose{axes}d" if transposed else f"conv{axes}d"
    if transposed and padding == "valid":
        padding = 0
    if padding_mode == "circular":
        pad = pads(padding, weight.shape[2:], per_axis(dilation, axes))
        x = functional.pad(x, [p for pair in reversed(pad) for p in pair], mode="circular")
        padding = 0
    y = getattr(functional, name)(x, weight, None, stride=stride, padding=padding,
                                  dilation=dilation, groups=groups)  # fmt: skip
    return y.reshape(count, -1).numpy().T


def norm(matrix) -> float:
    """The truth: a float64 SVD, whose relative error is some hundred u at most."""
    return float(np.linalg.svd(matrix, compute_uv=False)[0]) if matrix.size else 0.0
