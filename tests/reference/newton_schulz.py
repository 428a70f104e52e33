"""Newton-Schulz in plain NumPy, float64: the iteration as written, and what it equals exactly.

One step with coefficients (a, b, c) is X <- a X + (b A + c A^2) X, A = X X^H. It maps every
singular value by p(s) = a s + b s^3 + c s^5 and leaves the singular vectors alone, so the whole
iteration equals U p_T(...p_1(Sigma / s)...) V^H, with s the norm that x is divided by.

The second half derives how far rounding may move a computed result from that: see
``amplification_standard`` and ``amplification_gram``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

Row = tuple[float, float, float]

# As published: Jordan 2024 (muon); You (in Jordan 2024's comments); Amsel et al. 2025,
# arXiv 2505.16932, lower bound 1e-3, cushion 0.02407 (polar_express_paper); the Taylor series of
# sigma^-1 about 1 to second order (taylor). The last row repeats.
PUBLISHED: dict[str, tuple[Row, ...]] = {
    "muon": ((3.4445, -4.7750, 2.0315),),
    "you": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
    "polar_express_paper": (
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
        (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
        (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
        (15 / 8, -10 / 8, 3 / 8),
    ),
    "taylor": ((15 / 8, -10 / 8, 3 / 8),),
}


def extend(rows: Sequence[Row], steps: int) -> list[Row]:
    """Cut to ``steps`` rows, or repeat the last one."""
    rows = [tuple(float(v) for v in row) for row in rows]
    return (rows + [rows[-1]] * steps)[:steps]


def adjoint(x: np.ndarray) -> np.ndarray:
    return np.swapaxes(x, -1, -2).conj()


def to_double(x) -> np.ndarray:
    x = np.asarray(x)
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def unit_scale(x: np.ndarray) -> tuple[np.ndarray, int]:
    """x 2^-k with largest entry in [1/2, 1), and k: exact, so that no norm over- or underflows."""
    top = np.abs(x).max(initial=0.0)
    k = int(np.frexp(top)[1]) if top > 0 else 0
    half = -k // 2  # 2^-k itself may be out of range
    return x * 2.0**half * 2.0 ** (-k - half), k


def schatten8(x: np.ndarray) -> float:
    """||(x x^H)^2||_F^(1/4), the Schatten-8 norm: sigma_1 <= it <= rank^(1/8) sigma_1."""
    a = x @ adjoint(x) if x.shape[-2] <= x.shape[-1] else adjoint(x) @ x
    return float(np.linalg.norm(a @ a) ** 0.25)


def norm_bound(x: np.ndarray, normalization: str | float) -> float:
    """What one matrix is divided by."""
    if not isinstance(normalization, str):
        return float(normalization)
    y, k = unit_scale(to_double(x))
    s = np.linalg.norm(y) if normalization == "frobenius" else schatten8(y)
    return float(np.ldexp(s, k))


def normalized(x: np.ndarray, normalization: str | float) -> np.ndarray:
    """x / s in float64, formed from x 2^-k so that it is finite for any finite x."""
    y, k = unit_scale(to_double(x))
    if isinstance(normalization, str):
        s = norm_bound(y, normalization)
    else:
        s = float(np.ldexp(float(normalization), -k))
    return y / s if s > 0 else y


def iterate_standard(x: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    for a, b, c in rows:
        gram = x @ adjoint(x)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def iterate_gram(x: np.ndarray, rows: Sequence[Row], restarts: Sequence[int] = ()) -> np.ndarray:
    eye = np.eye(x.shape[0], dtype=x.dtype)
    r, q = x @ adjoint(x), eye
    for t, (a, b, c) in enumerate(rows):
        if t in restarts:
            x = q @ x
            r, q = x @ adjoint(x), eye
        z = b * r + c * r @ r
        q = a * q + q @ z
        r = (a * eye + z) @ r @ (a * eye + z)
    return q @ x


def newton_schulz(x, rows, *, normalization="schatten", method="standard", restarts=()):
    """The iteration as written, in float64 or complex128, for (..., m, n)."""
    x = to_double(x)
    if x.size == 0:
        return x.copy()
    if x.ndim > 2:
        return np.stack([
            newton_schulz(y, rows, normalization=normalization, method=method, restarts=restarts)
            for y in x.reshape(-1, *x.shape[-2:])
        ]).reshape(x.shape)  # fmt: skip
    if x.shape[0] > x.shape[1]:
        return adjoint(newton_schulz(adjoint(x), rows, normalization=normalization, method=method,
                                     restarts=restarts))  # fmt: skip
    x = normalized(x, normalization)
    return iterate_gram(x, rows, restarts) if method == "gram" else iterate_standard(x, rows)


def scalar_map(sigma: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """The composed odd polynomial."""
    for a, b, c in rows:
        sigma = sigma * (a + sigma * sigma * (b + sigma * sigma * c))
    return sigma


def exact(x, rows, *, normalization="schatten"):
    """U p(Sigma/s) V^H from a float64 SVD, for (..., m, n)."""
    x = to_double(x)
    if x.size == 0:
        return x.copy()
    if x.ndim > 2:
        flat = x.reshape(-1, *x.shape[-2:])
        return np.stack([exact(y, rows, normalization=normalization) for y in flat]).reshape(
            x.shape
        )
    u, sigma, vh = np.linalg.svd(normalized(x, normalization), full_matrices=False)
    return (u * scalar_map(sigma, rows)) @ vh


def polar(x: np.ndarray) -> np.ndarray:
    """U V^H of one matrix of full rank."""
    u, _, vh = np.linalg.svd(unit_scale(to_double(x))[0], full_matrices=False)
    return u @ vh


def residual(q) -> np.ndarray:
    """||I - G||_F / sqrt(r), G the Gram matrix of q on its shorter side r."""
    q = to_double(q)
    r = min(q.shape[-2:])
    if r == 0:
        return np.zeros(q.shape[:-2])
    gram = q @ adjoint(q) if q.shape[-2] <= q.shape[-1] else adjoint(q) @ q
    return np.linalg.norm(np.eye(r) - gram, axis=(-2, -1)) / np.sqrt(r)


def rms_distance(q, q_exact) -> float:
    """||q - q_exact||_F / sqrt(r): the root mean square error over the r directions."""
    q = to_double(q)
    return float(np.linalg.norm(q - q_exact) / np.sqrt(max(1, min(q.shape[-2:]))))


# ---- How rounding grows -------------------------------------------------------------------------
#
# One product P Q of commuting factors with spectra p, q (an inner product of length k; rounding
# errors of sums grow like sqrt(k) u, Higham & Mary, SIAM J. Sci. Comput. 41, 2019) makes an error
# E with two parts, e = (sqrt(k) + 2) u, the 2 for scaling and storing:
#   spread:   e |p|_2 |q|_2 in the Frobenius norm, evenly over all pairs of singular directions,
#   aligned:  e p_i q_i on the diagonal of the singular basis (all there is for a diagonal matrix,
#             and what a wrong scale looks like).
# To first order E reaches the result through a Frechet derivative, which multiplies entry (i, j)
# of E in the singular basis by D_ij, a divided difference of the scalar function
# (Daleckii-Krein). The share of one product is therefore
#   e (|p|_2 |q|_2 rms_ij D_ij + |D_ii p_i q_i|_2),
# and C times the sum of all shares over sqrt(r) bounds ||Q - Q_exact||_F / sqrt(r). The Gram form's
# R and Q are matrices of the short side, all else is the same.
# Divided differences follow from the product rule by carrying both multipliers along the steps.


DIRECTIONS = 64  # a longer spectrum is thinned evenly to this many


def _thin(sigma: np.ndarray) -> np.ndarray:
    if len(sigma) <= DIRECTIONS:
        return np.asarray(sigma, dtype=np.float64)
    return sigma[np.linspace(0, len(sigma) - 1, DIRECTIONS).round().astype(int)]


def _rms(v: np.ndarray) -> float:
    return float(np.sqrt(np.mean(v * v)))


def _share(d: np.ndarray, terms: Sequence[tuple[np.ndarray, np.ndarray]], r: int) -> float:
    """Growth, over sqrt(r), of the errors of sum_t P_t Q_t under the multiplier d.

    The terms are pairs of spectra; with root mean squares in place of norms the spread part is
    sqrt(r) rms(p) rms(q) rms(d), so a thinned spectrum stands for all r directions.
    """
    spread = np.sqrt(r) * sum(_rms(p) * _rms(q) for p, q in terms) * _rms(d)
    return float(spread) + _rms(np.diagonal(d) * sum(np.abs(p * q) for p, q in terms))


def _odd_multiplier(x: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """D for X -> the composed map of X: the larger of both divided differences of an odd function.

    (f(s) - f(t)) / (s - t) acts on the Hermitian part of an error, (f(s) + f(t)) / (s + t) on the
    rest. Each step multiplies by its own: with S = s^2 + t^2 and P = s t,
    (s^3 -+ t^3) / (s -+ t) = S +- P and (s^5 -+ t^5) / (s -+ t) = S^2 - P^2 +- S P.
    """
    d = np.ones((2, len(x), len(x)))
    sign = np.array([1.0, -1.0])[:, None, None]
    for a, b, c in rows:
        both = x[:, None] ** 2 + x[None, :] ** 2
        prod = sign * x[:, None] * x[None, :]
        d *= a + b * (both + prod) + c * (both**2 - prod**2 + both * prod)
        x = scalar_map(x, [(a, b, c)])
    return np.abs(d).max(axis=0)


def amplification_standard(sigma: np.ndarray, rows: Sequence[Row]) -> float:
    """Sum of the shares of all products of the standard form, for normalized ``sigma``."""
    x, n = _thin(sigma), len(sigma)
    total = _rms(np.diagonal(_odd_multiplier(x, rows)) * x)  # rounding of the scale
    for k, (a, b, c) in enumerate(rows):
        r, z = x * x, np.abs(b) + abs(c) * x * x
        # a X is aligned; A = X X^H, c A^2, and (bA + cA^2) X each make an error. Those of A are
        # carried into X by the coefficients they meet, at most |b| + 2 |c| r and x.
        gram = (abs(b) + 2 * abs(c) * r.max()) * x.max()
        d = _odd_multiplier(scalar_map(x, [(a, b, c)]), rows[k + 1 :])
        total += _share(d, [(gram * x, x), (abs(c) * x.max() * r, r), (r * z, x)], n)
        total += _rms(np.diagonal(d) * a * x)
        x = scalar_map(x, [(a, b, c)])
    return total


def amplification_gram(sigma: np.ndarray, rows: Sequence[Row], restarts: Sequence[int]) -> float:
    """The same for the Gram form, segment by segment between restarts.

    An error of R or Q moves entry (i, j), with z = a + b r + c r^2, by
    dZ = (b + c (r_i + r_j)) dR, dQ' = z_j dQ + q_i dZ, dR' = (r_j z_j + z_i r_i) dZ + z_i z_j dR,
    and at the end of the segment dX = sigma_j dQ. This is where the Gram form loses: dR grows by
    a^2 a step where r is 0.
    """
    x, n = _thin(sigma), len(sigma)
    total = _rms(np.diagonal(_odd_multiplier(x, rows)) * x)  # rounding of the scale
    bounds = [0, *sorted(t for t in restarts if 0 < t < len(rows)), len(rows)]
    for start, stop in pairwise(bounds):
        segment = rows[start:stop]
        after = scalar_map(x, segment)
        later = _odd_multiplier(after, rows[stop:])
        r, q = x * x, np.ones_like(x)
        states, r_terms, q_terms = [(r, q)], [[(x, x)]], [[]]
        for a, b, c in segment:
            z = a + r * (b + r * c)
            size = abs(a) + r * (abs(b) + r * abs(c))
            # R' = (aI + Z) R (aI + Z): two products; the error of Z itself is within them
            r_terms.append([(size, r * size), (size * r, size)])
            q_terms.append([(q, size)])
            r, q = r * z * z, q * z
            states.append((r, q))
        for k in range(len(states)):
            for terms, d_r, d_q in ((r_terms[k], 1.0, 0.0), (q_terms[k], 0.0, 1.0)):
                if terms:
                    d = _gram_multiplier(states[k:], segment[k:], x, d_r, d_q)
                    total += _share(d * later, terms, n)
        total += _share(later, [(q, x)], n)
        x = after
    return total


def _gram_multiplier(states, rows, x, d_r, d_q) -> np.ndarray:
    d_r = np.full((len(x), len(x)), d_r)
    d_q = np.full_like(d_r, d_q)
    for (r, q), (a, b, c) in zip(states, rows, strict=False):
        z = a + r * (b + r * c)
        d_z = (b + c * (r[:, None] + r[None, :])) * d_r
        d_q = z[None, :] * d_q + q[:, None] * d_z
        d_r = ((r * z)[None, :] + (r * z)[:, None]) * d_z + z[:, None] * z[None, :] * d_r
    return d_q * x[None, :]


UNIT_ROUNDOFF = {
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float32": 2.0**-24,
    "complex64": 2.0**-24,
    "float64": 2.0**-53,
    "complex128": 2.0**-53,
}

# The stated constants C. On every hard input, preset, normalization and dtype a plain NumPy
# implementation in the working precision stays below 0.3 of the tolerance in either form.
CONSTANT = {"standard": 0.5, "gram": 0.25}


def tolerance(x, rows, *, normalization="schatten", method="standard", restarts=(), dtype=None,
              compute=None) -> float:  # fmt: skip
    """Allowed ``rms_distance`` of one matrix: rounding of the iteration and of the returned dtype.

    ``dtype`` names the dtype returned, ``compute`` the one computed in (float32 for half).
    """
    dtype = np.asarray(x).dtype.name if dtype is None else dtype
    if compute is None:
        compute = dtype if dtype not in ("float16", "bfloat16") else "float32"
    if np.asarray(x).size == 0:
        return 0.0
    sigma = np.linalg.svd(normalized(x, normalization), compute_uv=False)
    if method == "gram":
        growth = amplification_gram(sigma, rows, restarts)
    else:
        growth = amplification_standard(sigma, rows)
    unit = CONSTANT[method] * UNIT_ROUNDOFF[compute]
    iteration = unit * (np.sqrt(max(np.shape(x)[-2:])) + 2) * growth
    # The reference is an SVD in float64, backward stable to a few u sqrt(k) of its own.
    slope = _odd_multiplier(_thin(sigma), rows).max()
    iteration += 4 * 2.0**-53 * np.sqrt(max(np.shape(x)[-2:])) * slope * _rms(sigma)
    stored = UNIT_ROUNDOFF[dtype] * np.abs(scalar_map(sigma, rows)).max()
    # Entries of q below half precision's smallest normal number round by half a spacing there.
    tiny = {"float16": 2.0**-25 * np.sqrt(max(np.shape(x)[-2:]))}.get(dtype, 0.0)
    return float(iteration + stored + tiny)
