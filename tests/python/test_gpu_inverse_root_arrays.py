"""inverse_root and sqrt_psd on a GPU: layouts, libraries, streams and graphs; square roots."""

from __future__ import annotations

import threading

import gramian as gm
import numpy as np
import pytest

from tests.cuda_arrays import same_bits, wide
from tests.gpu_inverse_roots import DTYPES, compare, on_gpu, spectra_batch
from tests.reference import inverse_root as reference
from tests.reference import matrices

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]

TOO_LONG = 200_000_000  # clock ticks: some 0.1 s, in which a hundred calls can be queued


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


# ---- Arrays -------------------------------------------------------------------------------------

VIEWS = {
    "column-major": lambda a: a.mT.contiguous().mT,
    "every other": lambda a: a.repeat_interleave(2, -1).repeat_interleave(3, -2)[..., ::3, ::2],
    "batch last": lambda a: a.permute(1, 2, 0).contiguous().permute(2, 0, 1),
    "shifted": lambda a: a.new_zeros(a.numel() + 1)[1:].view(a.shape).copy_(a),
}


@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "bfloat16"])
@pytest.mark.parametrize("n", [9, 140])
def test_layouts_give_the_same_bits(torch, n, dtype):
    rng = np.random.default_rng(11)
    cplx = "complex128" if dtype.startswith("c") else "float64"
    batch = [reference.with_eigenvalues(rng, np.linspace(1, 0.1, n), cplx) for _ in "ab"]
    a = on_gpu(torch, np.stack(batch)).to(getattr(torch, dtype))
    x = gm.inverse_root(a, 2)
    before = a.clone()
    for view in VIEWS.values():
        given = view(a)
        assert same_bits(gm.inverse_root(given, 2), x)
        gm.sqrt_psd(given, tol=1.0)
        assert same_bits(given, before)
        out = view(torch.full_like(a, float("nan")))
        assert gm.inverse_root(a, 2, out=out) is out
        assert same_bits(out, x)
    assert same_bits(gm.inverse_root(a[:1].expand(3, n, n), 2), x[:1].repeat(3, 1, 1))
    frame = torch.full((2, n + 2, n + 3), float("nan"), device="cuda", dtype=a.dtype)
    out = frame[:, 1:-1, 1:-2]
    gm.inverse_root(a, 2, out=out)
    assert same_bits(out, x)
    assert frame.isnan().sum() == frame.numel() - out.numel()


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_out_may_overlap(torch, dtype):
    rng = np.random.default_rng(12)
    batch = [reference.with_eigenvalues(rng, np.linspace(1, 0.1, 20), dtype) for _ in "abc"]
    a = on_gpu(torch, np.stack(batch))
    x = gm.inverse_root(a, 3)
    for place in (lambda m: m, lambda m: m.mT):
        own = a.clone()
        out = place(own)
        gm.inverse_root(own, 3, out=out)
        assert same_bits(out, x)
    room = torch.zeros(4, 20, 20, dtype=a.dtype, device="cuda")
    room[:3] = a
    gm.inverse_root(room[:3], 3, out=room[1:])
    assert same_bits(room[1:], x)


def test_only_the_lower_triangle_is_read(torch):
    rng = np.random.default_rng(13)
    a = reference.with_eigenvalues(rng, np.linspace(1, 0.1, 40), "complex128")
    # Smaller than the largest entry, which the scale is taken from.
    junk = np.triu(rng.uniform(-0.1, 0.1, (40, 40)), 1) + 0.1j * np.eye(40)
    assert np.abs(a).max() > 0.2
    spoiled = on_gpu(torch, np.tril(a) + junk)
    assert same_bits(gm.inverse_root(spoiled, 2), gm.inverse_root(on_gpu(torch, a), 2))


