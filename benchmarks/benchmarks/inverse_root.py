"""inverse_root and sqrt_psd beside eigenvectors and the plain coupled iteration: time and error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CASES = {
    "512x32x32-float32": ((512, 32), "float32"),
    "64x128x128-float32": ((64, 128), "float32"),
    "256x256-float32": ((256,), "float32"),
    "1024x1024-float32": ((1024,), "float32"),
    "512x32x32-float64": ((512, 32), "float64"),
    "64x128x128-float64": ((64, 128), "float64"),
    "512x512-float64": ((512,), "float64"),
}
ROOTS = (1, 2, 4)
# Gram matrices of twice as many Gaussian samples as dimensions, and of as many, made definite.
SPECTRA = {"well-conditioned": (2.0, 0.0), "ridge-1e-4": (1.0, 1e-4)}


def matrices(case: str, spectrum: str) -> tuple[np.ndarray, float]:
    (*batch, n), dtype = CASES[case]
    samples, ridge = SPECTRA[spectrum]
    count = int(samples * n)
    g = np.random.default_rng(0).standard_normal((*batch, n, count))
    return (g @ g.swapaxes(-1, -2) / count).astype(dtype), ridge


def gramian(a: np.ndarray, p: int, ridge: float) -> Callable[[], np.ndarray]:
    import gramian as gm

    return lambda: gm.inverse_root(a, p, ridge=ridge)


def numpy_eigh(a: np.ndarray, p: int, ridge: float) -> Callable[[], np.ndarray]:
    def call():
        w, v = np.linalg.eigh(a)
        powers = (w + ridge * w[..., -1:]) ** (-1 / p)
        return (v * powers.astype(a.dtype)[..., None, :]) @ v.swapaxes(-1, -2)

    return call


def torch_eigh(a: np.ndarray, p: int, ridge: float) -> Callable[[], np.ndarray]:
    import torch

    t = torch.from_numpy(a)

    def call():
        w, v = torch.linalg.eigh(t)
        powers = (w + ridge * w[..., -1:]) ** (-1 / p)
        return (v * powers[..., None, :]) @ v.mT

    return call


def torch_newton(a: np.ndarray, p: int, ridge: float) -> Callable[[], np.ndarray]:
    """Guo and Higham's coupled iteration as it stands, for the whole batch until all are done.

    lambda_1 by 30 steps of the power method, as optimizers do.
    """
    import torch

    t = torch.from_numpy(a)
    identity = torch.eye(a.shape[-1], dtype=t.dtype)
    # e falls to its square in a step, until rounding, which kappa amplifies, stops it.
    small = 1e-4 if t.dtype == torch.float32 else 1e-11

    def call():
        v = torch.ones(*t.shape[:-1], 1, dtype=t.dtype)
        for _ in range(30):
            v = t @ v
            v = v / torch.linalg.vector_norm(v, dim=-2, keepdim=True)
        top = (v.mT @ t @ v).squeeze(-1).squeeze(-1)
        b = t + (ridge * top)[..., None, None] * identity
        z = (1 + p) / (2 * torch.linalg.matrix_norm(b))[..., None, None]
        m, x = b * z, identity * z ** (1 / p)
        last = float("inf")
        for _ in range(100):
            step = ((p + 1) * identity - m) / p
            x = x @ step
            m = torch.linalg.matrix_power(step, p) @ m
            error = float((m - identity).abs().max())
            if error < small or (error < 0.1 and error > last):
                break
            last = error
        return x

    return call


IMPLEMENTATIONS = {
    "gramian": gramian,
    "numpy-eigh": numpy_eigh,
    "torch-eigh": torch_eigh,
    "torch-newton": torch_newton,
}


def prepared(case: str, p: int, spectrum: str, implementation: str):
    a, ridge = matrices(case, spectrum)
    try:
        return a, ridge, IMPLEMENTATIONS[implementation](a, p, ridge)
    except ImportError as missing:
        raise NotImplementedError(f"{implementation} needs torch") from missing


class InverseRoot:
    params = (list(CASES), list(ROOTS), list(SPECTRA), list(IMPLEMENTATIONS))
    param_names = ("case", "p", "spectrum", "implementation")
    timeout = 600
    repeat = (3, 10, 5.0)
    warmup_time = 0.2

    def setup(self, case, p, spectrum, implementation):
        _, _, self.call = prepared(case, p, spectrum, implementation)

    def time_inverse_root(self, case, p, spectrum, implementation):
        self.call()

    time_inverse_root.pretty_name = "inverse_root: time"

    def peakmem_inverse_root(self, case, p, spectrum, implementation):
        self.call()

    peakmem_inverse_root.pretty_name = "inverse_root: peak memory"


class InverseRootError:
    """Worst of the batch, relative to eigenvectors in float64, in the spectral norm."""

    params = InverseRoot.params
    param_names = InverseRoot.param_names
    timeout = 600

    def setup(self, case, p, spectrum, implementation):
        a, ridge, self.call = prepared(case, p, spectrum, implementation)
        self.truth = numpy_eigh(a.astype(np.float64), p, ridge)()

    def track_error(self, case, p, spectrum, implementation):
        error = np.asarray(self.call()).astype(np.float64) - self.truth
        sizes = np.linalg.norm(error, 2, (-2, -1)) / np.linalg.norm(self.truth, 2, (-2, -1))
        return float(f"{np.max(sizes):.4g}")

    track_error.pretty_name = "inverse_root: error"
    track_error.unit = "relative error"


def square_roots_by_gramian(a: np.ndarray):
    import gramian as gm

    return lambda: gm.sqrt_psd(a)


def square_roots_by_numpy(a: np.ndarray):
    def both():
        w, v = np.linalg.eigh(a)
        return [(v * (w**power)[..., None, :]) @ v.swapaxes(-1, -2) for power in (0.5, -0.5)]

    return both


def square_roots_by_torch(a: np.ndarray):
    try:
        import torch
    except ImportError as missing:
        raise NotImplementedError("torch is not installed") from missing
    t = torch.from_numpy(a)

    def both():
        w, v = torch.linalg.eigh(t)
        return [(v * (w**power)[..., None, :]) @ v.mT for power in (0.5, -0.5)]

    return both


SQUARE_ROOTS = {
    "gramian": square_roots_by_gramian,
    "numpy-eigh": square_roots_by_numpy,
    "torch-eigh": square_roots_by_torch,
}


class SqrtPsd:
    """Both roots at once."""

    params = (list(CASES), list(SQUARE_ROOTS))
    param_names = ("case", "implementation")
    timeout = 600

    def setup(self, case, implementation):
        self.a, _ = matrices(case, "well-conditioned")
        self.call = SQUARE_ROOTS[implementation](self.a)

    def time_sqrt_psd(self, case, implementation):
        self.call()

    time_sqrt_psd.pretty_name = "sqrt_psd: time"

    def track_error(self, case, implementation):
        """The larger of both roots' errors, against eigenvectors in float64."""
        truth = square_roots_by_numpy(self.a.astype(np.float64))()
        errors = [
            np.linalg.norm(np.asarray(x).astype(np.float64) - t) / np.linalg.norm(t)
            for x, t in zip(self.call(), truth, strict=True)
        ]
        return float(f"{max(errors):.3g}")

    track_error.pretty_name = "sqrt_psd: error"
    track_error.unit = "relative error"
