"""`rsvd(a, tol=...)` of dense arrays on a GPU: batches, orientation, results.

The search for the rank and the proof are those of `_rsvd_certificate.py`, the reads those of
`_rsvd_gpu_rows.py`.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from . import _arrays
from ._rsvd_arguments import Request
from ._rsvd_certificate import Certified, certified
from ._rsvd_gpu_rows import DeviceReader
from ._rsvd_gpu_thin import DeviceThin, fix_signs
from ._rsvd_iteration import Options
from ._rsvd_pieces import Single
from ._rsvd_results import ConvergenceError, SVDInfo, SVDResult
from ._rsvd_rows import Block, compute_dtype


def rsvd(
    a: _arrays.Array, asked: Request, tol: Any, start: _arrays.Array | None, *, checks: bool
) -> SVDResult:
    """Of checked arguments and one matrix at least."""
    places = list(itertools.product(*map(range, a.shape[:-2])))
    with a.library.current(a.device):
        if start is not None and not bool((abs(start.value) < math.inf).all()):
            raise ValueError("v0 contains NaN or infinity")
        tries = [_Matrix(a, place, asked, start, checks=checks) for place in places]
        found = [one.certified(1) for one in tries]
        rank = max((f.factors.s.size for f in found if f is not None), default=1)
        for i, f in enumerate(found):
            if f is not None and f.factors.s.size < rank:
                spent = tries[i].reads
                tries[i] = _Matrix(a, places[i], asked, start, checks=checks)
                tries[i].reads_before = spent
                found[i] = tries[i].certified(rank)
        answer = _answer(a, tries, places, found, rank)
    _require_reached(a, found, asked, tol, answer)
    return answer


class _Matrix:
    """One of the batch, its long side down unless means or start vectors fix the side."""

    def __init__(
        self,
        a: _arrays.Array,
        place: tuple[int, ...],
        asked: Request,
        start: _arrays.Array | None,
        *,
        checks: bool,
    ) -> None:
        x = a.value[place]
        m, n = a.shape[-2:]
        self.is_transposed = m < n and start is None and not asked.center
        pieces = Single(
            Block(x.T if self.is_transposed else x, "a"), compute_dtype(a.dtype, double=True)
        )
        self.reader = DeviceReader(
            pieces, a, center=asked.center, check_finite=checks, seed=asked.seed, certified=True
        )
        self.options = Options(
            min(m, n) if asked.rank is None else asked.rank,
            asked.oversample,
            0,
            asked.method,
            asked.seed,
            start=None if start is None else start.value[place],
        )
        self._tolerance = asked.tolerance
        self._dtype = a.dtype
        self.reads_before = 0

    @property
    def reads(self) -> int:
        return self.reads_before + self.reader.reads

    def certified(self, least_rank: int) -> Certified | None:
        """Factors of the matrix itself; None where it is not finite."""
        found = certified(
            self.reader, self.options, self._tolerance, self._dtype, least_rank=least_rank
        )
        if found is not None and self.is_transposed:
            f = found.factors  # A^T = P S Q^H gives A = conj(Q) S P^T
            f.u, f.v = f.v.conj(), f.u.conj()
        return found


def _answer(
    a: _arrays.Array,
    tries: list[_Matrix],
    places: list[tuple[int, ...]],
    found: list[Certified | None],
    rank: int,
) -> SVDResult:
    *batch, m, n = a.shape
    u, vh = (a.empty_like((*batch, *side), a.dtype).value for side in ((m, rank), (rank, n)))
    s = a.empty_like((*batch, rank), _arrays.real_dtype(a.dtype)).value
    for one, place, f in zip(tries, places, found, strict=True):
        if f is None:
            for x in (u, s, vh):
                x[place][...] = math.nan
            continue
        thin: DeviceThin = one.reader.thin
        left, right = fix_signs(thin, f.factors.u, f.factors.v, a.dtype)
        u[place][...] = left
        vh[place][...] = right.conj().T
        with np.errstate(over="ignore", under="ignore"):
            values = np.ldexp(f.factors.s, one.reader.exponent).astype(_arrays.real_dtype(a.dtype))
        s[place][...] = a.library.from_host(values, a.device)
    return SVDResult(u, s, vh, _info(tries, found, tuple(batch), rank))


def _info(
    tries: list[_Matrix], found: list[Certified | None], batch: tuple[int, ...], rank: int
) -> SVDInfo:
    proved = all(f is not None and f.certified for f in found)
    kind = "upper bound" if proved else "estimate"
    passes = [one.reads for one in tries]
    errors = [math.nan if f is None else f.factors.error for f in found]
    fallbacks = [
        {
            "shifted": one.reader.thin.fallbacks.shifted,
            "householder": 0 if f is None else f.factors.householder,
        }
        for one, f in zip(tries, found, strict=True)
    ]
    methods = [f.factors.method for f in found if f is not None]
    method = methods[0] if methods else "gram"
    if not batch:
        return SVDInfo(rank, passes[0], errors[0], kind, method, fallbacks[0])
    return SVDInfo(
        rank,
        np.array(passes, np.int64).reshape(batch),
        np.array(errors).reshape(batch),
        kind,
        method,
        fallbacks,
    )


def _require_reached(
    a: _arrays.Array, found: list[Certified | None], asked: Request, tol: Any, answer: SVDResult
) -> None:
    missed = [
        f
        for f in found
        if f is not None
        and not f.reached
        # At the rank that was asked for, an error above tol is an answer.
        and (asked.rank is None or f.factors.s.size < asked.rank or f.floor > asked.tolerance)
    ]
    if not missed:
        return
    worst = max(f.factors.error for f in missed)
    floor = max(f.floor for f in missed)
    reason = (
        f"the error proved is {worst:.3g}, and rounding leaves at least {floor:.3g}"
        if math.isfinite(worst)
        else f"its largest singular value overflows {_arrays.real_dtype(a.dtype)}"
    )
    raise ConvergenceError(
        f"tol is {tol!r}, below what can be certified for this {a.dtype} array: {reason}",
        answer,
        worst,
    )
