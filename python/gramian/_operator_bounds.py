"""Bounds on the spectral norm of an operator: a sparse matrix, or anything that multiplies."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from . import _sparse_bounds
from ._bounds import Bounds, spectral_norm_bounds
from ._lanczos import UNIT_ROUNDOFF, Vector, largest_eigenvalue, least_component
from ._operator_arguments import (
    Operator,
    check_probability,
    dtype_of,
    generator_of,
    is_sparse,
    operator_of,
)
from ._options import check_tolerance

# Up to here a sparse matrix is made dense: its bracket is then sure and tight, in about a second.
_DENSE_SIDE = 2048
_DENSE_ENTRIES = 2**24

# Lanczos vectors are kept in so many bytes, but this many at least, and no more than pays: for the
# second difference of 20000 points at rtol 1e-5, 64, 128, 256 and 512 vectors took 1879, 1671, 1671
# and 1671 steps, and 1.2, 1.3, 2.8 and 6.2 s.
_BASIS_BYTES = 2**26
_BASIS_LEAST = 24
_BASIS_MOST = 64

_MAX_STEPS = 8192

# Rounding may eat half of the start vector's component along the top singular vector.
_MARGIN = 2.0


def operator_norm_bounds(
    op: Any, *, rtol: float = 1e-6, confidence: float = 0.999, rng: Any = None
) -> Bounds:
    r"""Lower and upper bounds on the spectral norm of a sparse matrix or an operator.

    What can be promised depends on what is known, and ``certificate`` of the result tells it.
    Where the entries are known (scipy sparse), both bounds are sure: no rounding error is left out,
    ``certificate="rounding"``. Where there are only products, no finite number of them gives a sure
    upper bound: the lower one comes from a vector, the upper one holds with the stated confidence
    over the random start vector, ``certificate="probabilistic"``.

    Parameters
    ----------
    op : sparse matrix or operator of shape (m, n)
        A scipy sparse matrix or array of any format, a scipy ``LinearOperator``, a tuple ``(matvec,
        rmatvec, shape, dtype)``, or an object that has these four. float32, float64, complex64 or
        complex128. ``matvec`` takes a vector of shape (n,) and returns :math:`Av`, of m numbers;
        ``rmatvec`` takes (m,) and returns :math:`A^H u`. Both are given vectors of the operator's
        dtype.
    rtol : float, default 1e-6
        Wanted relative width, ``upper / lower - 1``.
    confidence : float, default 0.999
        Between 0 and 1: the least probability with which a probabilistic upper bound holds.
    rng : None, int or numpy.random.Generator, default None
        Source of the random start vector. An int gives the same bounds each time; None does not.

    Returns
    -------
    Bounds
        ``lower`` and ``upper`` are 0-dimensional NumPy arrays, float64, or float32 for an operator
        of that width, rounded outward; ``confidence`` is that of the argument for a probabilistic
        certificate. ``converged`` says whether their relative width is at most `rtol`; ``n_iter``
        counts Lanczos steps, each of which takes one product with :math:`A` and one with
        :math:`A^H`. ``method`` is ``"lanczos"`` for products alone; for entries
        ``"collatz-wielandt"``, or ``"dense-"`` and the method of :func:`spectral_norm_bounds`;
        ``"zero"``, without any step, where `op` has a side of 0 or no entry but zeros.

    Raises
    ------
    TypeError
        `op` is none of the above, its dtype is not accepted, it has no ``rmatvec``, its products
        are complex though its dtype is real; `rtol`, `confidence` or `rng` has the wrong type.
    ValueError
        `op` has a shape that is not two sizes, holds NaN or infinity or returns them, returns
        vectors of another length, or its ``rmatvec`` is not the adjoint of its ``matvec``; `rtol`
        is not positive, `confidence` not between 0 and 1.

    Notes
    -----
    Sparse matrices whose shorter side is at most 2048, with at most :math:`2^{24}` entries when
    dense, go to :func:`spectral_norm_bounds`. For larger ones the upper bound is the smallest of
    :math:`\sqrt{\max_i (|A|^T|A|x)_i / x_i}` for an :math:`x > 0` that makes it nearly
    :math:`\||A|\|_2`, :math:`\sqrt{\|A\|_1\|A\|_\infty}` and :math:`\|A\|_F`. With entries of both
    signs, :math:`\||A|\|_2` may lie well over :math:`\|A\|_2`; ``converged`` is False then. A
    tight bound with a probability is to be had by hiding the entries:
    ``operator_norm_bounds(scipy.sparse.linalg.aslinearoperator(a))``.

    The probabilistic upper bound needs no gap between singular values: after k steps without a
    restart it is at most :math:`\cosh(\ln(2/\tau)/2k)\,\|A\|_2`, with :math:`\tau` about the
    failure probability over :math:`2\sqrt{n}`, as in [1]_; where there are gaps it is much
    closer. It is a statement about exact products. The rounding in the caller's products is outside
    of it, apart from a margin for which there is no proof. So is underflow: products that are zero
    for two random vectors, of length about :math:`\sqrt{n}` and :math:`\sqrt{n}` times the root
    of the dtype's largest number, are taken for those of a zero operator, and both bounds are 0. A
    stored matrix, even of subnormal numbers, does not get there. A subnormal norm is bracketed by
    numbers next to it; these may be too far apart for `rtol`.

    At most 8192 steps, over both matrices where the entries are known and of both signs. There
    Lanczos stops early, with ``converged`` False, when what a doubling of the steps gains says
    that `rtol` is out of reach of that number; the :math:`x` of a quotient takes at most 8192
    steps of conjugate gradients in addition, each with two products.

    Memory besides `op` for products alone: Lanczos vectors of the shorter side, in float64 or
    complex128: 64 MiB, or 24 vectors if these are more, at most 64; orthogonality is kept in full.
    For a large sparse matrix its entries twice more in addition, and the vectors twice where its
    entries are complex or of both signs. A step takes two products and four reads of the Lanczos
    vectors.

    Proofs and constants: ``docs/operator_bounds.md``.

    References
    ----------
    .. [1] Kuczynski, Wozniakowski, "Estimating the largest eigenvalue by the power and Lanczos
       algorithms with a random start", SIAM J. Matrix Anal. Appl. 13, 1992.
    .. [2] Wu, Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems", SIAM
       J. Matrix Anal. Appl. 22, 2000.
    .. [3] Hochstenbach, "Probabilistic upper bounds for the matrix two-norm", J. Sci. Comput. 57,
       2013.

    Examples
    --------
    The difference of neighbours, its norm just under 2:

    >>> import gramian as gm
    >>> import numpy as np
    >>> n = 100_000
    >>> def difference(v):
    ...     return v[1:] - v[:-1]
    >>> def adjoint(u):
    ...     return np.concatenate([-u[:1], u[:-1] - u[1:], u[-1:]])
    >>> op = (difference, adjoint, (n - 1, n), np.float64)
    >>> bounds = gm.operator_norm_bounds(op, rtol=0.01, rng=0)
    >>> bool(bounds.lower <= 2 * np.cos(np.pi / (2 * n)) <= bounds.upper)
    True
    >>> bounds.certificate, bounds.confidence
    ('probabilistic', 0.999)
    """
    tolerance = check_tolerance(rtol)
    wanted = check_probability(confidence, "confidence")
    generator = generator_of(rng)
    if is_sparse(op):
        return _of_entries(op, tolerance, generator)
    return _of_products(operator_of(op), tolerance, wanted, generator)


# ---- Results ------------------------------------------------------------------------------------


def _result(
    lower: float,
    upper: float,
    dtype: np.dtype[Any],
    rtol: float,
    **described: Any,
) -> Bounds:
    """Rounds outward to the real dtype of the operator's width."""
    kind = np.float32 if dtype.name in ("float32", "complex64") else np.float64
    with np.errstate(over="ignore", under="ignore"):
        low, high = kind(lower), kind(upper)
        # In double precision: NumPy compares a float32 with a Python float as float32.
        if float(low) > lower or not np.isfinite(low):
            low = np.nextafter(low, kind(0))
        if float(high) < upper:
            high = np.nextafter(high, kind(np.inf))
        converged = bool(high == 0 or (low > 0 and float(high) / float(low) - 1 <= rtol))
    return Bounds(np.asarray(low), np.asarray(high), np.asarray(converged), **described)


