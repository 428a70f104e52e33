"""Memory of a randomized SVD of row blocks, and a run over a file larger than it may take."""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc

import gramian as gm
import numpy as np
import pytest

pytestmark = pytest.mark.thread_unsafe

MIB = 2**20


class File:
    """Rows of a float32 matrix in a file, read block by block into new arrays."""

    def __init__(self, path, columns, rows):
        self.path, self.columns, self.rows = path, columns, rows

    def __iter__(self):
        with open(self.path, "rb") as file:
            while True:
                block = np.fromfile(file, np.float32, self.rows * self.columns)
                if block.size == 0:
                    return
                yield block.reshape(-1, self.columns)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """64 MiB: 40960 x 400, of rank 5 and noise."""
    path = tmp_path_factory.mktemp("rows") / "a.f32"
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.standard_normal((400, 5)))[0].T * [[5], [4], [3], [2], [1]]
    with open(path, "wb") as out:
        for _ in range(40):
            rows = rng.standard_normal((1024, 5)) @ directions
            rows += 0.01 * rng.standard_normal((1024, 400))
            rows.astype(np.float32).tofile(out)
    return File(path, 400, 1024)


M, N, RANK, SIZE = 40960, 400, 8, 18
# One block, which is one tile, and as much for what is made of it; 2^17 entries in double, Python.
BLOCKS = 2 * 1024 * N * 4 + 2 * MIB


def peak(call):
    gc.collect()
    tracemalloc.start()
    try:
        result = call()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", ["subspace", "single_pass", "auto"])
def test_memory_is_that_of_tall_thin_matrices(file, method, center):
    """Y twice and Q once in float32, U; a few matrices of n x l in double."""
    result, used = peak(lambda: gm.rsvd(file, RANK, method=method, center=center))
    assert result.info.error_estimate < 0.05
    allowed = 4 * M * (2 * SIZE + 2 * RANK) + 8 * 12 * N * SIZE + BLOCKS
    if result.info.method == "gram":
        allowed += 8 * 6 * N * N
    assert used <= allowed < M * N * 4 / 2


def test_krylov_takes_a_basis_for_each_read(file):
    result, used = peak(lambda: gm.rsvd(file, RANK, method="krylov", passes=3))
    assert used <= 3 * (4 * M * (2 * SIZE + 2 * RANK) + 8 * 12 * N * SIZE) + BLOCKS
    assert result.info.passes == 3


def test_a_proof_takes_double_precision(file):
    result, used = peak(lambda: gm.rsvd(file, tol=0.05))
    assert result.info.rank == 5
    # Y and its Q, U and A V of rank 5 in float64, before U in float32; A^H A.
    assert used <= 8 * M * 5 * 8 + 8 * 6 * N * N + 2 * BLOCKS
    u, s, vh = result
    error = total = 0.0
    for i, block in enumerate(file):
        rows = slice(1024 * i, 1024 * i + 1024)
        error += np.linalg.norm(block - (u[rows].astype(np.float64) * s) @ vh) ** 2
        total += np.linalg.norm(block.astype(np.float64)) ** 2
    assert np.sqrt(error / total) <= result.info.error_estimate <= 0.05


def test_a_generator_of_large_blocks_holds_one_at_a_time():
    """2 blocks of 31 MiB: never both at once, for all that is made of them."""

    def blocks():
        rng = np.random.default_rng(0)
        for _ in range(2):
            yield rng.random((20480, 400), dtype=np.float32)

    _, used = peak(lambda: gm.rsvd(blocks(), RANK, method="single_pass"))
    one = 20480 * 400 * 4
    assert used <= one + 4 * M * (2 * SIZE + 2 * RANK) + 8 * 12 * N * SIZE + 9 * MIB < 2 * one


PROGRAM = """
import json, sys, numpy as np, gramian as gm
def status(key):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key))
def anonymous():  # without the pages of the file, which the system drops as it likes
    return status("RssAnon")
import threading, time
a = np.memmap({path!r}, np.float32, "r", shape=(40960, 400))
blocks = [a[i : i + 2048] for i in range(0, 40960, 2048)]
gm.rsvd([np.ones((64, 32), np.float32)], 2)
start, top, done = anonymous(), 0, False
def watch():
    global top
    while not done:
        top = max(top, anonymous())
        time.sleep(0.001)
watcher = threading.Thread(target=watch)
watcher.start()
result = gm.rsvd(blocks, 8, method="subspace", passes=3)
done = True
watcher.join()
print(json.dumps({{"grown": top - start, "passes": result.info.passes,
                   "S": result.S.tolist(), "kind": result.info.error_kind}}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resident_memory_over_a_mapped_file(file, run_python):
    """Views of a mapped file are not copied: 64 MiB of matrix, in less than half of it."""
    found = json.loads(run_python(PROGRAM.format(path=str(file.path)), MALLOC_ARENA_MAX="1",
                                  OPENBLAS_NUM_THREADS="1"))  # fmt: skip
    assert found["passes"] == 3
    assert found["grown"] <= 4 * M * (2 * SIZE + 2 * RANK) + 8 * 12 * N * SIZE + BLOCKS + 8 * MIB
    assert found["grown"] < M * N * 4 / 2
    np.testing.assert_allclose(found["S"][:5], gm.rsvd(file, 5).S, rtol=1e-5)
