"""Slow, row-by-row versions of the streaming methods, and hard streams."""

from __future__ import annotations

import mpmath
import numpy as np


def _as(rows, kind):
    """In a real type, or the complex one of its width."""
    rows = np.asarray(rows)
    return rows.astype(np.result_type(kind, np.complex64) if rows.dtype.kind == "c" else kind)


def oja_rows(rows, start, rate):
    """Oja's method as it is written, one row at a time: the unit vector and ln of its growth."""
    v = _as(start, np.longdouble)
    v /= np.sqrt(np.vdot(v, v).real)
    growth = np.longdouble(0)
    for x in _as(rows, np.longdouble):
        w = v + rate * x.conj() * (x @ v)
        norm = np.sqrt(np.vdot(w, w).real)
        growth += np.log(norm)
        v = w / norm
    return _as(v, float), float(growth)


def sine(vector, rows):
    """Of the angle between v and the top eigenvector of A^H A, and how far off it may be.

    `vector` is v^H.
    """
    rows, vector = _as(rows, float), _as(vector, float)
    _, s, vt = np.linalg.svd(rows / np.abs(rows).max(), full_matrices=rows.shape[1] > rows.shape[0])
    top = vt[0]
    second = s[1] if len(s) > 1 else 0.0
    vector = vector / np.linalg.norm(vector)
    # Twice is enough for the part across: what the first leaves along is u of it.
    across = vector - top * np.vdot(top, vector)
    across -= top * np.vdot(top, across)
    doubt = 100 * np.finfo(float).eps * s[0] / max(s[0] - second, 1e-300)
    return float(np.linalg.norm(across)), doubt


def exact_sine(vector, rows):
    """The same in 60 digits, for few and short rows."""
    with mpmath.workdps(60):
        a = mpmath.matrix(np.asarray(rows, dtype=float).tolist())
        _, vectors = mpmath.eigsy(a.T * a)
        d = a.cols
        top = vectors[:, d - 1]
        v = mpmath.matrix([mpmath.mpf(float(x)) for x in vector])
        along = sum(top[i] * v[i] for i in range(d)) / mpmath.sqrt(sum(x * x for x in top))
        norm2 = sum(x * x for x in v)
        return mpmath.sqrt(max(norm2 - along * along, mpmath.mpf(0)) / norm2)


def turned(rng, rows):
    """Rows of a complex matrix with the singular values of a real one."""
    n, d = rows.shape
    unitary = np.linalg.qr(rng.standard_normal((d, d)) + 1j * rng.standard_normal((d, d)))[0]
    return (rows * np.exp(2j * np.pi * rng.random((n, 1)))) @ unitary


def _spiked(rng, n, d):
    top = rng.standard_normal(d)
    top /= np.linalg.norm(top)
    return rng.standard_normal((n, d)) + 10 ** rng.uniform(0, 3) * rng.standard_normal((n, 1)) * top


def _paper(rng, n, d):
    """Rows a e_1 + e_(i+1): light ones that only together have a direction (Price, Xun)."""
    rows = np.zeros((n, d))
    rows[:, 0] = 10 ** rng.uniform(-1, 1)
    rows[np.arange(n), 1 + np.arange(n) % max(d - 1, 1) if d > 1 else 0] += 1
    return rows


