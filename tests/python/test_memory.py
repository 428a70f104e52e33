"""Peak memory, as documented: besides input and output at most 4 m^2 elements of the precision
computed in, m the shorter side, packing buffers of a few hundred times m, and m n more only where
the result cannot be computed in place.

Measured as the high-water mark of the resident set in a fresh process, less what was resident
before the call (the input is). The C allocator is told to give everything back at once, so that
memory kept between calls is memory the library keeps.
"""

from __future__ import annotations

import json
import sys

import pytest

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
    pytest.mark.thread_unsafe,
]

MIB = 2**20
# Page granularity, workspace rounded up to huge pages of 2 MiB, thread stacks, Python objects.
SLACK = 4 * MIB

PROGRAM = """
import json, os, numpy as np, gramian as gm
def status(key):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key))
gm.set_num_threads({threads})
x = np.random.default_rng(0).random({shape}, dtype=np.float32)
x -= np.float32(0.5)
{prepare}
gm.newton_schulz(np.random.default_rng(1).random((64, 64), dtype=np.float32))
start = status("VmRSS")
q = gm.newton_schulz(x, steps=2, {options}); del q
first, kept = status("VmHWM") - start, status("VmRSS") - start
base = status("VmRSS")
q = gm.newton_schulz(x, steps=2, {options})
print(json.dumps({{"first": first, "kept": kept, "growth": status("VmHWM") - base}}))
"""


def measure(run_python, shape, options="method='auto'", prepare="", threads=1):
    code = PROGRAM.format(shape=shape, options=options, prepare=prepare, threads=threads)
    # Fixed thresholds switch off malloc's habit of keeping freed blocks.
    return json.loads(run_python(code, MALLOC_MMAP_THRESHOLD_="65536",
                                 MALLOC_TRIM_THRESHOLD_="65536", MALLOC_ARENA_MAX="1"))  # fmt: skip


def work(m, n, itemsize=4, threads=1, *, in_place=True):
    """Bytes of the documented work space, in elements of the precision computed in."""
    m, n = min(m, n), max(m, n)
    return itemsize * (4 * m * m + (512 + 192 * threads) * m + (0 if in_place else m * n))


def check(found, allowed):
    assert found["growth"] <= allowed + SLACK
    assert found["first"] <= allowed + SLACK
    assert found["kept"] <= SLACK


SQUARE, WIDE, TALL = (2048, 2048), (512, 8192), (8192, 512)
ENTRIES = 2048**2  # of each of them


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", ["standard", "gram"])
@pytest.mark.parametrize("shape", [SQUARE, WIDE, TALL])
def test_peak_of_one_matrix(run_python, shape, method, threads):
    found = measure(run_python, shape, f"method={method!r}", threads=threads)
    check(found, 4 * ENTRIES + work(*shape, threads=threads))


@pytest.mark.parametrize("shape", [SQUARE, WIDE])
def test_peak_in_half_precision(run_python, shape):
    """Output of 2 bytes an entry; the work, a copy of x among it, is float32."""
    found = measure(run_python, shape, prepare="x = x.astype(np.float16)")
    check(found, 2 * ENTRIES + work(*shape, in_place=False))


def test_peak_in_another_compute_dtype(run_python):
    found = measure(run_python, WIDE, "compute_dtype='float64'")
    check(found, 4 * ENTRIES + work(*WIDE, itemsize=8, in_place=False))


@pytest.mark.parametrize("threads", [1, 2])
def test_column_major_input_is_not_copied(run_python, threads):
    found = measure(run_python, WIDE, prepare="x = np.asfortranarray(x)", threads=threads)
    assert found["growth"] <= 4 * ENTRIES + work(*WIDE, threads=threads) + SLACK


def test_transposed_view_is_not_copied(run_python):
    check(measure(run_python, WIDE, prepare="x = x.T"), 4 * ENTRIES + work(*WIDE))


def test_check_finite_makes_no_copy(run_python):
    check(measure(run_python, SQUARE, "check_finite=True"), 4 * ENTRIES + work(*SQUARE))


def test_info_costs_no_more(run_python):
    check(measure(run_python, SQUARE, "return_info=True"), 4 * ENTRIES + work(*SQUARE))


def test_batch_of_large_matrices_shares_one_workspace(run_python):
    """Output for all, workspace for one."""
    check(measure(run_python, (6, 700, 700)), 4 * 6 * 700**2 + work(700, 700))


def test_batch_of_small_matrices_needs_hardly_more_than_its_output(run_python):
    check(measure(run_python, (2048, 64, 64)), 4 * 2048 * 64**2)


@pytest.mark.parametrize("shape", [SQUARE, WIDE, TALL])
def test_out_saves_the_output(run_python, shape):
    check(measure(run_python, shape, "out=x"), work(*shape))


def test_out_that_is_the_transposed_input_costs_one_copy(run_python):
    """Entries would be written before they are read."""
    check(measure(run_python, SQUARE, "out=x.T"), 4 * ENTRIES + work(*SQUARE))


def test_out_with_neither_rows_nor_columns_adjacent_costs_one_matrix(run_python):
    prepare = "out = np.zeros((1024, 8192), np.float32)[::2, ::2]"
    found = measure(run_python, (512, 4096), "out=out", prepare=prepare)
    # out's pages are touched for the first time by the first call.
    assert found["growth"] <= work(512, 4096, in_place=False) + SLACK
