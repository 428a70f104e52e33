"""Streams of rows and what is true of them, in float64 and in mpmath."""

import math

import mpmath
import numpy as np


def double(x):
    x = np.asarray(x)
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def stacked(x, weights=None, decay=1.0, center=False):
    """The matrix A whose right singular vectors a stream of the rows x stands for, in double."""
    x = double(x)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    x, w = x[w > 0], w[w > 0]
    w = w * decay ** np.arange(len(x) - 1, -1, -1.0)
    if center and len(x):
        x = x - (w[:, None] * x).sum(0) / w.sum()
    return np.sqrt(w)[:, None] * x


def sine(v, w):
    """Sine of the angle between two vectors, accurate where it is small."""
    v, w = double(v), double(w)
    v, w = v / np.linalg.norm(v), w / np.linalg.norm(w)
    return float(np.linalg.norm(v - np.vdot(w, v) * w))


def top(a):
    """Top right singular vector of A as a row, and how far double can be off; None: undefined."""
    if not len(a) or not np.any(a):
        return None
    _, s, vh = np.linalg.svd(a, full_matrices=False)
    second = s[1] if len(s) > 1 else 0.0
    gap = (s[0] - second) * (s[0] + second) / s[0] ** 2
    return (vh[0], 1e-14 * math.sqrt(a.size) / gap) if gap > 1e-9 else None


def exact_sine(x, v, weights=None, decay=1.0, center=False):
    """The sine of the angle between v and the top eigenvector as a row, in 60 digits."""
    with mpmath.workdps(60):
        rows = [[mpmath.mpmathify(e) for e in row] for row in double(x).tolist()]
        w = (
            [mpmath.mpf(1)] * len(rows)
            if weights is None
            else [mpmath.mpf(float(e)) for e in weights]
        )
        pairs = [(r, e) for r, e in zip(rows, w, strict=True) if e > 0]
        n, d = len(pairs), len(v)
        w = [e * mpmath.mpf(decay) ** (n - 1 - i) for i, (_, e) in enumerate(pairs)]
        rows = [r for r, _ in pairs]
        if center:
            total = mpmath.fsum(w)
            mean = [
                mpmath.fsum(e * r[j] for e, r in zip(w, rows, strict=True)) / total
                for j in range(d)
            ]
            rows = [[r[j] - mean[j] for j in range(d)] for r in rows]
        gram = mpmath.matrix(d, d)
        for i in range(d):
            for j in range(d):
                gram[i, j] = mpmath.fsum(
                    e * mpmath.conj(r[i]) * r[j] for e, r in zip(w, rows, strict=True)
                )
        values, vectors = (mpmath.eighe if np.iscomplexobj(x) else mpmath.eigsy)(gram)
        if d > 1 and values[d - 1] - values[d - 2] <= values[d - 1] * mpmath.mpf(10) ** -40:
            return mpmath.inf
        u = [mpmath.conj(e) for e in double(v).tolist()]
        length = mpmath.sqrt(mpmath.fsum(abs(e) ** 2 for e in u))
        u = [e / length for e in u]
        cosine = mpmath.fsum(u[j] * mpmath.conj(vectors[j, d - 1]) for j in range(d))
        rest = [u[j] - cosine * vectors[j, d - 1] for j in range(d)]
        return mpmath.sqrt(mpmath.fsum(abs(e) ** 2 for e in rest))


KINDS = (
    "gaussian",
    "spiked",
    "low rank",
    "heavy",
    "decaying",
    "integers",
    "repeated",
    "offset",
    "wide scale",
)


def rows(rng, kind, n, d):
    """Rows in an order that is as bad as chance makes it."""
    x = rng.standard_normal((n, d))
    if kind == "spiked":
        x += rng.standard_normal((n, 1)) * 4 * rng.standard_normal(d)
    elif kind == "low rank":
        rank = int(rng.integers(1, min(n, d) + 1))
        x = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d))
    elif kind == "heavy":
        x[rng.integers(n)] *= 10 ** rng.uniform(0, 4)
    elif kind == "decaying":
        x *= 10.0 ** -np.arange(d)
        x = x @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    elif kind == "integers":
        x = rng.integers(-2, 3, (n, d)).astype(float)
    elif kind == "repeated":
        # A^T A is a multiple of the identity but for a last, incomplete round.
        x = np.tile(np.eye(d), (n // d + 1, 1))[:n] * 2.0
    elif kind == "offset":
        x += 10 ** rng.uniform(0, 6) * rng.standard_normal(d)
    elif kind == "wide scale":
        x *= 10 ** rng.uniform(-8, 8, (n, 1))
    if rng.random() < 0.3:
        x = x[np.argsort((x**2).sum(1))[:: rng.choice([-1, 1])]]
    return x


def complex_rows(rng, kind, n, d):
    """The same of complex rows."""
    if kind == "repeated":
        # Turned by powers of i, which are exact: a multiple of the identity still.
        return rows(rng, kind, n, d) * 1j ** rng.integers(0, 4, (n, d))
    return rows(rng, kind, n, d) + 1j * rows(rng, kind, n, d)
