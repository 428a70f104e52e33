"""What a GPU does otherwise than the host for the bounds of a convolution.

Geometry, branch and bound, windows' entries and all that is proved from few numbers are the host's
on both roads. On a GPU the weight, the symbols, the operator and every batch of matrices stay
there, in the caller's library.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import _arrays
from ._cublas import require_own_double


@dataclass(frozen=True)
class Road:
    """Where batches are computed, how large they may be, and what their products err by."""

    on_device: bool
    # Entries of one batch of symbols or Toeplitz matrices.
    batch_entries: int
    # What a matrix counts at least: on a GPU the figures of its squares take some KiB.
    least_entries: int
    # Entries of a dense matrix that is worth forming; beyond, only its Gram matrix.
    dense_entries: int
    # Steps of the search for a vector from one look at its value to the next.
    look_every: int

    def batch(self, entries: int) -> int:
        """How many matrices of so many entries make a batch."""
        return max(1, self.batch_entries // max(entries, self.least_entries))

    def rounding(self, terms: int, is_complex: bool) -> float:
        """``c``: sums of so many products, from a matrix product, err by ``c u sum |a| |b|``.

        On the host Lemma 1 of docs/bounds.md. On a GPU roundings may be directed and complex
        products be made of three multiplications (docs/conv_bounds.md, "On a GPU").
        """
        if not self.on_device:
            return (3.0 if is_complex else 2.0) * terms
        return 9.0 * (terms + 8) if is_complex else 4.0 * terms


# 64 MiB of complex128; 128 MiB of float64.
HOST = Road(False, batch_entries=1 << 22, least_entries=1, dense_entries=1 << 24, look_every=1)
# Few large batches. The bracket takes up to four times the memory of its matrices beside them:
# with 256 MiB of complex128, or 512 MiB of float64, some GiB together.
DEVICE = Road(
    True, batch_entries=1 << 24, least_entries=1 << 8, dense_entries=1 << 26, look_every=4
)


def road_of(array: _arrays.Array) -> Road:
    """Raises RuntimeError on a GPU where cuBLAS is told to imitate float64 by narrower formats."""
    if array.device == _arrays.CPU:
        return HOST
    require_own_double("certified bounds on convolutions need")
    return DEVICE
