"""The randomized SVD on a GPU without waits: everything is queued, and figures are read once.

For float32 and half precision, real, by subspace iteration (cuda/src/rsvd_direct.cpp). `"auto"`
reads figures after every read of A from the third or fourth on. Where the figures say that plain
Cholesky QR did not do, or that A's scale is out of the way, `decompose` gives up, and the road of
`_rsvd_gpu.py` begins anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays
from ._device_vectors import Vectors
from ._rsvd_gpu import most_passes
from ._rsvd_gpu_reads import Options, Reads
from ._rsvd_settling import settled

# As in _rsvd_gpu.py.
_MODERATE = 32

# Operations of a read that takes longer than to wait for figures, with the device idle meanwhile.
_LONG_READ = 2e11

# The least square of a singular value that is returned, over the largest one: V is divided by it.
_LEAST = 1e-12


@dataclass(frozen=True)
class Found:
    """What the host knows of factors that lie on the device."""

    error: float
    method: str
    shifted: int


@dataclass(frozen=True)
class Places:
    """Where factors go: of the matrix as it is read, the long side down."""

    u: Any  # rows x k
    s: Any  # k
    v: Any  # columns x k
    sign_of_v: bool


def serves(a: _arrays.Array, options: Options) -> bool:
    """Whether this road takes such a matrix; `decompose` may still give up."""
    rows, columns = a.shape
    block = min(columns, options.rank + options.oversample)
    return (
        a.dtype in ("float32", "float16", "bfloat16")
        and options.method in ("auto", "subspace", "single_pass")
        and not options.center
        and options.start is None
        and block < columns <= rows
        and block <= Reads.direct_limit(a)
    )


def first_look(rows: int, columns: int, block: int) -> int:
    """Reads before "auto" looks at Ritz values for the first time; it needs three of them."""
    return 3 if 4.0 * rows * columns * block > _LONG_READ else 4


def decompose(a: _arrays.Array, options: Options, places: Places) -> tuple[Found | None, int]:
    """Writes the factors; None where what lies there is none. And how often A was read."""
    direct = _Direct(a, options, places)
    return direct.run(), direct.passes


class _Direct:
    def __init__(self, a: _arrays.Array, options: Options, places: Places) -> None:
        self.options = options
        self.places = places
        self.reads = Reads(a, options)
        self.vectors: Vectors = self.reads.vectors
        rows, columns = a.shape
        self.block = min(columns, options.rank + options.oversample)
        self.most = most_passes(options, columns)
        self.passes = 0
        self.z = self.vectors.empty((columns, self.block), "float32")
        self.y = self.vectors.empty((rows, self.block), "float32")
        self.w = self.vectors.empty((columns, self.block), "float64")
        self.values = self.reads.backend.direct_values
        self.figures = self.vectors.empty((self.values + self.block * (self.most + 1),), "float64")

    def run(self) -> Found | None:
        if self.options.passes or self.most <= 2:
            return self._found(self._queue(self.most, ends=True))
        first = first_look(self.reads.rows, self.reads.columns, self.block)
        figures = self._queue(min(first, self.most), ritz=True)
        while self._good(figures) and self.passes < self.most and not self._settled(figures):
            figures = self._queue(self.passes + 1, ritz=True)
        return self._found(self._queue(self.passes)) if self._good(figures) else None

    def _queue(self, last: int, *, ritz: bool = False, ends: bool = False) -> np.ndarray:
        """Queues reads up to `last`, and the factors unless Ritz values are to come first."""
        vectors, reads, a = self.vectors, self.reads, self.reads.a
        u: object = None
        s: object = None
        v: object = None
        if not ritz:
            u = vectors.capsule(self.places.u, a.dtype)
            s = vectors.capsule(self.places.s, "float32")
            v = vectors.capsule(self.places.v, a.dtype)
        reads.backend.direct_svd(
            a.capsule(),
            a.dtype,
            vectors.capsule(self.z, "float32"),
            vectors.capsule(self.y, "float32"),
            vectors.capsule(self.w, "float64"),
            vectors.capsule(self.figures, "float64"),
            self.options.seed,
            self.passes + 1,
            last,
            self.most,
            ritz,
            ends,
            u,
            s,
            v,
            self.places.sign_of_v,
            a.device[1],
            a.stream(),
            a.scratch,
        )
        self.passes = last
        return vectors.down(self.figures)

    def _good(self, figures: np.ndarray) -> bool:
        """Whether no factorization failed and A's scale is as it may be."""
        square = figures[self.reads.backend.direct_squares]
        return bool(figures[0] == 0 and 4.0**-_MODERATE <= square <= 4.0**_MODERATE)

    def _settled(self, figures: np.ndarray) -> bool:
        # The first row is for the squares of singular values; of the others the last three count.
        ritz = figures[self.values : self.values + (self.passes + 1) * self.block]
        return settled(
            ritz.reshape(self.passes + 1, self.block)[1:],
            self.options.rank,
            float(figures[self.reads.backend.direct_squares]),
            self.vectors.unit,
        )

    def _found(self, figures: np.ndarray) -> Found | None:
        if not self._good(figures):
            return None
        whole = float(figures[self.reads.backend.direct_squares])
        squares = figures[self.values : self.values + self.options.rank]
        kept = float(squares.sum())
        unit = self.vectors.unit
        # More than all of A: noise has come in by the half step.
        if not squares[-1] > _LEAST * squares[0] or kept > whole * (1 + 1e4 * unit):
            return None
        error = math.sqrt((max(whole - kept, 0.0) + 4 * unit * whole) / whole)
        method = "subspace"
        if self.most == 1 and self.options.method != "subspace":
            method = "single_pass"
        return Found(error, method, int(figures[1]))
