"""polar, matrix_sign and spectral_clip beside scipy's and NumPy's: time, and error against float64.

Each entry of IMPLEMENTATIONS takes an array and returns a function without arguments.
"""

from __future__ import annotations

import numpy as np

SHAPES = {
    "512x512": (512, 512),
    "256x1024": (256, 1024),
    "1024x256": (1024, 256),
    "64x128x128": (64, 128, 128),
    "512x32x32": (512, 32, 32),
}
CONDITIONS = ("gaussian", "1e3", "1e6", "1e12")


def build(shape: str, condition: str, dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(SHAPES[shape])
    if condition != "gaussian":
        u, s, vh = np.linalg.svd(x, full_matrices=False)
        x = (u * np.geomspace(1, 1 / float(condition), s.shape[-1])) @ vh
    return x.astype(dtype)


def by_svd(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return u @ vh, (vh.mT * s[..., None, :]) @ vh


def gramian(x):
    import gramian as gm

    return lambda: gm.polar(x)


def scipy(x):
    from scipy import linalg

    if x.ndim == 2:
        return lambda: linalg.polar(x)
    return lambda: [linalg.polar(one) for one in x]


def torch_svd(x):
    try:
        import torch
    except ImportError as missing:
        raise NotImplementedError("torch is not installed") from missing
    t = torch.from_numpy(x)

    def call():
        u, s, vh = torch.linalg.svd(t, full_matrices=False)
        return u @ vh, (vh.mT * s[..., None, :]) @ vh

    return call


IMPLEMENTATIONS = {
    "gramian": gramian,
    "scipy": scipy,
    "numpy-svd": lambda x: lambda: by_svd(x),
    "torch-svd": torch_svd,
}


class Polar:
    params = (list(SHAPES), ["float32", "float64"], list(CONDITIONS), list(IMPLEMENTATIONS))
    param_names = ("shape", "dtype", "condition", "implementation")
    timeout = 600

    def setup(self, shape, dtype, condition, implementation):
        if dtype == "float32" and condition in ("1e6", "1e12"):
            raise NotImplementedError("below the cutoff of float32")
        self.x = build(shape, condition, dtype)
        self.call = IMPLEMENTATIONS[implementation](self.x)

    def time_polar(self, shape, dtype, condition, implementation):
        self.call()

    time_polar.pretty_name = "polar: time"

    def track_product_error(self, shape, dtype, condition, implementation):
        """||x - u p||_F / ||x||_F."""
        result = self.call()
        pairs = [result] if isinstance(result, tuple) else result
        u, p = (
            np.stack([np.asarray(one) for one in each]).astype(np.float64)
            for each in zip(*pairs, strict=True)
        )
        x = self.x.astype(np.float64).reshape(u.shape)
        return float(f"{np.linalg.norm(x - u @ p) / np.linalg.norm(x):.3g}")

    track_product_error.pretty_name = "polar: error of the product"
    track_product_error.unit = "relative error"


def clip_values(s, c: float, kind: str):
    return np.minimum(s, c) if kind == "hard" else s / np.hypot(1, s / c)


def clip_by_gramian(x, c: float, kind: str):
    import gramian as gm

    return lambda: gm.spectral_clip(x, c, kind=kind)


def clip_by_numpy(x, c: float, kind: str):
    def call():
        u, s, vh = np.linalg.svd(x, full_matrices=False)
        return (u * clip_values(s, c, kind)[..., None, :]) @ vh

    return call


def clip_by_torch(x, c: float, kind: str):
    try:
        import torch
    except ImportError as missing:
        raise NotImplementedError("torch is not installed") from missing
    t = torch.from_numpy(x)

    def call():
        u, s, vh = torch.linalg.svd(t, full_matrices=False)
        f = s.clamp(max=c) if kind == "hard" else s / (1 + (s / c) ** 2).sqrt()
        return (u * f[..., None, :]) @ vh

    return call


CLIPS = {"gramian": clip_by_gramian, "numpy-svd": clip_by_numpy, "torch-svd": clip_by_torch}


def relative_error(result, truth: np.ndarray) -> float:
    """Of a whole batch, in the Frobenius norm."""
    difference = np.asarray(result).astype(np.float64) - truth
    return float(f"{np.linalg.norm(difference) / np.linalg.norm(truth):.3g}")


class SpectralClip:
    """To half the largest singular value of the first matrix; error against float64."""

    params = (list(SHAPES), ["float32", "float64"], ["hard", "soft"], list(CLIPS))
    param_names = ("shape", "dtype", "kind", "implementation")
    timeout = 600

    def setup(self, shape, dtype, kind, implementation):
        self.x = build(shape, "gaussian", dtype)
        first = self.x.reshape(-1, *self.x.shape[-2:])[0]
        self.c = 0.5 * float(np.linalg.norm(first, 2))
        self.call = CLIPS[implementation](self.x, self.c, kind)

    def time_spectral_clip(self, shape, dtype, kind, implementation):
        self.call()

    time_spectral_clip.pretty_name = "spectral_clip: time"

    def track_error(self, shape, dtype, kind, implementation):
        truth = clip_by_numpy(self.x.astype(np.float64), self.c, kind)()
        return relative_error(self.call(), truth)

    track_error.pretty_name = "spectral_clip: error"
    track_error.unit = "relative error"


def sign_by_gramian(a):
    import gramian as gm

    return lambda: gm.matrix_sign(a)


def sign_by_numpy(a):
    def call():
        w, v = np.linalg.eigh(a)
        return (v * np.sign(w)[..., None, :]) @ v.mT

    return call


def sign_by_torch(a):
    try:
        import torch
    except ImportError as missing:
        raise NotImplementedError("torch is not installed") from missing
    t = torch.from_numpy(a)

    def call():
        w, v = torch.linalg.eigh(t)
        return (v * w.sign()[..., None, :]) @ v.mT

    return call


SIGNS = {"gramian": sign_by_gramian, "numpy-eigh": sign_by_numpy, "torch-eigh": sign_by_torch}


class MatrixSign:
    """Of symmetrized Gaussian matrices; error against eigenvectors in float64."""

    params = (["512x512", "64x128x128", "512x32x32"], ["float32", "float64"], list(SIGNS))
    param_names = ("shape", "dtype", "implementation")
    timeout = 600

    def setup(self, shape, dtype, implementation):
        x = build(shape, "gaussian", "float64")
        self.a = (x + x.mT).astype(dtype)
        self.call = SIGNS[implementation](self.a)

    def time_matrix_sign(self, shape, dtype, implementation):
        self.call()

    time_matrix_sign.pretty_name = "matrix_sign: time"

    def track_error(self, shape, dtype, implementation):
        return relative_error(self.call(), sign_by_numpy(self.a.astype(np.float64))())

    track_error.pretty_name = "matrix_sign: error"
    track_error.unit = "relative error"
