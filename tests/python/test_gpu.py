"""What only a GPU has: streams, graphs and device memory.

The mathematics on a GPU is tested with that on the CPU (``machine`` in test_newton_schulz.py and
test_scaling.py), libraries and dtypes in test_arrays.py, shapes and strides in
test_gpu_arrays.py.
"""

from __future__ import annotations

import gc
import threading

import gramian as gm
import numpy as np
import pytest

from tests.conftest import FLOATS, DLPackOnly
from tests.cuda_arrays import DTYPES, METHODS, WAYS, close, dtype_name, same_bits, sample

pytestmark = [pytest.mark.gpu, pytest.mark.thread_unsafe]


@pytest.fixture(scope="module")
def torch(cuda_torch):
    return cuda_torch


TOO_LONG = 200_000_000  # clock ticks: some 0.1 s, in which a hundred calls can be queued


# ---- Streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", WAYS)
@pytest.mark.parametrize("method", METHODS)
def test_work_is_queued_on_the_current_stream_and_not_waited_for(torch, shape, dtype, method):
    """Behind a kernel that takes long the call returns at once, and still sees what that precedes.

    The input changes on the stream after the slow kernel: work on any other stream would read NaN.
    """
    given = sample(torch, shape, dtype)
    truth, figures = gm.newton_schulz(given, method=method, return_info=True)  # warms up, too
    stream = torch.cuda.Stream()
    x = torch.full_like(given, float("nan"))
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        warm = gm.newton_schulz(x, method=method, return_info=True)
        warm = warm, gm.newton_schulz(x, method=method, out=torch.empty_like(x))
        del warm  # memory for this stream is there now
        torch.cuda._sleep(TOO_LONG)
        x.copy_(given)
        q, info = gm.newton_schulz(x, method=method, return_info=True)
        again = gm.newton_schulz(x, method=method, out=torch.empty_like(x))
        waited = stream.query()
    assert not waited
    stream.synchronize()
    assert same_bits(q, truth)
    assert same_bits(again, truth)
    assert same_bits(info.residual, figures.residual)
    assert same_bits(info.norm_bound, figures.norm_bound)


@pytest.mark.parametrize("shape", WAYS)
def test_work_is_queued_on_the_current_stream_of_cupy(cupy, shape):
    spin = cupy.RawKernel(
        'extern "C" __global__ void spin(long long n) {'
        " long long start = clock64(); while (clock64() - start < n) {} }",
        "spin",
    )
    spin((1,), (1,), (1,))
    given = cupy.asarray(np.random.default_rng(0).standard_normal(shape), dtype=cupy.float32)
    truth = gm.newton_schulz(given).get()
    x = cupy.full_like(given, cupy.nan)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        gm.newton_schulz(x, return_info=True)
        spin((1,), (1,), (TOO_LONG,))
        cupy.copyto(x, given)
        q, info = gm.newton_schulz(x, return_info=True)
        waited = stream.done
        assert type(q) is type(info.residual) is cupy.ndarray
    assert not waited
    stream.synchronize()
    np.testing.assert_array_equal(q.get(stream), truth)


def test_default_streams_of_cupy(cupy):
    x = cupy.asarray(np.random.default_rng(0).standard_normal((60, 90)))
    truth = gm.newton_schulz(x).get()
    for stream in (cupy.cuda.Stream.null, cupy.cuda.Stream.ptds):
        cupy.cuda.Device().synchronize()
        with stream:
            np.testing.assert_array_equal(gm.newton_schulz(x).get(), truth)


@pytest.mark.parametrize("shape", WAYS)
def test_memory_freed_while_work_is_queued_may_be_used_again(torch, shape):
    """Work space and inputs go back to the allocator at once; it keeps the order of the stream."""
    given = [sample(torch, shape, "float32", seed) for seed in range(4)]
    truths = [gm.newton_schulz(x) for x in given]
    torch.cuda.synchronize()
    torch.cuda._sleep(TOO_LONG)
    results = []
    for _ in range(3):
        for x in given:
            results.append(gm.newton_schulz(x.clone()))  # freed as soon as the call returns
            junk = [torch.full((n,), float("nan"), device="cuda") for n in (10, x.numel(), 10**6)]
            del junk
    for q, truth in zip(results, truths * 3, strict=True):
        assert same_bits(q, truth)


