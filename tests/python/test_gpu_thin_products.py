"""Products of a large float32 matrix with a few vectors on a GPU: their error bound, on the device.

docs/notes/thin_products_gpu.md. Shapes are large enough for reads to be made by them.
"""

from __future__ import annotations

import numpy as np
import pytest
from gramian import _arrays, _rsvd_gpu_reads

from tests.cuda_arrays import same_bits

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]

U = 2.0**-24

# Widths in and between the kernels' sizes, one of each number of tiles, and more than one panel.
SHAPES = [(16500, 1024, 1), (16400, 1028, 17), (16700, 1100, 80), (4100, 4096, 96),
          (11000, 1536, 97), (14101, 1200, 144), (8200, 2048, 160), (16001, 1064, 161)]  # fmt: skip
KINDS = ["normal", "positive", "graded", "cancelling"]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def inputs(m, n, width, kind):
    rng = np.random.default_rng(m + n + width)
    a, z = rng.standard_normal((m, n)), rng.standard_normal((n, width))
    if kind == "positive":
        a, z = abs(a), abs(z)
    if kind == "graded":
        a = a * np.exp2(-20.0 * np.arange(n) / n) * np.exp2(rng.integers(-15, 15, (m, 1)))
    if kind == "cancelling":
        a[:, 1::2], z[1::2] = a[:, 0::2], -z[0::2]
    return a.astype(np.float32), z.astype(np.float32)


def on_the_device(torch, a, layout):
    """Column by column, or with a gap behind each row, which is a multiple of 16 bytes."""
    m, n = a.shape
    rows, columns = (n, m) if layout == "columns" else (m, n)
    gap = 4 if layout == "padded" else 0
    spread = torch.zeros(rows, -(-columns // 4) * 4 + gap, device="cuda")[:, :columns]
    spread.copy_(torch.from_numpy(a.T.copy() if layout == "columns" else a))
    return spread.mT if layout == "columns" else spread


def read(torch, a, z):
    """Y, W of float32 products, and the names of the kernels that ran."""
    options = _rsvd_gpu_reads.Options(1, 0, 1, "auto", False, 0)
    reads = _rsvd_gpu_reads.Reads(_arrays.matrices(a, "a"), options)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        y, w = reads.read(z)
        torch.cuda.synchronize()
    return y, w, " ".join(event.name for event in profile.events())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["rows", "padded", "columns"])
@pytest.mark.parametrize(("m", "n", "width"), SHAPES)
def test_error_is_within_the_bound(torch, m, n, width, layout, kind):
    a, z = inputs(m, n, width, kind)
    x = on_the_device(torch, a, layout)
    y, w, names = read(torch, x, torch.from_numpy(z).cuda())
    if torch.cuda.get_device_capability() == (9, 0):
        assert "thin" in names
    a, z, y = x.double(), torch.from_numpy(z).cuda().double(), y.double()
    for found, left, right in ((y, a, z), (w.double(), a.mT, y)):
        summed = left.shape[1]
        size = left.abs() @ right.abs()
        # (89 + m) u for m stages in one part; in float64 n 2^-53 besides.
        error = (found - left @ right).abs()
        assert bool((error <= (90 + summed / 32) * U * size + summed * 2.0**-125).all())
        # By chance far less. Products of one tf32 number each err by hundreds of these.
        if kind == "normal":
            assert float(((error / size) ** 2).mean().sqrt()) <= 1.0 * U


def test_same_bits_and_what_is_not_finite(torch):
    a, z = inputs(16500, 1028, 80, "normal")
    x, z = on_the_device(torch, a, "rows"), torch.from_numpy(z).cuda()
    one, again = read(torch, x, z), read(torch, x, z)
    assert same_bits(one[0], again[0])
    assert same_bits(one[1], again[1])
    values = [float("inf"), float("nan")]
    if torch.cuda.get_device_capability() == (9, 0):
        values.append(3.4028234e38)  # rounds to infinity in tf32
    for value in values:
        x[700, 31] = value
        y = read(torch, x, z)[0]
        assert not bool(torch.isfinite(y[700]).any())
        x[700] = 0
        y[700] = one[0][700]
        assert same_bits(y, one[0])
