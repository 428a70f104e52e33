"""What cuda/src/one_block*.cuh and rsvd_direct.cpp do, step by step, in NumPy.

Figures: failures, shifts, sweeps. As there, nothing more is computed once something has failed.
"""

from __future__ import annotations

import numpy as np

U64 = 2.0**-53
U32 = 2.0**-24
PANEL = 16
MOST_SWEEPS = 24
DIRECT_LIMIT = 144
DIRECT_SQUARES = 3
DIRECT_VALUES = 8
DIRECT_LOOKS = 3
HALVINGS = 32


def panels(scaled):
    """The Cholesky factor of a square of columns of length 1, its inverse, the smallest pivot."""
    size = len(scaled)
    square = np.tril(scaled)
    diagonal = np.ones(size)  # of the inverse
    least = 1.0
    with np.errstate(all="ignore"):
        for first in range(0, size, PANEL):
            end = min(first + PANEL, size)
            own = square[first:end, first:end]
            for k in range(end - first):
                pivot = own[k, k]
                least = pivot if not pivot >= least else least
                own[k:, k] /= np.sqrt(pivot)
                for j in range(k + 1, end - first):
                    own[j:, j] -= own[j:, k] * own[j, k]
            inverse = np.linalg.inv(np.tril(own)) if np.all(np.diag(own) > 0) else own * np.nan
            inverse = np.tril(inverse)
            outside = np.r_[0:first, end:size]
            square[outside, first:end] = square[outside, first:end] @ inverse.T
            right = square[:, first:end].copy()
            right[first:end] = inverse.T
            change = square[end:, first:end] @ right.T
            below = np.tril(change[:, end:])
            square[end:, end:] -= below
            square[:end, end:] -= change[:, :end].T
            square[first:end, first:end] = np.tril(own) + np.triu(inverse.T, 1)
            diagonal[first:end] = np.diag(inverse)
    return np.tril(square), np.tril(square.T, -1) + np.diag(diagonal), least


def cholesky(gram, least, shift, figures):
    """R with gram = R^T R and its inverse."""
    size = len(gram)
    nothing = np.zeros((size, size))
    if figures[0]:
        return nothing, nothing
    with np.errstate(all="ignore"):
        lengths = np.sqrt(np.diag(gram))
        scaled = gram / lengths[:, None] / lengths
    lower, inverse, smallest = panels(scaled)
    if not smallest >= least and shift:
        figures[1] += 1
        lower, inverse, smallest = panels(scaled + shift * np.eye(size))
    if not smallest >= least:
        figures[0] += 1
        return nothing, nothing
    return lower.T * lengths, inverse.T / lengths[:, None]


