"""Hard inputs for functions of singular values.

Every builder takes a ``numpy.random.Generator`` and returns float64; ``build(name, seed, dtype)``
makes the same matrix for the same seed. ``HARD`` holds single matrices, ``BATCHES`` stacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Builder = Callable[[np.random.Generator], np.ndarray]


def orthonormal(rng: np.random.Generator, rows: int, cols: int, *, cplx: bool = False):
    """rows x cols matrix with orthonormal columns, Haar distributed."""
    g = rng.standard_normal((rows, cols))
    if cplx:
        g = g + 1j * rng.standard_normal((rows, cols))
    q, r = np.linalg.qr(g)
    d = np.diagonal(r)
    return q * (d / np.abs(d))


def with_spectrum(rng: np.random.Generator, sigma, rows: int, cols: int, *, cplx: bool = False):
    """U diag(sigma) V^H with random U, V."""
    sigma = np.asarray(sigma, dtype=np.float64)
    u = orthonormal(rng, rows, len(sigma), cplx=cplx)
    v = orthonormal(rng, cols, len(sigma), cplx=cplx)
    return (u * sigma) @ v.conj().T


def gaussian(rng, rows, cols):
    return rng.standard_normal((rows, cols))


def power_law(rng, exponent, rows, cols):
    return with_spectrum(rng, np.arange(1.0, min(rows, cols) + 1) ** exponent, rows, cols)


def geometric(rng, lowest, rows, cols):
    """Singular values logspaced from 1 down to ``lowest``."""
    return with_spectrum(rng, np.geomspace(1, lowest, min(rows, cols)), rows, cols)


def cliff(rng, rank, rows, cols, below=1e-5):
    """Flat spectrum that falls to ``below`` after ``rank``."""
    sigma = np.where(np.arange(min(rows, cols)) < rank, 1.0, below)
    return with_spectrum(rng, sigma, rows, cols)


def spikes_and_noise(rng, rows, cols, spikes=8):
    """Noise of norm near 1 under ``spikes`` directions between 2 and 10."""
    noise = rng.standard_normal((rows, cols)) / (math.sqrt(rows) + math.sqrt(cols))
    return noise + with_spectrum(rng, np.linspace(10, 2, spikes), rows, cols)


def clustered_top(rng, rows, cols):
    """Ten singular values within 1e-6 of the largest, the rest spread over [0.01, 0.5]."""
    top = 1 - 1e-7 * np.arange(10)
    return with_spectrum(rng, np.r_[top, np.linspace(0.5, 0.01, min(rows, cols) - 10)], rows, cols)


def repeated_top(rng, rows, cols):
    """The largest singular value is exactly tripled, before rounding."""
    return with_spectrum(rng, np.r_[1, 1, 1, np.linspace(0.9, 0.05, min(rows, cols) - 3)],
                         rows, cols)  # fmt: skip


def kahan(n, theta=1.2):
    s, c = math.sin(theta), math.cos(theta)
    return np.diag(s ** np.arange(n)) @ (np.eye(n) - c * np.triu(np.ones((n, n)), 1))


def hilbert(n):
    i = np.arange(n)
    return 1.0 / (i[:, None] + i[None, :] + 1)


def rank_deficient(rng, rank, rows, cols):
    return rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, cols))


def permutation_powers_of_two(rng, n, exponents=range(-6, 7)):
    """Exact: one power of two in each row and column, so sigma is known and U, V are signs."""
    x = np.zeros((n, n))
    powers = 2.0 ** rng.choice(list(exponents), n)
    x[np.arange(n), rng.permutation(n)] = powers * rng.choice([-1.0, 1.0], n)
    return x


def integer_outer_product(rng, rows, cols):
    """Exact rank one: integer entries, sigma = |u| |v|."""
    u, v = rng.integers(-9, 10, rows), rng.integers(-9, 10, cols)
    u[0] = v[0] = 7
    return np.outer(u, v).astype(np.float64)


def minus_ones():
    """4 on the diagonal, -1 off it: a start vector of ones meets eigenvalue 1, the largest is 5."""
    return 5 * np.eye(4) - np.ones((4, 4))


HARD: dict[str, Builder] = {
    "gaussian_square": lambda rng: gaussian(rng, 128, 128),
    "gaussian_wide": lambda rng: gaussian(rng, 64, 256),
    "gaussian_tall": lambda rng: gaussian(rng, 256, 64),
    "power_law_half": lambda rng: power_law(rng, -0.5, 128, 128),
    "power_law_1": lambda rng: power_law(rng, -1.0, 96, 160),
    "power_law_2": lambda rng: power_law(rng, -2.0, 160, 96),
    "logspace_1e-3": lambda rng: geometric(rng, 1e-3, 96, 96),
    "logspace_1e-6": lambda rng: geometric(rng, 1e-6, 96, 128),
    "logspace_1e-12": lambda rng: geometric(rng, 1e-12, 96, 96),
    "cliff_250": lambda rng: cliff(rng, 250, 260, 300),
    "clustered_top": lambda rng: clustered_top(rng, 64, 80),
    "repeated_top": lambda rng: repeated_top(rng, 80, 64),
    "spikes_and_noise": lambda rng: spikes_and_noise(rng, 128, 128),
    "kahan": lambda rng: kahan(64),
    "hilbert": lambda rng: hilbert(40),
    "rank_1": lambda rng: rank_deficient(rng, 1, 64, 48),
    "rank_deficient": lambda rng: rank_deficient(rng, 20, 64, 96),
    "zero": lambda rng: np.zeros((32, 48)),
    "permutation_powers_of_two": lambda rng: permutation_powers_of_two(rng, 64),
    "integer_outer_product": lambda rng: integer_outer_product(rng, 40, 56),
    "minus_ones": lambda rng: minus_ones(),
    "row": lambda rng: gaussian(rng, 1, 100),
    "column": lambda rng: gaussian(rng, 100, 1),
    "one_by_one": lambda rng: np.array([[-3.0]]),
    "two_by_three": lambda rng: gaussian(rng, 2, 3),
    "odd_sizes": lambda rng: gaussian(rng, 37, 131),
}

# Norms that overflow or vanish when squared in the dtype they are meant for.
SCALES = {np.dtype(np.float32): (1e30, 1e-30), np.dtype(np.float64): (1e300, 1e-300)}

BATCHES: dict[str, Builder] = {
    "gaussian_small": lambda rng: rng.standard_normal((7, 16, 24)),
    "two_leading_axes": lambda rng: rng.standard_normal((2, 3, 20, 12)),
    "mixed_scales": lambda rng: rng.standard_normal((9, 24, 16))
    * 10.0 ** np.linspace(-28, 28, 9)[:, None, None],
    "mixed_kinds": lambda rng: np.stack(
        [gaussian(rng, 32, 32), np.zeros((32, 32)), kahan(32), hilbert(32), np.eye(32),
         rank_deficient(rng, 3, 32, 32), permutation_powers_of_two(rng, 32)]
    ),
}  # fmt: skip

# The families on which the accuracy of the default preset is promised.
PROMISED: dict[str, Builder] = {
    "gaussian_512": lambda rng: gaussian(rng, 512, 512),
    "gaussian_256x1024": lambda rng: gaussian(rng, 256, 1024),
    "power_law_half_512": lambda rng: power_law(rng, -0.5, 512, 512),
    "spikes_and_noise_512": lambda rng: spikes_and_noise(rng, 512, 512),
}


def build(name: str, seed: int = 0, dtype=np.float64) -> np.ndarray:
    """The named matrix; complex dtypes give it random phases that keep its singular values."""
    builder = HARD.get(name) or BATCHES.get(name) or PROMISED[name]
    rng = np.random.default_rng(seed)
    x = builder(rng)
    dtype = np.dtype(dtype)
    if dtype.kind == "c":  # D1 x D2 with unit diagonal phases is as hard as x, and truly complex
        left = np.exp(2j * np.pi * rng.random(x.shape[-2]))
        right = np.exp(2j * np.pi * rng.random(x.shape[-1]))
        x = left[:, None] * x * right
    return x.astype(dtype)