def test_empty_arrays(torch):
    for shape in ((0, 3, 3), (2, 0, 0), (0, 0)):
        for p in (2, 9):
            x, info = gm.inverse_root(torch.ones(shape, device="cuda"), p, return_info=True)
            assert x.shape == shape
            assert info.residual.shape == shape[:-2]
            assert info.method == "newton"
            assert not info.residual.any()
        for x in gm.sqrt_psd(torch.ones(shape, device="cuda")):
            assert x.shape == shape


def test_conjugate_view_and_gradients(torch):
    a = torch.tensor([[2.0, 1j], [-1j, 2.0]], device="cuda")
    torch.testing.assert_close(gm.inverse_root(a.conj(), 1), torch.linalg.inv(a.conj()))
    assert gm.inverse_root(a.requires_grad_(), 1).requires_grad


def test_cupy_arrays(cupy, torch):
    rng = np.random.default_rng(16)
    for dtype in DTYPES:
        values = (np.linspace(1, 0.1, 30), np.r_[np.ones(15), np.zeros(15)])
        a = np.stack([reference.with_eigenvalues(rng, v, dtype) for v in values])
        given = cupy.asarray(a)
        x = gm.inverse_root(given[:1], 4)
        assert type(x) is cupy.ndarray
        np.testing.assert_array_equal(x.get(), gm.inverse_root(on_gpu(torch, a[:1]), 4).cpu())
        x, info = gm.inverse_root(given, 2, ridge=1e-2, return_info=True)
        assert type(info.residual) is cupy.ndarray
        with pytest.raises(gm.ConvergenceError, match=r"a\[1\] is singular|a\[1\] is not positive"):
            gm.inverse_root(given, 2, return_info=True)
        x, info = gm.inverse_root(given[0], 9, return_info=True)
        assert info.method == "eigh"
        truth = reference.inverse_root(a[0], 9)
        compare(a[0], x.get(), truth, reference.allowed(30, 10, 9, dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [20, 200])
def test_what_is_not_finite(torch, n, value):
    a = torch.eye(n, device="cuda", dtype=torch.float64).repeat(3, 1, 1)
    a[1, 2, 3] = a[1, 3, 2] = value
    for p in (2, 9):
        with pytest.raises(ValueError, match="a contains NaN or infinity"):
            gm.inverse_root(a, p, check_finite=True)
    x, info = gm.inverse_root(a, 2, return_info=True)
    assert info.residual.isnan().tolist() == [False, True, False]
    root, inverse = gm.sqrt_psd(a)
    results = [x, gm.inverse_root(a, 2), gm.inverse_root(a, 9), gm.inverse_root(a, 1, tol=1e-9)]
    for found in (*results, root, inverse):
        assert found[1].isnan().all()
        for good in (0, 2):
            torch.testing.assert_close(found[good], a[0], atol=1e-14, rtol=0)


@pytest.mark.parametrize(
    ("error", "match", "arguments", "options"),
    [
        (ValueError, r"a has shape \(2, 3\); its matrices must be square", ((2, 3), 2), {}),
        (ValueError, "p is 0; it must be an int, at least 1", ((2, 2), 0), {}),
        (ValueError, "ridge is -0.1; it must be a finite", ((2, 2), 2), {"ridge": -0.1}),
        (TypeError, "check_finite is 1", ((2, 2), 2), {"check_finite": 1}),
        (ValueError, "tol is 0; it must be None or", ((2, 2), 2), {"tol": 0}),
    ],
)
def test_bad_arguments(torch, error, match, arguments, options):
    shape, p = arguments
    with pytest.raises(error, match=match):
        gm.inverse_root(torch.ones(shape, device="cuda"), p, **options)


def test_out_on_another_device_is_refused(torch):
    a = torch.eye(3, device="cuda")
    with pytest.raises(ValueError, match="out has device"):
        gm.inverse_root(a, 2, out=torch.zeros(3, 3))


# ---- sqrt_psd -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kappa", [1.0, 3.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("n", [1, 2, 16, 33, 150, 300])
def test_both_roots_on_hard_spectra(torch, n, kappa, dtype):
    if kappa * reference.unit_roundoff(dtype) > 1e-2:
        pytest.skip("rounding the matrix to its dtype moves its smallest eigenvalues by as much")
    names = None if n < 100 else ("geometric", "one_small")
    batch = spectra_batch(n, kappa, dtype, 5.0, names)
    given = on_gpu(torch, batch)
    roots, inverses = gm.sqrt_psd(given)
    assert same_bits(inverses, gm.inverse_root(given, 2))
    for a, root, inverse in zip(batch, roots.cpu().numpy(), inverses.cpu().numpy(), strict=True):
        k = reference.condition(a)
        slack = reference.allowed_root(n, k, np.float64)
        allowed = reference.allowed_root(n, k, dtype) + slack
        compare(a, root, reference.function(a, np.sqrt), allowed)
        assert np.linalg.eigvalsh(reference.lower_triangle(root))[0] > 0
        slack = reference.allowed(n, k, 2, np.float64)
        allowed = reference.allowed(n, k, 2, dtype) + slack
        compare(a, inverse, reference.inverse_root(a, 2), allowed)
    real = batch.real.dtype.type
    for k in (-3, 2):
        r, i = gm.sqrt_psd(on_gpu(torch, batch * real(4.0**k)))
        assert same_bits(r, roots * 2.0**k)
        assert same_bits(i, inverses * 2.0**-k)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 60])
