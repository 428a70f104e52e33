"""Where the taps of a convolution land along one axis, and the torus that represents it.

Output position j of a convolution reads input position ``stride * j - left + dilation * t`` through
tap t. With ``stride`` phases to a block this is a product with blocks: input block b and output j
meet through tap t where ``b - j = dilation * t // stride``, and the phase of the input position is
``dilation * t % stride``. On a torus of enough blocks (docs/conv_bounds.md) the convolution is a
block circulant matrix of which some rows and columns are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

# Taps of an axis from which its transforms may be FFTs, whose sizes need small factors.
LONG = 64


def has_small_factors(size: int) -> bool:
    for factor in (2, 3, 5):
        while size % factor == 0:
            size //= factor
    return size == 1


def fast_size(least: int) -> int:
    """The next size whose prime factors are 2, 3 and 5."""
    while not has_small_factors(least):
        least += 1
    return least


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution, transposed ones turned into the convolution they are adjoint to.

    ``taps`` holds the indices of the kernel that are used. ``circular`` wraps around ``size``.
    """

    taps: tuple[int, ...]
    size: int
    stride: int
    dilation: int
    left: int
    right: int
    extent: int  # of the whole kernel: dilation * (k - 1) + 1
    circular: bool

    @property
    def outputs(self) -> int:
        return (self.size + self.left + self.right - self.extent) // self.stride + 1

    @cached_property
    def starts(self) -> np.ndarray:
        """The input position that tap 0 of each output reads."""
        return self.stride * np.arange(self.outputs) - self.left

    @cached_property
    def lags(self) -> np.ndarray:
        return self.dilation * np.asarray(self.taps)

    @property
    def in_blocks(self) -> bool:
        """Whether whole blocks of ``stride`` positions wrap around too."""
        return not self.circular or self.size % self.stride == 0

    @property
    def step(self) -> int:
        """Positions to a block. One where a stride does not divide a circular size: the outputs
        are then some of those of the convolution without stride."""
        return self.stride if self.in_blocks else 1

    @cached_property
    def shifts(self) -> np.ndarray:
        """Blocks between an output and the input that each used tap reads."""
        return self.lags // self.step

    @cached_property
    def phases(self) -> np.ndarray:
        """Position within a block of the input that each used tap reads."""
        return self.lags % self.step

    @cached_property
    def rows(self) -> np.ndarray:
        """Position on the torus of each output; repeated where an output is."""
        positions = self.starts + self.left if self.in_blocks else self.starts
        blocks = positions // self.step
        return blocks % self.torus if self.circular else blocks

    @cached_property
    def columns(self) -> np.ndarray:
        """Blocks of the torus that hold input."""
        if self.circular:
            return np.arange(self.torus)
        first = self.left // self.step
        return np.arange(first, (self.size - 1 + self.left) // self.step + 1)

    @cached_property
    def torus(self) -> int:
        """Blocks of the torus: enough for no output to meet an input that it does not read.

        And enough for the lags of the symbol's square not to meet within the smaller window.
        """
        if self.circular:
            return self.size // self.step
        first = self.left // self.step
        last = (self.size - 1 + self.left) // self.step
        low, high = int(self.shifts.min()), int(self.shifts.max())
        least = int(max(last - low, high - first + self.outputs - 1)) + 1
        least = max(least, min(self.outputs, last - first + 1) + high - low)
        return fast_size(least) if len(self.taps) > LONG else least

    def reads(self, lag: int) -> tuple[np.ndarray, np.ndarray]:
        """The outputs that read an input through a tap, and those inputs."""
        inputs, outputs = self.starts + lag, np.arange(self.outputs)
        if self.circular:
            return outputs, inputs % self.size
        inside = (inputs >= 0) & (inputs < self.size)
        return outputs[inside], inputs[inside]

    @property
    def padded_size(self) -> int:
        """Positions from the first that an output may read to the last."""
        return int(self.lags.max()) + self.stride * (self.outputs - 1) + 1

    def window(self, lag: int) -> slice:
        """The padded positions that the outputs read through a tap."""
        return slice(int(lag), int(lag) + self.stride * (self.outputs - 1) + 1, self.stride)

    @property
    def kept(self) -> tuple[slice, slice]:
        """Where the input and the padded input overlap, as windows of both."""
        first, last = max(0, -self.left), min(self.size, self.padded_size - self.left)
        return slice(first, max(first, last)), slice(
            first + self.left, max(first, last) + self.left
        )

    @cached_property
    def wrapped(self) -> np.ndarray:
        """The input position behind each padded one, of a circular axis."""
        return (np.arange(self.padded_size) - self.left) % self.size

    def blocks_of_inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Block on the torus and phase of each input position."""
        positions = np.arange(self.size) + (self.left if self.in_blocks else 0)
        return positions // self.step, positions % self.step

    @property
    def repeats(self) -> int:
        """How often the most repeated output occurs: 1 unless circular padding is wide."""
        return int(np.bincount(self.rows).max())

    @property
    def is_circulant(self) -> bool:
        """Whether every position of the torus is an output, once."""
        return self.circular and np.array_equal(np.bincount(self.rows, minlength=self.torus),
                                                np.ones(self.torus, int))  # fmt: skip

    @property
    def is_disjoint(self) -> bool:
        """Whether no input is read by two outputs, and some output reads nothing but input."""
        if self.stride < self.extent or (self.circular and self.left + self.right > 0):
            return False
        return bool(((self.starts >= 0) & (self.starts + self.extent <= self.size)).any())

    def used(self) -> Axis:
        """The same axis with the taps that ever read an input."""
        if self.circular:
            return self
        keep = [
            t
            for t in self.taps
            if (((p := self.starts + self.dilation * t) >= 0) & (p < self.size)).any()
        ]
        return replace(self, taps=tuple(keep))


def unlimited(taps: int, stride: int, dilation: int) -> tuple[np.ndarray, np.ndarray]:
    """Shifts and phases of each tap where input has no ends.

    What stride and dilation have in common drops out, as outputs read one residue of positions
    only; the rest of the dilation does too, as it splits input and output into as many
    convolutions that do not meet.
    """
    step = stride // int(np.gcd(stride, dilation))
    return np.arange(taps) // step, np.arange(taps) % step


def combinations(per_axis: Sequence[np.ndarray]) -> np.ndarray:
    """One row each, the last axis fastest."""
    return np.stack(np.meshgrid(*per_axis, indexing="ij"), axis=-1).reshape(-1, len(per_axis))
