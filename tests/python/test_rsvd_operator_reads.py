"""Randomized SVD of row blocks and operators: how often they are read, and may change meanwhile."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.reference import matrices
from tests.reference.row_kinds import Counted, cut
from tests.reference.svd import METHODS

linalg = pytest.importorskip("scipy.sparse.linalg")


def counted_operator(a):
    calls = {"matmat": 0, "rmatmat": 0}

    def product(name, matrix):
        def call(x):
            calls[name] += 1
            return matrix @ x

        return call

    op = linalg.LinearOperator(
        a.shape, matvec=None, dtype=a.dtype,
        matmat=product("matmat", a), rmatmat=product("rmatmat", a.conj().T),
    )  # fmt: skip
    return op, calls


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("center", [False, True])
def test_blocks_are_read_as_often_as_reported(method, center):
    blocks = Counted(cut(np.random.default_rng(0).standard_normal((200, 60))))
    info = gm.rsvd(blocks, 5, method=method, center=center).info
    assert blocks.begun == blocks.ended == info.passes
    blocks = Counted(blocks.blocks)
    passes = {"single_pass": 1, "gram": 2}.get(method, 4)
    info = gm.rsvd(blocks, 5, method=method, center=center, passes=passes).info
    assert blocks.begun == blocks.ended == info.passes == passes


def test_a_proof_is_read_as_often_as_reported():
    blocks = Counted(cut(matrices.power_law(np.random.default_rng(0), -1, 200, 60)))
    info = gm.rsvd(blocks, tol=0.1).info
    assert blocks.begun == blocks.ended == info.passes


@pytest.mark.parametrize("shape", [(90, 60), (60, 90)])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", ["subspace", "krylov", "single_pass"])
def test_an_operator_multiplies_once_each_way_for_a_read(method, center, shape):
    op, calls = counted_operator(np.random.default_rng(0).standard_normal(shape))
    info = gm.rsvd(op, 5, method=method, center=center).info
    assert calls == {"matmat": info.passes, "rmatmat": info.passes}


def test_rows_may_be_cut_otherwise_on_each_read():
    a = np.random.default_rng(0).standard_normal((100, 30))

    class Recut:
        step = 20

        def __iter__(self):
            self.step += 7
            return iter(cut(a, self.step))

    options = {"method": "subspace", "passes": 4}
    np.testing.assert_allclose(gm.rsvd(Recut(), 4, **options).S, gm.rsvd([a], 4, **options).S)


def test_a_generator_is_read_once():
    a = np.random.default_rng(0).standard_normal((100, 30))
    expected = gm.rsvd(cut(a), 4, method="single_pass", rng=2)
    for options in ({"method": "single_pass"}, {"passes": 1}):
        found = gm.rsvd((block for block in cut(a)), 4, rng=2, **options)
        np.testing.assert_array_equal(found.S, expected.S)
        assert found.info.passes == 1
    for options in ({}, {"method": "krylov"}, {"method": "gram"}, {"passes": 3}):
        with pytest.raises(ValueError, match=r"a can be read only once.*method is"):
            gm.rsvd(iter(cut(a)), 4, **options)
    with pytest.raises(ValueError, match="a can be read only once"):
        gm.rsvd(iter(cut(a)), tol=0.1)
    with pytest.raises(ValueError, match="a can be read only once"):
        gm.range_finder(iter(cut(a)), 4)


def test_blocks_that_change_between_reads_are_refused():
    class Draining:
        def __init__(self, blocks):
            self.left = iter(blocks)

        def __iter__(self):
            return (block for block in self.left)

    a = np.random.default_rng(0).standard_normal((100, 30))
    with pytest.raises(ValueError, match="a gave 0 rows on read 2, where it gave 100"):
        gm.rsvd(Draining(cut(a)), 4, method="subspace", passes=3)

    class Shuffling:
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def __iter__(self):
            return iter([cut(a)[i] for i in self.rng.permutation(5)])

    with pytest.raises(ValueError, match="is another on read 2 than at first"):
        gm.rsvd(Shuffling(), 4, method="subspace", passes=3)

    class Growing:
        def __init__(self):
            self.reads = 0

        def __iter__(self):
            self.reads += 1
            return iter(cut(np.ones((50 * self.reads, 30))))

    with pytest.raises(ValueError, match="a gave more rows on read 2"):
        gm.rsvd(Growing(), 4, method="subspace", passes=3)
