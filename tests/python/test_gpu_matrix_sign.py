"""gm.matrix_sign on a GPU: what test_matrix_sign.py holds on the CPU."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.conftest import FLOATS
from tests.cuda_arrays import same_bits
from tests.python.test_matrix_sign import hermitian, indefinite
from tests.python.test_polar import default_tolerance
from tests.reference import matrices
from tests.reference import polar as reference

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


def sign(torch, a):
    s, info = gm.matrix_sign(torch.from_numpy(a).cuda(), return_info=True)
    return s.cpu().numpy(), info


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", matrices.HARD)
def test_agrees_with_eigenvectors_on_hard_inputs(torch, name, dtype):
    a = hermitian(name, dtype)
    s, info = sign(torch, a)
    truth, condition, rank = reference.sign(a)
    bound = default_tolerance(a)
    assert s.dtype == a.dtype
    assert np.array_equal(s, s.conj().T)
    assert float(info.residual) <= bound
    w = np.abs(np.linalg.eigvalsh(reference.wide(a)))
    least, most = ((w > f * reference.cutoff(a) * w.max()).sum() for f in (1.25, 0.8))
    assert least <= info.rank <= most
    if info.rank != rank:
        return
    assert np.linalg.norm(s - truth, 2) <= bound * condition
    square = reference.wide(s) @ reference.wide(s)
    assert np.linalg.norm(square - truth @ truth, 2) <= 2 * bound * condition
    assert np.linalg.norm(square @ square - square) <= 4 * bound * max(rank, 1) ** 0.5
    assert abs(np.trace(square).real - rank) <= 4 * bound * max(rank, 1)


@pytest.mark.parametrize("exponent", range(0, 18, 3))
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("n", [50, 130])
def test_every_condition_number(torch, n, exponent, dtype):
    rng = np.random.default_rng(exponent)
    values = np.geomspace(1, 10.0**-exponent, n) * rng.choice([-1, 1], n)
    a = indefinite(rng, values, cplx=dtype == "complex128").astype(dtype)
    a = (a + a.conj().T) / a.real.dtype.type(2)
    s, info = sign(torch, a)
    truth, condition, rank = reference.sign(a)
    if condition < 0.01 / reference.unit(dtype) / n:
        assert info.rank == rank == n
        assert np.linalg.norm(s - truth, 2) <= default_tolerance(a) * condition
    assert np.linalg.norm(s @ s @ s - s) <= 4 * default_tolerance(a) * n**0.5


@pytest.mark.parametrize("zeros", [20, 100])
def test_zero_eigenvalues_go_to_zero(torch, zeros):
    a = indefinite(np.random.default_rng(0), np.r_[3.0, -2.0, 1e-3, np.zeros(zeros)])
    s, info = sign(torch, a)
    values = np.sort(np.linalg.eigvalsh(s))
    assert np.abs(values - np.r_[-1, np.zeros(zeros), 1, 1]).max() <= 1e-14
    assert info.rank == 3
    assert not bool(gm.matrix_sign(torch.zeros(4, 4, device="cuda")).any())


@pytest.mark.parametrize("n", [1, 2, 33, 90])
@pytest.mark.parametrize("cplx", [False, True])
def test_odd_and_scale_free_bit_for_bit(torch, n, cplx):
    rng = np.random.default_rng(n)
    a = torch.from_numpy(indefinite(rng, rng.standard_normal(n), cplx=cplx)).cuda()
    s = gm.matrix_sign(a)
    assert same_bits(gm.matrix_sign(a * 2.0**-17), s)
    assert torch.equal(gm.matrix_sign(-a), -s)
    batch = gm.matrix_sign(torch.stack([a, a.mT.conj(), 3 * a]))
    assert same_bits(batch[0], s)


def test_bad_input_is_told(torch, cupy):
    with pytest.raises(ValueError, match=r"a has shape \(3, 4\)"):
        gm.matrix_sign(torch.ones(3, 4, device="cuda"))
    skew = torch.eye(3, device="cuda")
    skew[0, 1] = 0.5
    for value in (skew, skew.bfloat16(), cupy.asarray(skew)):
        with pytest.raises(ValueError, match="a is not Hermitian"):
            gm.matrix_sign(value, check_finite=True)
        gm.matrix_sign(value)
    skew[:] = float("nan")
    with pytest.raises(ValueError, match="a contains NaN"):
        gm.matrix_sign(skew, check_finite=True)
    assert bool(torch.isnan(gm.matrix_sign(skew)).all())
    a = torch.from_numpy(indefinite(np.random.default_rng(0), np.arange(1.0, 20))).cuda()
    with pytest.raises(gm.ConvergenceError, match="matrix_sign reached a residual"):
        gm.matrix_sign(a, tol=1e-30)
    assert tuple(gm.matrix_sign(torch.empty(2, 0, 0, device="cuda")).shape) == (2, 0, 0)


@pytest.mark.parametrize("n", [40, 200])
def test_work_is_queued_and_can_be_captured(torch, n):
    rng = np.random.default_rng(0)
    given = torch.from_numpy(indefinite(rng, rng.standard_normal(n))).cuda()
    truth = gm.matrix_sign(given)
    x = torch.zeros_like(given)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gm.matrix_sign(x)
    x.copy_(given)
    graph.replay()
    assert same_bits(captured, truth)
