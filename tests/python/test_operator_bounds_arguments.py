"""operator_norm_bounds: seeds, errors, and what the caller's products may return."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from tests.operator_bounds import SVD_ERROR, as_operator, check_bracket


def test_seed_decides_and_the_global_state_stays():
    op = as_operator(np.random.default_rng(10).standard_normal((50, 60)), "tuple")
    first = gm.operator_norm_bounds(op, rng=3)
    assert first.upper == gm.operator_norm_bounds(op, rng=np.int64(3)).upper
    assert first.upper != gm.operator_norm_bounds(op, rng=4).upper
    assert gm.operator_norm_bounds(op).upper != gm.operator_norm_bounds(op).upper
    generator = np.random.default_rng(0)
    assert (
        gm.operator_norm_bounds(op, rng=generator).upper
        != gm.operator_norm_bounds(op, rng=generator).upper
    )
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    gm.operator_norm_bounds(op)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


A = np.arange(12.0).reshape(3, 4)
GOOD = (lambda v: A @ v, lambda u: A.T @ u, (3, 4), np.float64)
BAD = {
    "ndarray": (A, {}, TypeError, "op is a numpy.ndarray.*LinearOperator.*spectral_norm_bounds"),
    "list": ([[1.0]], {}, TypeError, "op is a list.*LinearOperator"),
    "none": (None, {}, TypeError, "op is a NoneType"),
    "short tuple": (GOOD[:3], {}, TypeError, "op is a tuple of 3.*shape"),
    "no rmatvec": ((GOOD[0], None, *GOOD[2:]), {}, TypeError, "op has rmatvec None.*function"),
    "LinearOperator without rmatvec": (
        spla.LinearOperator((3, 4), matvec=GOOD[0], dtype=float), {}, TypeError,
        "op has no rmatvec"),
    "one size": ((*GOOD[:2], (3,), float), {}, ValueError, r"op has shape \(3,\).*\(m, n\)"),
    "negative size": ((*GOOD[:2], (3, -4), float), {}, ValueError, r"op has shape \(3, -4\)"),
    "float size": ((*GOOD[:2], (3.0, 4), float), {}, ValueError, r"op has shape \(3.0, 4\)"),
    "shape none": ((*GOOD[:2], None, float), {}, ValueError, "op has shape None"),
    "int dtype": ((*GOOD[:3], np.int64), {}, TypeError, "op has dtype int64.*float32.*complex128"),
    "no dtype": ((*GOOD[:3], None), {}, TypeError, "op has dtype None"),
    "odd dtype": ((*GOOD[:3], "double-ish"), {}, TypeError, "op has dtype double-ish"),
    "int sparse": (sp.csr_array(np.eye(3, dtype=int)), {}, TypeError, "op has dtype int64"),
    "bool sparse": (sp.csr_array(np.eye(3) > 0), {}, TypeError, "op has dtype bool"),
    "vector": (sp.coo_array(np.ones(4)), {}, ValueError, r"op has shape \(4,\)"),
    "nan entry": (sp.csr_array([[1.0, np.nan]]), {}, ValueError, "op holds NaN or infinity"),
    "inf entry": (sp.csr_array([[1.0, np.inf]]), {}, ValueError, "op holds NaN or infinity"),
    "nan product": ((lambda v: A @ v * np.nan, *GOOD[1:]), {}, ValueError,
                    "op.matvec returned NaN"),
    "inf product": ((GOOD[0], lambda u: A.T @ u / 0.0, *GOOD[2:]), {}, ValueError,
                    "op.rmatvec returned NaN or infinity"),
    "wrong length": ((lambda v: v, *GOOD[1:]), {}, ValueError,
                     r"op.matvec returned shape \(4,\).*must be \(3,\)"),
    "a matrix": ((lambda v: np.outer(A @ v, v), *GOOD[1:]), {}, ValueError,
                 r"returned shape \(3, 4\)"),
    "complex product": ((lambda v: 1j * (A @ v), *GOOD[1:]), {}, TypeError,
                        "op.matvec returned complex128.*float64"),
    "text product": ((lambda v: ["a"] * 3, *GOOD[1:]), {}, TypeError, "op.matvec returned str"),
    "no adjoint": ((GOOD[0], lambda u: -(A.T @ u), *GOOD[2:]), {}, ValueError, "not the adjoint"),
    "transpose only": ((lambda v: (A + 1j) @ v, lambda u: (A + 1j).T @ u, (3, 4), complex), {},
                       ValueError, "not the adjoint"),
    "rtol zero": (GOOD, {"rtol": 0}, ValueError, "rtol is 0"),
    "rtol nan": (GOOD, {"rtol": np.nan}, ValueError, "rtol is nan"),
    "rtol text": (GOOD, {"rtol": "1e-6"}, TypeError, "rtol is '1e-6'"),
    "confidence one": (GOOD, {"confidence": 1.0}, ValueError, "confidence is 1.0.*between 0 and 1"),
    "confidence zero": (GOOD, {"confidence": 0}, ValueError, "confidence is 0"),
    "confidence nan": (GOOD, {"confidence": np.nan}, ValueError, "confidence is nan"),
    "confidence none": (GOOD, {"confidence": None}, TypeError, "confidence is None"),
    "confidence flag": (GOOD, {"confidence": True}, TypeError, "confidence is True"),
    "confidence huge": (GOOD, {"confidence": 10**400}, ValueError, "confidence is 1000"),
    "rng text": (GOOD, {"rng": "0"}, TypeError, "rng is '0'.*Generator"),
    "rng flag": (GOOD, {"rng": True}, TypeError, "rng is True"),
    "rng negative": (GOOD, {"rng": -1}, ValueError, "rng is -1"),
    "legacy rng": (GOOD, {"rng": np.random.RandomState(0)}, TypeError, "rng is RandomState"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", BAD)
def test_message_names_argument_value_and_what_is_allowed(case):
    op, options, error, words = BAD[case]
    with pytest.raises(error, match=words):
        gm.operator_norm_bounds(op, **options)


def test_errors_of_the_operator_pass_through():
    class Broken(Exception):
        pass

    def matvec(v):
        raise Broken("of the caller's own")

    with pytest.raises(Broken, match="of the caller's own"):
        gm.operator_norm_bounds((matvec, *GOOD[1:]))


def test_columns_are_taken_for_vectors():
    op = (lambda v: (A @ v)[:, None], lambda u: (A.T @ u)[:, None], (3, 4), float)
    check_bracket(gm.operator_norm_bounds(op, rng=0), np.linalg.norm(A, 2), error=SVD_ERROR)
