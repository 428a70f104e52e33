"""Shapes, strides and overlaps on a GPU: every entry is computed, and no other is touched."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.cuda_arrays import DTYPES, METHODS, WAYS, check, close, same_bits, sample

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


# ---- Every entry written, and no other ----------------------------------------------------------

SIDES = sorted({*range(1, 131, 3), 2, 8, 16, 32, 33, 63, 64, 65, 127, 128, 129, 255, 257})
SHAPES = [*((s, s) for s in SIDES), *((s, 2 * s + 1) for s in SIDES[::3]),
          *((s + 17, s) for s in SIDES[1::3]), (1, 1000), (1000, 1), (384, 385), (2049, 64),
          (3, 129, 77), (2, 3, 40, 48), (5, 130, 260)]  # fmt: skip


def framed(torch, shape, dtype, offset=1):
    """A NaN-filled view inside a NaN-filled frame, rows and batch entries apart by odd strides.

    Its first entry is `offset` entries after an aligned address, so no vector access fits all rows.
    """
    *batch, m, n = shape
    frame = torch.full((*batch, m + 2, n + 3), float("nan"), device="cuda",
                       dtype=getattr(torch, dtype))  # fmt: skip
    return frame[..., 1:-1, offset : offset + n], frame


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_entry_is_written_and_none_beside(torch, shape, dtype):
    x, _ = framed(torch, shape, dtype)
    x.copy_(sample(torch, shape, dtype))
    for method in METHODS:
        out, frame = framed(torch, shape, dtype, offset=2)
        q, info = gm.newton_schulz(x, method=method, out=out, return_info=True)
        assert q is out
        check(x, out, info)
        assert torch.isnan(frame).sum() == frame.numel() - out.numel()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", WAYS)
@pytest.mark.parametrize("steps", range(1, 9))
def test_poisoned_result_is_filled_whatever_the_steps(torch, shape, dtype, steps):
    x = sample(torch, shape, dtype)
    rows = gm.coefficients.table("polar_express", steps)
    for method in METHODS:
        out = torch.full_like(x, float("nan"))
        _, info = gm.newton_schulz(x, steps, method=method, out=out, return_info=True)
        check(x[:1], out[:1], info, rows)
        assert torch.isfinite(torch.view_as_real(out) if out.is_complex() else out).all()


@pytest.mark.parametrize(("dtype", "shape"), [
    ("float32", (70_000, 3, 2)), ("float16", (70_000, 8, 8)), ("bfloat16", (65_537, 1, 1)),
    ("float64", (66_000, 2, 5)), ("complex64", (65_536, 4, 4)), ("float16", (70_000, 20, 9)),
])  # fmt: skip
def test_more_matrices_than_a_grid_dimension_holds(torch, dtype, shape):
    x = sample(torch, shape, dtype)
    q, info = gm.newton_schulz(x, return_info=True)
    picked = [0, 1, 2, 65_534, 65_535, *(shape[0] - k for k in (1, 2, 3))]
    check(x[picked], q[picked], info)
    assert info.residual.shape == info.norm_bound.shape == shape[:1]
    for start in range(0, shape[0], 10_000):  # all of them: as in a small batch
        part = gm.newton_schulz(x[start : start + 10_000])
        torch.testing.assert_close(q[start : start + 10_000], part, atol=2e-2, rtol=0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex128"])
def test_batch_of_large_matrices(torch, dtype):
    x = sample(torch, (9, 300, 420), dtype)
    q, info = gm.newton_schulz(x, return_info=True)
    check(x, q, info)


# ---- Strides ------------------------------------------------------------------------------------

VIEWS = {
    "row-major": lambda b, m, n: b[:, :m, :n].contiguous(),
    "column-major": lambda b, m, n: b[:, :m, :n].mT.contiguous().mT,
    "transposed": lambda b, m, n: b[:, :n, :m].mT,
    "odd column": lambda b, m, n: b[:, :m, 1 : n + 1],
    "odd row": lambda b, m, n: b[:, 1 : m + 1, 3 : n + 3],
    "flat offset": lambda b, m, n: b.flatten()[1 : 1 + 3 * m * n].view(3, m, n),
    "every second": lambda b, m, n: b[:, : 2 * m : 2, : 2 * n : 2],
    "batch last": lambda b, m, n: b[:, :m, :n].permute(1, 2, 0).contiguous().permute(2, 0, 1),
    "batch expanded": lambda b, m, n: b[:1, :m, :n].expand(3, m, n),
    "rows expanded": lambda b, m, n: b[:, :1, :n].expand(3, m, n),
    "columns expanded": lambda b, m, n: b[:, :m, :1].expand(3, m, n),
    "all expanded": lambda b, m, n: b[:, :1, :1].expand(3, m, n),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(17, 30), (64, 48), (150, 130), (260, 300)])
@pytest.mark.parametrize("kind", VIEWS)
def test_strides(torch, kind, shape, dtype):
    base = sample(torch, (3, 2 * max(shape), 2 * max(shape)), dtype)
    before = base.clone()
    x = VIEWS[kind](base, *shape)
    q, info = gm.newton_schulz(x, return_info=True)
    assert q.is_contiguous()
    close(x, q, gm.newton_schulz(x.contiguous(), method=info.method), info)
    assert same_bits(base, before)


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
@pytest.mark.parametrize("flip", [(1, 1, -1), (1, -1, 1), (-1, 1, 1), (-1, -1, -1)])
def test_negative_strides(cupy, torch, flip, dtype):
    base = cupy.asarray(sample(torch, (3, 50, 34), dtype))
    index = tuple(slice(None, None, f) for f in flip)
    x = cupy.ascontiguousarray(base)[index]
    q = gm.newton_schulz(x)
    dense = gm.newton_schulz(cupy.ascontiguousarray(x))
    np.testing.assert_allclose(
        q.get().astype(complex),
        dense.get().astype(complex),
        atol=2e-2 if dtype == "float16" else 1e-3,
    )
    # CuPy cannot export such strides: an input is copied, a place to write to must be refused.
    out = cupy.full_like(base, cupy.nan)
    with pytest.raises(ValueError, match="negative strides"):
        gm.newton_schulz(cupy.ascontiguousarray(x), out=out[index])
    assert cupy.isnan(out).all()


OVERLAPS = {
    "same": lambda b, n: (b[:, :n, :n], b[:, :n, :n]),
    "transposed": lambda b, n: (b[:, :n, :n], b[:, :n, :n].mT),
    "shifted down": lambda b, n: (b[:, :n, :n], b[:, 1 : n + 1, :n]),
    "shifted up": lambda b, n: (b[:, 1 : n + 1, :n], b[:, :n, :n]),
    "shifted right": lambda b, n: (b[:, :n, :n], b[:, :n, 1 : n + 1]),
    "interleaved": lambda b, n: (b[:, :n, : 2 * n : 2], b[:, :n, 1 : 2 * n : 2]),
    "corner": lambda b, n: (b[:, :n, :n], b[:, n // 2 : n // 2 + n, n // 2 : n // 2 + n]),
    "next in the batch": lambda b, n: (b[:-1, :n, :n], b[1:, :n, :n]),
    "last in the batch": lambda b, n: (b[1:, :n, :n], b[:-1, :n, :n]),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "complex128"])
@pytest.mark.parametrize("side", [12, 100, 270])
@pytest.mark.parametrize("case", OVERLAPS)
def test_out_may_overlap_the_input(torch, case, side, dtype, method):
    base = sample(torch, (4, 2 * side, 2 * side), dtype)
    x, out = OVERLAPS[case](base, side)
    given = x.clone()
    truth, info = gm.newton_schulz(given, method=method, return_info=True)
    assert gm.newton_schulz(x, method=method, out=out) is out
    close(given, out, truth, info)


def test_conjugate_view(torch):
    z = sample(torch, (20, 30), "complex64")
    q, info = gm.newton_schulz(z.mH, return_info=True)
    close(z.mH, q, gm.newton_schulz(z.mH.resolve_conj().contiguous()), info)
