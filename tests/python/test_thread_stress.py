"""Many Python threads at once: every function, shared estimators."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import gramian as gm
import numpy as np
import pytest

pytestmark = pytest.mark.thread_unsafe  # each makes threads of its own


def at_once(tasks):
    """Results of the tasks, each in a thread of its own, all let go at the same moment."""
    start = threading.Barrier(len(tasks))

    def run(task):
        start.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(run, task) for task in tasks]]


def arrays(result):
    """All that a result holds, as bytes."""
    if isinstance(result, np.ndarray):
        return result.tobytes()
    if isinstance(result, tuple | list):
        return tuple(map(arrays, result))
    if hasattr(result, "__dataclass_fields__"):
        return tuple(arrays(getattr(result, name)) for name in result.__dataclass_fields__)
    return repr(result)


def streamed(estimator, rows):
    for batch in np.array_split(rows, 5):
        estimator.partial_fit(batch)
    return estimator.components_, estimator.certificate_, estimator.explained_variance_


def functions():
    """Every public function of arrays, as name -> (call, input)."""
    rng = np.random.default_rng(0)
    one = rng.standard_normal((40, 30))
    large = rng.standard_normal((300, 280)).astype("f4")
    batch = rng.standard_normal((12, 20, 20)).astype("c8")
    square = rng.standard_normal((60, 60))
    spd = square @ square.T + 60 * np.eye(60)
    weight = rng.standard_normal((6, 5, 3, 3))
    rows = rng.standard_normal((700, 24))
    z = rng.standard_normal((30, 6))
    calls = {}
    for name, x in (("one", one), ("large", large), ("batch", batch)):
        calls |= {
            f"newton_schulz {name}": (gm.newton_schulz, x),
            f"polar {name}": (gm.polar, x),
            f"spectral_clip {name}": (lambda a: gm.spectral_clip(a, 5.0), x),
            f"gram_bound {name}": (gm.gram_bound, x),
            f"spectral_norm {name}": (gm.spectral_norm, x),
            f"spectral_norm_bounds {name}": (gm.spectral_norm_bounds, x),
            f"stable_rank {name}": (gm.stable_rank, x),
            f"rsvd {name}": (lambda a: gm.rsvd(a, 4, rng=0), x),
        }
    return calls | {
        "matrix_sign": (gm.matrix_sign, square + square.T),
        "inverse_root": (lambda a: gm.inverse_root(a, 4), spd),
        "sqrt_psd": (gm.sqrt_psd, spd),
        "nystrom_eigh": (lambda a: gm.nystrom_eigh(a, 5, rng=0), spd),
        "range_finder": (lambda a: gm.range_finder(a, 6, rng=0), one),
        "operator_norm_bounds": (lambda a: gm.operator_norm_bounds(
            (lambda v: a @ v, lambda u: a.T @ u, a.shape, a.dtype), rng=0), one),
        "conv": (lambda w: gm.conv_spectral_norm_bounds(w, input_size=8), weight),
        "rsvd_partial": (lambda a: gm.rsvd_finish([gm.rsvd_partial(a, z, row_offset=0)]), one),
        "compat": (lambda a: gm.compat.randomized_svd(a, 3, random_state=0), one),
        "coefficients": (lambda _: gm.coefficients.lint(gm.coefficients.polar_express(1e-3, 6)),
                         None),
        "oja": (lambda x: streamed(gm.OjaTopEigenvector(24, rng=0), x), rows),
        "block_oja": (lambda x: streamed(gm.BlockOja(24, 3, rng=0), x), rows),
        "frequent_directions": (lambda x: streamed(gm.FrequentDirections(24, 6), x), rows),
        "random_order": (lambda x: streamed(gm.RandomOrderTopEigenvector(24, rng=0), x), rows),
    }  # fmt: skip


@pytest.fixture
def limit():
    before = gm.get_num_threads()
    yield
    gm.set_num_threads(before)


def test_every_function_from_eight_threads_while_the_limit_changes(limit):
    """Inputs are shared, each call has its own results; they are the bits of serial calls."""
    calls = functions()
    gm.set_num_threads(1)
    truth = {name: arrays(call(x)) for name, (call, x) in calls.items()}
    stop = threading.Event()

    def change():
        for n in itertools.cycle((1, 4, 2, 8, 3)):
            gm.set_num_threads(n)
            if stop.wait(1e-3):
                return

    def work(turn):
        order = list(calls)[turn:] + list(calls)[:turn]
        found = {}
        for name in order * 2:
            call, x = calls[name]
            found.setdefault(name, set()).add(arrays(call(x)))
            with pytest.raises((TypeError, ValueError)):  # an error between the calls
                gm.newton_schulz(np.full((3, 3), np.nan))
        return found

    changer = threading.Thread(target=change)
    changer.start()
    try:
        results = at_once([lambda t=t: work(4 * t) for t in range(8)])
    finally:
        stop.set()
        changer.join()
    for found in results:
        assert found.keys() == truth.keys()
        for name, bits in found.items():
            assert bits == {truth[name]}, name


def test_results_of_threads_go_to_their_own_out():
    xs = [np.random.default_rng(i).standard_normal((i + 1, 16, 12)) for i in range(8)]
    outs = [np.empty_like(x) for x in xs]

    def work(i):
        for _ in range(20):
            gm.newton_schulz(xs[i], out=outs[i])

    at_once([lambda i=i: work(i) for i in range(8)])
    for x, out in zip(xs, outs, strict=True):
        assert out.tobytes() == gm.newton_schulz(x).tobytes()


# ---- Estimators that threads share --------------------------------------------------------------

ESTIMATORS = [
    lambda: gm.OjaTopEigenvector(16, rng=0),
    lambda: gm.BlockOja(16, 2, rng=0),
    lambda: gm.FrequentDirections(16, 5),
    lambda: gm.RandomOrderTopEigenvector(16, rng=0),
]


@pytest.mark.parametrize("make", ESTIMATORS)
def test_an_estimator_takes_the_batches_of_many_threads_one_by_one(make):
    """Batches are alike, so that their order does not matter: the bits are those of one thread."""
    batch = np.random.default_rng(0).standard_normal((50, 16))
    batch[:, 0] *= 9
    serial = make()
    for _ in range(8 * 30):
        serial.partial_fit(batch)
    shared = make()

    def work():
        for _ in range(30):
            shared.partial_fit(batch)

    at_once([work] * 8)
    assert shared.n_samples_seen_ == 8 * 30 * 50
    assert shared.components_.tobytes() == serial.components_.tobytes()
    assert shared.certificate_ == serial.certificate_
    assert shared.frobenius_squared_ == serial.frobenius_squared_


@pytest.mark.parametrize("make", ESTIMATORS)
def test_readers_see_the_state_between_two_batches(make):
    """Reading, copying, pickling and forgetting, while others go on with rows."""
    batch = np.zeros((48, 16))
    batch[:, 3] = 2.0  # so that the sum of squares tells the number of rows
    shared = make().partial_fit(batch)
    stop = time.monotonic() + 0.5

    def write():
        while time.monotonic() < stop:
            shared.partial_fit(batch)

    def check(estimator):
        state = estimator.state_dict()["state"]
        assert state["n_samples"] % 48 == 0
        other = make().load_state_dict(estimator.state_dict())
        assert other.frobenius_squared_ == 4.0 * other.n_samples_seen_
        assert abs(other.components_[0, 3]) == pytest.approx(1)

    def read():
        while time.monotonic() < stop:
            check(shared)
            check(copy.deepcopy(shared))
            check(copy.copy(shared))
            for protocol in (1, 5):
                check(pickle.loads(pickle.dumps(shared, protocol)))
            assert np.isfinite(shared.components_).all()

    at_once([write] * 3 + [read] * 3)
    check(shared)


def test_a_copy_has_a_state_of_its_own():
    first = gm.FrequentDirections(4, 2).partial_fit(np.eye(4))
    second = copy.copy(first).partial_fit(np.eye(4))
    assert (first.n_samples_seen_, second.n_samples_seen_) == (4, 8)
    assert first.frobenius_squared_ == 4


def test_sketches_merge_both_ways_at_once():
    rng = np.random.default_rng(0)
    a, b = (gm.FrequentDirections(10, 4).partial_fit(rng.standard_normal((60, 10))) for _ in "ab")
    truth = {True: arrays(a.merge(b).sketch_), False: arrays(b.merge(other=a).sketch_)}

    def work(forth):
        first, second = (a, b) if forth else (b, a)
        return {arrays(first.merge(other=second).sketch_) for _ in range(100)}

    found = at_once([lambda forth=i % 2 == 0: work(forth) for i in range(8)])
    for i, bits in enumerate(found):
        assert bits == {truth[i % 2 == 0]}


def test_failed_batches_leave_a_shared_estimator_as_it_is():
    shared = gm.BlockOja(8, 2, rng=0).partial_fit(np.eye(8))
    bad = np.full((3, 8), np.inf)

    def work():
        for _ in range(50):
            with pytest.raises(ValueError, match="X"):
                shared.partial_fit(bad)
            shared.partial_fit(np.eye(8))

    at_once([work] * 6)
    assert shared.n_samples_seen_ == 8 * (1 + 6 * 50)
    assert shared.frobenius_squared_ == 8 * (1 + 6 * 50)


def test_an_interrupted_call_leaves_no_lock_taken(run_python):
    """As by Ctrl-C, at any moment; a merge takes two locks."""
    code = """