def seats(size):
    """Pairs of rows, round by round: the circle method."""
    count = size + size % 2 - 1
    for turn in range(count):
        met = [(count, turn)]
        met += [((turn + i) % count, (turn - i) % count) for i in range(1, (count + 1) // 2)]
        pairs = [pair for pair in met if max(pair) < size]
        yield np.array(pairs, dtype=int).reshape(-1, 2).T


def jacobi(triangle, tolerance, figures):
    """Eigenvalues of R^T R, descending, and eigenvectors."""
    s = triangle.copy()
    size = len(s)
    if figures[0]:
        return np.zeros(size), np.zeros((size, size))
    sweeps, ended = 0, False
    while not ended and sweeps < MOST_SWEEPS:
        sweeps += 1
        ended = True
        squares = (s * s).sum(1)
        for x, y in seats(size):
            c, a, b = (s[x] * s[y]).sum(1), squares[x], squares[y]
            turned = abs(c) > tolerance * np.sqrt(a * b)
            if not turned.any():
                continue
            ended = False
            x, y, a, b, c = x[turned], y[turned], a[turned], b[turned], c[turned]
            zeta = (b - a) / (2 * c)
            t = np.copysign(1, zeta) / (abs(zeta) + np.sqrt(zeta * zeta + 1))
            cosine = 1 / np.sqrt(t * t + 1)
            sine = t * cosine
            s[x], s[y] = (
                cosine[:, None] * s[x] - sine[:, None] * s[y],
                sine[:, None] * s[x] + cosine[:, None] * s[y],
            )
            squares[x] = a - t * c
            squares[y] = b + t * c
    figures[2] = sweeps
    values = (s * s).sum(1)
    if not ended or not np.all((values > 0) & (values < 1e300)):
        figures[0] += 1
    order = np.argsort(-values, kind="stable")
    return values[order], (s / np.sqrt(values)[:, None])[order].T


def tridiagonal(s):
    """Diagonal and what is beside it, by reflections; s is overwritten."""
    size = len(s)
    beside = np.zeros(max(size - 1, 0))
    for j in range(size - 1):
        v = s[j, j + 1 :].copy()
        square = v[1:] @ v[1:]
        if not square > 1e-60:
            beside[j] = v[0]
            continue
        beside[j] = -np.copysign(np.sqrt(v[0] ** 2 + square), v[0] if v[0] else -1.0)
        v[0] -= beside[j]
        factor = 2 / (v[0] ** 2 + square)
        rest = s[j + 1 :, j + 1 :]
        product = factor * (rest @ v)
        w = product - 0.5 * factor * (product @ v) * v
        rest -= np.outer(v, w) + np.outer(w, v)
    return np.diag(s).copy(), beside


def count_below(diagonal, squares, x):
    """Eigenvalues below each of x: changes of sign of the principal minors, scaled on the way."""
    before, minor = np.zeros(len(x)), np.ones(len(x))
    count = np.zeros(len(x), int)
    for i, entry in enumerate(diagonal):
        before, minor, old = minor, (entry - x) * minor - squares[i] * before, minor
        count += np.signbit(minor) != np.signbit(old)
        if i % 8 == 7:
            scale = np.exp2(1.0 - np.frexp(np.maximum(abs(minor), abs(before)))[1])
            before, minor = before * scale, minor * scale
    return count


def eigenvalues(gram):
    """Descending; of a trace that is not positive, zeros."""
    size, trace = len(gram), np.trace(gram)
    if not 1e-300 < trace < 1e300:
        return np.zeros(size)
    diagonal, beside = tridiagonal(gram / trace)
    left, right = np.r_[0, beside], np.r_[beside, 0]
    low = np.zeros(size)
    high = np.full(size, (diagonal + abs(left) + abs(right)).max())
    squares = np.maximum(left**2, 2.0**-90)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        below = count_below(diagonal, squares, middle) >= size - np.arange(size)
        low, high = np.where(below, low, middle), np.where(below, middle, high)
    return 0.5 * (low + high) * trace


class Direct:
    """rsvd_direct.cpp, on float32 A; Z, Y and W are the caller's."""

    def __init__(self, a, z, y, w, figures, sketch):
        self.a, self.z, self.y, self.w, self.figures = a, z, y, w, figures
        self.sketch = sketch
        self.size = z.shape[1]

    def read(self, t, *, ritz, ends):
        exact = ritz or ends
        if t == 1:
            self.figures[:DIRECT_VALUES] = 0
            self.figures[DIRECT_SQUARES] = (self.a.astype(float) ** 2).sum()
            self.z[...] = self.sketch
            if exact:
                self._orthonormal(self.sketch.astype(float), exact)
        else:
            w = self.w.copy()
            if t == 2:
                w = w @ self._factor(self.y, False)[1]
            w = w @ self._factor(w, False)[1]
            self.z[...] = w
            if exact:
                self._orthonormal(w, exact)
        self.y[...] = self.a @ self.z
        self.w[...] = self.a.T @ self.y
        if ritz:
            y = self.y.astype(float)
            at = DIRECT_VALUES + t * self.size
            if not self.figures[0]:
                self.figures[at : at + self.size] = eigenvalues(y.T @ y)

    def _least(self, exact):
        size = self.size
        return size * U64 / max(0.01 * U32, 8 * size * U64) if exact else 1e3 * size * U64

    def _factor(self, x, exact):
        x = x.astype(float)
        shift = 0 if exact else 4e3 * self.size * U64
        return cholesky(x.T @ x, self._least(exact), shift, self.figures)

    def _eigen(self, triangle):
        """As jacobi() does, sooner on a host."""
        _, s, vh = np.linalg.svd(triangle)
        if not self.figures[0] and not s[-1] > 0:
            self.figures[0] += 1
        return s**2, vh.T

    def _orthonormal(self, x, exact):
        self.z[...] = x @ self._factor(x, exact)[1]

    def factors(self, k):
        """U, squares of S, V."""
        if self.figures[0]:
            nothing = (np.zeros((len(self.a), k)), np.zeros(k), np.zeros((len(self.z), k)))
            return nothing
        z, y = self.z.astype(float), self.y.astype(float)
        whole = y.T @ y
        triangle, inverse = self._factor(self.y, True)
        inner = z.T @ self.w
        top = abs(whole).sum(0).max()
        seen = np.linalg.norm(inner - whole) * np.sqrt(self.a.shape[1] / self.size)
        sums = abs(inverse).sum(0)
        usable = sums * np.sqrt(top) < 0.1 / U32
        b = (self.w - z @ inner) @ np.where(usable, inverse, 0)
        kept = usable & (np.linalg.norm(b, axis=0) > (24 * U32 * top + 3 * seen) * sums)
        b = np.where(kept, b, 0) + z @ triangle.T
        values, vectors = self._eigen(self._factor(b, True)[0])
        self.figures[DIRECT_VALUES : DIRECT_VALUES + self.size] = values
        with np.errstate(all="ignore"):
            divided = vectors / np.sqrt(values)
        return y @ (inverse @ vectors[:, :k]), values[:k], b @ divided[:, :k]


def signs(factor, rounded):
    """What makes the largest entry of each column, as it is rounded, positive."""
    row = abs(rounded).argmax(0)
    return np.where(factor[row, np.arange(factor.shape[1])] < 0, -1.0, 1.0)
