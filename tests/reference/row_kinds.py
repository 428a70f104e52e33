"""One matrix as a sparse matrix, as an operator and as row blocks; blocks that count reads."""

from __future__ import annotations

import pytest

from tests.reference.svd import METHODS

scipy_sparse = pytest.importorskip("scipy.sparse")
linalg = pytest.importorskip("scipy.sparse.linalg")


def cut(a, step=23):
    return [a[i : i + step] for i in range(0, a.shape[0], step)] or [a]


class Counted:
    """Row blocks that can be read again and count how often they are."""

    def __init__(self, blocks):
        self.blocks, self.begun, self.ended = blocks, 0, 0

    def __iter__(self):
        self.begun += 1
        yield from self.blocks
        self.ended += 1


KINDS = {
    "csr": scipy_sparse.csr_array,
    "coo_matrix": scipy_sparse.coo_matrix,
    "operator": linalg.aslinearoperator,
    "blocks": cut,
    "sparse_blocks": lambda a: [scipy_sparse.csr_array(block) for block in cut(a)],
}


def methods_of(kind):
    return [m for m in METHODS if not (kind == "operator" and m == "gram")]
