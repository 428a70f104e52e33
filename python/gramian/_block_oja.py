"""Several top eigenvectors of a stream: a step for each block of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _cpu, _streaming_gpu, _streaming_gpu_proof
from ._oja import (
    PHASE_ERROR,
    as_doubles,
    capsules,
    in_phase,
    ldexp,
    random_start,
    storage_error,
)
from ._options import check_choice
from ._rsvd_rows import scaled
from ._streaming_base import State, StreamingEstimator
from ._streaming_batch import COMPLEX, REAL, Batch, checked_number, checked_size
from ._streaming_batch import _largest as largest

_BLOCK, _SKETCH, _FIGURES, _TOTALS = _cpu.block_oja_layout()

# Rows of "figures" and entries of "totals"; cpp/include/gramian/streaming.hpp has them all.
_SQUARED_STEPS, _VALUES = 0, 1
_SQUARES, _ABOVE, _BELOW, _MEAN_ERROR = 0, 1, 2, 4

_STEPS = ("adaoja", "history")

# With decay: how far squares may fall, as a power of two, before the unit follows.
_RUN_EXPONENT = 100


@dataclass(frozen=True, slots=True)
class _Results:
    vectors: Any
    values: Any
    certificate: float
    squares: float
    mean: Any


class BlockOja(StreamingEstimator):
    """Top k eigenvectors of AᴴA, A the rows seen, by one step for each block of 64 rows.

    Parameters
    ----------
    n_features : int
        Width d of a row.
    n_components : int
        Number k of vectors, at most d.
    step : {"adaoja", "history"}, default "adaoja"
        "adaoja": ``Q + G / b``, G = XᴴX Q and b² for each column the sum of ``||G_j||²`` so far.
        "history": a step of power iteration on ``Q diag(values) Qᴴ + XᴴX``, what is known of the
        past and the block; it follows a change sooner and also gives better values.
    decay : float in (0, 1], default 1.0
        Of AᴴA for each row: ``AᴴA <- decay AᴴA + xᴴ x``.
    center : bool, default False
        A without its mean row (weighted, decayed).
    rng : None, int or numpy.random.Generator
        For the vectors to start from.

    Attributes
    ----------
    components_ : array of shape (k, d)
        Orthonormal rows vᴴ, v the eigenvectors, of the library and dtype of the rows seen; the
        largest entry of complex ones is real and positive.
    explained_variance_ : array of shape (k,)
        Estimates of the eigenvalues of AᴴA / n, real, descending; / (n - 1) with `center`.
        float32 for rows of half precision.
    certificate_ : float
        At least the sine of the angle between the first and the top eigenvector of AᴴA (weighted,
        centred, decayed), for any order and with every rounding counted. ``inf`` where
        nothing can be said; finite where ``||A||_F^2 <= 1.01 lambda_1``.
    mean_ : array of shape (d,)
        The mean row; zeros without `center`. float32 for rows of half precision.
    n_samples_seen_ : int
        Rows of nonzero weight, n.
    frobenius_squared_ : float
        ``||A||_F^2`` (weighted, centred, decayed).
    status_ : str
        Always "ok".

    Notes
    -----
    Computed in float64, complex rows in complex128: 4 k d multiply-adds a row for "adaoja" and
    about 50 d for the sketch of the certificate.

    References
    ----------
    A. Henriksen, R. Ward, "AdaOja: adaptive learning rates for streaming PCA", arXiv:1905.12115.
    P. Yang, C.-J. Hsieh, J.-L. Wang, "History PCA: a new algorithm for streaming PCA",
    arXiv:1802.05447. The certificate is proved in docs/streaming.md.

    Examples
    --------
    >>> import gramian as gm
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> scales = np.r_[9.0, 6.0, np.ones(18)]
    >>> pca = gm.BlockOja(20, 2, center=True, rng=0)
    >>> for _ in range(30):
    ...     pca = pca.partial_fit(3 + scales * rng.standard_normal((100, 20)))
    >>> bool((abs(pca.components_[[0, 1], [0, 1]]) > 0.99).all())
    True
    """

    def __init__(
        self,
        n_features: int,
        n_components: int,
        *,
        step: str = "adaoja",
        decay: float = 1.0,
        center: bool = False,
        rng: Any = None,
    ) -> None:
        self.n_features = n_features
        self.n_components = n_components
        self.step = step
        self.decay = decay
        self.center = center
        self.rng = rng

    def _check_parameters(self) -> None:
        features = checked_size(self.n_features, "n_features")
        if checked_size(self.n_components, "n_components") > features:
            raise ValueError(
                f"n_components is {self.n_components}; it must be at most n_features, {features}"
            )
        check_choice(self.step, "step", _STEPS)
        checked_number(self.decay, "decay", above=0, most=1)
        if not isinstance(self.center, bool | np.bool_):
            raise TypeError(f"center is {self.center!r}; it must be True or False")

    def _block_rows(self) -> int:
        return int(_BLOCK)

    _dtypes = REAL + COMPLEX
    _wide = True

    def _initial(self, seed: int, dtype: str = "float64") -> State:
        d, k = int(self.n_features), int(self.n_components)
        vectors = np.zeros((k + _SKETCH + 1, d), dtype)
        vectors[:k] = np.linalg.qr(random_start(seed, (k, d), vectors.dtype).T)[0].T
        return {
            "vectors": vectors,
            "figures": np.zeros((_FIGURES, k)),
            "totals": np.zeros(_TOTALS),
        }

    def _options(self) -> dict[str, Any]:
        return {
            "features": int(self.n_features),
            "components": int(self.n_components),
            "step": self.step,
            "center": bool(self.center),
            "decay": float(self.decay),
        }

    def _take(self, state: State, rows: Any, weights: Any, top: float) -> None:
        if self.decay == 1:
            super()._take(state, rows, weights, top)
            return
        # What was seen may become far smaller than its unit: so many rows at a time, by their
        # number in the stream, lose 2^-100 of it at most, or are one block.
        run = _BLOCK * max(1, int(-_RUN_EXPONENT / (_BLOCK * math.log2(self.decay))))
        while len(rows):
            count = run - state["n_samples"] % run
            part, given = rows[:count], None if weights is None else weights[:count]
            super()._take(state, part, given, largest(part))
            rows, weights = rows[count:], None if weights is None else weights[count:]
            if state["n_samples"] % run == 0:
                self._lower_unit(state)

    def _lower_unit(self, state: State) -> None:
        squares = float(state["totals"][_SQUARES])
        if squares == 0:
            # Of what is left nothing can be told but that it is small; rows choose a unit anew.
            state["any"] = False
        elif squares < 2.0 ** (-2 * _RUN_EXPONENT):
            # No rows that can come are smaller than the smallest of their type.
            least = int(np.finfo(state["pending"].dtype).minexp) - 60
            shift = max(math.frexp(squares)[1] // 2, least - state["exponent"])
            if shift < 0:
                self._rescale(state, shift)
                state["exponent"] += shift

    def _update(self, state: State, rows: Any, weights: Any) -> None:
        vectors, figures, totals = capsules(state)
        _cpu.block_oja_update(
            vectors,
            figures,
            totals,
            rows=rows.__dlpack__(max_version=(1, 1)),
            dtype=rows.dtype.name,
            weights=None if weights is None else np.ascontiguousarray(weights).__dlpack__(),
            **self._options(),
        )

    def _scratch_bytes(self, piece: int) -> int:
        d, k = int(self.n_features), int(self.n_components)
        return 8 * d * (_BLOCK + 2 + max(k, _SKETCH) + 3 * k) + 32 * k * k + 8 * 70 * k + 2**16

    def _rescale(self, state: State, shift: int) -> None:
        # Beyond such factors what was seen is nothing beside what comes.
        squares = ldexp(1.0, -max(-1000, min(2 * shift, 1000)))
        rows = ldexp(1.0, -max(-1000, min(shift, 1000)))
        state["vectors"][int(self.n_components) :] *= rows
        state["totals"][_MEAN_ERROR] *= rows
        state["figures"][_VALUES] *= squares
        # Steps are forgotten as slowly as rows: so large they are none, whatever their number.
        steps = state["figures"][_SQUARED_STEPS]
        with np.errstate(over="ignore"):
            steps *= squares
            steps *= squares
        np.minimum(steps, 2.0**900, out=steps)
        state["totals"][[_SQUARES, _ABOVE, _BELOW]] *= squares

    def _finish(self, state: State) -> _Results:
        d, k = int(self.n_features), int(self.n_components)
        vectors, values = np.empty((k, d), state["vectors"].dtype), np.empty(k)
        certificate = _cpu.block_oja_result(
            *capsules(state),
            is_complex=vectors.dtype.kind == "c",
            out=as_doubles(vectors),
            values=values.__dlpack__(),
            **self._options(),
        )
        if vectors.dtype.kind == "c":
            vectors = in_phase(vectors)
            certificate += PHASE_ERROR
        exponent = state["exponent"]
        squares = ldexp(float(state["totals"][_SQUARES]), 2 * exponent)
        mean = scaled(state["vectors"][-1], exponent)
        values = np.array([ldexp(value, 2 * exponent) for value in values])
        return _Results(vectors, values, certificate, squares, mean)

    # ---- On a GPU -----------------------------------------------------------------------------

    def _on_gpu(self) -> _streaming_gpu.Layout:
        return _streaming_gpu.block_layout(
            int(self.n_components), self.step, float(self.decay), bool(self.center)
        )

    def _finish_on_gpu(self, reading: _streaming_gpu.Reading) -> _Results:
        d, k = int(self.n_features), int(self.n_components)
        found = _streaming_gpu_proof.several(reading, k, float(self.decay))
        squares, mean = float(reading.totals[_SQUARES]), np.zeros(d)
        if reading.sums is not None:
            squares = _streaming_gpu_proof.scatter(squares, reading.sums)
            mean = reading.sums[:-1] / (reading.sums[-1] or 1.0)
        return _Results(found.vectors, found.values, found.certificate, squares, mean)

    # ---- Results ------------------------------------------------------------------------------

    @property
    def components_(self) -> Any:
        return self._as_given(self._finished().vectors)

    @property
    def certificate_(self) -> float:
        results = self._finished()
        assert self._state is not None
        return float(results.certificate + storage_error(self._state["dtype"], self.n_features))

    @property
    def explained_variance_(self) -> Any:
        rows = self.n_samples_seen_
        values = self._finished().values / max(1, rows - bool(self.center))
        return self._as_given(values, figures=True)

    @property
    def mean_(self) -> Any:
        return self._as_given(self._finished().mean, figures=True)

    @property
    def frobenius_squared_(self) -> float:
        return float(self._finished().squares)

    @property
    def status_(self) -> str:
        self._finished()
        return "ok"

    def transform(self, X: Any) -> Any:
        """Coordinates along the components: ``(X - mean_) components_ᴴ``.

        Parameters
        ----------
        X : array or scipy CSR matrix of shape (rows, n_features)

        Returns
        -------
        array of shape (rows, n_components), of the library and dtype of the rows seen
        """
        results = self._finished()
        if self._state is not None and _streaming_gpu.is_here(self._state):
            return _streaming_gpu.transform(self._state, X, results.vectors, results.mean)
        batch = Batch(X, None, int(self.n_features), self._dtypes)
        axes = results.vectors.conj().T
        pieces = [(rows - results.mean) @ axes for rows, _, _ in batch.pieces()]
        return self._as_given(np.concatenate(pieces))

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """:meth:`fit`, then :meth:`transform` of the same rows."""
        return self.fit(X, y, sample_weight).transform(X)
