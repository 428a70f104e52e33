"""`rsvd(a, tol=...)` on a GPU: the proof, by the road of CUDA tensors with torch on the CPU.

And with products that round as badly as the proof allows cuBLAS to.
"""

from __future__ import annotations

import types

import gramian as gm
import numpy as np
import pytest
from gramian import _rsvd_gpu_rows, _rsvd_gpu_thin
from gramian._rsvd_reads import Arithmetic

from tests import gpu_road
from tests.reference import matrices
from tests.reference.svd import DTYPES, check_orthonormal, eps, error_in_60_digits, least_rank, wide

torch = pytest.importorskip("torch")

U = 2.0**-53


@pytest.fixture(autouse=True)
def road(monkeypatch):
    gpu_road.emulate(monkeypatch)


def rsvd(x, rank=None, **given):
    return gm.rsvd(torch.from_numpy(np.ascontiguousarray(x)), rank, **given)


def relative_error(x, result):
    u, s, vh = (wide(v) for v in gpu_road.host(result))
    return np.linalg.norm(wide(x) - (u * s) @ vh) / np.linalg.norm(wide(x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in matrices.HARD if n != "zero"])
def test_certified_error_holds_and_the_rank_is_near_the_least(name, dtype, monkeypatch):
    monkeypatch.setattr(_rsvd_gpu_rows, "_TILE", 3000)  # several tiles
    a = matrices.build(name, 0, dtype)
    sigma = np.linalg.svd(wide(a), compute_uv=False)
    for tol in (0.5, 1e-2, 1e-4):
        least = least_rank(sigma, tol)
        for method in ("gram", "krylov"):
            result = rsvd(a, tol=tol, method=method, rng=2)
            assert result.info.error_kind == "upper bound"
            assert result.info.method == method
            # The truth to 1e-15 of the norm, which is 1e-11 of the least tolerance.
            assert relative_error(a, result) <= result.info.error_estimate + 1e-14 <= tol + 1e-14
            assert result.info.rank <= least + 15
            u, _, vh = gpu_road.host(result)
            check_orthonormal(u, vh, dtype)
            # Of entries as large as the largest, up to rounding, one is real and positive.
            size = np.abs(u)
            real = (u.real > 0) & (u.imag == 0)
            assert np.all((size * real).max(0) >= (1 - 8 * eps(dtype)) * size.max(0))


