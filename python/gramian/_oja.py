"""The top eigenvector of rows in any order: Oja's method with a growth check, and a certificate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _cpu, _streaming_gpu, _streaming_gpu_proof
from ._streaming_base import State, StreamingEstimator
from ._streaming_batch import COMPLEX, REAL, checked_number, checked_size

_BLOCK, _RATES, _SKETCH, _FIGURES, _TOTALS = _cpu.oja_layout()
_LEAF = _BLOCK // 4

# Columns of "figures" and entries of "totals" that are used here; cpp/include/gramian/streaming.hpp
# has them all, and docs/streaming.md what they mean.
_RATE, _NORM, _START = 0, 1, 2
_SQUARES, _ENERGY, _SQUARES_BEFORE = 0, 6, 8


@dataclass(frozen=True, slots=True)
class _Results:
    vector: Any
    certificate: float
    eigenvalue: float
    squares: float
    grew: bool


def ldexp(value: float, exponent: int) -> float:
    """value 2^exponent, infinite where that overflows."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def storage_error(dtype: str, features: int) -> float:
    """How far rounding to a dtype moves a vector of norm 1: entries below the normal ones too."""
    if dtype in ("float64", "complex128"):
        return 0.0
    if dtype == "bfloat16":
        return 2.0**-8 * (1 + 2.0**-20)
    kind = np.finfo(dtype)
    reals = features * (2 if dtype in COMPLEX else 1)
    absolute = float(kind.smallest_subnormal) / 2 * math.sqrt(reals)
    return (float(kind.eps) / 2 + absolute) * (1 + 2.0**-20)


def as_doubles(x: Any) -> object:
    """A capsule of an array without gaps; complex entries are two doubles."""
    return x.view(np.float64).__dlpack__()


def capsules(state: State) -> tuple[object, object, object]:
    return (
        as_doubles(state["vectors"]),
        state["figures"].__dlpack__(),
        state["totals"].__dlpack__(),
    )


