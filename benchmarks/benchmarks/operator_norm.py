"""operator_norm_bounds beside SciPy's estimates, which are no bounds: time and error.

The error is signed, value / sigma_1 - 1: a negative one is no upper bound.
"""

from __future__ import annotations

import numpy as np

from .spectral_norm import signed_error

OPERATOR_RTOL = 1e-6


def scipy_sparse():
    try:
        import scipy.sparse
        import scipy.sparse.linalg
    except ImportError as missing:
        raise NotImplementedError("there is no scipy") from missing
    return scipy.sparse


def nonnegative():
    """Links of a graph: entries of one sign."""
    rng = np.random.default_rng(1)
    return scipy_sparse().random_array((30_000, 20_000), density=3e-4, rng=rng, format="csr")


def signed():
    """No sure bound is tight here: that of the magnitudes is far off."""
    rng = np.random.default_rng(2)
    return scipy_sparse().random_array(
        (30_000, 20_000), density=3e-4, rng=rng, format="csr", data_sampler=rng.standard_normal
    )


def small_side():
    """Signs again, but narrow enough to be made dense."""
    rng = np.random.default_rng(3)
    return scipy_sparse().random_array(
        (20_000, 500), density=1e-2, rng=rng, format="csr", data_sampler=rng.standard_normal
    )


def grid():
    """The five-point Laplacian on 100 x 100 points: a crowded top."""
    sparse = scipy_sparse()
    n = 100
    line = sparse.diags_array(
        [-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1]
    )
    one = sparse.eye_array(n)
    return (sparse.kron(line, one) + sparse.kron(one, line)).tocsr()


OPERATORS = {f.__name__: f for f in (nonnegative, signed, small_side, grid)}


def operator_entries(a):
    import gramian as gm

    return lambda: gm.operator_norm_bounds(a, rtol=OPERATOR_RTOL, rng=0).upper


def operator_products(a):
    import gramian as gm

    op = scipy_sparse().linalg.aslinearoperator(a)
    return lambda: gm.operator_norm_bounds(op, rtol=OPERATOR_RTOL, rng=0).upper


def scipy_svds(a):
    """An estimate by ARPACK: no bound."""
    svds = scipy_sparse().linalg.svds
    v0 = np.random.default_rng(0).standard_normal(min(a.shape))
    return lambda: svds(a, k=1, tol=OPERATOR_RTOL, v0=v0, return_singular_vectors=False)[0]


def scipy_eigsh(a):
    """The same of A^H A, with vectors."""
    linalg = scipy_sparse().linalg
    gram = linalg.LinearOperator(
        (a.shape[1], a.shape[1]), matvec=lambda v: a.T @ (a @ v), dtype=a.dtype
    )
    v0 = np.random.default_rng(0).standard_normal(a.shape[1])
    return lambda: np.sqrt(linalg.eigsh(gram, k=1, tol=OPERATOR_RTOL, v0=v0)[0][0])


OPERATOR_IMPLEMENTATIONS = {
    "gramian-entries": operator_entries,
    "gramian-products": operator_products,
    "scipy-svds": scipy_svds,
    "scipy-eigsh": scipy_eigsh,
}


class OperatorNorm:
    params = (list(OPERATORS), list(OPERATOR_IMPLEMENTATIONS))
    param_names = ("operator", "implementation")
    timeout = 600
    repeat = (3, 10, 5.0)
    warmup_time = 0.2

    def setup_cache(self):
        try:
            svds = scipy_sparse().linalg.svds
        except NotImplementedError:
            return {}
        rng = np.random.default_rng(0)
        return {
            name: svds(make(), k=1, tol=1e-13, maxiter=100_000, rng=rng,
                       return_singular_vectors=False)[0]
            for name, make in OPERATORS.items()
        }  # fmt: skip

    def setup(self, truth, operator, implementation):
        self.call = OPERATOR_IMPLEMENTATIONS[implementation](OPERATORS[operator]())

    def time_operator_norm(self, truth, operator, implementation):
        self.call()

    time_operator_norm.pretty_name = "operator_norm_bounds: time"

    def track_error(self, truth, operator, implementation):
        return signed_error(self.call(), truth[operator])

    track_error.pretty_name = "operator_norm_bounds: excess"
    track_error.unit = "value / sigma_1 - 1"
