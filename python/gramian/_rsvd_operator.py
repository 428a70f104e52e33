"""Randomized SVD of what is no dense array: sparse matrices, operators, iterables of row blocks.

`gramian.rsvd` and `gramian.range_finder` come here with such an argument. Where only the caller can
multiply, products are NumPy's and SciPy's: docs/rsvd_operators.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays, _rsvd_gpu_thin, _rsvd_rows
from ._options import check_finite_option, seed_of
from ._rsvd_arguments import Request, checked_request, count, reads_of
from ._rsvd_certificate import certified
from ._rsvd_gpu_rows import DeviceReader
from ._rsvd_iteration import Factors, Iteration, Options
from ._rsvd_pieces import Blocks, Whole, place
from ._rsvd_reads import Reader
from ._rsvd_results import ConvergenceError, SVDInfo, SVDResult


def serves(a: Any) -> bool:
    """Whether `a` is a sparse matrix, an operator or may be an iterable of row blocks."""
    return _rsvd_rows.is_sparse(a) or _rsvd_rows.is_operator(a) or _rsvd_rows.is_iterable(a)


@dataclass
class Problem:
    """A checked argument."""

    reader: Reader
    adjoint: bool  # the reader reads A^H
    one_shot: bool
    library: _arrays.Library
    dtype: str  # of the argument, and of U and V

    @property
    def device(self) -> _arrays.Device:
        return self.reader.pieces.device

    def returned(self, values: Any, dtype: str) -> Any:
        thin = self.reader.thin
        if isinstance(thin, _rsvd_gpu_thin.DeviceThin):
            return _rsvd_gpu_thin.put(thin, values, dtype)
        return self.library.from_numpy(values, dtype)


def rsvd(
    a: Any,
    rank: int | None = None,
    *,
    tol: float | None = None,
    oversample: int = 10,
    passes: int | str = "auto",
    method: str = "auto",
    center: bool = False,
    v0: Any = None,
    rng: Any = None,
    check_finite: bool | None = None,
) -> SVDResult:
    """As :func:`gramian.rsvd`, whose docstring says what the arguments are."""
    asked = checked_request(rank, tol, oversample, passes, method, center, rng)
    problem = checked_problem(
        a,
        double=bool(asked.tolerance),
        center=asked.center,
        seed=asked.seed,
        check_finite=check_finite,
        may_transpose=v0 is None,
    )
    _check_method(problem, asked.method, asked.passes, asked.tolerance)
    with problem.library.current(problem.device):
        return _factors(problem, asked, tol, v0)


def _factors(problem: Problem, asked: Request, tol: Any, v0: Any) -> SVDResult:
    reader = problem.reader
    _check_rank(problem, asked.rank, "rank")
    start = _start(v0, problem)
    side = min(reader.rows, reader.columns) if reader.rows >= 0 else reader.columns
    options = Options(
        rank=side if asked.rank is None else asked.rank,
        oversample=asked.oversample,
        passes=asked.passes,
        method=asked.method,
        seed=asked.seed,
        start=start,
        in_core=isinstance(reader.pieces, Whole),
    )
    if side == 0:
        return _nothing(problem)
    if asked.tolerance:
        return _certified(problem, options, asked, tol)
    iteration = Iteration(reader, options)
    finite = iteration.build()
    if reader.rows == 0 and asked.rank is None:
        return _nothing(problem)
    _check_rank(problem, asked.rank, "rank")
    if not finite:
        return _not_finite(problem, options.rank, iteration.method)
    return result(problem, iteration.finish(), "estimate")


def range_finder(
    a: Any,
    size: int,
    *,
    passes: int | str = "auto",
    rng: Any = None,
    check_finite: bool | None = None,
) -> Any:
    """As :func:`gramian.range_finder`."""
    columns = count(size, "size", 1)
    reads = reads_of(passes, "auto", 0.0)
    seed = seed_of(rng)
    problem = checked_problem(
        a, double=False, center=False, seed=seed, check_finite=check_finite, may_transpose=True
    )
    _check_method(problem, "auto", reads, 0.0)
    _check_rank(problem, columns, "size")
    # More vectors than asked for: signs for few columns may be orthogonal to what matters.
    options = Options(
        columns, 10, reads, "auto", seed, in_core=isinstance(problem.reader.pieces, Whole)
    )
    with problem.library.current(problem.device):
        return _basis(problem, options, columns)


def _basis(problem: Problem, options: Options, columns: int) -> Any:
    iteration = Iteration(problem.reader, options)
    finite = iteration.build()
    _check_rank(problem, columns, "size")
    if not finite:
        shape = (problem.reader.columns if problem.adjoint else problem.reader.rows, columns)
        return problem.returned(np.full(shape, np.nan, problem.reader.dtype), problem.dtype)
    iteration.compress(columns)
    basis = iteration.y
    if problem.adjoint:
        basis = iteration.z if iteration.w is None else iteration.w
    q = iteration.orthonormalize(basis)[0]
    return problem.returned(problem.reader.thin.cast(q, problem.reader.dtype), problem.dtype)


# ---- Arguments ----------------------------------------------------------------------------------


def checked_problem(
    a: Any,
    *,
    double: bool,
    center: bool,
    seed: int,
    check_finite: Any,
    may_transpose: bool,
    operator_rows: type[_rsvd_rows.OperatorRows] = _rsvd_rows.OperatorRows,
    blocks: type[Blocks] = Blocks,
) -> Problem:
    checks = check_finite_option(check_finite, True)
    library = _arrays.LIBRARIES[0]
    if _rsvd_rows.is_sparse(a) or _rsvd_rows.is_operator(a) or not _rsvd_rows.is_iterable(a):
        sparse = _rsvd_rows.is_sparse(a)
        # Means are taken off products, not off entries: what is left is known to u of the whole.
        double = double or (sparse and center)
        (_rsvd_rows.check_sparse if sparse else _rsvd_rows.check_operator)(a, "a")
        # Y is long and W short; but an operator tells means of its rows with A Z, those of its
        # columns only after A^H Y.
        adjoint = may_transpose and (a.shape[0] < a.shape[1] or (center and not sparse))
        dtype = np.dtype(a.dtype).name
        rows = (
            _rsvd_rows.sparse_rows(a, double=double, adjoint=adjoint)
            if sparse
            else operator_rows(a, np.dtype(dtype), adjoint=adjoint)
        )
        pieces: Any = Whole(rows, _rsvd_rows.compute_dtype(dtype, double=double))
        one_shot = False
    else:
        adjoint = False
        pieces = blocks(a, double=double, center=center)
        library, dtype, one_shot = pieces.library, pieces.block_dtype, pieces.one_shot
    centering = "none" if not center else "rows" if adjoint else "columns"
    if isinstance(pieces, Blocks) and pieces.first is not None:
        with library.current(pieces.device):
            reader: Reader = DeviceReader(
                pieces, pieces.first, center=center, check_finite=checks, seed=seed,
                certified=double,
            )  # fmt: skip
    else:
        reader = Reader(pieces, centering=centering, check_finite=checks, seed=seed)
    return Problem(reader, adjoint, one_shot, library, dtype)


def _check_method(problem: Problem, method: str, reads: int, tolerance: float) -> None:
    if problem.one_shot and not (method == "single_pass" or (method == "auto" and reads == 1)):
        raise ValueError(
            f"a can be read only once (it is an iterator), and method is {method!r}; it must be "
            "'single_pass', unless a is made something that can be iterated over again, as a list"
        )
    if problem.reader.is_operator:
        if tolerance:
            raise ValueError(
                f"tol is {tolerance!r}; of an operator only products are known, which prove no "
                "error: give rank, or the entries"
            )
        if method == "gram":
            raise ValueError(
                "method is 'gram'; of an operator only products are known: it must be 'auto', "
                "'subspace', 'krylov' or 'single_pass'"
            )


def _check_rank(problem: Problem, rank: int | None, name: str) -> None:
    """As far as the sizes are known: the number of rows in blocks only after a read."""
    if rank is None:
        return
    rows, columns = problem.reader.rows, problem.reader.columns
    side = columns if rows < 0 else min(rows, columns)
    if rank > side:
        bound = "min(m, n)" if rows >= 0 else "n"
        raise ValueError(f"{name} is {rank}; it must be from 1 to {bound} = {side}")


def _start(v0: Any, problem: Problem) -> Any:
    if v0 is None:
        return None
    start = _arrays.matrices(v0, "v0")
    if start.library is not problem.library or start.device != problem.device:
        raise TypeError(
            f"v0 is an array of {start.library.name} on {place(start.device)}; it must be of "
            f"{problem.library.name} on {place(problem.device)}"
        )
    if start.dtype != problem.dtype:
        raise ValueError(f"v0 has dtype {start.dtype}; it must be {problem.dtype}, as a's")
    columns = problem.reader.columns
    if len(start.shape) != 2 or start.shape[0] != columns:
        raise ValueError(
            f"v0 has shape {start.shape}; it must be ({columns}, j), as a has {columns} columns"
        )
    if start.device == _arrays.CPU:
        values = _rsvd_rows.entries(start)
        finite = bool(np.isfinite(values).all())
    else:
        values = start.value
        finite = bool(problem.reader.thin.is_finite(values))
    if not finite:
        raise ValueError("v0 contains NaN or infinity")
    return values if start.shape[1] else None


# ---- Results ------------------------------------------------------------------------------------


def result(
    problem: Problem, factors: Factors, kind: str, *, by_rows_of_vh: bool = False
) -> SVDResult:
    """Factors of the argument itself, in its dtype and library, with their signs fixed."""
    reader = problem.reader
    u, v = (factors.v, factors.u) if problem.adjoint else (factors.u, factors.v)
    if by_rows_of_vh:
        v, u = _with_signs(reader.thin, v, u, problem.dtype)
    else:
        u, v = _with_signs(reader.thin, u, v, problem.dtype)
    with np.errstate(over="ignore", under="ignore"):
        s = np.ldexp(factors.s, reader.exponent).astype(_arrays.real_dtype(problem.dtype))
    cast, vh = reader.thin.cast, reader.thin.contiguous(v.conj().T)
    info = SVDInfo(
        rank=s.size,
        passes=reader.reads,
        error_estimate=factors.error,
        error_kind=kind,
        method=factors.method,
        fallbacks={
            "shifted": reader.thin.fallbacks.shifted if problem.device != _arrays.CPU else 0,
            "householder": factors.householder,
        },
    )
    return SVDResult(
        problem.returned(cast(u, reader.dtype), problem.dtype),
        problem.returned(s, str(s.dtype)),
        problem.returned(cast(vh, reader.dtype), problem.dtype),
        info,
    )


def _with_signs(thin: Any, u: Any, v: Any, dtype: str) -> tuple[Any, Any]:
    if isinstance(thin, _rsvd_gpu_thin.DeviceThin):
        return _rsvd_gpu_thin.fix_signs(thin, u, v, dtype)
    return fix_signs(u, v, dtype)


def fix_signs(u: Any, v: Any, dtype: str) -> tuple[Any, Any]:
    """Makes the largest entry of each column of u, as rounded to `dtype`, real and positive."""
    if u.shape[0] == 0 or u.shape[1] == 0:
        return u, v
    columns = np.arange(u.shape[1])
    largest = np.abs(_rounded(u, dtype)).argmax(axis=0)
    top = u[largest, columns]
    size = np.abs(top)
    turn = np.where(size > 0, top.conj() / np.where(size > 0, size, 1), 1)
    # u s v^H stays what it is: both factors turn by the same number of modulus 1.
    u, v = u * turn.astype(u.dtype), v * turn.astype(v.dtype)
    u[largest, columns] = size
    return u, v


def _rounded(x: Any, dtype: str) -> Any:
    """To values of the dtype that are returned; half precision stays in float32."""
    if dtype == "float16":
        return x.astype(np.float16)
    if dtype != "bfloat16":
        return x.astype(dtype, copy=False)
    bits = x.astype(np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)


def _nothing(problem: Problem) -> SVDResult:
    """For a matrix without entries: no singular values."""
    reader = problem.reader
    if reader.rows < 0:  # blocks without columns
        reader.read(reader.thin.zeros((reader.columns, 0), reader.dtype))
    u, v = (reader.thin.zeros((side, 0), reader.dtype) for side in (reader.rows, reader.columns))
    return result(problem, Factors(u, np.zeros(0), v, 0.0, "subspace"), "upper bound")


def _not_finite(problem: Problem, rank: int, method: str) -> SVDResult:
    reader = problem.reader
    zeros = reader.thin.zeros
    u, v = (zeros((side, rank), reader.dtype) + np.nan for side in (reader.rows, reader.columns))
    factors = Factors(u, np.full(rank, np.nan), v, np.nan, method)
    return result(problem, factors, "estimate")


def _certified(problem: Problem, options: Options, asked: Request, tol: Any) -> SVDResult:
    rank = asked.rank
    found = certified(problem.reader, options, asked.tolerance, problem.dtype)
    _check_rank(problem, None if rank is None else options.rank, "rank")
    if found is None:
        return _not_finite(problem, 1, options.method)
    kind = "upper bound" if found.certified else "estimate"
    answer = result(problem, found.factors, kind)
    if not found.reached and (rank is None or answer.info.rank < options.rank or found.floor > tol):
        raise ConvergenceError(
            f"tol is {tol!r}, below what can be certified for this {problem.dtype} matrix: the "
            f"error proved is {found.factors.error:.3g}, and rounding leaves at least "
            f"{found.floor:.3g}",
            answer,
            found.factors.error,
        )
    return answer
