"""sqrt_psd: both roots against eigenvectors, and what it does with singular matrices."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import inverse_root as reference
from tests.reference import matrices

DTYPES = ["float32", "float64", "complex64", "complex128"]


def check(a):
    n = len(a)
    root, inverse = gm.sqrt_psd(a)
    kappa = reference.condition(a)
    for x in (root, inverse):
        assert x.dtype == a.dtype
        np.testing.assert_array_equal(x, x.conj().T)
        assert np.linalg.eigvalsh(reference.lower_triangle(x))[0] > 0
    truth = reference.function(a, np.sqrt)
    slack = reference.allowed_root(n, kappa, np.float64)
    assert (
        reference.relative_error(root, truth) <= reference.allowed_root(n, kappa, a.dtype) + slack
    )
    slack = reference.allowed(n, kappa, 2, np.float64)
    error = reference.relative_error(inverse, reference.inverse_root(a, 2))
    assert error <= reference.allowed(n, kappa, 2, a.dtype) + slack
    return root, inverse


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kappa", [1.0, 3.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("n", [1, 2, 16, 33, 150, 300])
def test_both_roots_on_hard_spectra(n, kappa, dtype):
    if kappa * reference.unit_roundoff(dtype) > 1e-2:
        pytest.skip("rounding the matrix to its dtype moves its smallest eigenvalues by as much")
    rng = np.random.default_rng(n)
    for name, values in reference.spectra(n, kappa).items():
        if n < 100 or name in ("geometric", "one_small"):
            check(reference.with_eigenvalues(rng, 5 * values, dtype))


def test_roots_against_multiple_precision():
    rng = np.random.default_rng(0)
    for kappa in (1e6, 1e12):
        for values in reference.spectra(10, kappa).values():
            a = reference.with_eigenvalues(rng, values)
            root, inverse = gm.sqrt_psd(a)
            error = reference.relative_error(root, reference.exact(a, 0.5))
            assert error <= reference.allowed_root(10, kappa, "float64")
            error = reference.relative_error(inverse, reference.exact(a, -0.5))
            assert error <= reference.allowed(10, 2 * kappa, 2, "float64")


@given(
    st.integers(1, 40),
    st.floats(0, 3),
    st.sampled_from(DTYPES),
    st.sampled_from(sorted(reference.spectra(2, 2.0))),
    st.integers(0, 2**32 - 1),
)
def test_roots_of_any_matrix(n, digits, dtype, kind, seed):
    rng = np.random.default_rng(seed)
    values = reference.spectra(n, 10.0**digits)[kind]
    a = reference.with_eigenvalues(rng, values, dtype)
    root, inverse = check(a)
    np.testing.assert_array_equal(inverse, gm.inverse_root(a, 2))
    real = a.real.dtype.type
    for k in (-3, 2):
        r, i = gm.sqrt_psd(a * real(4.0**k))
        np.testing.assert_array_equal(r, root * real(2.0**k))
        np.testing.assert_array_equal(i, inverse * real(2.0**-k))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 60])
def test_singular_matrices_raise_with_the_root(n, dtype):
    rng = np.random.default_rng(n)
    g = matrices.gaussian(rng, n, n // 2).astype(dtype)
    g = g / max(np.linalg.norm(g, 2), 1) if n > 1 else g
    a = g @ g.conj().T
    with pytest.raises(gm.ConvergenceError, match=r"a is singular|not positive") as caught:
        gm.sqrt_psd(a)
    root, inverse = caught.value.best
    truth = reference.function(a, lambda w: np.sqrt(np.maximum(w, 0)))
    u = reference.unit_roundoff(dtype)
    if n > 1:
        assert reference.relative_error(root, truth) <= 8 * np.sqrt(n * u)
        assert inverse.shape == a.shape
        assert caught.value.residual > 0
    else:
        assert not root.any()


def test_root_of_a_projector():
    """Exactly singular: the root is the projector itself, and so is the inverse on its range."""
    a = np.kron(np.eye(4), np.full((2, 2), 0.5))
    with pytest.raises(gm.ConvergenceError, match="singular") as caught:
        gm.sqrt_psd(a)
    for x in caught.value.best:
        np.testing.assert_allclose(x, a, atol=1e-14)
    np.testing.assert_allclose(caught.value.residual, np.sqrt(0.5), rtol=1e-12)


def test_batches_and_out():
    rng = np.random.default_rng(1)
    a = np.stack([reference.with_eigenvalues(rng, np.linspace(1, 0.1, 12)) for _ in range(6)])
    a = a.reshape(2, 3, 12, 12)
    root, inverse = gm.sqrt_psd(a)
    for i in np.ndindex(2, 3):
        np.testing.assert_array_equal(root[i], gm.sqrt_psd(a[i])[0])
        np.testing.assert_array_equal(inverse[i], gm.sqrt_psd(a[i])[1])
    own = a.copy()
    other = np.zeros_like(a)
    out = (own.swapaxes(-1, -2), other)
    found = gm.sqrt_psd(own, out=out)
    assert found[0] is out[0]
    assert found[1] is other
    np.testing.assert_array_equal(found[0], root)
    np.testing.assert_array_equal(other, inverse)
    for shape in ((0, 3, 3), (2, 0, 0)):
        assert [x.shape for x in gm.sqrt_psd(np.ones(shape))] == [shape, shape]


def test_torch_tensors(torch):
    root, inverse = gm.sqrt_psd(torch.tensor([[5.0, 4.0], [4.0, 5.0]]))
    torch.testing.assert_close(root, torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
    torch.testing.assert_close(root @ inverse, torch.eye(2))


def test_tolerance_that_is_out_of_reach():
    a = reference.with_eigenvalues(np.random.default_rng(2), np.geomspace(1, 1e-3, 20))
    with pytest.raises(gm.ConvergenceError, match="tol is 1e-17") as caught:
        gm.sqrt_psd(a, tol=1e-17)
    assert caught.value.residual > 1e-17
    assert len(caught.value.best) == 2
    root, _ = gm.sqrt_psd(a, tol=1e-6)
    assert reference.relative_error(root, reference.function(a, np.sqrt)) <= 1e-6


@pytest.mark.parametrize(
    ("error", "match", "a", "options"),
    [
        (ValueError, "must be square", np.ones((2, 3)), {}),
        (TypeError, "out is a ndarray; it must be a pair", np.eye(2), {"out": np.eye(2)}),
        (ValueError, r"out\[1\] has shape", np.eye(2), {"out": (None, np.eye(3))}),
        (ValueError, "tol is -1", np.eye(2), {"tol": -1}),
        (ValueError, "NaN or infinity", np.full((2, 2), np.nan), {}),
    ],
)
def test_bad_arguments(error, match, a, options):
    with pytest.raises(error, match=match):
        gm.sqrt_psd(a, **options)


def test_outputs_may_not_overlap():
    room = np.zeros((3, 4, 4))
    with pytest.raises(ValueError, match="out holds two arrays that may share memory"):
        gm.sqrt_psd(np.stack([np.eye(4)] * 2), out=(room[:2], room[1:]))
