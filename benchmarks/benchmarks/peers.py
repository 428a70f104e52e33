"""Everything that orthogonalizes a matrix, by name.

Each entry takes a NumPy array and returns a function without arguments that does the work on it.
An entry that cannot run here raises NotImplementedError, which asv reports as "n/a".
torch is imported by its own entries alone, so that it does not count in gramian's peak memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MUON = (3.4445, -4.7750, 2.0315)
MUON_STEPS = 5
REFERENCE = "muon-reference"


def gramian_steps(steps: int):
    def prepare(x: np.ndarray) -> Callable[[], np.ndarray]:
        import gramian as gm

        return lambda: gm.newton_schulz(x, steps)

    return prepare


def muon_reference(x: np.ndarray):
    """Muon's orthogonalization from its formula, five steps, in the input's own precision.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """
    import torch

    t = torch.from_numpy(x)
    a, b, c = MUON

    def orthogonalize():
        tall = t.shape[-2] > t.shape[-1]
        y = t.mT if tall else t
        y = y / (torch.linalg.matrix_norm(y, keepdim=True) + 1e-7)
        for _ in range(MUON_STEPS):
            gram = y @ y.mT
            y = a * y + (b * gram + c * (gram @ gram)) @ y
        return y.mT if tall else y

    return orthogonalize


def torch_optim_muon(x: np.ndarray):
    """What torch.optim.Muon calls: five steps in bfloat16, one matrix at a time."""
    try:
        import torch
        from torch.optim._muon import _zeropower_via_newtonschulz as zeropower
    except ImportError as missing:
        raise NotImplementedError("this torch has no torch.optim.Muon") from missing

    matrices = torch.from_numpy(x).reshape(-1, *x.shape[-2:])
    if x.ndim == 2:
        return lambda: zeropower(matrices[0], MUON, MUON_STEPS, 1e-7)
    return lambda: torch.stack([zeropower(m, MUON, MUON_STEPS, 1e-7) for m in matrices])


def numpy_svd(x: np.ndarray):
    """The exact answer in the input's precision."""

    def orthogonalize():
        u, _, vh = np.linalg.svd(x, full_matrices=False)
        return u @ vh

    return orthogonalize


GRAMIAN = {f"gramian-{steps}": gramian_steps(steps) for steps in (3, 4, 5)}
IMPLEMENTATIONS = {
    **GRAMIAN,
    REFERENCE: muon_reference,
    "torch.optim.Muon": torch_optim_muon,
    "numpy-svd": numpy_svd,
}