import random, signal, threading, time, numpy as np, gramian as gm
a, b = (gm.FrequentDirections(6, 2).partial_fit(np.eye(6)) for _ in "ab")
class Stop(BaseException): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
taken = []
def look():
    for one in (a, b):
        free = one._lock.acquire(blocking=False)
        taken.append(not free)
        if free: one._lock.release()
for _ in range(1000):
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-6 + 3e-5 * random.random())
        for _ in range(10):
            a.merge(b)
        time.sleep(1e-3)
    except Stop:
        pass
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
print(len(taken), any(taken))
"""
    assert run_python(code).split() == ["2000", "False"]


def test_a_method_of_a_subclass_keeps_nobody_out():
    """It may wait for rows, and merge with others in a loop, each in its own order."""

    class Mine(gm.FrequentDirections):
        def follow(self, batches):
            for batch in iter(batches.get, None):
                self.partial_fit(batch)

        def absorb(self, others):
            return [self.merge(other) for other in others * 500]

    batches = queue.Queue()
    one, two = (Mine(4, 2).partial_fit(np.eye(4)) for _ in "ab")
    follower = threading.Thread(target=one.follow, args=(batches,), daemon=True)
    reader = threading.Thread(target=lambda: one.n_samples_seen_, daemon=True)
    follower.start()
    reader.start()
    reader.join(20)
    assert not reader.is_alive()
    batches.put(None)
    follower.join()
    pairs = [(one, two), (two, one)] * 2
    mergers = [threading.Thread(target=a.absorb, args=([b],), daemon=True) for a, b in pairs]
    for thread in mergers:
        thread.start()
    for thread in mergers:
        thread.join(60)
        assert not thread.is_alive()


def test_a_subclass_may_have_more_than_methods():
    class Mine(gm.FrequentDirections):
        root = math.sqrt

        @staticmethod
        def doubled(x):
            return 2 * x

        @classmethod
        def of(cls, width):
            return cls(width, 2)

        def rows(self):
            return self.n_samples_seen_

    mine = Mine.of(3).partial_fit(np.eye(3))
    assert (mine.root(4.0), mine.doubled(2), Mine.doubled(2), mine.rows()) == (2, 4, 4, 3)
