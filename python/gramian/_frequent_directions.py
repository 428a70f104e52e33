"""Frequent Directions: a mergeable sketch of a stream of rows, with its error bound."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import _arrays, _cpu, _streaming_gpu, _streaming_gpu_sketch
from ._frequent_directions_state import (
    EXPONENT,
    FILLED,
    SQUARES,
    SQUARES_LOW,
    eigen_bytes,
    eigenvalues,
    open_sketch,
    power,
    rescale_sketch,
    rounded_up,
    rounding_of,
    sketch_state,
    times_power,
    update_sketch,
    wide,
)
from ._streaming_base import State, copied
from ._streaming_batch import COMPLEX, Batch, checked_number, checked_size, wide_name
from ._streaming_params import same
from ._streaming_rows import RowByRowEstimator


class Reading(NamedTuple):
    """What a stream has come to."""

    components: Any
    explained_variance: Any
    certificate: float
    frobenius_squared: float
    sketch: Any
    covariance_error_bound: float
    mean: Any


class FrequentDirections(RowByRowEstimator):
    r"""A few rows B that stand for all rows A of a stream, with a bound on the error.

    :math:`0 \preceq A^H A - B^H B \preceq \Delta I` with
    :math:`\Delta \le \|A - A_k\|_F^2 / (\ell + 1 - k)` for every :math:`k \le \ell` [1]_ [2]_, for
    rows in any order, real or complex. Sketches of parts of a stream merge in any tree. Computed in
    float64 or complex128.

    Parameters
    ----------
    n_features : int
        Width d of a row.
    sketch_size : int
        Rows :math:`\ell` of the sketch; up to three times as many are held between readings.
    decay : float, default 1.0
        In (0, 1]. Each row turns :math:`A^H A` into :math:`\mathrm{decay} \cdot A^H A + x^H x`.
    center : bool, default False
        Whether the mean of the rows is taken off, as if it had been known from the start.

    Attributes
    ----------
    sketch_ : array of shape (sketch_size, n_features)
        B, shrunk; zeros where it needs fewer rows.
    covariance_error_bound_ : float
        Upper bound on :math:`\|A^H A - B^H B\|_2` for this `sketch_`, rounding included.
    components_ : array of shape (min(sketch_size, n_features), n_features)
        Orthonormal rows :math:`v^H`, v the right singular vectors of the rows held, the largest
        entry of each real and positive: X is near ``X @ components_.conj().T @ components_``.
    explained_variance_ : array of shape (min(sketch_size, n_features),)
        Estimates of the eigenvalues of :math:`A^H A` over `n_samples_seen_` (centred: less 1): off
        by at most `covariance_error_bound_`, exact where nothing was shrunk, and close for
        directions that stand out. float32 for rows of half precision.
    certificate_ : float
        Upper bound on the sine of the angle between ``components_[0]`` and :math:`v^H`, v the top
        eigenvector of :math:`A^H A`, proved with all rounding; inf where nothing is proved.
    frobenius_squared_ : float
        :math:`\|A\|_F^2`, weighted, decayed and centred as the rows.
    mean_ : array of shape (n_features,)
        With `center` only. float32 for rows of half precision.
    n_samples_seen_ : int
        Rows of nonzero weight.
    status_ : str
        ``"ok"``.

    Notes
    -----
    About :math:`8 \ell d` floating-point operations a row, and an eigenvalue problem of order
    :math:`3\ell` every :math:`2\ell` rows. The bits of a result do not depend on how rows are cut
    into calls. On a GPU, which takes real rows and `sketch_size` up to 128, that holds without
    weights, `decay` and `center`, else up to rounding; `partial_fit` and `merge` wait for nothing
    there.
    Proofs: docs/streaming_frequent_directions.md.

    References
    ----------
    .. [1] Liberty, "Simple and Deterministic Matrix Sketching", KDD 2013.
    .. [2] Ghashami, Liberty, Phillips, Woodruff, "Frequent Directions: Simple and Deterministic
       Matrix Sketching", SIAM Journal on Computing 45, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> rng = np.random.default_rng(0)
    >>> a = rng.standard_normal((2000, 20)) * np.array([10.0] + 19 * [1.0])
    >>> halves = [gm.FrequentDirections(20, 8).partial_fit(part) for part in np.split(a, 2)]
    >>> merged = halves[0].merge(halves[1])
    >>> b = merged.sketch_
    >>> bool(np.linalg.norm(a.T @ a - b.T @ b, 2) <= merged.covariance_error_bound_)
    True
    >>> merged.certificate_ < 0.05
    True
    """

    def __init__(
        self, n_features: int, sketch_size: int, *, decay: float = 1.0, center: bool = False
    ) -> None:
        self.n_features = n_features
        self.sketch_size = sketch_size
        self.decay = decay
        self.center = center

    rng = None  # nothing here is random

    def _check_parameters(self) -> None:
        checked_size(self.n_features, "n_features")
        checked_size(self.sketch_size, "sketch_size")
        checked_number(self.decay, "decay", above=0, most=1)
        if not isinstance(self.center, bool | np.bool_):
            raise TypeError(f"center is {self.center!r}; it must be a bool")

    def _initial(self, seed: int, dtype: str = "float64") -> State:
        return sketch_state(
            checked_size(self.n_features, "n_features"),
            checked_size(self.sketch_size, "sketch_size"),
            bool(self.center),
            dtype,
        )

    def _update(self, state: State, rows: Any, weights: Any) -> None:
        update_sketch(state, float(self.decay), rows, weights)

    def _rescale(self, state: State, shift: int) -> None:
        rescale_sketch(state, shift)

    def _fit_on_gpu(self, x: Any, sample_weight: Any) -> State:
        return _streaming_gpu_sketch.fit(self, x, sample_weight)

    def _read_on_gpu(self) -> Reading:
        state = _streaming_gpu_sketch.host_state(self)
        if state is not None:
            return self._finish(state)
        d, size = self.n_features, self.sketch_size
        count = min(size, d)
        shapes = ((count, d), (count,), (size, d))
        vectors, values, rows = (
            self._as_given(np.full(shape, np.nan), figures=len(shape) == 1) for shape in shapes
        )
        mean = self._as_given(np.full(d, np.nan), figures=True) if self.center else None
        return Reading(vectors, values, np.inf, np.nan, rows, np.inf, mean)

    def _gpu_bytes(self, batch: int) -> int:
        return _streaming_gpu_sketch.nbytes_bound(
            self.n_features, self.sketch_size, batch, bool(self.center)
        )

    def _finish(self, state: State) -> Reading:
        decay = float(self.decay)
        d = state["rows"].shape[1]
        size = checked_size(self.sketch_size, "sketch_size")
        count = min(size, d)
        sketch = open_sketch(state)
        sketch.settle(decay)
        unit = int(state["figures"][EXPONENT]) + state["exponent"]
        values, vectors = np.zeros(count), np.zeros((count, d), state["rows"].dtype)
        sketch.spectrum(values.__dlpack__(), vectors.__dlpack__())
        components = self._as_given(vectors)
        # The vector as it is handed out, rounded to the caller's precision.
        first = np.array(wide(components)[0])
        certificate = sketch.certificate(first.__dlpack__())
        squares = float(state["figures"][SQUARES] + state["figures"][SQUARES_LOW])
        frobenius = power(squares, 2 * unit)
        values = eigenvalues(values, state["figures"])
        rows = int(state["n_samples"]) - bool(self.center)
        with np.errstate(over="ignore"):
            variance = np.ldexp(values / rows if rows else values, 2 * unit)
            variance = self._as_given(variance, figures=True)
        sketch.shrink(decay)
        unit = int(state["figures"][EXPONENT]) + state["exponent"]
        error = rounded_up(sketch.error(), 2 * unit)
        held = times_power(state["rows"][:size], unit)
        held[int(state["figures"][FILLED]) :] = 0
        given = self._as_given(held)
        error += rounding_of(held, wide(given))
        mean = None
        if self.center:
            mean = self._as_given(times_power(state["mean"], unit), figures=True)
        return Reading(components, variance, certificate, frobenius, given, error, mean)

    def merge(self, other: FrequentDirections) -> FrequentDirections:
        r"""A new sketch of this one's rows followed by the other's.

        Parameters
        ----------
        other : FrequentDirections
            Of the same width, decay and centering, of rows of the same dtype and library; it may be
            of another sketch size, and have seen no rows.

        Returns
        -------
        FrequentDirections
            With this one's parameters. Its bounds hold for all rows; neither argument is changed.

        Raises
        ------
        TypeError
            `other` is no FrequentDirections, or of rows of another dtype or library.
        ValueError
            `other` has another `n_features`, `decay` or `center`.

        Notes
        -----
        :math:`O(\ell^2 d)` floating-point operations. What is taken from the directions,
        :math:`\Delta`, adds up: after any tree of merges
        :math:`\Delta \le \|A - A_k\|_F^2 / (\ell + 1 - k)` still, :math:`\ell` the smallest sketch.
        """
        if not isinstance(other, FrequentDirections):
            raise TypeError(f"other is a {type(other).__name__}; it must be a FrequentDirections")
        for one in (self, other):
            one._check_parameters()
            one._check_whole()
        for name in ("n_features", "decay", "center"):
            mine, its = getattr(self, name), getattr(other, name)
            if not same(mine, its):
                raise ValueError(f"other has {name}={its!r}; here it is {mine!r}")
        merged = type(self)(**self.get_params())
        if _streaming_gpu.is_here(self._state) or _streaming_gpu.is_here(other._state):
            merged._state = _streaming_gpu_sketch.merged(self, other)
            return merged
        if other._state is None:
            merged._state = None if self._state is None else copied(self._state)
            return merged
        theirs = copied(other._state)
        mine = self._state
        if mine is None:
            mine = {k: v for k, v in theirs.items() if not isinstance(v, np.ndarray)}
            mine |= {k: theirs[k].copy() for k in ("pending", "pending_weights")}
            mine |= self._initial(0, wide_name(theirs["dtype"]))
            mine["n_samples"] = 0
        else:
            for name in ("dtype", "library"):
                if mine[name] != theirs[name]:
                    raise TypeError(
                        f"other is of rows of {theirs['library']} and {theirs['dtype']}; here they "
                        f"are of {mine['library']} and {mine['dtype']}"
                    )
            mine = copied(mine)
        if not mine["any"]:
            mine["exponent"] = theirs["exponent"]
        theirs["figures"][EXPONENT] += theirs["exponent"] - mine["exponent"]
        open_sketch(mine).merge(float(self.decay), open_sketch(theirs))
        mine["n_samples"] += theirs["n_samples"]
        mine["any"] = mine["any"] or theirs["any"]
        merged._state = mine
        return merged

    def transform(self, X: Any) -> Any:
        """Coordinates of rows along `components_`: ``X @ components_.conj().T``.

        The mean is taken off first with `center`.

        Parameters
        ----------
        X : array or scipy CSR matrix of shape (rows, n_features)

        Returns
        -------
        array of shape (rows, k)
            Of X's library and dtype; complex where X or the rows seen are.
        """
        reading = self._finished()
        basis = wide(reading.components)
        if self._state is not None and _streaming_gpu.is_here(self._state):
            mean = None if reading.mean is None else wide(reading.mean)
            return _streaming_gpu.transform(self._state, X, basis, mean)
        batch = Batch(X, None, basis.shape[1], self._dtypes)
        mean = 0.0 if reading.mean is None else wide(reading.mean)
        parts = [(rows - mean) @ basis.conj().T for rows, _, _ in batch.pieces()]
        library = next(k for k in _arrays.LIBRARIES if k.name == batch.library)
        dtype = batch.dtype
        if basis.dtype.kind == "c" and dtype not in COMPLEX:
            dtype = "complex128" if dtype == "float64" else "complex64"
        return library.from_numpy(np.concatenate(parts), dtype)

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """``fit(X)``, then ``transform(X)``."""
        return self.fit(X, y, sample_weight).transform(X)

    def _scratch_bytes(self, piece: int) -> int:
        # A copy of the other sketch when merging; bases and their factorizations when reading;
        # matrices of the order of the rows held, with LAPACK's memory; packed products.
        d = checked_size(self.n_features, "n_features")
        size = checked_size(self.sketch_size, "sketch_size")
        return 88 * d * size + eigen_bytes(_cpu.sketch_capacity(size), d)

    @property
    def sketch_(self) -> Any:
        """B, shrunk."""
        return self._finished().sketch

    @property
    def covariance_error_bound_(self) -> float:
        """Bound on the spectral norm of A^H A - B^H B."""
        return float(self._finished().covariance_error_bound)

    @property
    def mean_(self) -> Any:
        """Mean of the rows, weighted and decayed as they are."""
        mean = self._finished().mean
        if mean is None:
            raise AttributeError("there is no mean_: center is False")
        return mean
