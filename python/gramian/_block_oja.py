"""Several top eigenvectors of a stream: a step for each block of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _cpu, _streaming_gpu, _streaming_gpu_proof
from ._oja import capsules, ldexp, storage_error
from ._rsvd_rows import scaled
from ._streaming_base import State, StreamingEstimator
from ._streaming_batch import Batch, checked_number, checked_size

_BLOCK, _SKETCH, _FIGURES, _TOTALS = _cpu.block_oja_layout()

# Rows of "figures" and entries of "totals"; cpp/include/gramian/streaming.hpp has them all.
_SQUARED_STEPS, _VALUES = 0, 1
_SQUARES, _ABOVE, _BELOW, _MEAN_ERROR = 0, 1, 2, 4

_STEPS = ("adaoja", "history")


@dataclass(frozen=True, slots=True)
class _Results:
    vectors: Any
    values: Any
    certificate: float
    squares: float
    mean: Any


class BlockOja(StreamingEstimator):
    """Top k eigenvectors of AᵀA, A the rows seen, by one step for each block of 64 rows.

    Parameters
    ----------
    n_features : int
        Width d of a row.
    n_components : int
        Number k of vectors, at most d.
    step : {"adaoja", "history"}, default "adaoja"
        "adaoja": ``Q + G / b``, G = XᵀX Q and b² for each column the sum of ``||G_j||²`` so far.
        "history": a step of power iteration on ``Q diag(values) Qᵀ + XᵀX``, what is known of the
        past and the block; it follows a change sooner and also gives better values.
    decay : float in (0, 1], default 1.0
        Of AᵀA for each row: ``AᵀA <- decay AᵀA + x xᵀ``.
    center : bool, default False
        A without its mean row (weighted, decayed).
    rng : None, int or numpy.random.Generator
        For the vectors to start from.

    Attributes
    ----------
    components_ : array of shape (k, d)
        Orthonormal rows, of the library and dtype of the rows seen.
    explained_variance_ : array of shape (k,)
        Estimates of the eigenvalues of AᵀA / n, descending; / (n - 1) with `center`.
    certificate_ : float
        At least the sine of the angle between ``components_[0]`` and the top eigenvector of AᵀA
        (weighted, centred, decayed), for any order and with every rounding counted. ``inf`` where
        nothing can be said; finite where ``||A||_F^2 <= 1.01 lambda_1``.
    mean_ : array of shape (d,)
        The mean row; zeros without `center`.
    n_samples_seen_ : int
        Rows of nonzero weight, n.
    frobenius_squared_ : float
        ``||A||_F^2`` (weighted, centred, decayed).
    status_ : str
        Always "ok".

    Notes
    -----
    Computed in float64 whatever the dtype of the rows: 4 k d multiply-adds a row for "adaoja" and
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
        if self.step not in _STEPS:
            raise ValueError(f"step is {self.step!r}; it must be one of {', '.join(_STEPS)}")
        checked_number(self.decay, "decay", above=0, most=1)
        if not isinstance(self.center, bool | np.bool_):
            raise TypeError(f"center is {self.center!r}; it must be True or False")

    def _block_rows(self) -> int:
        return int(_BLOCK)

    def _initial(self, seed: int) -> State:
        d, k = int(self.n_features), int(self.n_components)
        vectors = np.zeros((k + _SKETCH + 1, d))
        start = np.random.default_rng(seed).standard_normal((k, d))
        vectors[:k] = np.linalg.qr(start.T)[0].T
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
        state["figures"][_SQUARED_STEPS] *= squares
        state["figures"][_SQUARED_STEPS] *= squares
        state["totals"][[_SQUARES, _ABOVE, _BELOW]] *= squares

    def _finish(self, state: State) -> _Results:
        d, k = int(self.n_features), int(self.n_components)
        vectors, values = np.empty((k, d)), np.empty(k)
        certificate = _cpu.block_oja_result(
            *capsules(state),
            out=vectors.__dlpack__(),
            values=values.__dlpack__(),
            **self._options(),
        )
        exponent = state["exponent"]
        squares = ldexp(float(state["totals"][_SQUARES]), 2 * exponent)
        mean = scaled(state["vectors"][-1], exponent)
        values = np.array([ldexp(value, 2 * exponent) for value in values])
        return _Results(vectors, values, certificate, squares, mean)

    # ---- On a GPU -----------------------------------------------------------------------------

    def _on_gpu(self) -> _streaming_gpu.Layout:
        for name, value, allowed in (
            ("step", self.step, self.step == "adaoja"),
            ("center", self.center, not self.center),
            ("n_components", self.n_components, int(self.n_components) <= 56),
        ):
            if not allowed:
                raise NotImplementedError(
                    f"{name} is {value!r}; on a GPU BlockOja takes step='adaoja', center=False and "
                    "at most 56 components so far"
                )
        k = int(self.n_components)
        return _streaming_gpu.Layout("adaoja", k, float(self.decay), np.zeros((2, k)))

    def _finish_on_gpu(self, reading: _streaming_gpu.Reading) -> _Results:
        d, k = int(self.n_features), int(self.n_components)
        found = _streaming_gpu_proof.several(reading, k, float(self.decay))
        squares = float(reading.totals[_SQUARES])
        return _Results(found.vectors, found.values, found.certificate, squares, np.zeros(d))

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
        return self._as_given(self._finished().values / max(1, rows - bool(self.center)))

    @property
    def mean_(self) -> Any:
        return self._as_given(self._finished().mean)

    @property
    def frobenius_squared_(self) -> float:
        return float(self._finished().squares)

    @property
    def status_(self) -> str:
        self._finished()
        return "ok"

    def transform(self, X: Any) -> Any:
        """Coordinates along the components: ``(X - mean_) components_ᵀ``.

        Parameters
        ----------
        X : array or scipy CSR matrix of shape (rows, n_features)

        Returns
        -------
        array of shape (rows, n_components), of the library and dtype of the rows seen
        """
        results = self._finished()
        if self._state is not None and _streaming_gpu.is_here(self._state):
            return _streaming_gpu.transform(self._state, X, results.vectors)
        batch = Batch(X, None, int(self.n_features))
        pieces = [(rows - results.mean) @ results.vectors.T for rows, _, _ in batch.pieces()]
        return self._as_given(np.concatenate(pieces))

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """:meth:`fit`, then :meth:`transform` of the same rows."""
        return self.fit(X, y, sample_weight).transform(X)
