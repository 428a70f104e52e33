"""gm.polar on a GPU: what test_polar.py holds on the CPU, and streams, graphs and libraries."""

from __future__ import annotations

import dataclasses

import gramian as gm
import numpy as np
import pytest

from tests.conftest import FLOATS
from tests.cuda_arrays import same_bits, sample, wide
from tests.python.test_polar import check, default_tolerance
from tests.reference import matrices
from tests.reference import polar as reference

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]

# By rotations in a block, and by steps on products.
WAYS = [(5, 24, 40), (2, 200, 120), (1, 300, 300)]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def polar(torch, x, **options):
    """From NumPy to NumPy."""
    *factors, info = gm.polar(torch.from_numpy(x).cuda(), return_info=True, **options)
    info = dataclasses.replace(info, residual=info.residual.cpu().numpy())
    return *(f.cpu().numpy() for f in factors), info


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*matrices.HARD, *matrices.PROMISED])
def test_agrees_with_an_svd_on_hard_inputs(torch, name, dtype, side):
    x = matrices.build(name, 0, dtype)
    u, p, info = polar(torch, x, side=side)
    assert u.dtype == p.dtype == x.dtype
    if not x.any():
        assert not u.any()
        assert not p.any()
        assert info.method == "zero"
        assert info.rank == 0
        return
    check(x, u, p, info, side)
    if min(x.shape) <= 32 or min(x.shape) > 64:
        assert info.method == ("svd" if min(x.shape) <= 32 else "polynomial")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("exponent", range(0, 18, 2))
@pytest.mark.parametrize("shape", [(48, 48), (70, 160), (150, 150), (300, 300)])
def test_every_condition_number(torch, shape, exponent, dtype):
    rng = np.random.default_rng(exponent)
    x = matrices.geometric(rng, 10.0**-exponent, *shape).astype(dtype)
    u, p, info = polar(torch, x)
    check(x, u, p, info)


@pytest.mark.parametrize("cut", [0, 1, 5, 40, 99])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ranks(torch, cut, dtype):
    """Exact zeros, and values on both sides of the cutoff by a factor of two and more."""
    rng = np.random.default_rng(cut)
    x = matrices.rank_deficient(rng, cut, 100, 180).astype(dtype)
    u, p, info = polar(torch, x)
    assert info.rank == cut
    if cut:
        check(x, u, p, info)
    limit = 180 * reference.unit(dtype)
    sigma = np.r_[np.ones(60), np.full(20, 4 * limit), np.full(20, limit / 4)]
    x = matrices.with_spectrum(rng, sigma, 100, 180)
    if dtype == "float32":  # in float64 rounding x moves what is so small
        info = polar(torch, x.astype(dtype))[2]
        least, most = reference.ranks(x.astype(dtype))
        assert least <= info.rank <= most


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(30, 20), (100, 130), (90, 90)])
def test_scaling_by_powers_of_two_changes_no_bit(torch, shape, dtype):
    x = sample(torch, shape, dtype)
    u, p = gm.polar(x)
    for power in (-60, -7, 1, 50):
        v, q = gm.polar(x * 2.0**power)
        assert same_bits(u, v)
        assert same_bits(p * 2.0**power, q)


@pytest.mark.parametrize("shape", [(128, 128), (300, 400)])
def test_the_cutoff_is_between_its_bounds(torch, shape):
    """Relative to an estimate of the norm from below, for which this spectrum is the worst."""
    m = min(shape)
    share = (2 / (m**0.5 + 1)) ** 0.25
    cutoff = max(shape) * reference.unit("float32")
    for least, rank in ((1.05 * cutoff, m), (0.95 * share * cutoff, m - 1)):
        sigma = np.r_[1, np.full(m - 2, (m**0.5 + 1) ** -0.25), least]
        x = matrices.with_spectrum(np.random.default_rng(0), sigma, *shape).astype("float32")
        assert polar(torch, x)[2].rank == rank


@pytest.mark.parametrize("unit", [1.0, 1j])
def test_rows_whose_product_float32_does_not_hold(torch, unit):
    """2^-153, beside squared norms of 2^-114 whose difference is 0."""
    x = np.diag(unit / unit * np.array([1.0, 2.0**-57, 2.0**-57]))
    x[1, 2], x[2, 1] = 2.0**-97 * unit, 2.0**-97 * np.conj(unit)
    for order in ([0, 1, 2], [1, 0, 2], [1, 2, 0]):
        given = x[np.ix_(order, order)]
        u, p, info = polar(torch, given)
        assert info.rank == 1
        assert np.array_equal(u, (np.abs(given) == 1).astype(u.dtype))
        assert np.abs(p - (np.abs(given) == 1)).max() <= 2.0**-56
        y = gm.spectral_clip(torch.from_numpy(given).cuda(), 0.5).cpu().numpy()
        assert np.abs(y - 0.5 * (np.abs(given) == 1)).max() <= 2.0**-56


