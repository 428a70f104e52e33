"""The two halves of a randomized SVD over shards of rows, for any engine that can add up arrays."""

from __future__ import annotations

import dataclasses
import importlib
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays, _rsvd_rows
from ._rsvd_arguments import count
from ._rsvd_iteration import Factors, Iteration, Options
from ._rsvd_operator import Problem, result
from ._rsvd_pieces import Blocks, Pieces, Single, Whole
from ._rsvd_reads import Reader
from ._rsvd_results import SVDResult
from ._rsvd_rows import Block, scaled, wide_dtype
from ._rsvd_thin import eigen, gram, rotate

# Sums of shards with norms within 2^-400 to 2^400 neither overflow nor underflow in double.
_MODERATE = 400

# Below this part of the largest, an eigenvalue of a sum of Gram matrices leaves too little of Q.
_RESOLVED = 1e-8


@dataclass(frozen=True)
class Partial:
    """What one shard of rows contributes to a randomized SVD; pickles.

    With the rows :math:`A_i` of the shard and the test matrix `z`: `w`, `gram` and `squares` are
    sums over rows, so that those of all shards together are the sums of the shards'.

    Attributes
    ----------
    row_offset : int
        Place of the shard's first row in the whole matrix.
    y : numpy.ndarray of shape (rows, l)
        :math:`Y_i = A_i Z`, in the dtype that was computed in.
    w : numpy.ndarray of shape (n, l)
        :math:`A_i^H Y_i`, float64 or complex128.
    gram : numpy.ndarray of shape (l, l)
        :math:`Y_i^H Y_i`, float64 or complex128.
    squares : float
        :math:`\\|A_i\\|_F^2`.
    z : numpy.ndarray of shape (n, l)
        The test matrix.
    exponent : int
        `y`, `w`, `gram` and `squares` are those of :math:`2^{-\\mathrm{exponent}} A_i`. 0 unless
        the shard's norm is beyond :math:`2^{-400}` to :math:`2^{400}`.
    dtype, library : str
        Of the shard, and of the factors.
    reduced : bool
        Whether `w`, `gram` and `squares` are sums over all shards; see :meth:`with_sums`.
    """

    row_offset: int
    y: Any
    w: Any
    gram: Any
    squares: float
    z: Any
    exponent: int
    dtype: str
    library: str
    reduced: bool = False

    def with_sums(self, w: Any, gram: Any, squares: float) -> Partial:
        """This shard with the sums of all shards, as an all-reduce gives them.

        ``rsvd_finish([shard.with_sums(...)])`` then gives the singular values, the right singular
        vectors and this shard's rows of the left ones, on every shard on its own.
        """
        for name, given, own in (("w", w, self.w), ("gram", gram, self.gram)):
            if np.shape(given) != own.shape:
                raise ValueError(f"{name} has shape {np.shape(given)}; it must be {own.shape}")
        if self.exponent:
            raise ValueError(
                f"exponent is {self.exponent}; sums of shards of such a norm mean nothing: scale "
                "the matrix to a norm within 2^-400 to 2^400"
            )
        return dataclasses.replace(
            self,
            w=np.asarray(w, self.w.dtype),
            gram=np.asarray(gram, self.gram.dtype),
            squares=float(squares),
            reduced=True,
        )


