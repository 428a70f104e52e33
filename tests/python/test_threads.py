"""Threads: same bits from a pool as in series, limits obeyed, none left over, fork survives."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import gramian as gm
import numpy as np
import pytest

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
two_cores = pytest.mark.skipif(CORES < 2, reason="needs two cores")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc or forks")


@pytest.fixture
def threads():
    """Restores the number of threads after the test."""
    before = gm.get_num_threads()
    yield gm
    gm.set_num_threads(before)


def inputs():
    rng = np.random.default_rng(0)
    shapes = [(300, 200), (64, 64), (16, 32, 32), (3, 5), (200, 700), (8, 130, 128), (40, 8, 12)]
    return [rng.standard_normal(s).astype(t) for s in shapes for t in ("f4", "f8", "c8")]


@pytest.mark.thread_unsafe
@pytest.mark.parametrize("method", ["standard", "gram"])
def test_pool_of_eight_gives_the_bits_of_serial_calls(method):
    xs = inputs()
    serial = [gm.newton_schulz(x, method=method) for x in xs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            pooled = list(pool.map(lambda x: gm.newton_schulz(x, method=method), xs))
            for a, b in zip(serial, pooled, strict=True):
                assert a.tobytes() == b.tobytes()


@pytest.mark.concurrent
@pytest.mark.parametrize("shape", [(50, 80), (12, 20, 20), (180, 160), (300, 260), (8, 130, 128)])
def test_repeated_calls_give_the_same_bits(shape):
    """Also what many threads at once run, under --parallel-threads. The last two shapes are large
    enough for the kernels' own threads: one matrix shared, a batch dealt out."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    first = gm.newton_schulz(x)
    for _ in range(5):
        assert gm.newton_schulz(x).tobytes() == first.tobytes()


@pytest.mark.thread_unsafe
def test_two_large_concurrent_calls():
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((700, 800)).astype(np.float32) for _ in range(2)]
    serial = [gm.newton_schulz(x) for x in xs]
    barrier = threading.Barrier(2)

    def call(x):
        barrier.wait()
        return [gm.newton_schulz(x) for _ in range(3)]

    with ThreadPoolExecutor(2) as pool:
        for truth, results in zip(serial, pool.map(call, xs), strict=True):
            assert all(r.tobytes() == truth.tobytes() for r in results)


@pytest.mark.thread_unsafe
def test_the_gil_is_released():
    """Another Python thread gets on with its work during one long call."""
    x = np.random.default_rng(0).standard_normal((900, 900))
    gm.newton_schulz(x[:64, :64])
    ticks, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            ticks[0] += 1
            stop.wait(1e-3)

    worker = threading.Thread(target=count)
    worker.start()
    try:
        while ticks[0] == 0:
            stop.wait(1e-3)
        before = ticks[0]
        gm.newton_schulz(x, 8)
        during = ticks[0] - before
    finally:
        stop.set()
        worker.join()
    assert during >= 5


@pytest.mark.thread_unsafe
def test_set_and_get(threads):
    for n in (1, 2, 3, 1):
        threads.set_num_threads(n)
        assert threads.get_num_threads() == n
    threads.set_num_threads(np.int64(2))
    assert threads.get_num_threads() == 2
    assert type(threads.get_num_threads()) is int


