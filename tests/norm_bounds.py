"""What the tests of bounds on the spectral norm share: roads, and small matrices of hypothesis."""

from __future__ import annotations

import dataclasses

import gramian as gm
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

METHODS = ("gram", "cholesky", "eigh")
ROADS = (
    *METHODS,
    *(pytest.param(f"gpu-{method}", marks=pytest.mark.gpu) for method in ("gram", "cholesky")),
)
ENTRIES = st.floats(-(2.0**100), 2.0**100, allow_nan=False, width=64)
SMALL = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
                   elements=ENTRIES)  # fmt: skip


def bracket(x, *, method, **options):
    """By a method on the CPU or, as "gpu-...", on a GPU; the results are NumPy's."""
    place, _, method = method.rpartition("-")
    if not place:
        return gm.spectral_norm_bounds(x, method=method, **options)
    import torch

    x = torch.from_numpy(np.array(x)).cuda()
    b = gm.spectral_norm_bounds(x, method=method, check_finite=True, **options)
    arrays = {name: getattr(b, name).cpu().numpy()[()] for name in ("lower", "upper", "converged")}
    return dataclasses.replace(b, **arrays)


def real(dtype):
    return np.dtype(dtype).type(0).real.dtype
