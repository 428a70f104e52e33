"""Exact comparisons of a number with the spectral norm: rational arithmetic, nothing rounded.

``sigma_1(X) < s`` if and only if ``s^2 I - X^T X`` is positive definite, that is, if and only if
all its leading principal minors are positive (Sylvester). With the entries of X and s as integers
over a common power of two, Bareiss' elimination gives every minor as an integer.
"""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np


def embedded(x):
    """Real matrix with the singular values of x (each twice if x is complex); floats unrounded."""
    x = np.asarray(x)
    if x.dtype.kind == "c":
        x = np.block([[x.real, -x.imag], [x.imag, x.real]])
    return x.astype(np.float64)


def integers(x):
    """Entries as Python ints over 2**shift: (list of rows, shift)."""
    ratios = [[float(v).as_integer_ratio() for v in row] for row in embedded(x)]
    shift = max((q.bit_length() - 1 for row in ratios for _, q in row), default=0)
    return [[p * (2**shift // q) for p, q in row] for row in ratios], shift


def gram_integers(x):
    """X^T X on the shorter side, over 4**shift."""
    rows, shift = integers(x if x.shape[0] >= x.shape[1] else x.T)
    columns = list(zip(*rows, strict=True))
    return [[sum(a * b for a, b in zip(c, d, strict=True)) for d in columns]
            for c in columns], shift  # fmt: skip


def positive_definite(a):
    """Whether a symmetric integer matrix is, by Bareiss' fraction-free elimination."""
    a = [list(row) for row in a]
    previous = 1
    for k in range(len(a)):
        if a[k][k] <= 0:  # the leading minor of order k + 1
            return False
        for i in range(k + 1, len(a)):
            for j in range(k + 1, len(a)):
                a[i][j] = (a[i][j] * a[k][k] - a[i][k] * a[k][j]) // previous
        previous = a[k][k]
    return True


def norm_is_below(x, s):
    """Whether sigma_1(x) < s, exactly; s is a float or a Fraction."""
    gram, shift = gram_integers(np.asarray(x))
    square = Fraction(s) ** 2 * 4**shift
    q = square.denominator
    return positive_definite(
        [[(square.numerator if i == j else 0) - q * v for j, v in enumerate(row)]
         for i, row in enumerate(gram)]
    )  # fmt: skip


def violation(x, lower, upper):
    """What is wrong with ``lower <= sigma_1(x) <= upper``, or an empty string."""
    lower, upper = float(lower), float(upper)
    if lower > 0 and norm_is_below(x, lower):
        return f"sigma_1 is below lower = {lower!r}"
    # Equality is allowed: sigma_1 <= upper if it is below everything above upper.
    if not np.any(x):
        return "" if upper >= 0 else f"upper = {upper!r} of a zero matrix"
    if upper < np.inf and not norm_is_below(x, Fraction(upper) * (1 + Fraction(1, 2**300))):
        return f"sigma_1 is above upper = {upper!r}"
    return ""


def mpmath_norm(x, digits=50):
    """sigma_1 by mpmath's SVD, to nearly so many digits."""
    with mpmath.workdps(digits):
        return mpmath.svd_r(mpmath.matrix(embedded(x).tolist()), compute_uv=False)[0]


def gram_iteration(x, steps):
    """||x||_{2^(steps+1)} from a float64 SVD: what gram_bound computes."""
    x = np.asarray(x)
    s = np.linalg.svd(x.astype(np.complex128 if x.dtype.kind == "c" else np.float64),
                      compute_uv=False)  # fmt: skip
    top = s.max(initial=0.0)
    if top == 0:
        return 0.0
    return float(top * np.sum((s / top) ** (2.0 ** (steps + 1))) ** (2.0 ** -(steps + 1)))


def gram_bound_gradient(x, steps):
    """Derivative of that bound by the entries of x: U diag((s / b)^(2^(steps + 1) - 1)) V^H."""
    x = np.asarray(x)
    wide = x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)
    u, s, vh = np.linalg.svd(wide, full_matrices=False)
    b = gram_iteration(x, min(steps, 30))
    if b == 0:
        return np.zeros_like(wide)
    if steps > 30:  # a power that no rounded quotient survives; the first vectors are its limit
        return np.outer(u[:, 0], vh[0])
    return (u * (s / b) ** (2.0 ** (steps + 1) - 1)) @ vh