def test_no_convergence_is_told(torch):
    """With half of the singular values about the cutoff, by up to a hundredth: some are too near
    for the steps that are queued."""
    rng = np.random.default_rng(0)
    n, cutoff = 300, 300 * reference.unit("float32")
    x = np.stack([
        matrices.with_spectrum(
            rng, np.r_[np.ones(n // 2), cutoff * np.exp(rng.uniform(-0.01, 0.01, n // 2))], n, n
        )
        for _ in range(16)
    ])  # fmt: skip
    x = torch.from_numpy(x.astype("float32")).cuda()
    u = gm.polar(x, compute_hermitian=False)
    lost = u.isnan().all(-1).all(-1)
    assert torch.equal(lost, u.isnan().any(-1).any(-1))
    assert 0 < lost.sum() < 16
    with pytest.raises(gm.ConvergenceError, match=r"in \d+ of 16 matrices") as caught:
        gm.polar(x, compute_hermitian=False, return_info=True)
    best = caught.value.best
    assert not best.isnan().any()
    assert same_bits(best[~lost], u[~lost])
    gram = u[~lost] @ u[~lost].mT
    assert torch.linalg.matrix_norm(gram @ gram - gram).max() <= 1e-4


@pytest.mark.parametrize("norm", [1e300, 1e-300])
@pytest.mark.parametrize("shape", [(20, 30), (90, 70)])
def test_no_overflow_and_no_underflow(torch, shape, norm):
    x = np.random.default_rng(0).standard_normal(shape)
    u, p, _ = polar(torch, x)
    v, q, _ = polar(torch, x * norm)
    assert np.linalg.norm(u - v) <= 1e-12
    assert np.linalg.norm(p - q / norm) <= 1e-12 * np.linalg.norm(p)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", matrices.BATCHES)
def test_each_matrix_of_a_batch_is_on_its_own(torch, name, dtype):
    x = torch.from_numpy(matrices.build(name, 0, dtype)).cuda()
    for given in (x, torch.cat([x, x, x, x], -1), torch.cat([torch.cat([x, x], -1)] * 5, -2)):
        u, p, info = gm.polar(given, return_info=True)
        for at in np.ndindex(tuple(x.shape[:-2])):
            v, q = gm.polar(given[at])
            assert same_bits(u[at], v)
            assert same_bits(p[at], q)
        assert info.rank.shape == info.method.shape == tuple(x.shape[:-2])


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(256, 64), (150, 300)])
def test_half_precision(torch, shape, half):
    x = sample(torch, shape, half)
    u, p, info = gm.polar(x, return_info=True)
    assert u.dtype == p.dtype == x.dtype
    eps = 2.0**-11 if half == "float16" else 2.0**-8
    truth, p_truth, _ = reference.polar(wide(x), min(shape))
    assert np.abs(wide(u) - truth).max() <= eps * np.abs(truth).max()
    assert np.abs(wide(p) - p_truth).max() <= eps * np.abs(p_truth).max()
    assert 1e-5 < float(info.residual) < 4 * eps


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("shape", [(37, 29), (150, 101)])
def test_strides_and_out(torch, shape, dtype):
    x = sample(torch, (3, *shape), dtype)
    u, p = gm.polar(x)
    column_major = x.mT.contiguous().mT
    spread = torch.zeros(3, 2 * shape[0], 3 * shape[1], dtype=x.dtype, device="cuda")
    spread = spread[:, ::2, ::3]
    spread.copy_(x)
    for view in (column_major, spread):
        v, q = gm.polar(view)
        assert same_bits(u, v)
        assert same_bits(p, q)
    broadcast = x[:1].expand(3, *shape)
    assert same_bits(gm.polar(broadcast)[0], u[:1].expand(3, *shape))
    room = torch.empty_like(p).mT
    v, q = gm.polar(x, out=(column_major, room))
    assert v is column_major
    assert same_bits(v, u)
    assert same_bits(room, p)
    same = x.clone()
    gm.polar(same, compute_hermitian=False, out=same)
    assert same_bits(same, u)
    memory = torch.zeros(2, 100, 100, dtype=x.dtype, device="cuda")
    square = sample(torch, (80, 80), dtype)
    want = gm.polar(square)
    memory[0, :80, :80] = square
    gm.polar(memory[0, :80, :80], out=(memory[0, :80, :80].mT, memory[1, 3:83, 2:82]))
    assert same_bits(memory[0, :80, :80].mT, want[0])
    assert same_bits(memory[1, 3:83, 2:82], want[1])
    with pytest.raises(ValueError, match="may share memory"):
        gm.polar(square, out=(memory[0, :80, :80], memory[0, 10:90, :80]))


