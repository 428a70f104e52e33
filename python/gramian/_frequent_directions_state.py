"""The memory of a Frequent Directions sketch on the CPU, and what is made of its figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays, _cpu
from ._rsvd_rows import entries
from ._streaming_batch import wide_name
from ._streaming_gpu_batch import cast

if TYPE_CHECKING:
    from ._streaming_base import State

# Places in SketchFigures, cpp/include/gramian/frequent_directions.hpp, that Python looks at.
FILLED, EXPONENT, DELTA, SQUARES, SQUARES_LOW, SPARED = 2, 3, 4, 6, 7, 12


def sketch_state(features: int, size: int, center: bool, dtype: str) -> State:
    """The memory of an empty sketch of rows of float64 or complex128."""
    held = _cpu.sketch_capacity(size)
    state: State = {
        "rows": np.zeros((held, features), dtype),
        "stamps": np.zeros(held),
        "figures": np.zeros(_cpu.SKETCH_FIGURES),
    }
    return state | {"mean": np.zeros(features, dtype)} if center else state


def open_sketch(state: State) -> _cpu.Sketch:
    """The kernels' view of that memory."""
    mean = state.get("mean")
    return _cpu.Sketch(
        state["rows"].__dlpack__(),
        state["stamps"].__dlpack__(),
        state["figures"].__dlpack__(),
        None if mean is None else mean.__dlpack__(),
        state["rows"].dtype.name,
    )


def update_sketch(state: State, decay: float, rows: Any, weights: Any) -> None:
    """Adds checked rows of float32 or float64, or of complex64 or complex128."""
    open_sketch(state).update(
        decay,
        rows.__dlpack__(max_version=(1, 1)),
        rows.dtype.name,
        None if weights is None else np.ascontiguousarray(weights).__dlpack__(),
    )


def eigen_bytes(rows: int, features: int) -> int:
    """What eigenvalues and eigenvectors of the Gram matrix of so many rows take at most.

    Matrices of that order, with LAPACK's memory, and a packed block of the product.
    """
    return 8 * (11 * (rows + 8) ** 2 // 2 + (rows + 32) * min(features, 512)) + 2**14


def rescale_sketch(state: State, shift: int) -> None:
    """What is held is to be multiplied by 2^-shift; an empty sketch has no unit yet."""
    if state["figures"][SQUARES] > 0 or ("mean" in state and state["mean"].any()):
        state["figures"][EXPONENT] -= shift


def eigenvalues(values: Any, figures: Any) -> Any:
    """Estimates of the eigenvalues of A^H A from those of B^H B.

    They are between mu and mu + Delta. Directions that stand out have lost all of Delta but what
    shrinkings have spared them, as far as the energy of all rows goes.
    """
    estimates = np.array(values)
    left = float(figures[SQUARES])
    lost = max(0.0, float(figures[DELTA] - figures[SPARED]))
    for i, value in enumerate(values):
        estimates[i] = max(value, min(value + lost, left))
        left -= estimates[i]
    return np.minimum.accumulate(estimates)


def rounded_up(value: float, exponent: int) -> float:
    """value * 2^exponent, or the next number above it where that is not exact; no OverflowError."""
    try:
        result = math.ldexp(value, exponent)
    except OverflowError:
        return math.inf
    return math.nextafter(result, math.inf) if value > 0 and result < 1e-290 else result


def power(value: float, exponent: int) -> float:
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def times_power(values: Any, exponent: int) -> Any:
    """NumPy's numbers in double precision times 2^exponent, real or complex."""
    if values.dtype.kind == "c":
        return np.ldexp(np.ascontiguousarray(values).view(np.float64), exponent).view(values.dtype)
    return np.ldexp(values, exponent)


def wide(values: Any) -> Any:
    """An array of the caller's library in double precision, on the host."""
    array = _arrays.array(values, "values")
    if array.device[0] == "cpu":
        return entries(array).astype(wide_name(array.dtype), copy=False)
    with array.library.current(array.device):
        return array.library.to_host(cast(array, values, "float64"))


def rounding_of(exact: Any, given: Any) -> float:
    """Bound on what rounding the sketch to the caller's precision does to B^H B."""
    with np.errstate(over="ignore", invalid="ignore"):
        off = float(np.linalg.norm(given - exact)) * (1 + 1e-6)
        if off == 0:
            return 0.0
        if not math.isfinite(off):
            return math.inf  # rows of B beyond the caller's largest number
        size = float(np.linalg.norm(exact)) * (1 + 1e-6)
        return off * (2 * size + off)
