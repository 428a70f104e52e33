"""The top eigenvector of a stream in random order, with rows that may be heavy."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from . import _cpu, _streaming_gpu_random
from ._frequent_directions_state import (
    EXPONENT,
    SQUARES,
    SQUARES_LOW,
    eigen_bytes,
    eigenvalues,
    open_sketch,
    power,
    rescale_sketch,
    sketch_state,
    times_power,
    wide,
)
from ._streaming_base import State
from ._streaming_batch import checked_size
from ._streaming_rows import RowByRowEstimator

# Rows of the sketch that proves: it knows directions of an eighth of the energy and more.
_SKETCH_SIZE = 8

# Places in the figures of the stream; cpp/include/gramian/random_order.hpp.
_SCALED_FIGURES = (0, 5, 6, 7)


class Reading(NamedTuple):
    """What a stream has come to."""

    components: Any
    explained_variance: Any
    certificate: float
    frobenius_squared: float


class RandomOrderTopEigenvector(RowByRowEstimator):
    r"""The top eigenvector of :math:`A^H A` for rows in random order, some of them heavy [1]_.

    Rows of at least the part :math:`1/(d \log d)` of the energy so far are kept, and go the way of
    the others once :math:`\|A\|_F` has outgrown them. The others drive a block power iteration
    whose blocks grow by half. The answer is the top right singular vector of the rows kept, stacked
    on :math:`\sqrt\lambda z^H`. With the gap :math:`R = \lambda_1 / \lambda_2` and rows in random
    order its correlation with the truth is :math:`1 - O(1/\sqrt R)`.

    A Frequent Directions sketch of eight rows sees all rows too. Whatever their order, it bounds
    the angle where the top eigenvector has much of the energy: its own top vector is returned where
    more is proved of that than of the answer.

    Parameters
    ----------
    n_features : int
        Width d of a row.
    max_heavy_rows : int, default 64
        Rows kept at most, those of the largest norm.
    rng : None, int or numpy.random.Generator
        Seed of the vector that the iteration starts from.

    Attributes
    ----------
    components_ : array of shape (1, n_features)
        :math:`v^H`, v of norm 1, its largest entry real and positive.
    explained_variance_ : array of shape (1,)
        Estimate of the top eigenvalue of :math:`A^H A`, over `n_samples_seen_`; float32 for rows of
        half precision.
    certificate_ : float
        Upper bound on the sine of the angle between ``components_[0]`` and :math:`v^H`, v the top
        eigenvector, for rows in any order, proved with all rounding; inf where nothing is proved.
    frobenius_squared_ : float
        :math:`\|A\|_F^2`, weighted.
    n_samples_seen_ : int
        Rows of nonzero weight.
    status_ : str
        ``"ok"``.

    Notes
    -----
    About 50 d floating-point operations a row and :math:`O(d \cdot \mathrm{max\_heavy\_rows})`
    memory, in float64 or complex128. The bits of a result do not depend on how rows are cut into
    calls.
    Proofs and measurements: docs/streaming_random_order.md.

    References
    ----------
    .. [1] Kacham, Woodruff, "Approximating the Top Eigenvector in Random Order Streams",
       NeurIPS 2024, arXiv:2412.11963.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> rng = np.random.default_rng(0)
    >>> rows = rng.standard_normal((3000, 50))
    >>> rows[:, 0] *= 2
    >>> rows[rng.choice(3000, 5)] += 100 * np.eye(50)[1]  # five heavy rows
    >>> estimator = gm.RandomOrderTopEigenvector(50, rng=0)
    >>> for batch in np.array_split(rows, 40):
    ...     estimator = estimator.partial_fit(batch)
    >>> bool(abs(np.linalg.svd(rows)[2][0] @ estimator.components_[0]) > 0.99)
    True
    """

    def __init__(self, n_features: int, *, max_heavy_rows: int = 64, rng: Any = None) -> None:
        self.n_features = n_features
        self.max_heavy_rows = max_heavy_rows
        self.rng = rng

    def _check_parameters(self) -> None:
        checked_size(self.n_features, "n_features")
        checked_size(self.max_heavy_rows, "max_heavy_rows", least=0)

    def _initial(self, seed: int, dtype: str = "float64") -> State:
        d = checked_size(self.n_features, "n_features")
        heavy = checked_size(self.max_heavy_rows, "max_heavy_rows", least=0)
        state = sketch_state(d, _SKETCH_SIZE, False, dtype) | {
            "heavy": np.zeros((max(heavy, 1), d), dtype),
            "heavy_squares": np.zeros(max(heavy, 1)),
            "vectors": np.zeros((3, d), dtype),
            "stream": np.zeros(_cpu.RANDOM_ORDER_FIGURES),
        }
        _open(state).start(open_sketch(state), seed, heavy)
        return state

    def _update(self, state: State, rows: Any, weights: Any) -> None:
        _open(state).update(
            open_sketch(state),
            rows.__dlpack__(max_version=(1, 1)),
            rows.dtype.name,
            None if weights is None else np.ascontiguousarray(weights).__dlpack__(),
        )

    def _rescale(self, state: State, shift: int) -> None:
        rescale_sketch(state, shift)
        state["heavy"] = times_power(state["heavy"], -shift)
        # The sums are of a^H a z, and z is a unit vector whatever the units.
        state["vectors"][1:] = times_power(state["vectors"][1:], -2 * shift)
        state["heavy_squares"] = np.ldexp(state["heavy_squares"], -2 * shift)
        for place in _SCALED_FIGURES:
            state["stream"][place] = np.ldexp(state["stream"][place], -2 * shift)

    def _finish(self, state: State) -> Reading:
        d = state["heavy"].shape[1]
        sketch = open_sketch(state)
        vector = np.zeros(d, state["heavy"].dtype)
        eigenvalue = _open(state).answer(sketch, vector.__dlpack__())
        sketch.settle(1.0)
        unit = int(state["figures"][EXPONENT])
        values, vectors = np.zeros(min(2, d)), np.zeros((min(2, d), d), vector.dtype)
        sketch.spectrum(values.__dlpack__(), vectors.__dlpack__())
        if not vector.any():
            vector = vectors[0]
        components, certificate = self._certified(sketch, vector)
        proved, bound = self._certified(sketch, vectors[0])
        if bound < certificate:
            components, certificate = proved, bound
            top = eigenvalues(values, state["figures"])[0]
            eigenvalue = float(np.ldexp(top, 2 * unit))
        # The sketch's is at most the truth. The iteration's may miss it: its first vector, of
        # signs, can be orthogonal to rows that are all alike.
        eigenvalue = max(eigenvalue, float(np.ldexp(values[0], 2 * unit)))
        unit += state["exponent"]
        squares = float(state["figures"][SQUARES] + state["figures"][SQUARES_LOW])
        with np.errstate(over="ignore"):
            variance = np.ldexp(
                np.array([eigenvalue]) / max(1, state["n_samples"]), 2 * state["exponent"]
            )
            variance = self._as_given(variance, figures=True)
        return Reading(components, variance, certificate, power(squares, 2 * unit))

    # ---- On a GPU -----------------------------------------------------------------------------

    def _fit_on_gpu(self, x: Any, sample_weight: Any) -> State:
        return _streaming_gpu_random.fit(self, x, sample_weight, _SKETCH_SIZE)

    def _read_on_gpu(self) -> Reading:
        state = _streaming_gpu_random.host_state(self)
        if state is not None:
            return self._finish(state)
        vector = self._as_given(np.full((1, self.n_features), np.nan))
        value = self._as_given(np.full(1, np.nan), figures=True)
        return Reading(vector, value, math.inf, math.nan)

    def _gpu_bytes(self, batch: int) -> int:
        heavy = checked_size(self.max_heavy_rows, "max_heavy_rows", least=0)
        return _streaming_gpu_random.nbytes_bound(self.n_features, _SKETCH_SIZE, heavy, batch)

    # ---- Results ------------------------------------------------------------------------------

    def _certified(self, sketch: _cpu.Sketch, vector: Any) -> tuple[Any, float]:
        """A unit vector as it is handed out, in the caller's precision, with what holds for it."""
        components = self._as_given(vector[None].copy())
        given = np.array(wide(components)[0])
        return components, sketch.certificate(given.__dlpack__())

    def _scratch_bytes(self, piece: int) -> int:
        # The rows kept, stacked for an answer, with their product; what the sketch takes.
        d = checked_size(self.n_features, "n_features")
        rows = checked_size(self.max_heavy_rows, "max_heavy_rows", least=0) + 1
        return 8 * d * (rows + 60) + eigen_bytes(max(rows, _cpu.sketch_capacity(_SKETCH_SIZE)), d)


def _open(state: State) -> _cpu.HeavyAndLight:
    """The kernels' view of the state."""
    heavy, squares, vectors, stream = (
        state[name].__dlpack__() for name in ("heavy", "heavy_squares", "vectors", "stream")
    )
    return _cpu.HeavyAndLight(heavy, squares, vectors, stream, state["heavy"].dtype.name)
