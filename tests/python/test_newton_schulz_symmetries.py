"""Newton-Schulz commutes with unitary factors, signs, transposition and the step to complex.

``machine`` stands for gm.newton_schulz on the CPU or, with --gpu, on a CUDA device.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import machines
from tests.newton_schulz import DTYPES, METHODS, preset_rows
from tests.reference import matrices
from tests.reference import newton_schulz as reference


def pair_tolerance(machine, x, y, info_x, info_y):
    rows = preset_rows("polar_express")
    return sum(
        machine.tolerance(a, rows, method=i.method, restarts=i.restarts)
        for a, i in ((x, info_x), (y, info_y))
    )


@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 40), n=st.integers(1, 40),
       cplx=st.booleans(), method=st.sampled_from(["auto", *METHODS]))  # fmt: skip
def test_commutes_with_unitary_factors(machine, seed, m, n, cplx, method):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((m, n)) + 1j * cplx * rng.standard_normal((m, n))
    x = x if cplx else x.real
    left = matrices.orthonormal(rng, m, m, cplx=cplx)
    right = matrices.orthonormal(rng, n, n, cplx=cplx)
    q, info = machine(x, method=method, return_info=True)
    y = left @ x @ right
    turned, turned_info = machine(y, method=method, return_info=True)
    assert reference.rms_distance(turned, left @ q @ right) <= pair_tolerance(
        machine, x, y, info, turned_info
    )


@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 24), n=st.integers(1, 24))
def test_commutes_with_signed_permutations(machine, seed, m, n):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((m, n))
    left, right = rng.permutation(m), rng.permutation(n)
    s, t = rng.choice([-1.0, 1.0], m)[:, None], rng.choice([-1.0, 1.0], n)
    y = (s * x * t)[left][:, right]
    q, info = machine(x, return_info=True)
    p, other = machine(y, return_info=True)
    assert reference.rms_distance(p, (s * q * t)[left][:, right]) <= pair_tolerance(
        machine, x, y, info, other
    )


@pytest.mark.parametrize(("machine", "dtype"), machines(DTYPES), indirect=["machine"])
@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize("name", ["gaussian_wide", "cliff_250"])
def test_negation_is_exact(machine, dtype, method, name):
    x = matrices.build(name, 0, dtype)
    np.testing.assert_array_equal(machine(-x, method=method), -machine(x, method=method))


@pytest.mark.parametrize(
    ("machine", "dtype"), machines(DTYPES, ["float16", *DTYPES]), indirect=["machine"]
)
@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize("name", ["gaussian_square", "gaussian_wide", "odd_sizes", "kahan"])
def test_commutes_with_transposition(machine, name, dtype, method):
    x = matrices.build(name, 0, dtype)
    q, info = machine(x, method=method, return_info=True)
    for turned in (x.T, x.conj().T, np.ascontiguousarray(x.T)):
        p, other = machine(turned, method=method, return_info=True)
        back = p.T if np.array_equal(turned, x.T) else p.conj().T
        assert reference.rms_distance(back, q.astype(np.complex128)) <= pair_tolerance(
            machine, x, turned, info, other
        )


def test_real_matrix_in_complex_dtype_gives_the_real_result(machine):
    x = matrices.build("gaussian_wide")
    q = machine(x.astype(np.complex128))
    assert abs(q.imag).max() <= 1e-13
    np.testing.assert_allclose(q.real, machine(x), atol=1e-11)