def _heavy(rng, n, d):
    rows = rng.standard_normal((n, d)) * 10 ** rng.uniform(-4, 0)
    at = rng.integers(n, size=max(1, n // 30))
    rows[at] += 10 ** rng.uniform(-1, 2) * rng.standard_normal((len(at), d))
    return rows


def _late(rng, n, d):
    """A few unit rows, then many small ones of another direction that outweighs them."""
    rows = np.zeros((n, d))
    few = min(5, d - 1, n - 1) if d > 1 and n > 1 else 0
    rows[np.arange(few), np.arange(few)] = 1
    rows[few:, d - 1] = 10 ** rng.uniform(-1.5, 0)
    return rows


def _decaying(rng, n, d):
    return rng.standard_normal((n, d)) * np.arange(1, d + 1) ** -rng.choice([0.5, 1, 2])


def _scales(rng, n, d):
    return _spiked(rng, n, d) * 10.0 ** rng.uniform(-6, 6, (n, 1))


def _rank_one(rng, n, d):
    return rng.standard_normal((n, 1)) * rng.standard_normal((1, d))


def _nearly_one(rng, n, d):
    """||A||_F^2 <= 1.01 lambda_1 for certain: the rest has 0.009 of the energy."""
    rows = _rank_one(rng, n, d)
    noise = rng.standard_normal((n, d))
    return rows + noise * (0.04 * np.linalg.norm(rows) / np.linalg.norm(noise))


STREAMS = {
    "spiked": _spiked,
    "light rows": _paper,
    "heavy rows": _heavy,
    "late direction": _late,
    "decaying": _decaying,
    "scales": _scales,
    "rank one": _rank_one,
    "nearly rank one": _nearly_one,
    "isotropic": lambda rng, n, d: rng.standard_normal((n, d)),
}


def repeated(rng, n, d):
    """Rows of which the top eigenvalue is repeated, exactly: a e_i, each as often, any order."""
    k = int(rng.integers(2, d + 1))
    times = max(1, n // k)
    rows = np.zeros((times * k, d))
    rows[np.arange(times * k), np.tile(np.arange(k), times)] = 1
    rows *= rng.choice([-1.0, 1.0], (len(rows), 1))
    if k < d:
        small = np.zeros((times, d))
        small[:, k] = 0.5
        rows = np.concatenate([rows, small])
    return ordered(rng, rows)


def ordered(rng, rows):
    """In an order that may be meant to harm: as made, shuffled, by norm, or by a direction."""
    kind = rng.integers(6)
    if kind == 1:
        return rng.permutation(rows)
    if kind in (2, 3):
        order = np.argsort(np.linalg.norm(rows, axis=1), kind="stable")
        return rows[order if kind == 2 else order[::-1]]
    if kind in (4, 5):
        top = np.linalg.svd(rows, full_matrices=False)[2][0]
        order = np.argsort(np.abs(rows @ top), kind="stable")
        return rows[order if kind == 4 else order[::-1]]
    return rows


def cut(rng, rows):
    """Somehow into batches."""
    while len(rows):
        size = int(rng.choice([1, 2, 7, 15, 16, 17, 64, 1000]))
        yield rows[:size]
        rows = rows[size:]


def decayed(rows, *, weights=None, decay=1.0, center=False):
    """The matrix A of which a stream's A^T A is meant: weighted, decayed, less its mean row."""
    rows = _as(rows, np.longdouble)
    factors = np.longdouble(decay) ** np.arange(len(rows) - 1, -1, -1, dtype=np.longdouble)
    if weights is not None:
        factors = factors * np.asarray(weights, dtype=np.longdouble)
    if center:
        rows = rows - (factors @ rows) / factors.sum()
    return _as(rows * np.sqrt(factors)[:, None], float)


def adaoja(rows, start, *, block, decay=1.0):
    """AdaOja with a step size for each column, and sums of squares along the columns."""
    q = _as(start, float)
    squared_steps, values = np.zeros(q.shape[1]), np.zeros(q.shape[1])
    for first in range(0, len(rows), block):
        past = decay ** len(rows[first : first + block])
        x = decayed(rows[first : first + block], decay=decay)
        g = x.conj().T @ (x @ q)
        values = past * values + (np.abs(x @ q) ** 2).sum(axis=0)
        squared_steps = past * squared_steps + (np.abs(g) ** 2).sum(axis=0)
        q, r = np.linalg.qr(q + g / np.sqrt(squared_steps))
        q = q * (np.diag(r) / np.abs(np.diag(r)))
    return q, values


def history(rows, start, *, block, decay=1.0):
    """History PCA, with the matrices of size d x d that it avoids."""
    q = _as(start, float)
    values = np.zeros(q.shape[1])
    for first in range(0, len(rows), block):
        past = decay ** len(rows[first : first + block])
        x = decayed(rows[first : first + block], decay=decay)
        m = past * (q * values) @ q.conj().T + x.conj().T @ x
        q = np.linalg.qr(m @ q)[0]
        w, v = np.linalg.eigh(q.conj().T @ m @ q)
        q, values = q @ v[:, ::-1], w[::-1]
    return q, values
