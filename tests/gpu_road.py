"""A GPU's road, emulated: torch's CPU tensors are taken for arrays that lie elsewhere.

What the kernels do is done by torch; all else is the road that CUDA tensors take.
"""

from __future__ import annotations

import types

import gramian
import pytest
from gramian import _arrays
from gramian._sketch import sketch

torch = pytest.importorskip("torch")

# Where it is asked on which side an array lies, and where kernels are called.
_ASKING = (
    "_rsvd", "_rsvd_rows", "_rsvd_operator", "_rsvd_pieces", "_rsvd_partial", "_nystrom",
)  # fmt: skip
_CALLING = ("_rsvd_gpu_reads", "_rsvd_gpu_rows", "_rsvd_gpu_thin")


class Kernels:
    """Of gramian._cuda, what reads of row blocks call."""

    sum_parts = 8

    @staticmethod
    def sketch(z, dtype, seed, first, device, stream):
        z = torch.from_dlpack(z)
        z.copy_(torch.from_numpy(sketch(seed, *z.shape, dtype, first_column=first)))

    @staticmethod
    def two_sided_read(a, dtype, computed, wide, z, y, w, means, sums, squares, *_):
        arrays = (None if x is None else torch.from_dlpack(x) for x in (a, z, y, w, means))
        a, z, y, w, means = arrays
        narrow, double = getattr(torch, computed), getattr(torch, wide)
        a = a.to(narrow) if means is None else (a.to(double) - means).to(narrow)
        y.copy_(a @ z)
        if w is not None:
            w.copy_(a.conj().T @ y)
        if sums is not None:
            sums = torch.from_dlpack(sums).zero_()
            sums[0] = a.to(double).sum(0)
        if squares is not None:
            torch.from_dlpack(squares)[0] = (a.to(double).abs() ** 2).sum()


def emulate(monkeypatch):
    """From now on, CPU tensors of torch take the road of arrays on a GPU, and NumPy's too."""
    elsewhere = types.SimpleNamespace(**vars(_arrays) | {"CPU": ("none", 0)})
    for name in _ASKING:
        monkeypatch.setattr(getattr(gramian, name), "_arrays", elsewhere)
    kernels = types.SimpleNamespace(for_device=lambda _: Kernels)
    for name in _CALLING:
        monkeypatch.setattr(getattr(gramian, name), "_backend", kernels)
    monkeypatch.setattr(_arrays.Array, "stream", lambda _: 0)


def host(result):
    """U, S, Vh as NumPy's."""
    return tuple(x.resolve_conj().numpy() for x in result)
