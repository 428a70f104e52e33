"""Nystrom approximation of positive semidefinite matrices."""

from __future__ import annotations

from typing import Any

from . import _arrays, _backend, _nystrom_gpu, _nystrom_operator
from ._options import check_finite_option, seed_of
from ._rsvd_arguments import count


def nystrom_eigh(
    a: Any, rank: int, *, oversample: int = 10, rng: Any = None, check_finite: bool | None = None
) -> tuple[Any, Any]:
    """Leading eigenvalues and eigenvectors of a Hermitian positive semidefinite matrix.

    The Nystrom approximation [1]_ from a basis refined by one read, in two reads of `a`. Neither
    that `a` is Hermitian nor that it is semidefinite is checked: both would take a read.

    An iterator of row blocks can be read only once. The basis is then that of the sketch, as in
    [1]_: good where eigenvalues fall fast, else less accurate than two reads.

    Parameters
    ----------
    a : array of shape (..., n, n), or sparse matrix, operator or iterable of row blocks
        As for :func:`rsvd`; of an operator only ``matvec`` (``matmat``) is used. Row blocks have n
        rows in all.
    rank : int
        Number of eigenvalues, from 1 to n.
    oversample : int, default 10
        Vectors in the sketch beyond `rank`.
    rng : None, int or numpy.random.Generator
        Seed of the sketch.
    check_finite : bool or None, default None
        As for :func:`rsvd`.

    Returns
    -------
    w : array of shape (..., rank)
        Eigenvalues, descending and at least 0.
    V : array of shape (..., n, rank)
        Eigenvectors, orthonormal.

    Raises
    ------
    TypeError
        `a` is no accepted array, or another argument is not of its type.
    ValueError
        `a` is not square or holds NaN or infinity, or row blocks are not alike; `rank` is out of
        range.
    ImportError
        `a` lies on a GPU and the CUDA module is not installed.

    References
    ----------
    .. [1] Tropp, Yurtsever, Udell, Cevher, "Fixed-Rank Approximation of a Positive-Semidefinite
       Matrix from Streaming Data", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> w, v = gm.nystrom_eigh(np.diag([3.0, 2.0, 1.0]), 2)
    >>> bool(np.allclose(w, [3.0, 2.0]))
    True
    """
    if _nystrom_operator.serves(a):
        return _nystrom_operator.nystrom_eigh(
            a, rank, oversample=oversample, rng=rng, check_finite=check_finite
        )
    checked = _arrays.matrices(a, "a")
    *batch, m, n = checked.shape
    if m != n:
        raise ValueError(f"a has shape {checked.shape}; its matrices must be square")
    k = count(rank, "rank", 1)
    if k > n:
        raise ValueError(f"rank is {k}; it must be from 1 to n = {n}")
    more = count(oversample, "oversample", 0)
    seed = seed_of(rng)
    checks = check_finite_option(check_finite, True)
    w = checked.empty_like((*batch, k), _arrays.real_dtype(checked.dtype))
    v = checked.empty_like((*batch, n, k), checked.dtype)
    if checked.device != _arrays.CPU:
        _nystrom_gpu.write(checked, k, more, seed, w.value, v.value, checks=checks)
    elif 0 not in batch:
        backend = _backend.for_device(checked.device)
        backend.nystrom_eigh(
            checked.capsule(), w.capsule(), v.capsule(), checked.dtype, more, seed, checks
        )
    return w.value, v.value
