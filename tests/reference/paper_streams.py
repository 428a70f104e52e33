"""The streams of the papers on streaming PCA, and what stands beside gramian on them."""

from __future__ import annotations

import math

import numpy as np

from tests.reference import streaming

GAPS = (3, 6, 13, 27, 54)


def gap(rng, ratio, *, d=200, times=10, order="random"):
    """Rows +-(a e_1 + e_(j+1)), each j as often: lambda_1 / lambda_2 is `ratio`, the rest is flat.

    (Price, Xun 2024.) In random order, or "grouped": all rows of one j together, so that at any
    time the rows just seen have another top direction than all of them.
    """
    j = np.tile(np.arange(d - 1), times)
    j = rng.permutation(j) if order == "random" else np.sort(j)
    n = len(j)
    x = np.zeros((n, d))
    x[:, 0] = math.sqrt((ratio - 1) * times / n)
    x[np.arange(n), 1 + j] = 1
    # Signs leave A^T A as it is and the mean near 0, which some methods take off.
    return x * rng.choice([-1.0, 1.0], (n, 1))


def heavy(rng, *, n=5000, d=200, count=5, ratio=10):
    """Few heavy rows of one direction over Gaussian noise (Kacham, Woodruff 2024)."""
    x = rng.standard_normal((n, d))
    u = rng.standard_normal(d)
    u /= np.linalg.norm(u)
    signs = rng.choice([-1.0, 1.0], (count, 1))
    x[rng.choice(n, count, replace=False)] += signs * math.sqrt(ratio * n / count) * u
    return x


def unseen(*, first=6, n=2000, d=20, size=0.2):
    """Unit rows of a few directions, then small ones of another that outweighs them in the end.

    What keeps fewer than `first` directions after a few rows, without more, never learns the last.
    Each row comes with its negative: the mean is 0 at every second row.
    """
    x = np.zeros((first + n // 2, d))
    x[np.arange(first), np.arange(first)] = 1
    x[first:, first] = size
    return np.stack([x, -x], axis=1).reshape(-1, d)


def sin2(vector, rows):
    return streaming.sine(vector, rows)[0] ** 2


def plain_oja(rows, rng, rates=12):
    """sin^2 after Oja's method with the best of a row of rates, which nobody knows beforehand."""
    start = rng.standard_normal(rows.shape[1])
    start /= np.linalg.norm(start)
    eta = 2.0 ** -np.arange(rates) / (rows**2).sum(axis=1).max()
    w = np.tile(start, (rates, 1))
    for x in rows:
        w += (eta * (w @ x))[:, None] * x
        w /= np.linalg.norm(w, axis=1, keepdims=True)
    return min(sin2(v, rows) for v in w)


def truncated_svd(rows, k):
    """The top vector of incremental SVD that keeps k directions after each row."""
    kept = np.zeros((k, rows.shape[1]))
    for x in rows:
        _, s, vt = np.linalg.svd(np.vstack([kept, x]), full_matrices=False)
        kept = s[:k, None] * vt[:k]
    return kept[0]
