"""What every streaming estimator shares: batches, blocks, state, parameters.

A stream is rows in an order; where a caller cuts it into batches says nothing about it. So the base
hands an estimator whole blocks, cut by the number of rows seen alone, and keeps the rows of a block
that is not full yet. A reading finishes that block on a copy of the state. Hence the same stream
gives the same bits however it is cut, and reading changes nothing.

A subclass has the parameters of its constructor as attributes of the same names, and

- ``_block_rows()``: rows in a block, at least 1, from the parameters alone;
- ``_check_parameters()``: raises for parameters that are not allowed;
- ``_dtypes``: those of rows that it takes;
- ``_initial(seed, dtype)``: its part of the state, a dict of NumPy arrays, numbers and strings;
  `dtype` is what it computes in, complex128 for complex rows, else float64;
- ``_update(state, rows, weights)``: takes blocks, and on a copy of the state the last, shorter one;
- ``_update_unchecked(state, rows, weights)``, where ``_checks_on_the_way``: the same for rows of
  which nothing is known; False, and the state is of no use, where one is not finite or is 2^49 and
  more in norm;
- ``_rescale(state, shift)``: what it has of rows is to be multiplied by 2^-shift, of their squares
  by 2^-2shift; shift may be negative before any rows but zeros were seen, and is beyond 50 later;
- ``_finish(state)``: its results, from a copy of the state that it may change.

Rows come as 2^-exponent times the caller's, exponent in ``state["exponent"]``: 0 for entries of
ordinary size, else such that the largest so far is about 1. So squares neither overflow nor vanish.
"""

from __future__ import annotations

import math
import operator
from typing import Any, Self

import numpy as np

from . import _streaming_gpu
from ._options import seed_of
from ._rsvd_rows import scaled
from ._streaming_batch import (
    PIECE_ENTRIES,
    REAL,
    Batch,
    checked_size,
    compute_name,
    real_name,
    wide_name,
)
from ._streaming_params import Parameters, check_saved

State = dict[str, Any]

_FORMAT = 2  # goes up whenever what a state holds changes
# What the base has in a state.
_OWN = frozenset(
    ("dtype", "library", "n_samples", "exponent", "any", "pending", "pending_weights", "n_pending")
)
# Entries beyond 2^50 make the base change its unit: float32 holds products of four such numbers.
_ORDINARY = 50

# From so many blocks on a copy of the state costs less than a look at all rows beforehand.
_MANY_BLOCKS = 8


class NotFittedError(ValueError, AttributeError):
    """A result was asked for before any rows were seen."""


def copied(state: State) -> State:
    """The same state in memory of its own, the host's."""
    if _streaming_gpu.is_here(state):
        return _streaming_gpu.on_host(state)
    return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in state.items()}


