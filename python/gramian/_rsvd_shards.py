"""What one shard of rows contributes to a randomized SVD, and what shards must have in common."""

from __future__ import annotations

import dataclasses
import importlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays
from ._rsvd_pieces import place


@dataclass(frozen=True)
class Partial:
    """What one shard of rows contributes to a randomized SVD; pickles.

    Its arrays are NumPy's; of rows on a GPU, of their library and on their device.

    With the rows :math:`A_i` of the shard and the test matrix `z`: `w`, `gram` and `squares` are
    sums over rows, so that those of all shards together are the sums of the shards'.

    Attributes
    ----------
    row_offset : int
        Place of the shard's first row in the whole matrix.
    y : array of shape (rows, l)
        :math:`Y_i = A_i Z`, in the dtype that was computed in.
    w : array of shape (n, l)
        :math:`A_i^H Y_i`, float64 or complex128.
    gram : array of shape (l, l)
        :math:`Y_i^H Y_i`, float64 or complex128.
    squares : float
        :math:`\\|A_i\\|_F^2`.
    z : array of shape (n, l)
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
            shape = tuple(own.shape)
            if tuple(np.shape(given)) != shape:
                raise ValueError(f"{name} has shape {tuple(np.shape(given))}; it must be {shape}")
        if self.exponent:
            raise ValueError(
                f"exponent is {self.exponent}; sums of shards of such a norm mean nothing: scale "
                "the matrix to a norm within 2^-400 to 2^400"
            )
        return dataclasses.replace(
            self,
            w=_alike("w", w, self.w),
            gram=_alike("gram", gram, self.gram),
            squares=float(squares),
            reduced=True,
        )


def _alike(name: str, given: Any, own: Any) -> Any:
    """A sum over shards, as this shard's own part."""
    if isinstance(own, np.ndarray):
        return np.asarray(given, own.dtype)
    like, sums = _arrays.array(own, name), _arrays.array(given, name)
    if sums.library is not like.library or sums.device != like.device:
        raise TypeError(
            f"{name} is an array of {sums.library.name} on {place(sums.device)}; it must be of "
            f"{like.library.name} on {place(like.device)}, as this shard's"
        )
    if sums.dtype != like.dtype:
        raise ValueError(f"{name} has dtype {sums.dtype}; it must be {like.dtype}")
    return given


def ordered(partials: Any) -> list[Partial]:
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
        if place_of(p) != place_of(one):
            raise ValueError(
                f"partials lie on {place(place_of(one))} and {place(place_of(p))}; they must lie "
                "on one device"
            )
        if p.z is not one.z and not (p.z.shape == one.z.shape and bool((p.z == one.z).all())):
            raise ValueError("partials differ in z; all shards must be multiplied by the same one")
        if p.reduced or one.reduced:
            raise ValueError(
                "partials holds several, and one with the sums of all; that one is finished alone"
            )
    return sorted(shards, key=lambda p: (p.row_offset, p.y.shape[0]))


def check_rows(shards: list[Partial]) -> None:
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


def place_of(one: Partial) -> _arrays.Device:
    """Where its arrays lie; NumPy's also stand for those of a library's tensors on the CPU."""
    return _arrays.CPU if isinstance(one.y, np.ndarray) else _arrays.array(one.y, "y").device


def current_of(one: Partial) -> AbstractContextManager[Any]:
    device = place_of(one)
    return nullcontext() if device == _arrays.CPU else library_of(one).current(device)


def library_of(one: Partial) -> _arrays.Library:
    # Unpickled where it may not be loaded yet.
    importlib.import_module(one.library)
    return next(known for known in _arrays.LIBRARIES if known.name == one.library)
