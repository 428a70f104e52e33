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


IMPLEMENTATIONS = {"gramian": gramian, "scipy": scipy, "numpy-svd": lambda x: lambda: by_svd(x)}


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

    def track_product_error(self, shape, dtype, condition, implementation):
        """||x - u p||_F / ||x||_F."""
        result = self.call()
        pairs = [result] if isinstance(result, tuple) else result
        u, p = (np.stack(each).astype(np.float64) for each in zip(*pairs, strict=True))
        x = self.x.astype(np.float64).reshape(u.shape)
        return float(f"{np.linalg.norm(x - u @ p) / np.linalg.norm(x):.3g}")

    track_product_error.unit = "relative error"


class SpectralClip:
    """To half the largest singular value."""

    params = (list(SHAPES), ["hard", "soft"], ["gramian", "numpy-svd"])
    param_names = ("shape", "kind", "implementation")

    def setup(self, shape, kind, implementation):
        x = build(shape, "gaussian", "float64")
        c = 0.5 * float(np.linalg.norm(x.reshape(-1, *x.shape[-2:])[0], 2))
        if implementation == "gramian":
            import gramian as gm

            self.call = lambda: gm.spectral_clip(x, c, kind=kind)
        else:

            def by_numpy():
                u, s, vh = np.linalg.svd(x, full_matrices=False)
                f = np.minimum(s, c) if kind == "hard" else s / np.hypot(1, s / c)
                return (u * f[..., None, :]) @ vh

            self.call = by_numpy

    def time_spectral_clip(self, shape, kind, implementation):
        self.call()


class MatrixSign:
    params = (["512x512", "64x128x128", "512x32x32"], ["gramian", "numpy-eigh"])
    param_names = ("shape", "implementation")

    def setup(self, shape, implementation):
        x = build(shape, "gaussian", "float64")
        a = x + x.mT
        if implementation == "gramian":
            import gramian as gm

            self.call = lambda: gm.matrix_sign(a)
        else:

            def by_numpy():
                w, v = np.linalg.eigh(a)
                return (v * np.sign(w)[..., None, :]) @ v.mT

            self.call = by_numpy

    def time_matrix_sign(self, shape, implementation):
        self.call()
