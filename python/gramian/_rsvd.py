"""Randomized SVD and range finder, for dense arrays; others go on to `_rsvd_operator.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import (
    _arrays,
    _backend,
    _rsvd_gpu_calls,
    _rsvd_gpu_certified,
    _rsvd_gpu_reads,
    _rsvd_operator,
)
from ._options import check_finite_option, seed_of
from ._rsvd_arguments import checked_request, count, reads_of
from ._rsvd_results import ConvergenceError, SVDInfo, SVDResult

__all__ = ["ConvergenceError", "SVDInfo", "SVDResult", "range_finder", "rsvd"]


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
    r"""Leading singular values and vectors, in as few reads of `a` as can be.

    Each read of `a` gives :math:`Y = AZ` and :math:`W = A^H Y` together, block of rows by block of
    rows, while the block is in cache. With :math:`Y = QR` the projection :math:`Q^H A = R^{-H} W^H`
    takes no read of its own: what takes :math:`2q + 2` products elsewhere [1]_ takes :math:`q + 1`
    reads.

    Parameters
    ----------
    a : array of shape (..., m, n), or sparse matrix, operator or iterable of row blocks
        NumPy or CuPy array, torch tensor or any object with ``__dlpack__``; float16, bfloat16,
        float32, float64, complex64 or complex128; any strides, row- and column-major without a
        copy. Leading dimensions are a batch. Never written to. Or one matrix as a scipy sparse
        matrix, a scipy ``LinearOperator``, or an iterable of arrays of shape (rows, n), which is
        iterated over once for each read; an iterator, which can be read once, takes
        ``method="single_pass"``.
    rank : int, optional
        Number of singular values, from 1 to min(m, n). With `tol`, the most that are returned.
    tol : float, optional
        Return the singular values needed for a relative Frobenius error of at most `tol`, proved
        with every rounding error accounted for. The factors are then computed in float64. For a
        batch all matrices get the rank that the most demanding one needs.
    oversample : int, default 10
        Vectors in the sketch beyond `rank`.
    passes : int or "auto", default "auto"
        Reads of `a`. ``"auto"`` stops when what the Ritz values may still gain is small beside the
        error that is left, or after 8 (5 where `rank` is at least a tenth of the shorter side).
    method : {"auto", "subspace", "krylov", "gram", "single_pass"}, default "auto"
        ``"subspace"`` iteration; ``"krylov"``: block Krylov [2]_, which keeps earlier blocks and
        needs fewer reads on slow decay; ``"gram"``: eigenvectors of :math:`A^H A` in float64, two
        reads; ``"single_pass"``: one read, which tells apart what is above
        :math:`\sqrt u\,\sigma_1`. ``"auto"`` chooses by shape, by a model of the costs.
    center : bool, default False
        Take the mean of each column off, without forming the centered matrix.
    v0 : array of shape (..., n, j), optional
        Start vectors, as of an earlier result (``Vh.conj().mT``), in place of the first columns of
        the sketch; of `a`'s library, dtype and leading dimensions.
    rng : None, int or numpy.random.Generator
        Seed of the sketch, whose entries depend on it and on their place alone. None: always the
        same one.
    check_finite : bool or None, default None
        Whether NaN or infinity in `a` is an error (None: yes). False: it gives factors of NaN for
        that matrix. Looking for them takes no read of its own.

    Returns
    -------
    SVDResult
        ``U, S, Vh`` of `a`'s library; U and Vh of its dtype, S float64 for float64 and complex128
        input, else float32. U and V are orthonormal even where S is 0. The largest entry of each
        column of U, the first of equal ones, is real and positive; where U is complex, the largest
        up to rounding. ``info`` is an :class:`SVDInfo`.

    Raises
    ------
    TypeError
        `a` is no accepted array, or another argument is not of its type.
    ValueError
        Neither `rank` nor `tol` is given; `rank` is not within 1 to min(m, n); `a` has fewer than 2
        dimensions or holds NaN or infinity; `passes` and `method` contradict each other.
    ConvergenceError
        `tol` is below what can be certified; the message says what can.
    RuntimeError
        `a` lies on a GPU, `tol` is given, and cuBLAS is told to imitate float64
        (``CUBLAS_EMULATE_DOUBLE_PRECISION``).
    ImportError
        `a` lies on a GPU and the CUDA module is not installed.

    Notes
    -----
    Cost of a read, with :math:`\ell` = `rank` + `oversample`: :math:`4mn\ell` floating-point
    operations (four times that for complex `a`), and memory traffic of one read of `a`. Memory
    beyond `a`: :math:`O((m + n)\ell)`; Krylov: times the number of reads; gram:
    :math:`O(n^2)`, n the shorter side.

    Scaling `a` by a power of two scales `S` exactly. Results do not depend on how many threads run.

    References
    ----------
    .. [1] Halko, Martinsson, Tropp, "Finding Structure with Randomness", SIAM Review 53, 2011.
    .. [2] Musco, Musco, "Randomized Block Krylov Methods for Stronger and Faster Approximate
       Singular Value Decomposition", NeurIPS 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> a = np.outer(np.arange(1.0, 5.0), np.arange(1.0, 4.0))
    >>> U, S, Vh = gm.rsvd(a, 1, rng=0)
    >>> bool(np.allclose(U * S @ Vh, a))
    True
    """
    if _rsvd_operator.serves(a):
        return _rsvd_operator.rsvd(
            a, rank, tol=tol, oversample=oversample, passes=passes, method=method, center=center,
            v0=v0, rng=rng, check_finite=check_finite,
        )  # fmt: skip
    checked = _arrays.matrices(a, "a")
    *batch, m, n = checked.shape
    side = min(m, n)
    asked = checked_request(rank, tol, oversample, passes, method, center, rng, side=side)
    wanted = side if asked.rank is None else asked.rank
    checks = check_finite_option(check_finite, True)
    start = _start(v0, checked)
    if side == 0 or 0 in batch:
        return _empty(checked, 0 if side == 0 else wanted)
    if checked.device != _arrays.CPU:
        if asked.tolerance:
            return _rsvd_gpu_certified.rsvd(checked, asked, tol, start, checks=checks)
        options = _rsvd_gpu_reads.Options(
            wanted, asked.oversample, asked.passes, asked.method, asked.center, asked.seed
        )
        return _rsvd_gpu_calls.rsvd(checked, options, start, checks=checks)
    backend = _backend.for_device(checked.device)
    found = backend.rsvd(
        checked.capsule(),
        checked.dtype,
        wanted,
        asked.oversample,
        asked.passes,
        asked.tolerance,
        asked.method,
        asked.center,
        asked.seed,
        checks,
        None if start is None else start.capsule(),
    )
    k = found.rank()
    u, s, vh = _factors(checked, k)
    found.write(u.capsule(), s.capsule(), vh.capsule(), checked.dtype)
    figures = found.figures()
    result = SVDResult(u.value, s.value, vh.value, _info(figures, tuple(batch), k))
    if asked.tolerance:
        missed = [f for f in figures if not f[4] and (rank is None or f[0] < wanted or f[5] > tol)]
        if missed:
            floor = max(f[5] for f in missed)
            worst = max(f[2] for f in missed)
            reason = (
                f"the error proved is {worst:.3g}, and rounding leaves at least {floor:.3g}"
                if math.isfinite(worst)
                else f"its largest singular value overflows {_arrays.real_dtype(checked.dtype)}"
            )
            raise ConvergenceError(
                f"tol is {tol!r}, below what can be certified for this {checked.dtype} array: "
                f"{reason}",
                result,
                worst,
            )
    return result


def range_finder(
    a: Any,
    size: int,
    *,
    passes: int | str = "auto",
    rng: Any = None,
    check_finite: bool | None = None,
) -> Any:
    """Orthonormal basis of the approximate range of `a`.

    Parameters
    ----------
    a : array of shape (..., m, n), or sparse matrix, operator or iterable of row blocks
        As for :func:`rsvd`.
    size : int
        Number of columns of the basis, from 1 to min(m, n).
    passes : int or "auto", default "auto"
        Reads of `a`.
    rng : None, int or numpy.random.Generator
        Seed of the sketch.
    check_finite : bool or None, default None
        As for :func:`rsvd`.

    Returns
    -------
    Q : array of shape (..., m, size)
        Of `a`'s library and dtype, with orthonormal columns; ``Q @ (Q.conj().mT @ a)``
        approximates `a`.

    Raises
    ------
    TypeError
        `a` is no accepted array, or another argument is not of its type.
    ValueError
        `size` or `passes` is out of range, or `a` holds NaN or infinity.
    ImportError
        `a` lies on a GPU and the CUDA module is not installed.

    References
    ----------
    Halko, Martinsson, Tropp, "Finding Structure with Randomness", SIAM Review 53, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> a = np.outer(np.arange(1.0, 5.0), np.ones(3))
    >>> q = gm.range_finder(a, 1)
    >>> bool(np.allclose(q @ (q.T @ a), a))
    True
    """
    if _rsvd_operator.serves(a):
        return _rsvd_operator.range_finder(
            a, size, passes=passes, rng=rng, check_finite=check_finite
        )
    checked = _arrays.matrices(a, "a")
    *batch, m, n = checked.shape
    columns = count(size, "size", 1)
    if columns > min(m, n):
        raise ValueError(f"size is {columns}; it must be from 1 to min(m, n) = {min(m, n)}")
    reads = reads_of(passes, "auto", 0.0)
    seed = seed_of(rng)
    checks = check_finite_option(check_finite, True)
    if checked.device != _arrays.CPU:
        options = _rsvd_gpu_reads.Options(columns, 0, reads, "auto", False, seed)
        return _rsvd_gpu_calls.range_finder(checked, options, checks=checks)
    q = checked.empty_like((*batch, m, columns), checked.dtype)
    if 0 not in batch:
        backend = _backend.for_device(checked.device)
        backend.range_finder(
            checked.capsule(), q.capsule(), checked.dtype, columns, reads, seed, checks
        )
    return q.value


def _start(v0: Any, of: _arrays.Array) -> _arrays.Array | None:
    if v0 is None:
        return None
    start = _arrays.matrices(v0, "v0")
    if start.library is not of.library or start.device != of.device:
        raise TypeError(
            f"v0 is an array of {start.library.name} on {start.device[0]}; it must be of a's "
            f"library and device, {of.library.name} on {of.device[0]}"
        )
    if start.dtype != of.dtype:
        raise ValueError(f"v0 has dtype {start.dtype}; it must be {of.dtype}, as a's")
    wanted = (*of.shape[:-2], of.shape[-1])
    if start.shape[:-1] != wanted:
        raise ValueError(
            f"v0 has shape {start.shape}; it must be {(*wanted, 'j')} for a of {of.shape}"
        )
    return start if start.shape[-1] else None


def _factors(of: _arrays.Array, k: int) -> tuple[_arrays.Array, _arrays.Array, _arrays.Array]:
    *batch, m, n = of.shape
    return (
        of.empty_like((*batch, m, k), of.dtype),
        of.empty_like((*batch, k), _arrays.real_dtype(of.dtype)),
        of.empty_like((*batch, k, n), of.dtype),
    )


def _empty(of: _arrays.Array, k: int) -> SVDResult:
    """For a batch or matrix without entries: no singular values."""
    batch = of.shape[:-2]
    u, s, vh = _factors(of, k)
    none = [(k, 0, 0.0, True, True, 0.0, "subspace", 0, 0)] * math.prod(batch)
    return SVDResult(u.value, s.value, vh.value, _info(none, batch, k))


def _info(figures: list[Any], batch: tuple[int, ...], k: int) -> SVDInfo:
    fallbacks = [{"shifted": f[7], "householder": f[8]} for f in figures]
    kind = "upper bound" if all(f[3] for f in figures) else "estimate"
    method = figures[0][6] if figures else "subspace"
    if not batch:
        one = figures[0]
        return SVDInfo(k, one[1], one[2], kind, method, fallbacks[0])
    passes = np.array([f[1] for f in figures], dtype=np.int64).reshape(batch)
    errors = np.array([f[2] for f in figures], dtype=np.float64).reshape(batch)
    return SVDInfo(k, passes, errors, kind, method, fallbacks)
