"""Input matrices of the benchmarks and their polar factors.

Run as a program it writes one of them to a file, so that a benchmark of peak memory can have its
input made by another process:

    python matrices.py CASE SPECTRUM {input,polar} FILE.npy
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Case:
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def name(self) -> str:
        suffix = "" if self.dtype == "float32" else f"-{self.dtype}"
        return "x".join(map(str, self.shape)) + suffix


CASES = {
    case.name: case
    for case in (
        Case((1024, 1024)),
        Case((768, 3072)),
        Case((1024, 4096)),
        Case((4096, 1024)),
        Case((2048, 512)),
        Case((64, 128, 128)),
        Case((512, 32, 32)),
        Case((512, 512), "float64"),
    )
}

# gaussian: independent entries. power-law: sigma_i = i^-1/2, as momentum has it. spikes: eight
# strong directions over noise. steep: sigma_i = i^-1, where sigma_1 dominates every norm and a
# tighter normalization gains nothing.
SPECTRA = ("gaussian", "power-law", "spikes", "steep")


def build(case: str, spectrum: str) -> np.ndarray:
    """The matrix (or batch) of that name, the same one every time."""
    shape = CASES[case].shape
    rng = np.random.default_rng(zlib.crc32(f"{case} {spectrum}".encode()))
    index = np.arange(1.0, min(shape[-2:]) + 1)
    if spectrum == "gaussian":
        x = rng.standard_normal(shape)
    elif spectrum == "power-law":
        x = _with_singular_values(rng, shape, index**-0.5)
    elif spectrum == "spikes":
        noise = rng.standard_normal(shape) / (np.sqrt(shape[-2]) + np.sqrt(shape[-1]))
        x = noise + _with_singular_values(rng, shape, np.linspace(10, 2, 8))
    elif spectrum == "steep":
        x = _with_singular_values(rng, shape, 1 / index)
    else:
        raise ValueError(f"spectrum is {spectrum!r}; it must be one of {SPECTRA}")
    return np.ascontiguousarray(x, dtype=CASES[case].dtype)


def polar(x: np.ndarray) -> np.ndarray:
    """Polar factor by an SVD in float64: the truth that errors are measured against."""
    tall = x.shape[-2] > x.shape[-1]
    wide = np.asarray(x.mT if tall else x, dtype=np.float64)
    u, _, vh = np.linalg.svd(wide, full_matrices=False)
    q = u @ vh
    return np.ascontiguousarray(q.mT if tall else q)


def relative_error(q, truth: np.ndarray) -> float:
    """||q - truth||_F / ||truth||_F, over the whole batch."""
    if not isinstance(q, np.ndarray):
        q = q.double().numpy()
    return float(np.linalg.norm((q - truth).ravel()) / np.linalg.norm(truth.ravel()))


def _with_singular_values(rng, shape, sigma):
    *batch, m, n = shape
    u = np.linalg.qr(rng.standard_normal((*batch, m, len(sigma)))).Q
    v = np.linalg.qr(rng.standard_normal((*batch, n, len(sigma)))).Q
    return (u * sigma) @ v.mT


if __name__ == "__main__":
    case_name, spectrum_name, what, path = sys.argv[1:]
    made = build(case_name, spectrum_name)
    np.save(path, polar(made) if what == "polar" else made)
