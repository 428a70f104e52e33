"""What the tests of arrays on the CPU share: samples, and memory of every layout."""

from __future__ import annotations

import numpy as np

SHAPES = [(20, 30), (30, 20), (2, 3, 12, 10)]
STRIDES = ["row-major", "column-major", "sliced", "padded rows", "padded columns", "negative rows",
           "negative columns", "negative both", "broadcast rows", "broadcast columns",
           "broadcast all", "offset", "read-only"]  # fmt: skip


def sample(shape=(20, 30), dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else x


def strided(kind, x):
    """An array equal to x (the broadcast kinds: of x's first row or column) laid out as told."""
    *batch, m, n = x.shape
    if kind == "column-major":
        return np.ascontiguousarray(np.swapaxes(x, -1, -2)).swapaxes(-1, -2)
    if kind == "sliced":
        wide = np.full((*batch, 2 * m + 1, 3 * n + 2), np.nan, x.dtype)
        view = wide[..., 1::2, 2::3]
        view[...] = x
        return view
    if kind == "padded rows":
        wide = np.full((*batch, m, n + 5), np.nan, x.dtype)
        wide[..., :n] = x
        return wide[..., :n]
    if kind == "padded columns":
        return np.swapaxes(strided("padded rows", np.swapaxes(x, -1, -2).copy()), -1, -2)
    if kind == "negative rows":
        return np.ascontiguousarray(x[..., ::-1, :])[..., ::-1, :]
    if kind == "negative columns":
        return np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    if kind == "negative both":
        return np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]
    if kind == "broadcast rows":
        return np.broadcast_to(x[..., :1, :], x.shape)
    if kind == "broadcast columns":
        return np.broadcast_to(x[..., :1], x.shape)
    if kind == "broadcast all":
        return np.broadcast_to(x[..., :1, :1], x.shape)
    if kind == "offset":
        raw = np.empty(x.nbytes + 3 * x.itemsize, np.uint8)
        view = raw[x.itemsize : x.itemsize + x.nbytes].view(x.dtype).reshape(x.shape)
        view[...] = x
        return view
    if kind == "read-only":
        x = x.copy()
        x.flags.writeable = False
        return x
    assert kind == "row-major"
    return x.copy()
