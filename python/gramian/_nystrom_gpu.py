"""Nystrom approximation on a GPU: the steps of cpp/src/nystrom.cpp."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from . import _arrays
from ._nystrom_operator import eigenpairs
from ._rsvd_gpu_rows import DeviceReader
from ._rsvd_iteration import Options
from ._rsvd_pieces import Single
from ._rsvd_rows import Block, compute_dtype


def write(
    a: _arrays.Array, rank: int, oversample: int, seed: int, w: Any, v: Any, *, checks: bool
) -> None:
    """Eigenvalues and eigenvectors of each matrix, into w and v."""
    with a.library.current(a.device):
        for place in itertools.product(*map(range, a.shape[:-2])):
            options = Options(rank, oversample, 2, "subspace", seed)
            _matrix(a, a.value[place], options, w[place], v[place], checks=checks)


def _matrix(a: _arrays.Array, x: Any, options: Options, w: Any, v: Any, *, checks: bool) -> None:
    pieces = Single(Block(x, "a"), compute_dtype(a.dtype, double=False))
    reader = DeviceReader(pieces, a, check_finite=checks, seed=options.seed)
    found = eigenpairs(reader, options)
    if found is None:
        w[...] = math.nan
        v[...] = math.nan
        return
    with np.errstate(over="ignore", under="ignore"):
        values = found[0].astype(_arrays.real_dtype(a.dtype))
    w[...] = a.library.from_host(values, a.device)
    v[...] = found[1]