@pytest.mark.parametrize("shape", WAYS)
def test_libraries(torch, cupy, shape):
    x = sample(torch, shape)
    u, p, info = gm.polar(x, return_info=True)
    v, q, other = gm.polar(cupy.asarray(x), return_info=True)
    assert isinstance(v, cupy.ndarray)
    assert isinstance(other.residual, cupy.ndarray)
    assert np.array_equal(v.get(), u.cpu().numpy())
    assert np.array_equal(q.get(), p.cpu().numpy())
    assert np.array_equal(other.residual.get(), info.residual.cpu().numpy())
    assert info.residual.dtype == torch.float32


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0, 4, 5), (2, 0, 5)])
def test_arrays_without_entries(torch, shape):
    u, p, info = gm.polar(torch.empty(shape, device="cuda"), return_info=True)
    assert tuple(u.shape) == shape
    assert tuple(p.shape) == (*shape[:-2], shape[-1], shape[-1])
    assert not bool(p.any())
    assert bool((info.residual == 0).all())


@pytest.mark.parametrize("shape", [(20, 20), (100, 130)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_goes_to_its_own_matrix_alone(torch, shape, value):
    x = sample(torch, (3, *shape), "float64")
    good = gm.polar(x)
    x[1, 3, 4] = value
    with pytest.raises(ValueError, match="x contains NaN or infinity"):
        gm.polar(x, check_finite=True)
    u, p = gm.polar(x)
    v, q, info = gm.polar(x, return_info=True)
    assert same_bits(u[0], v[0])
    for unitary, hermitian in ((u, p), (v, q)):
        assert bool(torch.isnan(unitary[1]).all())
        assert bool(torch.isnan(hermitian[1]).all())
        for at in (0, 2):
            assert same_bits(unitary[at], good[0][at])
            assert same_bits(hermitian[at], good[1][at])
    assert bool(torch.isnan(info.residual[1]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(30, 30), (100, 100)])
def test_convergence_error_holds_the_best(torch, shape, dtype):
    x = sample(torch, (2, *shape), dtype)
    with pytest.raises(gm.ConvergenceError, match=r"polar reached a residual of .* in 2 of 2") as e:
        gm.polar(x, tol=1e-30)
    u, p = e.value.best
    assert 0 < e.value.residual <= default_tolerance(np.empty(shape, dtype))
    error = torch.linalg.matrix_norm(u @ p - x)
    assert bool((error <= 1e4 * reference.unit(dtype)).all())
    loose, info = gm.polar(x, tol=1e-3, compute_hermitian=False, return_info=True)
    assert float(info.residual.max()) <= 1e-3
    if shape == (100, 100):
        assert info.steps.max() < gm.polar(x, return_info=True)[2].steps.min()
        assert 0 < float(torch.linalg.matrix_norm(loose - u).max()) <= 1e-1


@pytest.mark.parametrize("shape", WAYS)
def test_work_is_queued_and_can_be_captured(torch, shape):
    given = sample(torch, shape)
    truth = gm.polar(given)
    x = torch.full_like(given, float("nan"))
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        gm.polar(x)
        torch.cuda._sleep(200_000_000)
        x.copy_(given)
        late = gm.polar(x)
        waited = stream.query()
    assert not waited
    stream.synchronize()
    for a, b in zip(late, truth, strict=True):
        assert same_bits(a, b)
    graph = torch.cuda.CUDAGraph()
    x.zero_()
    with torch.cuda.graph(graph):
        captured = gm.polar(x)
    x.copy_(given)
    graph.replay()
    for a, b in zip(captured, truth, strict=True):
        assert same_bits(a, b)


@pytest.mark.parametrize("shape", [(1024, 1024), (512, 2048), (3000, 700)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large(torch, shape, dtype):
    x = sample(torch, shape, dtype)
    u, p, info = gm.polar(x, return_info=True)
    r = min(shape)
    # torch's SVD on a GPU is off by 5e-13 in float64.
    left, s, right = np.linalg.svd(wide(x), full_matrices=False)
    bound = default_tolerance(np.empty(shape, dtype))
    assert np.linalg.norm(wide(u) - left @ right, 2) <= bound * s[0] / s[-1]
    assert info.rank == r
    assert float(info.residual) <= bound
    product = torch.linalg.matrix_norm(u.double() @ p.double() - x.double())
    assert float(product) <= bound * float(torch.linalg.matrix_norm(x.double()))
    assert same_bits(p, p.mT)


def test_svd_by_request(torch):
    x = sample(torch, (40, 50), "float64")
    u, _ = gm.polar(x, method="svd")
    assert same_bits(u, gm.polar(x)[0])
    with pytest.raises(NotImplementedError, match="method is 'svd'"):
        gm.polar(sample(torch, (100, 100)), method="svd")


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_columns_too_long_for_a_block(torch, dtype):
    x = sample(torch, (30_000, 3), dtype).cpu().numpy()
    u, p, info = polar(torch, x)
    check(x, u, p, info)
    assert info.method == "polynomial"
