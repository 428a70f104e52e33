"""The top eigenvector of a stream in random order, with rows that may be heavy."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from . import _cpu
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
    wide,
)
from ._streaming_base import State, StreamingEstimator
from ._streaming_batch import checked_size

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


class RandomOrderTopEigenvector(StreamingEstimator):
    r"""The top eigenvector of :math:`A^T A` for rows in random order, some of them heavy [1]_.

    Rows of at least the part :math:`1/(d \log d)` of the energy so far are kept, and go the way of
    the others once :math:`\|A\|_F` has outgrown them. The others drive a block power iteration
    whose blocks grow by half. The answer is the top right singular vector of the rows kept, stacked
    on :math:`\sqrt\lambda z^T`. With the gap :math:`R = \lambda_1 / \lambda_2` and rows in random
    order its correlation with the truth is :math:`1 - O(1/\sqrt R)`.

    A Frequent Directions sketch of eight rows sees all rows too. Whatever their order, it bounds
    the angle where the top eigenvector has much of the energy; an answer that it refutes is
    replaced by its own.

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
        A unit vector, its largest entry positive.
    explained_variance_ : array of shape (1,)
        Estimate of the top eigenvalue of :math:`A^T A`, over `n_samples_seen_`.
    certificate_ : float
        Upper bound on the sine of the angle between ``components_[0]`` and the top eigenvector, for
        rows in any order, proved with all rounding; inf where nothing is proved.
    frobenius_squared_ : float
        :math:`\|A\|_F^2`, weighted.
    n_samples_seen_ : int
        Rows of nonzero weight.
    status_ : str
        ``"ok"``.

    Notes
    -----
    About 50 d floating-point operations a row and :math:`O(d \cdot \mathrm{max\_heavy\_rows})`
    memory, in float64. The bits of a result do not depend on how rows are cut into calls.
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

    def _block_rows(self) -> int:
        # The kernel takes rows one by one.
        return 1

    def _check_parameters(self) -> None:
        checked_size(self.n_features, "n_features")
        checked_size(self.max_heavy_rows, "max_heavy_rows", least=0)

    def _initial(self, seed: int) -> State:
        d = checked_size(self.n_features, "n_features")
        heavy = checked_size(self.max_heavy_rows, "max_heavy_rows", least=0)
        state = sketch_state(d, _SKETCH_SIZE, center=False) | {
            "heavy": np.zeros((max(heavy, 1), d)),
            "heavy_squares": np.zeros(max(heavy, 1)),
            "vectors": np.zeros((3, d)),
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
        state["heavy"] = np.ldexp(state["heavy"], -shift)
        # The sums are of a^T a z, and z is a unit vector whatever the units.
        state["vectors"][1:] = np.ldexp(state["vectors"][1:], -2 * shift)
        state["heavy_squares"] = np.ldexp(state["heavy_squares"], -2 * shift)
        for place in _SCALED_FIGURES:
            state["stream"][place] = np.ldexp(state["stream"][place], -2 * shift)

    def _finish(self, state: State) -> Reading:
        d = state["heavy"].shape[1]
        sketch = open_sketch(state)
        vector = np.zeros(d)
        eigenvalue = _open(state).answer(sketch, vector.__dlpack__())
        sketch.settle(1.0)
        unit = int(state["figures"][EXPONENT])
        values, vectors = np.zeros(min(2, d)), np.zeros((min(2, d), d))
        sketch.spectrum(values.__dlpack__(), vectors.__dlpack__())
        if not vector.any():
            vector = vectors[0]
        components, certificate = self._certified(sketch, vector)
        proved, bound = self._certified(sketch, vectors[0])
        if bound < math.inf:
            cosine = float(vectors[0] @ vector)
            sine = float(np.linalg.norm(vector - cosine * vectors[0]))
            if not (sine <= bound and certificate < math.inf):
                components, certificate = proved, bound
                top = eigenvalues(values, state["figures"])[0]
                eigenvalue = float(np.ldexp(top, 2 * unit))
        unit += state["exponent"]
        squares = float(state["figures"][SQUARES] + state["figures"][SQUARES_LOW])
        with np.errstate(over="ignore"):
            variance = np.ldexp(
                np.array([eigenvalue]) / max(1, state["n_samples"]), 2 * state["exponent"]
            )
            variance = self._as_given(variance)
        return Reading(components, variance, certificate, power(squares, 2 * unit))

    def _certified(self, sketch: _cpu.Sketch, vector: Any) -> tuple[Any, float]:
        """A unit vector as it is handed out, in the caller's precision, with what holds for it."""
        components = self._as_given(vector[None].copy())
        given = np.array(wide(components)[0])
        return components, sketch.certificate(given.__dlpack__())

    def _scratch_bytes(self, piece: int) -> int:
        # The rows kept, stacked for an answer, with their product; what the sketch takes.
        d = checked_size(self.n_features, "n_features")
        rows = checked_size(self.max_heavy_rows, "max_heavy_rows", least=0) + 1
        return 8 * d * (rows + 60) + eigen_bytes(max(rows, 2 * _SKETCH_SIZE), d)

    @property
    def components_(self) -> Any:
        """The answer, as a row."""
        return self._finished().components

    @property
    def explained_variance_(self) -> Any:
        """Estimate of the top eigenvalue over the number of rows."""
        return self._finished().explained_variance

    @property
    def certificate_(self) -> float:
        """Bound on the sine of the angle to the top eigenvector of the rows seen; inf: none."""
        return float(self._finished().certificate)

    @property
    def frobenius_squared_(self) -> float:
        """Sum of the squares of all rows."""
        return float(self._finished().frobenius_squared)

    @property
    def status_(self) -> str:
        """Always "ok": growth is no part of this method."""
        self._finished()
        return "ok"


def _open(state: State) -> _cpu.HeavyAndLight:
    """The kernels' view of the state."""
    return _cpu.HeavyAndLight(
        *(state[name].__dlpack__() for name in ("heavy", "heavy_squares", "vectors", "stream"))
    )
