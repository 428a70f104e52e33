"""What the tests on a GPU share: samples, and comparisons of torch's CUDA tensors."""

from __future__ import annotations

import gramian as gm

from tests.conftest import FLOATS, HALVES
from tests.reference import gpu
from tests.reference import newton_schulz as reference

DTYPES = (*HALVES, *FLOATS)
METHODS = ["standard", "gram"]
# One shape for each way of computing: within a block, within several, by products over the device.
WAYS = [(5, 24, 40), (3, 200, 120), (2, 700, 520)]


def sample(torch, shape, dtype="float32", seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    wide = torch.complex128 if dtype.startswith("complex") else torch.float64
    x = torch.randn(shape, dtype=wide, device="cuda", generator=generator)
    return x.to(getattr(torch, dtype))


def wide(a):
    """A float64 or complex128 NumPy copy of a torch tensor."""
    a = a.detach().resolve_conj().cpu()
    return (a.cdouble() if a.is_complex() else a.double()).numpy()


def same_bits(a, b):
    a, b = a.contiguous(), b.contiguous()
    return a.dtype == b.dtype and wide(a).tobytes() == wide(b).tobytes()


def dtype_name(x):
    return str(x.dtype).removeprefix("torch.")


def check(x, q, info, rows=None):
    """Every matrix within the derived tolerance of the iteration in float64 on the CPU."""
    rows = rows or gm.coefficients.table("polar_express", 5)
    dtype = dtype_name(x)
    flat_x, flat_q = (wide(a).reshape(-1, *a.shape[-2:]) for a in (x, q))
    for one, given in zip(flat_q, flat_x, strict=True):
        truth = gm.newton_schulz(given, len(rows), coefficients=rows, method="standard")
        allowed = gpu.tolerance(given, rows, compute=gpu.arithmetic(dtype), dtype=dtype,
                                method=info.method, restarts=info.restarts)  # fmt: skip
        assert reference.rms_distance(one, truth) <= allowed


def close(x, a, b, info):
    """Both within the tolerance of one matrix x (...), so no further apart than twice that."""
    rows = gm.coefficients.table("polar_express", 5)
    flat = [wide(t).reshape(-1, *t.shape[-2:]) for t in (x, a, b)]
    for given, one, other in zip(*flat, strict=True):
        allowed = gpu.tolerance(given, rows, compute=gpu.arithmetic(dtype_name(x)),
                                dtype=dtype_name(x), method=info.method,
                                restarts=info.restarts)  # fmt: skip
        assert reference.rms_distance(one, other) <= 2 * allowed
