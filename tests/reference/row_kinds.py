"""One matrix as a sparse matrix, as an operator and as row blocks."""

from __future__ import annotations

import pytest

from tests.reference.svd import METHODS

scipy_sparse = pytest.importorskip("scipy.sparse")
linalg = pytest.importorskip("scipy.sparse.linalg")


def cut(a, step=23):
    return [a[i : i + step] for i in range(0, a.shape[0], step)] or [a]


KINDS = {
    "csr": scipy_sparse.csr_array,
    "coo_matrix": scipy_sparse.coo_matrix,
    "operator": linalg.aslinearoperator,
    "blocks": cut,
    "sparse_blocks": lambda a: [scipy_sparse.csr_array(block) for block in cut(a)],
}


def methods_of(kind):
    return [m for m in METHODS if not (kind == "operator" and m == "gram")]