@pytest.mark.parametrize("wide_matrix", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_certificate_in_exact_arithmetic(dtype, wide_matrix):
    """The bound against 60 digits, at the edge of what can be certified."""
    rng = np.random.default_rng(1)
    for trial in range(12):
        a = matrices.geometric(rng, 1e-9, 12, 9).astype(dtype)
        if dtype == "complex128":
            a = a * np.exp(2j * rng.random(9)) * np.exp(2j * rng.random((12, 1)))
        a = a * 2.0 ** rng.integers(-300, 300)
        a = a.T.copy() if wide_matrix else a
        tol = 10.0 ** -rng.uniform(1, 6 if dtype == "float64" else 5.5)
        result = rsvd(a, tol=tol, rng=trial)
        true = error_in_60_digits(a, gpu_road.host(result))
        assert true <= result.info.error_estimate <= tol


class Liar:
    """Products that err by all that the proof allows, in the direction that hides an error."""

    def __init__(self, monkeypatch, *, arithmetic=None):
        self.lies = 0
        own = _rsvd_gpu_rows.DeviceReader._own_products

        def lying(reader, x, z, *, adjoint):
            y, w = own(reader, x, z, adjoint=adjoint)
            self.lies += 1
            # Sums of k products, each operation rounded to zero: 2 gamma_{k+1}.
            worst = 2 * 0.99 * (x.shape[1] + 1) * U * (abs(x) @ abs(z))
            return y + torch.sign(y) * worst, w

        monkeypatch.setattr(_rsvd_gpu_rows.DeviceReader, "_own_products", lying)
        if arithmetic is not None:
            monkeypatch.setattr(_rsvd_gpu_rows, "_DEVICE_REAL", arithmetic)


def flat(seed, left):
    """256 equal singular values, each of whose products errs by the whole matrix; and `left`."""
    rng = np.random.default_rng(seed)
    q, p, rest = (rng.standard_normal((600, k)) for k in (256, 256, 600))
    a = np.linalg.qr(q)[0] @ np.linalg.qr(p)[0].T
    return a / np.linalg.norm(a) + left * rest / np.linalg.norm(rest)


@pytest.mark.parametrize("method", ["gram", "krylov"])
def test_products_that_round_as_badly_as_they_may(method, monkeypatch):
    """They hide what is left after rank 256, and the bound knows it."""
    liar = Liar(monkeypatch)
    for seed in range(2):
        a = flat(seed, 2.1e-6)
        result = rsvd(a, 256, tol=1e-4, method=method)
        assert 1e-7 < relative_error(a, result) <= result.info.error_estimate
    assert liar.lies >= 2


def test_without_the_constants_they_would_deceive(monkeypatch):
    """So the test above can fail: the same, with the products' rounding taken for none."""
    Liar(monkeypatch, arithmetic=Arithmetic(0.0, 8))
    a = flat(0, 2.1e-6)
    result = rsvd(a, 256, tol=1e-4, method="gram")
    assert result.info.error_estimate < relative_error(a, result)


def three_products(x, z):
    """x z of three real products."""
    real = x.real @ z.real
    imaginary = x.imag @ z.imag
    both = (x.real + x.imag) @ (z.real + z.imag)
    return torch.complex(real - imaginary, both - real - imaginary)


def test_complex_products_of_three(monkeypatch):
    class Vectors(_rsvd_gpu_thin.Vectors):
        def times(self, y, e):
            return three_products(self.wide(y), e.resolve_conj())

        def gram(self, y, x=None):
            y = self.wide(y)
            x = y if x is None else self.wide(x)
            return three_products(y.conj().T.resolve_conj(), x.resolve_conj())

    called = []

    def products(reader, x, z, *, adjoint):
        called.append(1)
        y = three_products(x, z.resolve_conj())
        w = three_products(x.conj().T.resolve_conj(), y) if adjoint else None
        return y, w

    monkeypatch.setattr(_rsvd_gpu_thin, "Vectors", Vectors)
    monkeypatch.setattr(_rsvd_gpu_rows.DeviceReader, "_own_products", products)
    rng = np.random.default_rng(0)
    for trial in range(20):
        a = matrices.geometric(rng, 1e-8, 80, 50).astype(complex)
        a *= np.exp(2j * rng.random(50)) * np.exp(2j * rng.random((80, 1)))
        tol = 10.0 ** -rng.uniform(4, 5.3)
        result = rsvd(a, tol=tol, method=("gram", "krylov")[trial % 2])
        assert relative_error(a, result) <= result.info.error_estimate <= tol
    assert called


def test_a_tolerance_beyond_rounding_says_what_is_possible():
    a = np.random.default_rng(0).standard_normal((60, 40))
    with pytest.raises(gm.ConvergenceError, match=r"tol is 1e-12.*at least") as caught:
        rsvd(a, tol=1e-12)
    assert 1e-12 < caught.value.residual < 1e-5
    assert caught.value.best.info.rank == 40


def test_rank_caps_a_tolerance():
    a = np.random.default_rng(0).standard_normal((60, 40))
    result = rsvd(a, 7, tol=1e-3)
    assert result.S.shape == (7,)
    assert result.info.error_estimate >= relative_error(a, result) > 1e-3


@pytest.mark.parametrize(
    ("value", "dtype"), [(2e37, "float32"), (1.6e308, "float64"), (1e308, "complex128")]
)
def test_nothing_is_certified_of_singular_values_that_overflow(value, dtype):
    a = np.full((100, 100), value, dtype)
    with pytest.raises(gm.ConvergenceError, match=r"largest singular value overflows") as caught:
        rsvd(a, tol=0.01)
    assert bool(torch.isinf(caught.value.best.S).all())
    assert caught.value.residual == np.inf


def test_certificate_counts_singular_values_that_underflow():
    """Subnormal S in float32: their rounding is part of the error."""
    rng = np.random.default_rng(0)
    held = missed = 0
    for exponent in np.linspace(-46, -37, 37):
        a = (matrices.geometric(rng, 1e-3, 50, 30) * 10.0**exponent).astype(np.float32)
        if not a.any():
            continue
        try:
            result = rsvd(a, tol=1e-2)
            held += 1
            assert result.info.error_estimate <= 1e-2
        except gm.ConvergenceError as error:
            result = error.best
            missed += 1
        scale = 2.0**140
        u, s, vh = (x.astype(np.float64) for x in gpu_road.host(result))
        wanted = a.astype(np.float64) * scale
        true = np.linalg.norm(wanted - (u * (s * scale)) @ vh) / np.linalg.norm(wanted)
        assert true <= result.info.error_estimate
    assert held > 5
    assert missed > 5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(matrices.power_law(rng, -1.5, 60, 40)).to(getattr(torch, dtype))
    result = gm.rsvd(x, tol=0.1)
    assert result.U.dtype == x.dtype
    assert result.S.dtype == torch.float32
    u, s, vh = (v.double() for v in result)
    true = torch.linalg.norm(x.double() - (u * s) @ vh) / torch.linalg.norm(x.double())
    assert float(true) <= result.info.error_estimate <= 0.1


def test_a_batch_takes_the_rank_of_its_most_demanding_matrix():
    rng = np.random.default_rng(0)
    a = np.stack([matrices.with_spectrum(rng, r ** np.arange(40.0), 60, 40) for r in (0.3, 0.8)])
    alone = [rsvd(x, tol=1e-3).info.rank for x in a]
    result = rsvd(a.reshape(2, 1, 60, 40), tol=1e-3)
    assert result.info.rank == max(alone) > min(alone)
    assert result.S.shape == (2, 1, max(alone))
    assert result.info.passes.shape == result.info.error_estimate.shape == (2, 1)
    for i, x in enumerate(a):
        one = types.SimpleNamespace(U=result.U[i, 0], S=result.S[i, 0], Vh=result.Vh[i, 0])
        true = relative_error(x, gm.SVDResult(one.U, one.S, one.Vh, None))
        assert true <= result.info.error_estimate[i, 0] <= 1e-3
    a[0, 2, 3] = np.nan
    with pytest.raises(ValueError, match="a contains NaN or infinity"):
        rsvd(a, tol=1e-3)
    found = rsvd(a, tol=1e-3, check_finite=False)
    assert bool(torch.isnan(found.U[0]).all())
    assert bool(torch.isfinite(found.U[1]).all())


def test_reads_of_a_try_at_a_smaller_rank_count(monkeypatch):
    made = []
    for name in ("read", "gram"):
        own = getattr(_rsvd_gpu_rows.DeviceReader, name)

        def counting(reader, *args, _own=own, **given):
            made.append(1)
            return _own(reader, *args, **given)

        monkeypatch.setattr(_rsvd_gpu_rows.DeviceReader, name, counting)
    rng = np.random.default_rng(0)
    a = np.stack([matrices.with_spectrum(rng, r ** np.arange(40.0), 60, 40) for r in (0.3, 0.8)])
    assert rsvd(a, tol=1e-3).info.passes.sum() == len(made) == 6


@pytest.mark.parametrize("method", ["gram", "krylov"])
def test_a_rotation_that_is_none_proves_nothing(method, monkeypatch):
    """Columns of length 1 whose spectral norm is not."""

    class Thin(_rsvd_gpu_thin.DeviceThin):
        def svd(self, r):
            left, s, turned = super().svd(r)
            turned[:, 1] = 0.8 * turned[:, 1] + 0.6 * turned[:, 0]
            return left, s, turned

    monkeypatch.setattr(_rsvd_gpu_rows, "DeviceThin", Thin)
    a = matrices.with_spectrum(np.random.default_rng(0), 0.5 ** np.arange(40.0), 60, 40)
    with pytest.raises(gm.ConvergenceError) as caught:
        rsvd(a, 4, tol=0.1, method=method)
    assert caught.value.best.info.error_kind == "estimate"


def test_means_are_rounded_so_nothing_is_proved():
    rng = np.random.default_rng(0)
    a = matrices.power_law(rng, -1.5, 60, 90) + 3
    result = rsvd(a, tol=1e-2, center=True)
    assert result.info.error_kind == "estimate"
    assert relative_error(a - a.mean(0), result) <= result.info.error_estimate <= 1e-2


def test_start_vectors_zero_and_empty_matrices():
    rng = np.random.default_rng(0)
    a = matrices.with_spectrum(rng, 0.5 ** np.arange(40.0), 60, 40)
    first = rsvd(a, tol=1e-2, method="krylov")
    start = first.Vh.conj().T
    again = gm.rsvd(torch.from_numpy(a), tol=1e-2, method="krylov", v0=start)
    assert relative_error(a, again) <= again.info.error_estimate <= 1e-2
    with pytest.raises(ValueError, match="v0 contains NaN or infinity"):
        gm.rsvd(torch.from_numpy(a), tol=1e-2, v0=start * np.nan)
    nothing = rsvd(np.zeros((30, 20)), tol=1e-3)
    assert nothing.info.error_estimate == 0
    assert rsvd(np.zeros((0, 20)), tol=0.1).S.shape == (0,)


def test_imitated_float64_is_refused(monkeypatch):
    monkeypatch.setenv("CUBLAS_EMULATE_DOUBLE_PRECISION", "1")
    with pytest.raises(RuntimeError, match="CUBLAS_EMULATE_DOUBLE_PRECISION"):
        rsvd(np.eye(4), tol=0.1)
