"""Truncated SVDs side by side: time, memory and error.

Errors are ||A - U S V^H||_F over the least possible at that rank: compare times at equal error.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Case:
    shape: tuple[int, int]
    rank: int
    dtype: str = "float32"


CASES = {
    "4000x2000-k20": Case((4000, 2000), 20),
    "20000x500-k10": Case((20000, 500), 10),
}
# power-law: sigma_i = i^-1/2. gaussian: independent entries, where every method errs alike.
SPECTRA = ("power-law", "gaussian")


def build(case: str, spectrum: str) -> np.ndarray:
    (m, n), dtype = CASES[case].shape, CASES[case].dtype
    rng = np.random.default_rng(zlib.crc32(f"rsvd {case} {spectrum}".encode()))
    x = rng.standard_normal((m, n))
    if spectrum == "power-law":
        u = np.linalg.qr(x).Q
        v = np.linalg.qr(rng.standard_normal((n, n))).Q
        x = (u * np.arange(1.0, n + 1) ** -0.5) @ v
    return x.astype(dtype)


def best_error(x: np.ndarray, rank: int) -> float:
    """The least Frobenius error at that rank."""
    wide = x.astype(np.float64)
    values = np.linalg.eigvalsh(wide.T @ wide)[:-rank]
    return float(np.sqrt(np.maximum(values, 0).sum()))


def relative_error(x: np.ndarray, factors, best: float) -> float:
    u, s, vh = (np.asarray(f, dtype=np.float64) for f in factors)
    return float(np.linalg.norm(x - (u * s) @ vh) / best)


def gramian(passes):
    def prepare(x: np.ndarray, rank: int) -> Callable[[], object]:
        import gramian as gm

        return lambda: tuple(gm.rsvd(x, rank, passes=passes, rng=0))

    return prepare


def scikit_learn(x: np.ndarray, rank: int) -> Callable[[], object]:
    try:
        from sklearn.utils.extmath import randomized_svd
    except ImportError as error:
        raise NotImplementedError("scikit-learn is not installed") from error
    return lambda: randomized_svd(x, rank, random_state=0)


def torch_lowrank(niter: int):
    def prepare(x: np.ndarray, rank: int) -> Callable[[], object]:
        import torch

        t = torch.from_numpy(x)

        def svd():
            u, s, v = torch.svd_lowrank(t, q=rank + 10, niter=niter)
            return u[:, :rank].numpy(), s[:rank].numpy(), v[:, :rank].mT.numpy()

        return svd

    return prepare


def scipy_svds(x: np.ndarray, rank: int) -> Callable[[], object]:
    from scipy.sparse.linalg import svds

    def svd():
        u, s, vh = svds(x, rank, rng=np.random.default_rng(0))
        return u[:, ::-1], s[::-1], vh[::-1]

    return svd


GRAMIAN = {f"gramian-{p}": gramian(p) for p in (1, 2, 3, 4, "auto")}
PEERS = {
    "scikit-learn": scikit_learn,
    "torch.svd_lowrank": torch_lowrank(2),
    "scipy.svds": scipy_svds,
}
IMPLEMENTATIONS = {**GRAMIAN, **PEERS}


class RandomizedSVD:
    params = (list(CASES), list(SPECTRA), list(IMPLEMENTATIONS))
    param_names = ("case", "spectrum", "implementation")
    timeout = 600
    warmup_time = 0.2

    def setup_cache(self):
        return {(c, s): best_error(build(c, s), CASES[c].rank) for c in CASES for s in SPECTRA}

    def setup(self, best, case, spectrum, implementation):
        self.x = build(case, spectrum)
        self.call = IMPLEMENTATIONS[implementation](self.x, CASES[case].rank)

    def time_svd(self, best, case, spectrum, implementation):
        self.call()

    time_svd.pretty_name = "rsvd: time"

    def peakmem_svd(self, best, case, spectrum, implementation):
        self.call()

    peakmem_svd.pretty_name = "rsvd: peak memory"

    def track_error(self, best, case, spectrum, implementation):
        return relative_error(self.x, self.call(), best[case, spectrum])

    track_error.pretty_name = "rsvd: error over the least"
    track_error.unit = "error / least error"
