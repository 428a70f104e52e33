"""Nystrom approximation of what a `Reader` reads: sparse matrices, operators, row blocks.

The steps of cpp/src/nystrom.cpp; `_nystrom_gpu.py` takes them from here. docs/rsvd_operators.md
says what differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import _arrays, _rsvd_operator, _rsvd_rows
from ._options import seed_of
from ._rsvd_arguments import count
from ._rsvd_iteration import Iteration, Options
from ._rsvd_pieces import Blocks
from ._rsvd_reads import Reader


def serves(a: Any) -> bool:
    """As for the SVD; and an operator may do without `rmatvec`."""
    return _rsvd_operator.serves(a) or _is_operator(a)


def nystrom_eigh(
    a: Any, rank: int, *, oversample: int = 10, rng: Any = None, check_finite: bool | None = None
) -> tuple[Any, Any]:
    """As :func:`gramian.nystrom_eigh`, whose docstring says what the arguments are."""
    k = count(rank, "rank", 1)
    more = count(oversample, "oversample", 0)
    seed = seed_of(rng)
    if _rsvd_rows.is_sparse(a) or _is_operator(a):
        _require_square(a)
    problem = _rsvd_operator.checked_problem(
        a, double=False, center=False, seed=seed, check_finite=check_finite, may_transpose=False,
        operator_rows=_HermitianRows, blocks=_SquareBlocks,
    )  # fmt: skip
    reader = problem.reader
    if k > reader.columns:
        raise ValueError(f"rank is {k}; it must be from 1 to n = {reader.columns}")
    options = Options(k, more, 1 if problem.one_shot else 2, "subspace", seed)
    with problem.library.current(problem.device):
        found = eigenpairs(reader, options)
        if found is None:
            v = reader.thin.zeros((reader.columns, k), reader.dtype) + np.nan
            w = np.full(k, np.nan)
        else:
            w, v = found
        real = _arrays.real_dtype(problem.dtype)
        with np.errstate(over="ignore", under="ignore"):
            w = w.astype(real)
        return problem.returned(w, real), problem.returned(
            reader.thin.cast(v, reader.dtype), problem.dtype
        )


def eigenpairs(reader: Reader, options: Options) -> tuple[Any, Any] | None:
    """Eigenvalues, in double, and eigenvectors; None of what is not finite.

    With two reads the first gives W = A^2 Omega, whose basis Z the second multiplies; with one Z is
    a basis of Omega itself, as in the paper. With a shift nu of the size of the rounding of
    Y = A Z, Y + nu Z = F C, C^H C = Z^H (Y + nu Z), and the SVD of F has the eigenvectors and, less
    nu, the eigenvalues (Tropp, Yurtsever, Udell, Cevher 2017, algorithm 3).
    """
    thin, n, rank = reader.thin, reader.columns, options.rank
    iteration = Iteration(reader, options)
    z = iteration.first_block(min(n, rank + options.oversample))
    if options.passes == 2:
        _, z = reader.read(z)
        if not reader.finite:
            return None
        z = iteration.rounded(iteration.orthonormalize(z)[0])
    y, _ = reader.read(z, adjoint=False)
    if not reader.finite:
        return None
    # In a unit of the norm's size: roots of powers of two are exact for even ones alone.
    norm, unit = math.frexp(math.sqrt(reader.squares_or_estimate))
    nu = math.sqrt(n) * iteration.unit * norm
    y = thin.scaled(thin.cast(y, reader.wide), -unit) + nu * z
    core = z.conj().T @ y
    values, vectors = thin.eigen((core + core.conj().T) / 2)
    # F = Y C^-1, by way of the eigenvectors of the core: what is not positive is left out.
    kept = values > nu / 2
    inverse = kept / np.sqrt(np.where(kept, values, 1))
    f = thin.rotate(y, vectors * thin.from_host(inverse, reader.wide))
    q, r = iteration.orthonormalize(f)[:2]
    left, s, _ = thin.svd(r)
    with np.errstate(over="ignore", under="ignore"):
        w = np.ldexp(np.maximum(s[:rank] ** 2 - nu, 0.0), reader.exponent + unit)
    return w, thin.rotate(q, left[:, :rank])


# ---- Arguments ----------------------------------------------------------------------------------


def _is_operator(a: Any) -> bool:
    own = all(hasattr(a, name) for name in ("matvec", "shape", "dtype"))
    return _rsvd_rows.is_operator(a) or (own and not _rsvd_rows.is_iterable(a))


def _require_square(a: Any) -> None:
    (_rsvd_rows.check_sparse if _rsvd_rows.is_sparse(a) else _rsvd_rows.check_operator)(a, "a")
    if a.shape[0] != a.shape[1]:
        raise ValueError(f"a has shape {tuple(a.shape)}; it must be square")


class _HermitianRows(_rsvd_rows.OperatorRows):
    """An operator that is its own adjoint, so that products with A alone are asked for."""

    _needed = "A v (matvec) is"

    def adjoint_times(self, y: Any) -> Any:
        return self.times(y)


class _SquareBlocks(Blocks):
    """Row blocks that have as many rows as columns in all."""

    def __call__(self, width: int, read: int) -> Iterator[tuple[str, Any]]:
        rows, allowed = 0, f"it must be square: {self.columns} rows, as its blocks have columns"
        for name, piece in super().__call__(width, read):
            rows += piece.shape[0]
            if read == 1 and rows > self.columns:  # before more of them are held
                raise ValueError(f"a has more than {self.columns} rows; {allowed}")
            yield name, piece
            del piece  # else it would be kept while the next is made
        if rows != self.columns:
            raise ValueError(f"a has {rows} rows; {allowed}")