def rsvd_partial(a_rows: Any, z: Any, *, row_offset: int) -> Partial:
    r"""One read of one shard of rows: the first half of a distributed randomized SVD.

    Parameters
    ----------
    a_rows : array of shape (rows, n), scipy sparse matrix, or iterable of row blocks
        Consecutive rows of the matrix; NumPy arrays or CPU tensors of torch. There may be none.
    z : array of shape (n, l)
        Test matrix, the same for all shards, of `a_rows`' library (NumPy's for sparse) and dtype
        (float32 also for half precision), with linearly independent columns. Random at first; then
        ``result.Vh.conj().T`` of the result before, which makes one read more as good as
        another power of :math:`A^H A`.
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
    NotImplementedError
        `a_rows` lies on a GPU.

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
    start = _test_matrix(z, library, dtype, pieces)
    reader = Reader(pieces)
    y, w = reader.read(start)
    # Both are exact, or the norm is one that keeps its exponent.
    exponent = reader.exponent if abs(reader.exponent) > _MODERATE else 0
    y = scaled(y, reader.exponent - exponent)
    w = scaled(w, 2 * (reader.exponent - exponent))
    squares = float(scaled(np.float64(reader.squares), 2 * (reader.exponent - exponent)))
    return Partial(
        offset, y, w, gram(y), squares, start, exponent, dtype, library.name, reduced=False
    )


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
    shards = _ordered(partials)
    one = shards[0]
    if one.reduced:
        return _reduced(one, rank)
    _check_rows(shards)
    rows = sum(p.y.shape[0] for p in shards)
    exponent = max(p.exponent for p in shards)
    columns, size = one.z.shape
    wanted = _wanted(rank, min(rows, size))
    y = np.concatenate([scaled(p.y, p.exponent - exponent) for p in shards])
    iteration = _iteration(one, rows, wanted)
    iteration.reader.exponent = exponent
    iteration.reader.squares = 0.0
    w = np.zeros((columns, size), one.w.dtype)
    small = np.zeros((size, size), one.gram.dtype)
    for p in shards:
        down = 2 * (p.exponent - exponent)
        w += scaled(p.w, down)
        small += scaled(p.gram, down)
        iteration.reader.squares += float(scaled(np.float64(p.squares), down))
    _put(iteration, one.z, y, w, small)
    if wanted == 0:
        factors = Factors(y[:, :0], np.zeros(0), iteration.z[:, :0], 0.0, "single_pass")
        return _answer(one, iteration, factors, reduced=False)
    return _answer(one, iteration, iteration.finish(), reduced=False)


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


def _test_matrix(z: Any, library: _arrays.Library, dtype: str, pieces: Pieces) -> Any:
    checked = _arrays.array(z, "z")
    if checked.library is not library or checked.device != _arrays.CPU:
        raise TypeError(
            f"z is an array of {checked.library.name} on {checked.device[0]}; it must be of "
            f"{library.name} on the CPU, as a_rows"
        )
    if checked.dtype not in (dtype, pieces.dtype.name):
        raise ValueError(f"z has dtype {checked.dtype}; it must be {pieces.dtype.name}, for a_rows")
    n = pieces.columns
    if len(checked.shape) != 2 or checked.shape[0] != n or not 1 <= checked.shape[1] <= n:
        raise ValueError(
            f"z has shape {checked.shape}; it must be (n, l) = ({n}, l) with l from 1 to {n}"
        )
    values = _rsvd_rows.entries(checked).astype(pieces.dtype)
    if not np.isfinite(values).all():
        raise ValueError("z contains NaN or infinity")
    return values


def _ordered(partials: Any) -> list[Partial]:
    if isinstance(partials, Partial) or not hasattr(type(partials), "__iter__"):
        kind = type(partials).__name__
        raise TypeError(f"partials is a {kind}; it must be an iterable of Partial")
    shards = list(partials)
    for p in shards:
        if not isinstance(p, Partial):
            raise TypeError(f"partials holds a {type(p).__name__}; it must hold Partial alone")
    if not shards:
        raise ValueError("partials is empty; there must be at least one")
    one = shards[0]
    for p in shards[1:]:
        for name in ("dtype", "library"):
            if getattr(p, name) != getattr(one, name):
                raise ValueError(
                    f"partials differ in {name}: {getattr(one, name)} and {getattr(p, name)}"
                )
        if p.z is not one.z and not np.array_equal(p.z, one.z):
            raise ValueError("partials differ in z; all shards must be multiplied by the same one")
        if p.reduced or one.reduced:
            raise ValueError(
                "partials holds several, and one with the sums of all; that one is finished alone"
            )
    return sorted(shards, key=lambda p: (p.row_offset, p.y.shape[0]))


def _check_rows(shards: list[Partial]) -> None:
    """Whether the shards are all rows from 0 on, each of them once."""
    end = 0
    for p in shards:
        begin, rows = p.row_offset, p.y.shape[0]
        if rows and begin < end:
            raise ValueError(
                f"partials overlap: rows {begin} to {min(end, begin + rows)} come twice"
            )
        if begin > end:
            raise ValueError(f"partials leave out rows {end} to {begin}")
        end = max(end, begin + rows)


def _wanted(rank: Any, most: int) -> int:
    if rank is None:
        return most
    wanted = count(rank, "rank", 1)
    if wanted > most:
        raise ValueError(f"rank is {wanted}; it must be from 1 to min(m, l) = {most}")
    return wanted


# ---- Factors ------------------------------------------------------------------------------------


def _iteration(one: Partial, rows: int, rank: int) -> Iteration:
    reader = Reader(Pieces((rows, one.z.shape[0]), one.y.dtype))
    reader.reads = 1
    options = Options(rank, one.z.shape[1] - rank, 1, "single_pass", 0)
    iteration = Iteration(reader, options)
    iteration.method = "single_pass"
    return iteration


def _put(iteration: Iteration, z: Any, y: Any, w: Any, small: Any) -> None:
    """Z with orthonormal columns, and Y, W and the Gram matrix that go with it."""
    wide = wide_dtype(z.dtype)
    z = z.astype(wide)
    size = z.shape[1]
    if np.abs(z.conj().T @ z - np.eye(size)).max() > 100 * iteration.unit:
        lengths = np.linalg.norm(z, axis=0)
        # Columns of one length: what is left is how they lie to each other.
        q, t = np.linalg.qr(z / np.where(lengths > 0, lengths, 1))
        if lengths.min() == 0 or np.linalg.cond(t) ** 2 > 0.01 / iteration.unit:
            raise ValueError(
                "z has columns that are linearly dependent, up to the square root of rounding"
            )
        back = np.linalg.inv(t) / lengths[:, None]
        z, y, w = q, rotate(y, back), w @ back
        small = back.conj().T @ small @ back
    iteration.z, iteration.y, iteration.w = z, y, w
    iteration.ritz, iteration.vectors = eigen(small)


def _reduced(one: Partial, rank: Any) -> SVDResult:
    """Q = Y E L^-1/2 from Y^H Y = E L E^H, which needs nothing of other shards' rows."""
    iteration = _iteration(one, one.y.shape[0], 1)
    iteration.reader.squares = one.squares
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
    right, r = iteration._half_step(np.diag(lengths).astype(iteration.reader.wide))
    left, s, vh = np.linalg.svd(r)
    u = rotate(iteration.y, left[:, :wanted] / lengths[:, None])
    v = right @ vh[:wanted].conj().T
    s = s[:wanted]
    factors = Factors(u, s, v, iteration._error(u, s, v), "single_pass")
    return _answer(one, iteration, factors, reduced=True)


def _answer(one: Partial, iteration: Iteration, factors: Factors, *, reduced: bool) -> SVDResult:
    library = next(known for known in _arrays.LIBRARIES if known.name == one.library)
    # Unpickled where it may not be loaded yet.
    importlib.import_module(one.library)
    problem = Problem(iteration.reader, False, False, library, one.dtype)
    return result(problem, factors, "estimate", by_rows_of_vh=reduced)
