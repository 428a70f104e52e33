"""What the GPU's short arithmetics may do: a tolerance, and a model in plain NumPy to check it by.

In ``half`` every stored matrix is rounded to float16, in ``tf32`` every factor of a product to 11
significant bits; sums run in float32 in both. So against the tolerance of full precision (see
newton_schulz.py), where one product makes an error e = (sqrt(k) + 2) u for a sum of length k,

- the sum is exact next to the rest (sqrt(k) 2^-24 against 2^-11 and 2^-10), and
- a product P Q is hit once by rounding for each factor or, which is the same matrix, its own
  storing: |dP|_F <= u |P|_F moves P Q by at most u |P|_F |Q|_F, spread over all pairs of singular
  directions. e = 2 u takes both factors.

The growth of such errors through later steps is that of newton_schulz.py. It is a worst case over
signs; the constants below say what part of it may be used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.reference import newton_schulz as reference
from tests.reference.newton_schulz import Row

# float16 has 11 significant bits and rounds to nearest; tf32 as many, but tensor cores may cut off.
UNIT = {"half": 2.0**-11, "tf32": 2.0**-10}
# On every hard input, preset (but the published Polar Express, which has no room above 1) and
# normalization ``half_model`` stays below 0.6 of the tolerance, and below 0.2 but for single rows.
CONSTANT = {"standard": 0.1, "gram": 0.05}


def arithmetic(dtype: str, compute_dtype: str | None = None) -> str:
    """What a GPU computes in, by the documentation of ``compute_dtype``."""
    if compute_dtype is None:
        compute_dtype = "half" if dtype in ("float16", "bfloat16") else dtype
    return {"complex64": "float32", "complex128": "float64"}.get(compute_dtype, compute_dtype)


def tolerance(x, rows: Sequence[Row], *, compute: str, dtype: str | None = None,
              normalization: str | float = "schatten", method: str = "standard",
              restarts: Sequence[int] = ()) -> float:  # fmt: skip
    """Allowed ``rms_distance`` of one matrix; ``dtype`` is the one returned."""
    dtype = np.asarray(x).dtype.name if dtype is None else dtype
    kwargs = {"normalization": normalization, "method": method, "restarts": restarts}
    if compute not in UNIT:
        return reference.tolerance(x, rows, dtype=dtype, compute=compute, **kwargs)
    # float64 leaves the rounding of the result and float32's of the sums out of it.
    x = reference.to_double(x)
    if x.size == 0:
        return 0.0
    stored_and_sums = reference.tolerance(x, rows, dtype=dtype, compute="float32", **kwargs)
    sigma = np.linalg.svd(reference.normalized(x, normalization), compute_uv=False)
    if method == "gram":
        growth = reference.amplification_gram(sigma, rows, restarts)
    else:
        growth = reference.amplification_standard(sigma, rows)
    # What is stored last is an iterate of the arithmetic's, whatever the dtype.
    last = UNIT[compute] * np.abs(reference.scalar_map(sigma, rows)).max()
    return float(stored_and_sums + CONSTANT[method] * 2 * UNIT[compute] * growth + last)


# ---- The half arithmetic in plain NumPy ---------------------------------------------------------


def _half(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16).astype(np.float64)


def half_model(x, rows: Sequence[Row], *, normalization: str | float = "schatten",
               method: str = "standard", restarts: Sequence[int] = ()) -> np.ndarray:  # fmt: skip
    """One real matrix, every stored matrix in float16: X, A = X X^T, P = aI + bA + cA^2, P X."""
    x = reference.to_double(x)
    if x.shape[0] > x.shape[1]:
        return half_model(x.T, rows, normalization=normalization, method=method,
                          restarts=restarts).T  # fmt: skip
    frobenius = np.linalg.norm(reference.unit_scale(x)[0])
    if frobenius == 0:
        return np.zeros_like(x)
    # ||y||_F^2 in [sqrt(m)/4, sqrt(m)).
    exponent = int(np.frexp(frobenius / len(x) ** 0.25)[1])
    y = reference.unit_scale(x)[0] * 2.0**-exponent
    total_exponent = reference.unit_scale(x)[1] + exponent
    norm, y = np.linalg.norm(y), _half(y)
    eye = np.eye(len(x))

    def polynomial(gram: np.ndarray, t: int) -> np.ndarray:
        a, b, c = rows[t]
        square = gram @ gram
        if t > 0:
            return _half(a * eye + b * gram + c * square)
        if normalization == "schatten":
            s, square = np.linalg.norm(square) ** 0.25, _half(square)
        elif normalization == "frobenius":
            s = norm
        else:
            s = float(np.ldexp(float(normalization), -total_exponent))
        return _half(a / s * eye + b / s**3 * gram + c / s**5 * square)

    if method == "standard":
        for t in range(len(rows)):
            y = _half(polynomial(_half(y @ y.T), t) @ y)
        return y
    gram, q = _half(y @ y.T), None
    for t in range(len(rows)):
        if t in restarts:
            y = _half(q @ y)
            gram, q = _half(y @ y.T), None
        p = polynomial(gram, t)
        if t + 1 < len(rows) and t + 1 not in restarts:
            gram = _half(p @ _half(gram @ p))
            gram = np.tril(gram) + np.tril(gram, -1).T  # one triangle is computed
        q = p if q is None else _half(q @ p)
    return _half(q @ y)
