"""newton_schulz beside Muon's orthogonalizations and the SVD: time, peak memory, polar error.

Time and memory do not depend on the values of the matrix where the number of steps is fixed, so
they are taken on the Gaussian matrix alone; the error is taken on every spectrum.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from . import matrices, peers


def setup_cache():
    """Nothing to keep but the directory: the benchmarks below share one working directory, where
    each matrix is stored by the first that asks for it."""


def stored(case: str, spectrum: str, what: str) -> np.ndarray:
    """The input or its polar factor, made by a process of its own: the peak memory of making it
    must not count in the process that is measured."""
    path = Path(f"{case}_{spectrum}_{what}.npy")
    if not path.exists():
        subprocess.run(
            [sys.executable, matrices.__file__, case, spectrum, what, str(path)], check=True
        )
    return np.load(path)


class NewtonSchulz:
    """Peak memory is the whole process: interpreter, NumPy (and torch for its peers), input,
    result and scratch."""

    params = (list(matrices.CASES), list(peers.IMPLEMENTATIONS))
    param_names = ("case", "implementation")
    timeout = 600
    repeat = (3, 10, 5.0)
    warmup_time = 0.2

    def setup(self, case, implementation):
        self.call = peers.IMPLEMENTATIONS[implementation](stored(case, "gaussian", "input"))

    def time_newton_schulz(self, case, implementation):
        self.call()

    time_newton_schulz.pretty_name = "newton_schulz: time"

    def peakmem_newton_schulz(self, case, implementation):
        self.call()

    peakmem_newton_schulz.pretty_name = "newton_schulz: peak memory"


class PolarError:
    """Relative to the polar factor from a float64 SVD, in the Frobenius norm."""

    params = (list(matrices.CASES), list(matrices.SPECTRA), list(peers.IMPLEMENTATIONS))
    param_names = ("case", "spectrum", "implementation")
    timeout = 600

    def setup(self, case, spectrum, implementation):
        self.call = peers.IMPLEMENTATIONS[implementation](stored(case, spectrum, "input"))
        self.truth = stored(case, spectrum, "polar")

    def track_polar_error(self, case, spectrum, implementation):
        return float(f"{matrices.relative_error(self.call(), self.truth):.4g}")

    track_polar_error.pretty_name = "newton_schulz: error"
    track_polar_error.unit = "relative error"
