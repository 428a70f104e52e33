"""What newton_schulz tells about its result: residual, norm bound, the plan and its cost.

``machine`` stands for gm.newton_schulz on the CPU or, with --gpu, on a CUDA device.
"""

from __future__ import annotations

import time

import gramian as gm
import numpy as np
import pytest

from tests.conftest import Machine, machines
from tests.newton_schulz import DTYPES, METHODS, NORMALIZATIONS, check, preset_rows
from tests.reference import matrices
from tests.reference import newton_schulz as reference


@pytest.mark.parametrize(("machine", "dtype"), machines(["float16", *DTYPES]), indirect=["machine"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(40, 40), (3, 20, 50), (2, 2, 50, 20), (200, 150), (300, 520)])
def test_residual_is_that_of_the_result(machine, shape, method, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    q, info = machine(x, method=method, return_info=True)
    assert isinstance(info, gm.NewtonSchulzInfo)
    assert info.residual.dtype == ("float64" if dtype in ("float64", "complex128") else "float32")
    assert info.residual.shape == shape[:-2]
    # Forming and subtracting G rounds by a few u sqrt(n) per direction; a half-precision result
    # may be measured before or after its own rounding.
    u = reference.UNIT_ROUNDOFF[dtype]
    np.testing.assert_allclose(info.residual, reference.residual(q), rtol=100 * u,
                               atol=4 * u * np.sqrt(max(shape[-2:])))  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "dtype"), machines(["float32", "float64", "complex64"]), indirect=["machine"]
)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [n for n in matrices.HARD if n != "zero"])
def test_norm_bound_is_that_of_the_normalization(machine, name, dtype, normalization, method):
    x = matrices.build(name, 0, dtype)
    _, info = machine(x, normalization=normalization, method=method, return_info=True)
    bound = np.asarray(info.norm_bound)
    assert bound.dtype == ("float64" if dtype == "float64" else "float32")
    few = 1 + 4 * reference.UNIT_ROUNDOFF[dtype] * np.sqrt(max(x.shape))
    sigma = np.linalg.svd(reference.to_double(x), compute_uv=False)
    assert bound * few >= sigma[0]
    if normalization == "schatten":
        assert bound <= few * min(x.shape) ** 0.125 * sigma[0]
    truth = reference.norm_bound(x, normalization)
    assert truth / few <= bound <= truth * few


@pytest.mark.parametrize(("machine", "dtype"), machines(["float32"]), indirect=["machine"])
@pytest.mark.parametrize("name", ["gaussian_square", "gaussian_512"])
def test_info_changes_no_bit_and_is_frozen(machine, dtype, name):
    x = matrices.build(name, 0, dtype)
    q, info = machine(x, method="standard", return_info=True)
    np.testing.assert_array_equal(q, machine(x, method="standard"))
    assert info.restarts == ()
    assert isinstance(machine(x, method="gram", return_info=True)[1].restarts, tuple)
    with pytest.raises(AttributeError):
        info.steps = 3


@pytest.mark.thread_unsafe
@pytest.mark.parametrize("method", ["auto", "gram"])
@pytest.mark.parametrize("coefficients", ["polar_express", "taylor"])
def test_many_steps_are_planned_quickly(coefficients, method):
    """Choosing restarts among 199 places must not be a search of all their sets."""
    x = matrices.build("gaussian_square", 0, np.float64)[:8]
    begin = time.thread_time()
    q, info = gm.newton_schulz(x, 200, coefficients=coefficients, method=method, return_info=True)
    assert time.thread_time() - begin < 1
    check(Machine("cpu"), x, q, info, preset_rows(coefficients, 200), "schatten")