@pytest.mark.parametrize("shape", WAYS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_two_threads_on_two_streams(torch, shape, dtype):
    given = [sample(torch, shape, dtype, seed) for seed in range(2)]
    truths = [gm.newton_schulz(x, return_info=True) for x in given]
    torch.cuda.synchronize()
    start, failures = threading.Barrier(2), []

    def work(which):
        try:
            stream = torch.cuda.Stream()
            start.wait()
            with torch.cuda.stream(stream):
                results = [gm.newton_schulz(given[which], return_info=True) for _ in range(30)]
                stream.synchronize()
            for q, info in results:
                assert same_bits(q, truths[which][0])
                assert same_bits(info.residual, truths[which][1].residual)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# ---- Every shape of the product kernel ----------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 700, 900),
        (16, 1024, 1024),
        (1, 2048, 2048),
        (1, 4096, 4096),
        (1, 4100, 1030),
        (3, 1500, 4000),
        (1, 1416, 1416),
        (2, 1800, 1800),
        (2, 3000, 3000),
        (2, 4096, 4096),
    ],
)
def test_large_matrices_agree_with_float32(torch, shape, dtype, method):
    """Sizes and batches for which the kernel's tiles are of 64, 128, 192 and 256 columns, alone and
    in clusters, with edges within a tile and without.

    4 steps move rounding errors of half precision (2^-11 each) to 1e-3 to 3e-3 of the result in the
    standard form and about 1e-2 in the Gram form; on square Gaussian matrices, for which the Gram
    form is only taken by request, to 4.2e-2: it loses their smallest singular values. A wrong tile
    is an error of order 1 in its part.
    """
    square = shape[1] == shape[2]
    most = 1e-2 if method == "standard" else 8e-2 if square else 4e-2
    x = sample(torch, shape, dtype)
    q = gm.newton_schulz(x, 4, method=method)
    truth = gm.newton_schulz(x, 4, method="standard", compute_dtype="float32").float()
    part = 128 if min(shape[1:]) > 1000 else min(shape[1:])
    off = (q.float() - truth).square()
    for b in range(shape[0]):
        for i in range(0, shape[1], part):
            here = off[b, i : i + part].sum() / truth[b, i : i + part].square().sum()
            assert here.sqrt() < most
    assert same_bits(q, gm.newton_schulz(x, 4, method=method))


# ---- Graphs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", WAYS)
@pytest.mark.parametrize("method", METHODS)
def test_graph_capture_and_replay(torch, shape, dtype, method):
    x = sample(torch, shape, dtype)
    gm.newton_schulz(x, method=method, return_info=True)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        q, info = gm.newton_schulz(x, method=method, return_info=True)
    # Other scales and a zero matrix too: nothing that depends on the numbers may be baked in.
    for seed, scale in ((1, 1.0), (2, 2.0**-7), (3, 2.0**6), (4, 0.0)):
        given = sample(torch, shape, dtype, seed) * scale
        x.copy_(given)
        q.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        eager, figures = gm.newton_schulz(given, method=method, return_info=True)
        assert same_bits(q, eager)
        assert same_bits(info.residual, figures.residual)
        assert same_bits(info.norm_bound, figures.norm_bound)


def test_graph_capture_with_cupy(cupy):
    rng = np.random.default_rng(0)
    given = [cupy.asarray(rng.standard_normal((3, 40, 60)), dtype=cupy.float32) for _ in range(3)]
    x, out = cupy.zeros_like(given[0]), cupy.zeros_like(given[0])
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        gm.newton_schulz(x, out=out)
        stream.begin_capture()
        gm.newton_schulz(x, out=out)
        graph = stream.end_capture()
        for y in given:
            cupy.copyto(x, y)
            graph.launch(stream)
            stream.synchronize()
            got = out.get()
            np.testing.assert_array_equal(got, gm.newton_schulz(y).get())


