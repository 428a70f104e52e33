"""Functions of singular values of arrays on a GPU."""

from __future__ import annotations

import numpy as np

from . import _arrays, _backend

Reports = list[tuple[str, int, int, float, bool]]

# As gramian/cuda/polar.hpp numbers them; what is 0 for the polar factor is 3 for clipping.
_METHODS = ("zero", "polynomial", "svd", "unchanged")


def on_gpu(checked: _arrays.Array) -> bool:
    return checked.device != _arrays.CPU


def check_svd(checked: _arrays.Array) -> None:
    """Raises NotImplementedError where no SVD is computed."""
    backend = _backend.for_device(checked.device)
    if not backend.polar_by_svd(checked.capsule(), checked.dtype, checked.device[1]):
        rows, cols = checked.shape[-2:]
        raise NotImplementedError(
            f"method is 'svd'; on a GPU it is for up to 64 rows or columns that fit into a block's "
            f"shared memory, not for matrices of {rows}x{cols}"
        )


def call(
    kind: str,
    checked: _arrays.Array,
    result: _arrays.Array,
    default_tolerance: float,
    *,
    hermitian: _arrays.Array | None = None,
    right: bool = True,
    tolerance: float = 0.0,
    bound: float = 0.0,
    finite: bool = False,
    report: bool = False,
) -> Reports | None:
    """Queues the work; with a tolerance or `report` it waits for the figures.

    Without them nothing can be raised: a matrix that has not converged becomes NaN.
    """
    backend = _backend.for_device(checked.device)
    batch = int(np.prod(checked.shape[:-2], dtype=np.int64))
    asked = report or tolerance > 0
    figures = checked.empty_like((batch, 5), "float64") if asked else None
    if hermitian is not None and 0 in checked.shape:
        with hermitian.library.current(hermitian.device):
            hermitian.value[...] = 0
    backend.polar(
        kind,
        checked.capsule(),
        result.capsule(),
        hermitian and hermitian.capsule(),
        checked.dtype,
        right,
        tolerance,
        bound,
        not asked,
        finite,
        figures and figures.capsule(),
        checked.device[1],
        checked.stream(),
        checked.scratch,
    )
    if figures is None:
        return None
    allowed = tolerance or default_tolerance
    # Half precision is judged before it is rounded, as on the CPU.
    judged = 4 if checked.dtype in ("float16", "bfloat16") else 3
    return [
        (_METHODS[int(row[0])], int(row[1]), int(row[2]), float(row[3]), not row[judged] > allowed)
        for row in figures.host()
    ]
