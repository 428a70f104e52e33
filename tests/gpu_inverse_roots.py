"""What the tests of inverse roots on a GPU share."""

from __future__ import annotations

import numpy as np

from tests.reference import inverse_root as reference

DTYPES = ["float32", "float64", "complex64", "complex128"]


def on_gpu(torch, a):
    return torch.from_numpy(np.ascontiguousarray(a)).cuda()


def compare(a, x, truth, allowed):
    """One matrix on the host: type, symmetry, error."""
    assert x.dtype == a.dtype
    np.testing.assert_array_equal(x, x.conj().T)
    assert reference.relative_error(x, truth) <= allowed


def spectra_batch(n, kappa, dtype, scale=3.0, names=None):
    rng = np.random.default_rng(n)
    spectra = reference.spectra(n, kappa)
    return np.stack([reference.with_eigenvalues(rng, scale * spectra[name], dtype)
                     for name in names or spectra])  # fmt: skip