def random_start(seed: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """Standard normal entries; of complex ones, of both parts."""
    rng = np.random.default_rng(seed)
    start = rng.standard_normal(shape)
    return start + 1j * rng.standard_normal(shape) if dtype.kind == "c" else start


def in_phase(vectors: Any) -> Any:
    """Complex rows turned so that the largest entry of each is real and positive; real ones kept.

    Each is off by 8u at most afterwards.
    """
    if vectors.dtype.kind != "c":
        return vectors
    at = np.arange(len(vectors)), np.abs(vectors).argmax(axis=1)
    top = vectors[at]
    turned = vectors * (top.conj() / np.abs(top))[:, None]
    turned[at] = np.abs(top)
    return turned


PHASE_ERROR = 2.0**-50


class OjaTopEigenvector(StreamingEstimator):
    """Top eigenvector of AᴴA, A the rows seen, in one pass over rows in any order.

    Oja's method ``v <- v + eta xᴴ (x v)``, row by row, for a few learning rates at once, each half
    the one before. As the stream goes on, the largest is left out and a smaller one begun. Beside
    it a Frequent Directions sketch of four rows bounds what the rest of the rows can do. The
    vector returned is the one with the best certificate.

    Parameters
    ----------
    n_features : int
        Width d of a row.
    learning_rate : "grid" or float, default "grid"
        A number is the only rate eta. It is used as long as ``eta * max ||x||^2 <= 1``.
    rng : None, int or numpy.random.Generator
        For the vector that the rates start from.

    Attributes
    ----------
    components_ : array of shape (1, d)
        vᴴ, v the eigenvector, of norm 1, of the library and dtype of the rows: X is near
        ``X @ components_.conj().T @ components_``. The largest entry of
        a complex one is real and positive; the sign of a real one is the method's own.
    certificate_ : float
        At least the sine of the angle between v and the top eigenvector of AᴴA (weighted), for any
        order of rows and with every rounding counted; ``inf`` where nothing can be said, which
        is so wherever the top eigenvalue is repeated. It is finite where
        ``||A||_F^2 <= 1.01 lambda_1``.
    explained_variance_ : array of shape (1,)
        Estimate of the largest eigenvalue of AᴴA / n, real; float32 for rows of half precision.
    status_ : str
        "no_growth" where no rate grew more than it would have on isotropic rows, else "ok".
    n_samples_seen_ : int
        Rows of nonzero weight, n.
    frobenius_squared_ : float
        ``||A||_F^2``.

    Notes
    -----
    Vectors and all sums over the stream are float64; products of rows are in the rows' precision
    (half precision in float32, complex rows in complex128). A row takes about 25 d multiply-adds;
    the state is (8 + 4 + 64) d numbers, whatever the length of the stream. Batches of 2¹⁷ entries
    and more use two threads, with the same bits.

    References
    ----------
    E. Price, Z. Xun, "Spectral guarantees for adversarial streaming PCA", FOCS 2024,
    arXiv:2408.10332. E. Liberty, "Simple and deterministic matrix sketching", KDD 2013. The
    certificate is proved in docs/streaming.md.

    Examples
    --------
    >>> import gramian as gm
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> stream = (rng.standard_normal((100, 30)) + 5 * np.eye(30)[0] for _ in range(20))
    >>> top = gm.OjaTopEigenvector(30, rng=0)
    >>> for batch in stream:
    ...     top = top.partial_fit(batch)
    >>> bool(abs(top.components_[0, 0]) > 0.99), top.n_samples_seen_
    (True, 2000)
    """

    def __init__(
        self, n_features: int, *, learning_rate: str | float = "grid", rng: Any = None
    ) -> None:
        self.n_features = n_features
        self.learning_rate = learning_rate
        self.rng = rng

    def _check_parameters(self) -> None:
        checked_size(self.n_features, "n_features")
        if isinstance(self.learning_rate, str):
            if self.learning_rate != "grid":
                raise ValueError(
                    f"learning_rate is {self.learning_rate!r}; it must be 'grid' or a number"
                )
        else:
            checked_number(self.learning_rate, "learning_rate", above=0)

    def _block_rows(self) -> int:
        return int(_BLOCK)

    @property
    def _grid(self) -> bool:
        return isinstance(self.learning_rate, str)

    _dtypes = REAL + COMPLEX

    def _initial(self, seed: int, dtype: str = "float64") -> State:
        d = int(self.n_features)
        vectors = np.zeros((_RATES + _SKETCH, d), dtype)
        start = random_start(seed, (d,), vectors.dtype)
        start /= np.linalg.norm(start)
        vectors[:_RATES] = start
        figures = np.zeros((_RATES, _FIGURES))
        figures[:, _NORM] = np.linalg.norm(start)
        figures[:, _START] = 1
        if not self._grid:
            figures[0, _RATE] = self.learning_rate
        return {"vectors": vectors, "figures": figures, "totals": np.zeros(_TOTALS)}

    def _update(self, state: State, rows: Any, weights: Any) -> None:
        self._go_on(state, rows, weights, math.inf)

    _checks_on_the_way = True

    def _update_unchecked(self, state: State, rows: Any, weights: Any) -> bool:
        # Squares of entries that ask for another unit are beyond 2^98, which float32 still holds.
        return self._go_on(state, rows, weights, 2.0**98)

    def _go_on(self, state: State, rows: Any, weights: Any, limit: float) -> bool:
        vectors, figures, totals = capsules(state)
        return _cpu.oja_update(
            vectors,
            figures,
            totals,
            rows.shape[1],
            self._grid,
            rows.__dlpack__(max_version=(1, 1)),
            rows.dtype.name,
            None if weights is None else np.ascontiguousarray(weights).__dlpack__(),
            limit,
        )

    def _scratch_bytes(self, piece: int) -> int:
        # Sixteen rows with weights or none, for two threads, and those that stand for a block; the
        # rates' vectors in float32, the state while a batch is checked; small matrices.
        d = int(self.n_features)
        return 8 * (4 * _LEAF + _LEAF + 2 * _RATES) * d + 2**17

    def _rescale(self, state: State, shift: int) -> None:
        # Beyond such factors what was seen is nothing beside what comes.
        squares = ldexp(1.0, -max(-1000, min(2 * shift, 1000)))
        state["vectors"][_RATES:] *= ldexp(1.0, -max(-1000, min(shift, 1000)))
        state["figures"][:, [_ENERGY, _SQUARES_BEFORE]] *= squares
        state["totals"][:4] *= squares
        with np.errstate(over="ignore"):
            state["figures"][:, _RATE] /= squares

    def _finish(self, state: State) -> _Results:
        vector = np.empty(int(self.n_features), state["vectors"].dtype)
        certificate, eigenvalue, grew, _ = _cpu.oja_result(
            *capsules(state),
            vector.size,
            self._grid,
            vector.dtype.kind == "c",
            as_doubles(vector),
        )
        if vector.dtype.kind == "c":
            vector = in_phase(vector[None])[0]
            certificate += PHASE_ERROR
        squares = float(state["totals"][_SQUARES])
        exponent = 2 * state["exponent"]
        return _Results(
            vector, certificate, ldexp(eigenvalue, exponent), ldexp(squares, exponent), grew
        )

    # ---- On a GPU -----------------------------------------------------------------------------

    def _on_gpu(self) -> _streaming_gpu.Layout:
        return _streaming_gpu.oja_layout(None if self._grid else float(self.learning_rate))

    def _finish_on_gpu(self, reading: _streaming_gpu.Reading) -> _Results:
        top = _streaming_gpu_proof.top(reading)
        squares = float(reading.totals[_SQUARES])
        return _Results(top.vector, top.certificate, top.eigenvalue, squares, top.grew)

    # ---- Results ------------------------------------------------------------------------------

    @property
    def components_(self) -> Any:
        return self._as_given(self._finished().vector[None])

    @property
    def certificate_(self) -> float:
        results = self._finished()
        assert self._state is not None
        return float(results.certificate + storage_error(self._state["dtype"], self.n_features))

    @property
    def explained_variance_(self) -> Any:
        return self._as_given(
            np.array([self._finished().eigenvalue / max(1, self.n_samples_seen_)]), figures=True
        )

    @property
    def frobenius_squared_(self) -> float:
        return float(self._finished().squares)

    @property
    def status_(self) -> str:
        return "ok" if self._finished().grew else "no_growth"