def test_square_roots_of_singular_matrices(torch, n, dtype):
    rng = np.random.default_rng(n)
    g = matrices.gaussian(rng, n, n // 2).astype(dtype)
    g = g / max(np.linalg.norm(g, 2), 1) if n > 1 else g
    a = g @ g.conj().T
    with pytest.raises(gm.ConvergenceError, match=r"a is singular|not positive") as caught:
        gm.sqrt_psd(on_gpu(torch, a), tol=1e-3)
    root, inverse = (x.cpu().numpy() for x in caught.value.best)
    truth = reference.function(a, lambda w: np.sqrt(np.maximum(w, 0)))
    if n > 1:
        allowed = 8 * np.sqrt(n * reference.unit_roundoff(dtype))
        assert reference.relative_error(root, truth) <= allowed
        assert inverse.shape == a.shape
        assert caught.value.residual > 0
    else:
        assert not root.any()


def test_square_root_of_a_projector(torch):
    a = on_gpu(torch, np.kron(np.eye(4), np.full((2, 2), 0.5)))
    for x in gm.sqrt_psd(a):
        assert x.isnan().all()
    with pytest.raises(gm.ConvergenceError, match="singular") as caught:
        gm.sqrt_psd(a, tol=1e-3)
    # An eigenvalue of u that rounding made of 0 has the root sqrt(u); its inverse is not taken.
    torch.testing.assert_close(caught.value.best[0], a, atol=8 * np.sqrt(8 * 2.0**-53), rtol=0)
    torch.testing.assert_close(caught.value.best[1], a, atol=1e-14, rtol=0)
    np.testing.assert_allclose(caught.value.residual, np.sqrt(0.5), rtol=1e-12)


def test_square_roots_into_out(torch):
    rng = np.random.default_rng(1)
    batch = [reference.with_eigenvalues(rng, np.linspace(1, 0.1, 12)) for _ in range(6)]
    a = on_gpu(torch, np.stack(batch)).reshape(2, 3, 12, 12)
    root, inverse = gm.sqrt_psd(a)
    own = a.clone()
    out = (own.mT, torch.zeros_like(a))
    found = gm.sqrt_psd(own, out=out)
    assert found[0] is out[0]
    assert same_bits(out[0], root)
    assert same_bits(out[1], inverse)
    room = torch.zeros(3, 12, 12, dtype=a.dtype, device="cuda")
    with pytest.raises(ValueError, match="out holds two arrays that may share memory"):
        gm.sqrt_psd(a[0, :2], out=(room[:2], room[1:]))


# ---- Streams and graphs -------------------------------------------------------------------------

SIZES = [(300, 20), (5, 150), (2, 400)]


def calls(a):
    yield lambda: gm.inverse_root(a, 4, ridge=1e-6)
    yield lambda: gm.inverse_root(a, 3)
    yield lambda: gm.sqrt_psd(a)[0]


def stack(torch, count, n, dtype="float32"):
    generator = torch.Generator("cuda").manual_seed(0)
    g = torch.randn(count, n, 2 * n, device="cuda", generator=generator, dtype=torch.float64)
    return (g @ g.mT).to(getattr(torch, dtype))


@pytest.mark.parametrize("size", SIZES)
def test_work_is_queued_on_the_current_stream_and_not_waited_for(torch, size):
    given = stack(torch, *size)
    truths = [call() for call in calls(given)]
    stream = torch.cuda.Stream()
    a = torch.full_like(given, float("nan"))
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        warm = [call() for call in calls(a)]
        del warm
        torch.cuda._sleep(TOO_LONG)
        a.copy_(given)
        found = [call() for call in calls(a)]
        waited = stream.query()
    assert not waited
    stream.synchronize()
    for x, truth in zip(found, truths, strict=True):
        assert same_bits(x, truth)


@pytest.mark.parametrize("size", SIZES)
def test_calls_are_captured_into_a_graph(torch, size):
    given = stack(torch, *size)
    truths = [call() for call in calls(given)]
    a = given.clone()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = [call() for call in calls(a)]
    for scale in (1, 4096, 1):  # decisions are made anew at each replay
        a.copy_(given * scale)
        for x in found:
            x.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        for x, truth, factor in zip(found, truths, (2.0**-3, 2.0**-4, 2.0**6), strict=True):
            assert same_bits(x, truth * factor if scale > 1 else truth)
    a.zero_()
    graph.replay()
    for x in found:
        assert x.isnan().all()


def test_work_is_queued_on_the_current_stream_of_cupy(cupy):
    spin = cupy.RawKernel(
        'extern "C" __global__ void spin(long long n) {'
        " long long start = clock64(); while (clock64() - start < n) {} }",
        "spin",
    )
    spin((1,), (1,), (1,))
    g = np.random.default_rng(0).standard_normal((4, 100, 200))
    given = cupy.asarray(g @ g.swapaxes(-1, -2))
    truth = gm.inverse_root(given, 2).get()
    a = cupy.full_like(given, cupy.nan)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        gm.inverse_root(a, 2)
        spin((1,), (1,), (TOO_LONG,))
        cupy.copyto(a, given)
        x = gm.inverse_root(a, 2)
        waited = stream.done
    assert not waited
    stream.synchronize()
    np.testing.assert_array_equal(x.get(stream), truth)


def test_two_threads_on_two_streams(torch):
    given = [stack(torch, 3, n) for n in (150, 170)]
    truths = [gm.inverse_root(a, 4) for a in given]
    torch.cuda.synchronize()
    start, failures = threading.Barrier(2), []

    def work(which):
        try:
            stream = torch.cuda.Stream()
            start.wait()
            with torch.cuda.stream(stream):
                results = [gm.inverse_root(given[which], 4) for _ in range(20)]
                stream.synchronize()
            for x in results:
                assert same_bits(x, truths[which])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_call_gives_the_same_bits(torch, dtype):
    a = stack(torch, 2, 1100, dtype)
    first = gm.inverse_root(a, 4, ridge=1e-6)
    for _ in range(5):
        assert same_bits(gm.inverse_root(a, 4, ridge=1e-6), first)
    w, v = torch.linalg.eigh(a.double())
    truth = (v * ((w + 1e-6 * w[:, -1:]) ** -0.25)[:, None, :]) @ v.mT
    assert float((first.double() - truth).norm() / truth.norm()) <= 1e-7
    assert wide(first).shape == a.shape
