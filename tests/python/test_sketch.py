"""The sketch in NumPy, that of products which Python calls, is the one of the core."""

from __future__ import annotations

import numpy as np
from gramian import _cpu
from gramian._sketch import sketch
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 2**64 - 1), st.integers(1, 40), st.integers(1, 300), st.integers(0, 300))
def test_sketch_is_that_of_the_core(seed, rows, columns, first):
    found = sketch(seed, rows, columns, np.float32, first_column=first)
    assert found.shape == (rows, columns)
    for i in {0, rows // 2, rows - 1}:
        for j in {0, columns // 2, columns - 1, min(127, columns - 1)}:
            assert found[i, j] == _cpu.sketch_entry(seed, i, first + j)


def test_sketch_does_not_depend_on_how_many_rows_are_made():
    long = sketch(5, 40000, 30, np.float64)
    np.testing.assert_array_equal(long[:100], sketch(5, 100, 30, np.float64))
    assert long[20000, 7] == _cpu.sketch_entry(5, 20000, 7)