class StreamingEstimator(Parameters):
    """Base of the estimators; see the head of the file."""

    n_features: int
    rng: Any
    _state: State | None = None
    _results: list[Any] | None = None  # the results once they were asked for
    # ---- What a subclass gives ----------------------------------------------------------------

    def _block_rows(self) -> int:
        raise NotImplementedError

    def _check_parameters(self) -> None:
        raise NotImplementedError

    _dtypes: tuple[str, ...] = REAL

    def _initial(self, seed: int, dtype: str = "float64") -> State:
        raise NotImplementedError

    def _update(self, state: State, rows: Any, weights: Any) -> None:
        raise NotImplementedError

    _wide = False  # whether rows are scaled in double precision: decay may leave but small ones
    _checks_on_the_way = False

    def _update_unchecked(self, state: State, rows: Any, weights: Any) -> bool:
        raise NotImplementedError

    def _rescale(self, state: State, shift: int) -> None:
        raise NotImplementedError

    def _finish(self, state: State) -> Any:
        raise NotImplementedError

    def _on_gpu(self) -> _streaming_gpu.Layout:
        """How a GPU takes rows, if it does."""
        raise NotImplementedError(f"{type(self).__name__} takes arrays on the CPU only so far")

    def _finish_on_gpu(self, reading: _streaming_gpu.Reading) -> Any:
        """The results of a state on a GPU, read there."""
        raise NotImplementedError

    def _fit_on_gpu(self, x: Any, sample_weight: Any) -> State:
        return _streaming_gpu.partial_fit(self, x, sample_weight)

    def _read_on_gpu(self) -> Any:
        assert self._state is not None
        d = operator.index(self.n_features)
        return self._finish_on_gpu(_streaming_gpu.reading(self._on_gpu(), self._state, d))

    def _gpu_bytes(self, batch: int) -> int:
        return _streaming_gpu.nbytes_bound(self._on_gpu(), operator.index(self.n_features), batch)

    # ---- Rows ---------------------------------------------------------------------------------

    def partial_fit(self, X: Any, sample_weight: Any = None, y: Any = None) -> Self:
        """Go on with the rows of a batch.

        Parameters
        ----------
        X : array or scipy CSR matrix of shape (rows, n_features)
            float16, bfloat16, float32 or float64, and complex64 or complex128 where the estimator
            takes those, on one device, the same in every call. At least one row; the result does
            not depend on how a stream is cut into batches (on a GPU: up to rounding; nothing is
            waited for, and NaN is not looked for).
        sample_weight : array of shape (rows,), optional
            A row of weight w counts as sqrt(w) times itself; one of weight 0 as absent.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError
            X is no array, or its dtype, its library or its sparsity cannot be taken or is not that
            of the rows before.
        ValueError
            X has NaN or infinity, another width or no rows; a weight is negative. In every case the
            estimator is as it was before the call.
        RuntimeError
            An earlier call was interrupted half-way, as by Ctrl-C: see :meth:`load_state_dict`.
        """
        self._check_parameters()
        self._check_whole()
        if _streaming_gpu.takes(self._state, X):
            self._state = self._fit_on_gpu(X, sample_weight)
            self._results = []
            return self
        d = checked_size(self.n_features, "n_features")
        batch = Batch(X, sample_weight, d, self._dtypes)
        state = self._state
        if state is None:
            state = self._fresh(batch)
        elif (batch.dtype, batch.library) != (state["dtype"], state["library"]):
            raise TypeError(
                f"X is a {batch.library} array of {batch.dtype}; the rows before were of "
                f"{state['library']} and {state['dtype']}"
            )
        elif self._checks_on_the_way and batch.rows >= _MANY_BLOCKS * self._block_rows():
            # Checked on the way.
            copy = copied(state)
            if self._take_as_stored(copy, batch):
                self._state, self._results = copy, []
                return self
        if batch.pieces_count > 1:
            # An entry that is not finite may stand in the last piece.
            state = copied(state)
        # One piece has been checked before anything is changed.
        for piece in batch.pieces():
            try:
                self._take(state, *piece)
            except BaseException:  # Ctrl-C, or no memory
                self._lost = state is self._state
                raise
        self._state, self._results = state, []
        return self

    def _take_as_stored(self, state: State, batch: Batch) -> bool:
        """Whole blocks without a look at them before; False where that is not to be."""
        stored = batch.as_stored()
        if stored is None or not state["any"] or state["exponent"]:
            return False
        rows, weights = stored
        block = self._block_rows()
        first = -state["n_pending"] % block
        last = first + (batch.rows - first) // block * block
        for piece in batch.pieces(0, first):
            self._take(state, *piece)
        if state["exponent"] or not self._update_unchecked(
            state, rows[first:last], None if weights is None else weights[first:last]
        ):
            return False
        state["n_samples"] += last - first
        for piece in batch.pieces(last):
            self._take(state, *piece)
        return True

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Forget what was seen and see the rows of X: :meth:`partial_fit` from the start."""
        before = self._state, self._lost
        self._state, self._lost = None, False
        try:
            return self.partial_fit(X, sample_weight)
        except BaseException:
            self._state, self._lost = before
            raise

    def _fresh(self, batch: Batch) -> State:
        kept = max(1, self._block_rows() - 1)
        name = wide_name(batch.dtype) if self._wide else compute_name(batch.dtype)
        pending = np.zeros((kept, batch._value.shape[1]), name)
        state: State = {
            "dtype": batch.dtype,
            "library": batch.library,
            "n_samples": 0,
            "exponent": 0,
            "any": False,
            "pending": pending,
            "pending_weights": np.ones(kept),
            "n_pending": 0,
        }
        return state | self._initial(seed_of(self.rng), wide_name(batch.dtype))

    def _take(self, state: State, rows: Any, weights: Any, top: float) -> None:
        self._choose_exponent(state, top)
        wide = self._wide and state["exponent"]
        rows = rows.astype(wide_name(state["dtype"]), copy=False) if wide else rows
        rows = scaled(rows, -state["exponent"])
        state["n_samples"] += len(rows)
        block, held = self._block_rows(), state["n_pending"]
        first = 0
        if held:
            first = min(len(rows), block - held)
            if held + first < block:
                self._keep(state, rows, weights, 0)
                return
            whole = np.concatenate([state["pending"][:held], rows[:first]])
            joined = state["pending_weights"][:held]
            added = np.ones(first) if weights is None else weights[:first]
            joined = np.concatenate([joined, added])
            state["n_pending"] = 0
            self._update(state, whole, None if (joined == 1).all() else joined)
        last = first + (len(rows) - first) // block * block
        if last > first:
            self._update(state, rows[first:last], None if weights is None else weights[first:last])
        self._keep(state, rows, weights, last)

    def _keep(self, state: State, rows: Any, weights: Any, first: int) -> None:
        held = state["n_pending"]
        count = len(rows) - first
        state["pending"][held : held + count] = rows[first:]
        state["pending_weights"][held : held + count] = 1 if weights is None else weights[first:]
        state["n_pending"] = held + count

    def _choose_exponent(self, state: State, top: float) -> None:
        if top == 0:
            return
        relative = math.frexp(top)[1] - state["exponent"]
        if relative > _ORDINARY or (not state["any"] and relative < -_ORDINARY):
            self._rescale(state, relative)
            held = state["n_pending"]
            state["pending"][:held] = scaled(state["pending"][:held], -relative)
            state["exponent"] += relative
        state["any"] = True

    # ---- Results ------------------------------------------------------------------------------

    def _finished(self) -> Any:
        """The results of the rows seen so far, computed at most once."""
        if self._state is None:
            raise NotFittedError(
                f"this {type(self).__name__} has seen no rows yet; call partial_fit first"
            )
        self._check_whole()
        if self._results is None:
            self._results = []
        if not self._results and _streaming_gpu.is_here(self._state):
            self._results.append(self._read_on_gpu())
        if not self._results:
            state = copied(self._state)
            held = state["n_pending"]
            if held:
                weights = state["pending_weights"][:held].copy()
                rows = state["pending"][:held].copy()
                state["n_pending"] = 0
                self._update(state, rows, None if (weights == 1).all() else weights)
            self._results.append(self._finish(state))
        return self._results[0]

    def _as_given(self, values: Any, *, figures: bool = False) -> Any:
        """NumPy's numbers as an array like the caller's; real ones stay so (see real_name)."""
        assert self._state is not None
        dtype = self._state["dtype"]
        dtype = dtype if values.dtype.kind == "c" else real_name(dtype, figures=figures)
        with np.errstate(over="ignore"):  # infinity where the dtype has no number so large
            if _streaming_gpu.is_here(self._state):
                return _streaming_gpu.as_given(self._state, values, dtype)
            return _streaming_gpu.library_of(self._state).from_numpy(values, dtype)

    @property
    def n_samples_seen_(self) -> int:
        """Rows of nonzero weight seen so far."""
        self._check_whole()
        if self._state is None:
            self._finished()
        assert self._state is not None
        if _streaming_gpu.is_here(self._state):
            return _streaming_gpu.samples(self._state)
        return int(self._state["n_samples"])

    @property
    def n_features_in_(self) -> int:
        """Width of a row."""
        self._finished()
        return operator.index(self.n_features)

    def __sklearn_is_fitted__(self) -> bool:
        return self._state is not None

    # ---- State --------------------------------------------------------------------------------

    def _constants(self) -> dict[str, Any]:
        """The parameters that the state belongs to; of the random source its seed is enough."""
        return {k: v for k, v in self.get_params().items() if k != "rng"}

    def state_dict(self) -> dict[str, Any]:
        """All that the next rows and the results depend on, in memory of its own.

        Returns
        -------
        dict
            NumPy arrays, numbers and strings: ``load_state_dict`` of an estimator with the same
            parameters goes on with the same bits.
        """
        self._check_whole()
        state = None if self._state is None else copied(self._state)
        return {
            "format": _FORMAT,
            "class": type(self).__name__,
            "parameters": self._constants(),
            "state": state,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> Self:
        """Go on where the estimator was that gave `state_dict`.

        Raises
        ------
        TypeError, ValueError
            `state_dict` is none of this class's, or belongs to other parameters.
        """
        check_saved(state_dict, _FORMAT, type(self).__name__, self._constants())
        state = state_dict["state"]
        if state is not None and not _streaming_gpu.is_here(state):
            wanted = _OWN | self._initial(0).keys()
            if state.keys() != wanted:
                raise ValueError(
                    f"state_dict: state has {sorted(map(str, state))}, not {sorted(wanted)}"
                )
        self._state = None if state is None else copied(state)
        self._results, self._lost = [], False
        return self

    def __getstate__(self) -> dict[str, Any]:
        kept = {k: v for k, v in vars(self).items() if k != "_results"}
        if self._state is not None:
            kept["_state"] = copied(self._state)  # rows are taken in place, perhaps meanwhile
        return kept

    def nbytes_bound(self, max_batch: int) -> int:
        """Bytes that the estimator holds at most beside the caller's batches of `max_batch` rows.

        During a call and a reading too; Python's own objects, some kB, are not counted. For rows
        like those seen, real ones where none were: complex rows take twice as much.
        """
        self._check_parameters()
        batch = checked_size(max_batch, "max_batch")
        d = operator.index(self.n_features)
        if _streaming_gpu.is_here(self._state):
            return self._gpu_bytes(batch)
        block = self._block_rows()
        # A piece with its copies (converted, scaled, weighted); pending rows, joined, copied; the
        # state, its copy while a batch is checked, and one for a reading.
        piece = min(batch, max(1, PIECE_ENTRIES // d))
        wide = "float64" if self._state is None else wide_name(self._state["dtype"])
        own = sum(getattr(v, "nbytes", 0) for v in self._initial(0, wide).values())
        rows = 8 * d * (4 * piece + 6 * block) + self._scratch_bytes(piece)
        return np.dtype(wide).itemsize // 8 * rows + 24 * batch + 3 * own

    def _scratch_bytes(self, piece: int) -> int:
        """What `_update` and `_finish` need beside their arguments, for real rows."""
        return 0
