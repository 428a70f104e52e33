"""Nystrom approximation on a GPU: the steps of cpp/src/nystrom.cpp."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from . import _arrays
from ._rsvd_gpu_rows import DeviceReader
from ._rsvd_iteration import Iteration, Options
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
    thin, n, rank = reader.thin, reader.columns, options.rank
    iteration = Iteration(reader, options)
    # The first read gives W = A^2 Omega, whose basis Z the second multiplies.
    first = iteration.first_block(min(n, rank + options.oversample))
    _, z = reader.read(first)
    if reader.finite:
        z = iteration.rounded(iteration.orthonormalize(z)[0])
        y, _ = reader.read(z, adjoint=False)
    if not reader.finite:
        w[...] = math.nan
        v[...] = math.nan
        return
    nu = math.sqrt(n) * iteration.unit * math.sqrt(reader.squares)
    y = thin.cast(y, reader.wide) + nu * z
    core = z.conj().T @ y
    values, vectors = thin.eigen((core + core.conj().T) / 2)
    # F = Y C^-1, by way of the eigenvectors of the core: what is not positive is left out.
    kept = values > nu / 2
    inverse = kept / np.sqrt(np.where(kept, values, 1))
    f = thin.rotate(y, vectors * thin.from_host(inverse, reader.wide))
    q, r = iteration.orthonormalize(f)[:2]
    left, s, _ = thin.svd(r)
    vectors = thin.rotate(q, left[:, :rank])
    with np.errstate(over="ignore", under="ignore"):
        found = np.ldexp(np.maximum(s[:rank] ** 2 - nu, 0.0), reader.exponent)
        found = found.astype(_arrays.real_dtype(a.dtype))
    w[...] = a.library.from_host(found, a.device)
    v[...] = vectors
