"""Peak memory: input + output + 3 m^2 + one m x n work array, m the shorter side.

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
# Page granularity, Python objects, thread stacks and packing panels of BLAS.
SLACK = 6 * MIB
# What BLAS keeps for good: one packing buffer of up to 32 MiB a thread, touched as needed.
BLAS_BUFFER = 32 * MIB

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
kept = status("VmRSS") - start
base = status("VmRSS")
before_peak = status("VmHWM")
q = gm.newton_schulz(x, steps=2, {options})
print(json.dumps({{"kept": kept, "growth": status("VmHWM") - base,
                   "first": before_peak - start, "with_result": status("VmRSS") - base}}))
"""


def measure(run_python, shape, options="method='auto'", prepare="", threads=1):
    code = PROGRAM.format(shape=shape, options=options, prepare=prepare, threads=threads)
    # Fixed thresholds switch off malloc's habit of keeping freed blocks.
    return json.loads(run_python(code, MALLOC_MMAP_THRESHOLD_="65536",
                                 MALLOC_TRIM_THRESHOLD_="65536", MALLOC_ARENA_MAX="1"))  # fmt: skip


def model(m, n):
    """Bytes of output, three m x m matrices and one m x n work array, in float32."""
    m, n = min(m, n), max(m, n)
    return 4 * (2 * m * n + 3 * m * m)


SQUARE, WIDE, TALL = (2048, 2048), (512, 8192), (8192, 512)


@pytest.mark.parametrize("method", ["auto", "standard", "gram"])
@pytest.mark.parametrize("shape", [SQUARE, WIDE, TALL])
def test_peak_of_one_matrix(run_python, shape, method):
    found = measure(run_python, shape, f"method={method!r}")
    assert found["growth"] <= model(*shape) + SLACK
    assert found["first"] <= model(*shape) + BLAS_BUFFER + SLACK
    assert found["kept"] <= BLAS_BUFFER + SLACK


@pytest.mark.parametrize("threads", [1, 2])
def test_column_major_input_is_not_copied(run_python, threads):
    found = measure(run_python, WIDE, prepare="x = np.asfortranarray(x)", threads=threads)
    assert found["growth"] <= model(*WIDE) + threads * SLACK


def test_transposed_view_is_not_copied(run_python):
    found = measure(run_python, WIDE, prepare="x = x.T")
    assert found["growth"] <= model(*WIDE) + SLACK


def test_check_finite_makes_no_copy(run_python):
    found = measure(run_python, SQUARE, "check_finite=True")
    assert found["growth"] <= model(*SQUARE) + SLACK


def test_info_costs_no_more(run_python):
    found = measure(run_python, SQUARE, "return_info=True")
    assert found["growth"] <= model(*SQUARE) + SLACK


def test_batch_of_large_matrices_shares_one_workspace(run_python):
    """Output for all, workspace for one."""
    found = measure(run_python, (6, 700, 700))
    assert found["growth"] <= 4 * 6 * 700**2 + model(700, 700) + SLACK


def test_batch_of_small_matrices_needs_hardly_more_than_its_output(run_python):
    found = measure(run_python, (2048, 64, 64))
    assert found["growth"] <= 4 * 2048 * 64**2 + SLACK


def test_out_saves_the_output(run_python):
    found = measure(run_python, SQUARE, "out=x")
    assert found["growth"] <= model(*SQUARE) - 4 * 2048**2 + SLACK
