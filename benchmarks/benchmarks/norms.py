"""Everything that computes or bounds the spectral norm, by name.

As in peers.py: an entry takes a NumPy array and returns a function that does the work on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

STEPS = 6


@dataclass(frozen=True)
class Case:
    shape: tuple[int, ...]
    dtype: str


CASES = {
    "1024x1024": Case((1024, 1024), "float32"),
    "1024x1024-float64": Case((1024, 1024), "float64"),
    "2048x512": Case((2048, 512), "float32"),
    "2048x512-float64": Case((2048, 512), "float64"),
    "64x64x64": Case((64, 64, 64), "float32"),
    "64x64x64-float64": Case((64, 64, 64), "float64"),
    "544x64x64-complex64": Case((544, 64, 64), "complex64"),
    "544x64x64-complex128": Case((544, 64, 64), "complex128"),
}


def build(case: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape, dtype = CASES[case].shape, np.dtype(CASES[case].dtype)
    x = rng.standard_normal(shape)
    if dtype.kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def certified(x: np.ndarray) -> Callable[[], object]:
    import gramian as gm

    return lambda: gm.spectral_norm_bounds(x, rtol=1e-6)


def gram_bound(x: np.ndarray) -> Callable[[], object]:
    import gramian as gm

    return lambda: gm.gram_bound(x, STEPS)


def numpy_norm(x: np.ndarray) -> Callable[[], object]:
    return lambda: np.linalg.norm(x, 2, axis=(-2, -1))


def torch_norm(x: np.ndarray) -> Callable[[], object]:
    import torch

    t = torch.from_numpy(x)
    return lambda: torch.linalg.matrix_norm(t, 2)


def torch_gram_iteration(x: np.ndarray) -> Callable[[], object]:
    """Gram iteration from its formula (Delattre et al., ICML 2023), in plain torch."""
    import torch

    t = torch.from_numpy(x)

    def bound() -> object:
        m, log_scale = t, 0.0
        for _ in range(STEPS):
            norm = torch.linalg.matrix_norm(m, keepdim=True)
            m = m / norm
            m = m.mH @ m
            log_scale = 2 * (log_scale + torch.log(norm))
        norm = torch.linalg.matrix_norm(m, keepdim=True)
        return torch.exp((log_scale + torch.log(norm)) * 2.0**-STEPS)

    return bound


NORMS = {"gramian": certified, "numpy": numpy_norm, "torch": torch_norm}
GRAM_BOUNDS = {"gramian": gram_bound, "torch": torch_gram_iteration}