def _scaled(value: float, exponent: int, direction: float) -> float:
    """value * 2**exponent; where that is not exact, the next number in the direction."""
    try:
        result = math.ldexp(value, exponent)
    except OverflowError:
        return math.inf if direction > 0 else sys.float_info.max
    if math.ldexp(result, -exponent) != value:
        result = math.nextafter(result, direction)
    return result


def _capacity(size: int, is_complex: bool) -> int:
    room = _BASIS_BYTES // (size * (16 if is_complex else 8))
    return min(max(room, _BASIS_LEAST), _BASIS_MOST)


# ---- Entries known ------------------------------------------------------------------------------


def _of_entries(op: Any, rtol: float, rng: np.random.Generator) -> Bounds:
    dtype = dtype_of(op.dtype)
    if op.ndim != 2:
        raise ValueError(f"op has shape {op.shape}; it must be two sizes (m, n)")
    entries = _sparse_bounds.read(op)
    if entries is None:
        return _result(0, 0, dtype, rtol, n_iter=0, method="zero", certificate="rounding")
    m, n = entries.matrix.shape
    if entries.matrix.nnz == 0:  # all that was stored twice cancels
        lower, upper, steps, method = 0.0, entries.distance, 0, "zero"
    elif n <= _DENSE_SIDE and m * n <= _DENSE_ENTRIES:
        # In double precision, where no entry that is a sum is rounded once more.
        dense = spectral_norm_bounds(entries.matrix.toarray(), rtol=rtol / 2, rng=rng)
        lower = max(0.0, float(dense.lower) - entries.distance)
        upper = float(dense.upper) + entries.distance
        steps, method = dense.n_iter, f"dense-{dense.method}"
    else:
        is_complex = entries.matrix.dtype.kind == "c"
        found = _sparse_bounds.bracket(
            entries,
            rtol=rtol,
            capacity=_capacity(n, is_complex),
            max_steps=_MAX_STEPS,
            rng=rng,
        )
        lower, upper = found.lower, found.upper
        steps, method = found.steps, "collatz-wielandt"
    return _result(
        _scaled(math.nextafter(lower, 0), entries.exponent, 0.0),
        _scaled(math.nextafter(upper, math.inf), entries.exponent, math.inf),
        dtype,
        rtol,
        n_iter=steps,
        method=method,
        certificate="rounding",
    )