# ---- The same bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 7), (300, 30, 20), (129, 127), (4, 200, 260), (640, 513),
                                   (1500, 96)])  # fmt: skip
@pytest.mark.parametrize("method", METHODS)
def test_repeated_calls_give_the_same_bits(torch, shape, dtype, method):
    x = sample(torch, shape, dtype)
    q, info = gm.newton_schulz(x, method=method, return_info=True)
    for _ in range(5):
        torch.full((10**6,), float("nan"), device="cuda")  # another content of freed memory
        p, other = gm.newton_schulz(x, method=method, return_info=True)
        assert same_bits(p, q)
        assert same_bits(other.residual, info.residual)
        assert same_bits(other.norm_bound, info.norm_bound)


@pytest.mark.parametrize("shape", WAYS)
@pytest.mark.parametrize("dtype", ["float16", *FLOATS])
def test_torch_and_cupy_give_the_same_bits(torch, cupy, shape, dtype):
    x = sample(torch, shape, dtype)
    q = gm.newton_schulz(x)
    p = gm.newton_schulz(cupy.asarray(x))
    assert type(p) is cupy.ndarray
    assert q.cpu().numpy().tobytes() == p.get().tobytes()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", WAYS)
def test_agrees_with_the_cpu(torch, shape, dtype, method):
    x = sample(torch, shape, dtype)
    q, info = gm.newton_schulz(x, method=method, return_info=True)
    p, host = gm.newton_schulz(x.cpu(), method=method, return_info=True)
    assert host.residual.dtype == info.residual.dtype
    close(x, q, p, info)
    torch.testing.assert_close(info.norm_bound.cpu(), host.norm_bound, rtol=1e-5, atol=0)
    torch.testing.assert_close(info.residual.cpu(), host.residual, rtol=1e-2, atol=1e-4)


# ---- Memory -------------------------------------------------------------------------------------


def test_nothing_stays_allocated(torch):
    x = sample(torch, (4, 500, 600))
    gm.newton_schulz(x, return_info=True)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    q = gm.newton_schulz(x)
    rounding = 512  # bytes, of torch's allocator
    assert torch.cuda.memory_allocated() - before <= q.nbytes + rounding
    del q
    assert torch.cuda.memory_allocated() == before


def test_out_of_memory_in_torch(torch):
    """Room for the result and not for the work space: torch's own exception, and life goes on."""
    x = sample(torch, (4096, 4096))
    truth = gm.newton_schulz(x[:64, :64])
    out = torch.full_like(x, 7.25)
    gc.collect()
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_reserved() + x.nbytes // 8
    try:
        torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.mem_get_info()[1])
        for kwargs in ({}, {"out": out}, {"out": out, "return_info": True}):
            with pytest.raises(torch.OutOfMemoryError):
                gm.newton_schulz(x, **kwargs)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert bool((out == 7.25).all())
    assert same_bits(gm.newton_schulz(x[:64, :64]), truth)
    assert torch.isfinite(gm.newton_schulz(x)).all()


