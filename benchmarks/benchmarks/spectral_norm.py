"""Spectral norms and their bounds beside what else computes them: time and error.

The error is signed, value / sigma_1 - 1, the one of largest magnitude in the batch: of bounds the
upper end is taken, and a negative figure is a bound that does not hold. Only gramian's brackets are
certified; compare times with that and the errors in mind.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

GRAM_STEPS = 6
POWER_STEPS = 100


@dataclass(frozen=True)
class Case:
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def name(self) -> str:
        return "x".join(map(str, self.shape)) + f"-{self.dtype}"


CASES = {
    case.name: case
    for case in (
        Case((1024, 1024)),
        Case((1024, 1024), "float64"),
        Case((2048, 512)),
        Case((2048, 512), "float64"),
        Case((64, 64, 64)),
        Case((64, 64, 64), "float64"),
        Case((544, 64, 64), "complex64"),
        Case((544, 64, 64), "complex128"),
    )
}
# gaussian: independent entries, a crowded top. power-law: sigma_i = i^-1/2, as weights have it.
SPECTRA = ("gaussian", "power-law")


def build(case: str, spectrum: str) -> np.ndarray:
    """The matrix (or batch) of that name, the same one every time."""
    shape, dtype = CASES[case].shape, CASES[case].dtype
    rng = np.random.default_rng(zlib.crc32(f"bounds {case} {spectrum}".encode()))

    def noise(*size):
        x = rng.standard_normal(size)
        return x + 1j * rng.standard_normal(size) if dtype.startswith("complex") else x

    if spectrum == "gaussian":
        return noise(*shape).astype(dtype)
    *batch, m, n = shape
    side = min(m, n)
    u = np.linalg.qr(noise(*batch, m, side)).Q
    v = np.linalg.qr(noise(*batch, n, side)).Q
    sigma = np.arange(1.0, side + 1) ** -0.5
    return ((u * sigma) @ v.conj().mT).astype(dtype)


def largest(x: np.ndarray) -> np.ndarray:
    """The largest singular values, in double precision."""
    wide = np.complex128 if x.dtype.kind == "c" else np.float64
    return np.linalg.svd(x.astype(wide), compute_uv=False)[..., 0]


# ---- Implementations: each takes a NumPy array and returns a function that does the work --------


def gramian_gram_bound(x, steps=GRAM_STEPS):
    import gramian as gm

    return lambda: gm.gram_bound(x, steps)


def gramian_bounds(x, rtol=1e-6):
    import gramian as gm

    return lambda: gm.spectral_norm_bounds(x, rtol=rtol).upper


def gramian_norm(x):
    import gramian as gm

    return lambda: gm.spectral_norm(x)


def gram_iteration(t, steps=GRAM_STEPS):
    """Gram iteration of a torch tensor from its formula, in the tensor's own precision.

    Delattre et al., "Efficient Bound of Lipschitz Constant for Convolutional Layers by Gram
    Iteration", ICML 2023: rescaled by the Frobenius norm, whose logarithm is carried along.
    """
    import torch

    y = t.mH if t.shape[-2] > t.shape[-1] else t
    log = torch.zeros(t.shape[:-2], dtype=torch.float64, device=t.device)
    for _ in range(steps):
        norm = torch.linalg.matrix_norm(y, keepdim=True)
        y = y / norm
        y = y @ y.mH
        log = 2 * (log + norm[..., 0, 0].double().log())
    log = log + torch.linalg.matrix_norm(y).double().log()
    return (log / 2**steps).exp()


def torch_gram_iteration(x, steps=GRAM_STEPS):
    import torch

    t = torch.from_numpy(x)
    return lambda: gram_iteration(t, steps)


def torch_power_iteration(x, steps=POWER_STEPS):
    """Products with x and as many with its adjoint, from a random vector: an estimate."""
    import torch

    t = torch.from_numpy(x)
    start = torch.randn(*t.shape[:-2], t.shape[-1], 1, dtype=t.dtype,
                        generator=torch.Generator().manual_seed(0))  # fmt: skip

    def estimate():
        v = start
        for _ in range(steps):
            v = t.mH @ (t @ v)
            v = v / torch.linalg.vector_norm(v, dim=-2, keepdim=True)
        return torch.linalg.vector_norm(t @ v, dim=(-2, -1))

    return estimate


def numpy_norm(x):
    return lambda: np.linalg.norm(x, 2, axis=(-2, -1))


def torch_norm(x):
    import torch

    t = torch.from_numpy(x)
    return lambda: torch.linalg.matrix_norm(t, ord=2)


IMPLEMENTATIONS = {
    "gramian.gram_bound": gramian_gram_bound,
    "gramian.spectral_norm_bounds": gramian_bounds,
    "gramian.spectral_norm": gramian_norm,
    "torch-gram-iteration": torch_gram_iteration,
    "torch-power-iteration": torch_power_iteration,
    "numpy-norm": numpy_norm,
    "torch-norm": torch_norm,
}


def signed_error(value, truth: np.ndarray) -> float:
    """value / truth - 1 where it is of largest magnitude."""
    error = np.ravel(np.asarray(value, dtype=np.float64) / truth - 1)
    return float(f"{error[np.argmax(np.abs(error))]:.4g}")


class SpectralNorm:
    params = (list(CASES), list(SPECTRA), list(IMPLEMENTATIONS))
    param_names = ("case", "spectrum", "implementation")
    timeout = 600
    repeat = (3, 10, 5.0)
    warmup_time = 0.2

    def setup_cache(self):
        return {(c, s): largest(build(c, s)) for c in CASES for s in SPECTRA}

    def setup(self, truth, case, spectrum, implementation):
        self.call = IMPLEMENTATIONS[implementation](build(case, spectrum))

    def time_spectral_norm(self, truth, case, spectrum, implementation):
        self.call()

    time_spectral_norm.pretty_name = "spectral norm and bounds: time"

    def peakmem_spectral_norm(self, truth, case, spectrum, implementation):
        self.call()

    peakmem_spectral_norm.pretty_name = "spectral norm and bounds: peak memory"

    def track_error(self, truth, case, spectrum, implementation):
        return signed_error(self.call(), truth[case, spectrum])

    track_error.pretty_name = "spectral norm and bounds: excess"
    track_error.unit = "value / sigma_1 - 1"