@pytest.mark.thread_unsafe
@pytest.mark.parametrize(("bad", "error"), [
    (0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (None, TypeError),
    (True, TypeError), (4097, ValueError), (2**70, ValueError),
])  # fmt: skip
def test_bad_number_of_threads(threads, bad, error):
    before = threads.get_num_threads()
    with pytest.raises(error, match=r"\bn\b"):
        threads.set_num_threads(bad)
    assert threads.get_num_threads() == before


@pytest.mark.thread_unsafe
@pytest.mark.parametrize("shape", [(20, 30), (40, 24, 24), (300, 260), (120, 900)])
@pytest.mark.parametrize("method", ["standard", "gram"])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_one_and_two_threads_give_the_same_bits(threads, shape, method, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    results = []
    for n in (1, 2):
        threads.set_num_threads(n)
        results.append(gm.newton_schulz(x, method=method))
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.thread_unsafe
@pytest.mark.parametrize("shape", [(200, 20000), (1, 20000, 200)])
@pytest.mark.parametrize("method", ["standard", "gram"])
def test_one_long_matrix_gives_the_same_bits_on_one_and_two_threads(threads, shape, method):
    """Its short side is that of a batch's matrix, its work enough to be shared."""
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    results = []
    for n in (1, 2):
        threads.set_num_threads(n)
        results.append(gm.newton_schulz(x, 3, method=method))
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize("env", [
    {"OMP_NUM_THREADS": "1"},
    {"OPENBLAS_NUM_THREADS": "1"},
    {"GRAMIAN_NUM_THREADS": "1"},
    {"GRAMIAN_NUM_THREADS": "1", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
])  # fmt: skip
def test_environment_sets_one_thread(run_python, env):
    assert run_python("import gramian as gm; print(gm.get_num_threads())", **env).strip() == "1"


@two_cores
@pytest.mark.parametrize("env", [
    {"OMP_NUM_THREADS": "2"},
    {"OPENBLAS_NUM_THREADS": "2"},
    {"GRAMIAN_NUM_THREADS": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
])  # fmt: skip
def test_environment_sets_two_threads(run_python, env):
    assert run_python("import gramian as gm; print(gm.get_num_threads())", **env).strip() == "2"


def test_default_is_the_cores_this_process_may_use(run_python):
    assert int(run_python("import gramian as gm; print(gm.get_num_threads())")) == CORES


@linux
@two_cores
def test_default_follows_the_affinity(run_python):
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
    code += "import gramian as gm; print(gm.get_num_threads())"
    assert run_python(code).strip() == "1"


@pytest.mark.parametrize("bad", ["", "many", "0", "-3"])
def test_nonsense_in_the_environment_is_no_crash(run_python, bad):
    code = "import gramian as gm, numpy as np; gm.newton_schulz(np.eye(3));"
    code += "print(gm.get_num_threads())"
    assert int(run_python(code, GRAMIAN_NUM_THREADS=bad, OMP_NUM_THREADS=bad)) >= 1


@two_cores
@pytest.mark.thread_unsafe
def test_threadpoolctl_governs_the_kernels(threads):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    threads.set_num_threads(2)
    with threadpoolctl.threadpool_limits(1):
        assert threads.get_num_threads() == 1
        gm.newton_schulz(np.eye(20))
        assert threads.get_num_threads() == 1
    assert threads.get_num_threads() == 2


@linux
@two_cores
def test_one_thread_uses_one_core(run_python):
    """CPU time of the process over wall time, on work that two threads would share."""
    code = """
import time, numpy as np, gramian as gm
x = np.random.default_rng(0).standard_normal((900, 900)).astype("f4")
gm.newton_schulz(x)
t, c = time.perf_counter(), time.process_time()
for _ in range(4): gm.newton_schulz(x)
print((time.process_time() - c) / (time.perf_counter() - t))
"""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GRAMIAN_NUM_THREADS"):
        assert float(run_python(code, **{name: "1"})) < 1.15


@linux
@pytest.mark.parametrize("limit", [1, 2, 4])
def test_threads_stay_few_when_called_from_a_pool(run_python, limit):
    """While a pool of 8 works, and after it, the only new operating-system threads besides the
    pool's are the kernels' n - 1 workers, shared by all callers."""
    code = """
import os, time, numpy as np, gramian as gm
from concurrent.futures import ThreadPoolExecutor
tasks = lambda: len(os.listdir("/proc/self/task"))
xs = [np.random.default_rng(i).standard_normal((200, 300)) for i in range(16)]
xs += [np.random.default_rng(i).standard_normal((20, 40, 40)) for i in range(16)]
xs += [np.random.default_rng(i).standard_normal((300, 260)) for i in range(4)]
before, peak = tasks(), 0
with ThreadPoolExecutor(8) as pool:
    for _ in range(3):
        for _ in pool.map(gm.newton_schulz, xs):
            peak = max(peak, tasks())
gm.newton_schulz(xs[-1])  # a call that has all the workers to itself
time.sleep(0.2)  # threads that have just ended may still be listed
print(before, peak, tasks())
"""
    before, peak, after = map(int, run_python(code, GRAMIAN_NUM_THREADS=str(limit)).split())
    assert peak <= before + 8 + limit - 1
    assert after == before + limit - 1


@linux
@pytest.mark.parametrize("threads", ["1", "2"])
def test_fork_after_a_call(run_python, threads):
    """A child of fork has none of its parent's threads, and must not wait for them."""
    code = """
import multiprocessing, sys, numpy as np, gramian as gm
x = np.random.default_rng(0).standard_normal((300, 260)).astype("f4")
y = np.random.default_rng(0).standard_normal((64, 24, 24)).astype("f4")
truth = gm.newton_schulz(x).tobytes() + gm.newton_schulz(y).tobytes()
def child(queue):
    queue.put(gm.newton_schulz(x).tobytes() + gm.newton_schulz(y).tobytes() == truth)
context = multiprocessing.get_context("fork")
for _ in range(3):
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    assert queue.get(timeout=30)
    process.join(30)
    assert process.exitcode == 0
assert gm.newton_schulz(x).tobytes() + gm.newton_schulz(y).tobytes() == truth
print("ok")
"""
    assert run_python(code, GRAMIAN_NUM_THREADS=threads).strip() == "ok"


@linux
def test_threads_that_end_leave_nothing(run_python):
    """280 short-lived callers: neither threads nor memory pile up."""
    code = """
import os, threading, time, numpy as np, gramian as gm
def tasks():
    time.sleep(0.5)  # a joined thread stays listed until the kernel has taken it down
    return len(os.listdir("/proc/self/task"))
def rss(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
x = np.random.default_rng(0).standard_normal((140, 150)).astype("f4")
def wave():
    ts = [threading.Thread(target=gm.newton_schulz, args=(x,)) for _ in range(8)]
    for t in ts: t.start()
    for t in ts: t.join()
for _ in range(10): wave()
base, before = rss(), tasks()
for _ in range(25): wave()
print(rss() - base, tasks() - before)
"""
    grown, tasks = map(int, run_python(code).split())
    assert tasks == 0
    assert grown < 16 * 2**20


def test_errors_in_threads_stay_in_their_call():
    x = np.ones((20, 20))
    bad = np.full((20, 20), np.nan)

    def call(i):
        with contextlib.suppress(ValueError):
            gm.newton_schulz(bad)
        return gm.newton_schulz(x).tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(call, range(64)))) == 1
