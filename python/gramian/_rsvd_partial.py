"""The two halves of a randomized SVD over shards of rows, for any engine that can add up arrays."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from . import _arrays, _rsvd_rows
from ._rsvd_arguments import count
from ._rsvd_gpu_rows import DeviceReader
from ._rsvd_iteration import Factors, Iteration, Options
from ._rsvd_operator import Problem, result
from ._rsvd_pieces import Blocks, Pieces, Single, Whole, place
from ._rsvd_reads import Reader
from ._rsvd_results import SVDResult
from ._rsvd_rows import Block
from ._rsvd_shards import Partial, check_rows, current_of, library_of, ordered

# Sums of shards with norms within 2^-400 to 2^400 neither overflow nor underflow in double.
_MODERATE = 400

# Below this part of the largest, an eigenvalue of a sum of Gram matrices leaves too little of Q.
_RESOLVED = 1e-8


def rsvd_partial(a_rows: Any, z: Any, *, row_offset: int) -> Partial:
    r"""One read of one shard of rows: the first half of a distributed randomized SVD.

    Parameters
    ----------
    a_rows : array of shape (rows, n), scipy sparse matrix, or iterable of row blocks
        Consecutive rows of the matrix; of any array library, on a GPU too. There may be none.
    z : array of shape (n, l)
        Test matrix, the same for all shards, of `a_rows`' library (NumPy's for sparse), device
        and dtype (float32 also for half precision), with linearly independent columns. Random at
        first; then ``result.Vh.conj().T`` of the result before, which makes one read more as good
        as another power of :math:`A^H A`.
    row_offset : int
        Number of rows of the matrix before these.

    Returns
    -------
    Partial
        For :func:`rsvd_finish`.

    Raises
    ------
    TypeError
        `a_rows` or `z` is no accepted array, or `z` is of another library.
    ValueError
        Shapes or dtypes do not match, `l` is not within 1 to n, there is NaN or infinity, or
        `row_offset` is negative.
    ImportError
        `a_rows` lies on a GPU and the CUDA module is not installed.

    Notes
    -----
    :math:`4\,\mathrm{rows}\,n\ell` floating-point operations (four times that for complex rows).
    An all-reduce of `w`, `gram` and `squares`, :math:`n\ell + \ell^2 + 1` numbers, is all that
    shards need to tell each other; see :meth:`Partial.with_sums`.

    References
    ----------
    Halko, Martinsson, Tropp, "Finding Structure with Randomness", SIAM Review 53, 2011.

    Examples
    --------
    >>> import gramian as gm
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a = rng.standard_normal((60, 4)) @ rng.standard_normal((4, 20))
    >>> z = rng.standard_normal((20, 8))
    >>> shards = [gm.rsvd_partial(a[i : i + 20], z, row_offset=i) for i in (40, 0, 20)]
    >>> U, S, Vh = gm.rsvd_finish(shards, rank=4)
    >>> bool(np.allclose(U * S @ Vh, a))
    True
    """
    count(row_offset, "row_offset", 0)
    offset = operator.index(row_offset)
    pieces, library, dtype = _shard(a_rows)
    with library.current(pieces.device):
        return _read(pieces, library, dtype, z, offset)


def _read(pieces: Pieces, library: _arrays.Library, dtype: str, z: Any, offset: int) -> Partial:
    reader = _reader(pieces)
    start = _test_matrix(z, library, dtype, reader)
    y, w = reader.read(start)
    # Both are exact, or the norm is one that keeps its exponent.
    exponent = reader.exponent if abs(reader.exponent) > _MODERATE else 0
    scaled = reader.thin.scaled
    y = scaled(y, reader.exponent - exponent)
    w = scaled(w, 2 * (reader.exponent - exponent))
    squares = _ldexp(reader.squares, 2 * (reader.exponent - exponent))
    gram = reader.thin.gram(y)
    return Partial(offset, y, w, gram, squares, start, exponent, dtype, library.name)


def rsvd_finish(partials: Iterable[Partial], *, rank: int | None = None) -> SVDResult:
    r"""The second half: singular values and vectors from the contributions of all shards.

    Parameters
    ----------
    partials : iterable of Partial
        From :func:`rsvd_partial` with one `z`, in any order, together all rows from 0 on. Or a
        single one with the sums of all, from :meth:`Partial.with_sums`.
    rank : int, optional
        Number of singular values, from 1 to min(m, l). By default as many as there are.

    Returns
    -------
    SVDResult
        As of :func:`rsvd` with ``method="single_pass"`` and `z` in place of the sketch, whatever
        the order of `partials`. ``info.passes`` is 1. From a single reduced shard: U holds that
        shard's rows, and signs are fixed by Vh (the largest entry of each row is real and
        positive), which is the same for every shard.

    Raises
    ------
    TypeError
        `partials` is no iterable of Partial, or `rank` is no int.
    ValueError
        There are none; row ranges overlap or leave rows out; shards differ in `z`, dtype or
        library; `rank` is out of range; columns of `z` are linearly dependent.

    Notes
    -----
    Rows missing at the end cannot be noticed: a shard knows where it begins, not what the matrix
    is. The sums are made in the order of the rows. Results for several ways to cut the rows differ
    by rounding: singular values by a few :math:`u \sigma_1^2 / \sigma_i`, u the unit roundoff, down
    to the :math:`\sqrt u\,\sigma_1` that a single read tells apart.

    From sums alone, U is orthonormal to about :math:`2^{-53} (\sigma_1 / \sigma_k)^2`, and there
    are at most as many singular values as lie above :math:`10^{-4} \sigma_1`.

    References
    ----------
    Halko, Martinsson, Tropp, "Finding Structure with Randomness", SIAM Review 53, 2011.

    Examples
    --------
    >>> import gramian as gm
    >>> import numpy as np
    >>> a = np.outer(np.arange(1.0, 7.0), np.ones(3))
    >>> z = np.eye(3)[:, :2]
    >>> shards = [gm.rsvd_partial(a[i : i + 3], z, row_offset=i) for i in (0, 3)]
    >>> U, S, Vh = gm.rsvd_finish(shards, rank=1)
    >>> bool(np.isclose(S[0], np.linalg.norm(a)))
    True
    """
    shards = ordered(partials)
    one = shards[0]
    if one.reduced:
        with current_of(one):
            return _reduced(one, rank)
    check_rows(shards)
    with current_of(one):
        return _finished(shards, rank)


def _finished(shards: list[Partial], rank: Any) -> SVDResult:
    one = shards[0]
    rows = sum(p.y.shape[0] for p in shards)
    exponent = max(p.exponent for p in shards)
    columns, size = one.z.shape
    wanted = _wanted(rank, min(rows, size))
    iteration = _iteration(one, rows, wanted)
    reader, thin = iteration.reader, iteration.reader.thin
    ys = [thin.scaled(p.y, p.exponent - exponent) for p in shards]
    y = thin.stacked(ys, (0, size), reader.dtype)
    reader.exponent, reader.squares = exponent, 0.0
    w = thin.zeros((columns, size), reader.wide)
    small = thin.zeros((size, size), reader.wide)
    for p in shards:
        down = 2 * (p.exponent - exponent)
        w += thin.scaled(p.w, down)
        small += thin.scaled(p.gram, down)
        reader.squares += _ldexp(p.squares, down)
    _put(iteration, one.z, y, w, small)
    if wanted == 0:
        factors = Factors(y[:, :0], np.zeros(0), iteration.z[:, :0], 0.0, "single_pass")
        return _answer(one, iteration, factors, reduced=False)
    return _answer(one, iteration, iteration.finish(), reduced=False)


def _ldexp(x: float, exponent: int) -> float:
    return float(_rsvd_rows.scaled(np.float64(x), exponent))


# ---- Arguments ----------------------------------------------------------------------------------


def _shard(a_rows: Any) -> tuple[Pieces, _arrays.Library, str]:
    compute = _rsvd_rows.compute_dtype
    if _rsvd_rows.is_sparse(a_rows):
        _rsvd_rows.check_sparse(a_rows, "a_rows")
        rows = _rsvd_rows.sparse_rows(a_rows, double=False, adjoint=False)
        dtype = a_rows.dtype.name
        return Whole(rows, compute(dtype, double=False)), _arrays.LIBRARIES[0], dtype
    if _rsvd_rows.is_iterable(a_rows):
        blocks = Blocks(a_rows, name="a_rows")
        return blocks, blocks.library, blocks.block_dtype
    block = Block(a_rows, "a_rows")
    return Single(block, compute(block.dtype, double=False)), block.library, block.dtype


def _reader(pieces: Pieces) -> Reader:
    like = getattr(pieces, "first", None)
    return Reader(pieces) if like is None else DeviceReader(pieces, like)


def _test_matrix(z: Any, library: _arrays.Library, dtype: str, reader: Reader) -> Any:
    checked = _arrays.array(z, "z")
    device = reader.pieces.device
    if checked.library is not library or checked.device != device:
        raise TypeError(
            f"z is an array of {checked.library.name} on {place(checked.device)}; it must be of "
            f"{library.name} on {place(device)}, as a_rows"
        )
    if checked.dtype not in (dtype, reader.dtype.name):
        raise ValueError(f"z has dtype {checked.dtype}; it must be {reader.dtype.name}, for a_rows")
    n = reader.columns
    if len(checked.shape) != 2 or checked.shape[0] != n or not 1 <= checked.shape[1] <= n:
        raise ValueError(
            f"z has shape {checked.shape}; it must be (n, l) = ({n}, l) with l from 1 to {n}"
        )
    on_host = checked.device == _arrays.CPU
    values = _rsvd_rows.entries(checked) if on_host else checked.value + 0  # a copy
    values = reader.thin.cast(values, reader.dtype)
    if not reader.thin.is_finite(values):
        raise ValueError("z contains NaN or infinity")
    return values


def _wanted(rank: Any, most: int) -> int:
    if rank is None:
        return most
    wanted = count(rank, "rank", 1)
    if wanted > most:
        raise ValueError(f"rank is {wanted}; it must be from 1 to min(m, l) = {most}")
    return wanted


# ---- Factors ------------------------------------------------------------------------------------


def _iteration(one: Partial, rows: int, rank: int) -> Iteration:
    like = None if isinstance(one.y, np.ndarray) else _arrays.array(one.y, "y")
    dtype = one.y.dtype if like is None else np.dtype(like.dtype)
    pieces = Pieces((rows, one.z.shape[0]), dtype)
    if like is None:
        reader = Reader(pieces)
    else:
        pieces.device = like.device
        reader = DeviceReader(pieces, like)
    reader.reads = 1
    options = Options(rank, one.z.shape[1] - rank, 1, "single_pass", 0)
    iteration = Iteration(reader, options)
    iteration.method = "single_pass"
    return iteration


def _put(iteration: Iteration, z: Any, y: Any, w: Any, small: Any) -> None:
    """Z with orthonormal columns, and Y, W and the Gram matrix that go with it."""
    reader, thin = iteration.reader, iteration.reader.thin
    z = thin.cast(z, reader.wide)
    size = z.shape[1]
    g = thin.gram(z)
    if thin.top(g - thin.eye(size)) > 100 * iteration.unit:
        lengths = np.sqrt(np.diagonal(thin.to_host(g)).real)
        # Columns of one length: what is left is how they lie to each other.
        one = 1 / np.where(lengths > 0, lengths, 1)
        q, t = thin.qr(z * thin.from_host(one, reader.wide))
        t = thin.to_host(t)
        if lengths.min() == 0 or np.linalg.cond(t) ** 2 > 0.01 / iteration.unit:
            raise ValueError(
                "z has columns that are linearly dependent, up to the square root of rounding"
            )
        back = thin.from_host(np.linalg.inv(t) * one[:, None], reader.wide)
        z, y, w = q, thin.rotate(y, back), w @ back
        small = back.conj().T @ small @ back
    iteration.z, iteration.y, iteration.w = z, y, w
    iteration.ritz, iteration.vectors = thin.eigen(small)


def _reduced(one: Partial, rank: Any) -> SVDResult:
    """Q = Y E L^-1/2 from Y^H Y = E L E^H, which needs nothing of other shards' rows."""
    iteration = _iteration(one, one.y.shape[0], 1)
    reader, thin = iteration.reader, iteration.reader.thin
    reader.squares = one.squares
    _put(iteration, one.z, one.y, one.w, one.gram)
    ritz = iteration.ritz
    resolved = int(np.sum(ritz > _RESOLVED * ritz[0])) if ritz[0] > 0 else 0
    wanted = resolved if rank is None else count(rank, "rank", 1)
    if wanted > resolved:
        raise ValueError(
            f"rank is {wanted}; sums of Gram matrices tell {resolved} singular values from "
            "rounding: ask for fewer, or finish all partials together"
        )
    iteration.options.rank = wanted
    iteration.compress(resolved)
    lengths = np.sqrt(ritz[:resolved])
    right, r = iteration.half_step(thin.from_host(np.diag(lengths), reader.wide))
    left, s, turned = thin.svd(r)
    u = thin.rotate(iteration.y, left[:, :wanted] / thin.from_host(lengths[:, None], reader.wide))
    v = right @ turned[:, :wanted]
    s = s[:wanted]
    factors = Factors(u, s, v, iteration.error(u, s, v), "single_pass")
    return _answer(one, iteration, factors, reduced=True)


def _answer(one: Partial, iteration: Iteration, factors: Factors, *, reduced: bool) -> SVDResult:
    problem = Problem(iteration.reader, False, False, library_of(one), one.dtype)
    return result(problem, factors, "estimate", by_rows_of_vh=reduced)