# ---- Products alone -----------------------------------------------------------------------------


def _of_products(op: Operator, rtol: float, confidence: float, rng: np.random.Generator) -> Bounds:
    m, n = op.shape
    size = min(m, n)
    if size == 0:
        return _result(0, 0, op.dtype, rtol, n_iter=0, method="zero", certificate="rounding")
    is_complex = op.dtype.kind == "c"
    epsilon = float(np.finfo(op.dtype).eps)
    wide = m < n  # the shorter side's Gram operator is then A A^H

    exponent = _exponent(op, wide, rng)
    described = {
        "n_iter": 0,
        "method": "lanczos",
        "certificate": "probabilistic",
        "confidence": confidence,
    }
    if exponent is None:
        return _result(0, 0, op.dtype, rtol, **described)
    # The scale goes into the vectors, so that no product of the operator leaves its range; what
    # would bring the vectors themselves near its ends waits until after the product.
    into = _clamped(-exponent, op.dtype)
    scale, rest = math.ldexp(1.0, into), math.ldexp(1.0, -exponent - into)

    def scaled(v: Vector, *, adjoint: bool) -> Vector:
        return op.apply(v * scale, adjoint=adjoint) * rest

    def gram(v: Vector) -> Vector:
        return scaled(scaled(v, adjoint=wide), adjoint=not wide)

    found = largest_eigenvalue(
        gram,
        size,
        is_complex=is_complex,
        least=least_component(size, is_complex, 1 - confidence) / _MARGIN,
        rtol=max(rtol / 2, 4 * epsilon),
        noise=4 * epsilon,
        capacity=_capacity(size, is_complex),
        max_steps=_MAX_STEPS,
        rng=rng,
    )
    v = (found.vector * scale).astype(op.dtype).astype(found.vector.dtype)
    image = float(np.linalg.norm(op.apply(v, adjoint=wide) * rest))
    norms = (2 * (m + n) + 16) * UNIT_ROUNDOFF
    lower = image / float(np.linalg.norm(v / scale)) * (1 - 2 * norms - epsilon)
    upper = math.sqrt(found.upper) * (1 + 2 * norms + epsilon)
    return _result(
        _scaled(lower, exponent, 0.0),
        _scaled(max(upper, lower), exponent, math.inf),
        op.dtype,
        rtol,
        **(described | {"n_iter": found.steps}),
    )


def _exponent(op: Operator, wide: bool, rng: np.random.Generator) -> int | None:
    """About log2 of the norm; None for a zero operator. Also checks that the two products match.

    A start vector of its own: the bound's must not depend on anything seen before.
    """
    size = min(op.shape)
    v: Vector = rng.standard_normal(size)
    if op.dtype.kind == "c":
        v = v + 1j * rng.standard_normal(size)
    v = v.astype(op.dtype).astype(v.dtype)
    up = 0
    y = op.apply(v, adjoint=wide)
    if float(np.max(np.abs(y))) < math.ldexp(1.0, _clamped(-1100, op.dtype)):
        # Digits are lost where numbers are subnormal, or all of them: once more from far above.
        up = _clamped(1100, op.dtype)
        y = op.apply(v * math.ldexp(1.0, up), adjoint=wide)
    largest = float(np.max(np.abs(y)))
    if largest == 0:
        return None
    y /= largest
    exponent = math.frexp(largest)[1] - up
    into = _clamped(-exponent, op.dtype)
    w = op.apply(y * math.ldexp(1.0, into), adjoint=not wide) / math.ldexp(largest, into - up)
    # <v, A^H A v> = ||A v||^2, both over the square of y's scale. The rounding of w is about
    # eps ||A|| ||y||.
    inner = complex(np.vdot(v, w))
    square = float(np.vdot(y, y).real)
    rounding = float(np.linalg.norm(v)) * float(np.linalg.norm(w))
    if abs(inner - square) > math.sqrt(float(np.finfo(op.dtype).eps)) * rounding:
        raise ValueError(
            "op.rmatvec is not the adjoint of op.matvec: for a random v, <v, A^H A v> and "
            f"||A v||^2 differ by a factor of {inner / square:.3g}"
        )
    typical = float(np.linalg.norm(y)) / math.sqrt(size)
    return exponent + math.frexp(typical)[1]


def _clamped(exponent: int, dtype: np.dtype[Any]) -> int:
    """The exponent, or the end of the middle half of the dtype's range that is nearest."""
    half = int(np.finfo(dtype).maxexp) // 2
    return min(max(exponent, -half), half)