def test_out_of_memory_in_cupy(cupy):
    x = cupy.asarray(np.random.default_rng(0).standard_normal((2048, 2048)))
    out = cupy.zeros_like(x)
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    try:
        pool.set_limit(size=pool.total_bytes() + x.nbytes // 8)
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
            gm.newton_schulz(x, out=out)
    finally:
        pool.set_limit(size=0)
    assert cupy.isfinite(gm.newton_schulz(x, out=out)).all()


# ---- Arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", WAYS)
def test_check_finite(torch, shape, dtype, bad):
    x = sample(torch, shape, dtype)
    assert same_bits(gm.newton_schulz(x, check_finite=True), gm.newton_schulz(x))
    x[-1, 3, 5] = bad
    out = torch.full_like(x, 7.25)
    with pytest.raises(ValueError, match=r"(?i)\bx\b.*nan"):
        gm.newton_schulz(x, out=out, check_finite=True)
    assert bool((out == 7.25).all())
    before = x.clone()
    with pytest.raises(ValueError, match=r"\bx\b"):
        gm.newton_schulz(x, out=x, check_finite=True)
    assert torch.equal(torch.isnan(x), torch.isnan(before))
    for unchecked in (None, False):
        q = gm.newton_schulz(x, check_finite=unchecked)
        assert torch.isnan(q[-1]).all()
        assert torch.isfinite(torch.view_as_real(q[:-1]) if q.is_complex() else q[:-1]).all()


def test_figures_are_on_the_device(torch):
    for dtype in DTYPES:
        _, info = gm.newton_schulz(sample(torch, (2, 3, 20, 30), dtype), return_info=True)
        for figure in (info.residual, info.norm_bound):
            assert figure.is_cuda
            assert figure.shape == (2, 3)
            assert dtype_name(figure) == (
                "float64" if dtype in ("float64", "complex128") else "float32"
            )


@pytest.mark.parametrize(("dtype", "compute"), [
    ("float64", "tf32"), ("complex128", "tf32"), ("float32", "float16"), ("float32", "half"),
    ("float16", "float16"), ("bfloat16", "bfloat16"), ("float32", "complex64"),
])  # fmt: skip
def test_compute_dtypes_that_are_not_for_a_gpu(torch, dtype, compute):
    x = sample(torch, (4, 5), dtype)
    with pytest.raises(ValueError, match=rf"compute_dtype.*{compute}.*{dtype}.*GPU.*float32"):
        gm.newton_schulz(x, compute_dtype=compute)


def test_arrays_of_two_devices_or_libraries(torch, cupy):
    x = sample(torch, (4, 5))
    for out in (torch.zeros(4, 5), torch.zeros(4, 5, pin_memory=True)):
        with pytest.raises(ValueError, match=r"\bout\b.*device.*cuda"):
            gm.newton_schulz(x, out=out)
        with pytest.raises(ValueError, match=r"\bout\b.*device.*cpu"):
            gm.newton_schulz(out, out=x)
    for out in (cupy.zeros((4, 5), cupy.float32), np.zeros((4, 5), np.float32)):
        with pytest.raises(TypeError, match=r"\bout\b"):
            gm.newton_schulz(x, out=out)


def test_array_that_only_has_dlpack_gives_a_cupy_array(torch, cupy):
    x = sample(torch, (6, 9))
    for known_by_capsule in (
        DLPackOnly(x),
        DLPackOnly(cupy.asarray(x)),
        DLPackOnly(x, legacy=True),
    ):
        q = gm.newton_schulz(known_by_capsule)
        assert type(q) is cupy.ndarray
        assert q.get().tobytes() == gm.newton_schulz(x).cpu().numpy().tobytes()


def test_requires_grad_is_never_silently_detached(torch):
    x = sample(torch, (4, 6)).requires_grad_()
    assert gm.newton_schulz(x).requires_grad
    with pytest.raises(TypeError, match=r"\ba\b.*requires grad"):
        gm.rsvd(x, 2)
    with torch.no_grad():
        assert same_bits(gm.newton_schulz(x), gm.newton_schulz(x.detach()))


def test_autograd_sees_that_out_was_written(torch):
    x, out = sample(torch, (3, 3)), torch.ones(3, 3, device="cuda")
    weight = torch.ones(3, 3, device="cuda", requires_grad=True)
    loss = (weight * out).sum()
    gm.newton_schulz(x, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("shape", WAYS)
def test_a_device_that_is_not_the_current_one(torch, shape):
    if torch.cuda.device_count() < 2:
        pytest.skip("one device only")
    x = sample(torch, shape)
    other = x.to("cuda:1")
    q = gm.newton_schulz(other)
    assert q.device.index == 1
    assert torch.cuda.current_device() == 0
    if torch.cuda.get_device_name(0) == torch.cuda.get_device_name(1):
        assert same_bits(q, gm.newton_schulz(x))
    with pytest.raises(ValueError, match=r"\bout\b.*device"):
        gm.newton_schulz(other, out=x)
