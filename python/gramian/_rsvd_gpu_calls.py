"""`rsvd` and `range_finder` of arrays on a GPU: batches, orientation, signs, results."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from . import _arrays, _rsvd_gpu_direct
from ._device_vectors import Fallbacks
from ._rsvd_gpu import Factors, NotFinite, basis, decompose
from ._rsvd_gpu_reads import Options
from ._rsvd_results import SVDInfo, SVDResult


def rsvd(
    a: _arrays.Array, options: Options, start: _arrays.Array | None, *, checks: bool
) -> SVDResult:
    """Of checked arguments."""
    *batch, m, n = a.shape
    k = options.rank
    u, s, vh = (
        a.empty_like((*batch, m, k), a.dtype),
        a.empty_like((*batch, k), _arrays.real_dtype(a.dtype)),
        a.empty_like((*batch, k, n), a.dtype),
    )
    found: list[Factors] = []
    with a.library.current(a.device):
        if start is not None and not bool((abs(start.value) < math.inf).all()):
            raise ValueError("v0 contains NaN or infinity")
        for place in itertools.product(*map(range, batch)):
            one = _matrix(a, place)
            given = None if start is None else start.value[place]
            own = dataclasses.replace(options, start=given)
            into = (u.value[place], s.value[place], vh.value[place])
            factors, spent = _directly(one, own, *into)
            if factors is None:
                factors = _one(one, own, checks)
                _write(factors, one, u.value[place], s, place, vh.value[place])
                if factors is None:
                    factors = _nothing()
                if spent:
                    factors.passes += spent
                    factors.fallbacks.restarted = 1
            found.append(factors)
    return SVDResult(u.value, s.value, vh.value, _info(found, tuple(batch), k))


def range_finder(a: _arrays.Array, options: Options, *, checks: bool) -> Any:
    """Of checked arguments."""
    *batch, m, _ = a.shape
    q = a.empty_like((*batch, m, options.rank), a.dtype)
    with a.library.current(a.device):
        for place in itertools.product(*map(range, batch)):
            one = _matrix(a, place)
            transposed = one.shape[0] < one.shape[1]
            try:
                found = basis(_turned(one) if transposed else one, options, of_rows=transposed)
                q.value[place][...] = found.conj() if transposed else found
            except NotFinite:
                if checks:
                    raise ValueError("a contains NaN or infinity") from None
                q.value[place][...] = math.nan
    return q.value


def _matrix(a: _arrays.Array, place: tuple[int, ...]) -> _arrays.Array:
    return _arrays.Array(a.value[place], a.library, a.shape[-2:], a.dtype, a.device)


def _turned(a: _arrays.Array) -> _arrays.Array:
    return _arrays.Array(a.value.T, a.library, a.shape[::-1], a.dtype, a.device)


def _directly(
    a: _arrays.Array, options: Options, u: Any, s: Any, vh: Any
) -> tuple[Factors | None, int]:
    """What is known of factors that are written already, if they are, and how often A was read."""
    transposed = a.shape[0] < a.shape[1]
    read = _turned(a) if transposed else a
    if not _rsvd_gpu_direct.serves(read, options):
        return None, 0
    places = _rsvd_gpu_direct.Places(u, s, vh.T, sign_of_v=False)
    if transposed:  # A^T = P S Q^T gives A = Q S P^T
        places = _rsvd_gpu_direct.Places(vh.T, s, u, sign_of_v=True)
    found, passes = _rsvd_gpu_direct.decompose(read, options, places)
    if found is None:
        return None, passes
    known = dataclasses.replace(_nothing(), error=found.error, method=found.method, passes=passes)
    known.fallbacks.shifted = found.shifted
    return known, passes


def _nothing() -> Factors:
    """What is known of a matrix that is not finite."""
    return Factors(None, np.zeros(0), None, 0, math.nan, "subspace", 1, Fallbacks())


def _one(a: _arrays.Array, options: Options, checks: bool) -> Factors | None:
    """Factors of the matrix itself, None where it is not finite."""
    # The long side down, unless means or start vectors fix the side.
    transposed = a.shape[0] < a.shape[1] and not options.center and options.start is None
    try:
        found = decompose(_turned(a) if transposed else a, options)
    except NotFinite:
        if checks:
            raise ValueError("a contains NaN or infinity") from None
        return None
    if transposed:  # A^T = P S Q^H gives A = conj(Q) S P^T
        found.u, found.v = found.v.conj(), found.u.conj()
    return found


def _write(
    f: Factors | None, a: _arrays.Array, u: Any, s: _arrays.Array, place: Any, vh: Any
) -> None:
    if f is None:
        u[...] = math.nan
        s.value[place][...] = math.nan
        vh[...] = math.nan
        return
    u[...] = f.u
    # The largest entry, as it is returned, becomes real and positive.
    size = abs(u)
    largest = size.argmax(0)
    columns = list(range(u.shape[1]))
    top = f.u[largest, columns]
    length = abs(top)
    turn = (top / (length + (length == 0))).conj() + (length == 0)
    u[...] = f.u * turn
    u.real[largest, columns] = size[largest, columns]
    if a.dtype.startswith("complex"):
        u.imag[largest, columns] = 0
    vh[...] = (f.v * turn).conj().T
    with np.errstate(over="ignore", under="ignore"):
        values = np.ldexp(f.s, f.exponent).astype(s.dtype)
    s.value[place][...] = s.library.from_host(values, a.device)


def _info(found: list[Factors], batch: tuple[int, ...], k: int) -> SVDInfo:
    fallbacks = [dataclasses.asdict(f.fallbacks) for f in found]
    method = found[0].method
    if not batch:
        one = found[0]
        return SVDInfo(k, one.passes, one.error, "estimate", method, fallbacks[0])
    passes = np.array([f.passes for f in found], dtype=np.int64).reshape(batch)
    errors = np.array([f.error for f in found]).reshape(batch)
    return SVDInfo(k, passes, errors, "estimate", method, fallbacks)
