"""Remake the measured tables of docs/newton_schulz.md: how far newton_schulz is from U V^H.

The error is ``||Q - U V^H||_F / ||U V^H||_F`` against an SVD in float64 of the same matrix, the
worst of three seeds. Run with gramian installed; about a minute.
"""

from __future__ import annotations

import gramian as gm
import numpy as np

SEEDS = 3
STEPS = (3, 4, 5, 6, 8, 12)
# What each table is made for: the published ones divide by the Frobenius norm.
TABLES = (
    ("polar_express", "schatten"),
    ("polar_express", "frobenius"),
    ("polar_express_paper", "frobenius"),
    ("muon", "frobenius"),
    ("you", "frobenius"),
    ("taylor", "schatten"),
)


def with_spectrum(rng, sigma):
    """Return a square matrix with these singular values and random singular vectors."""
    n = len(sigma)
    u, v = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    return (u * sigma) @ v.T


def spikes(rng, n):
    """Return eight directions of 10 over Gaussian noise of spectral norm about 1."""
    u, v = (np.linalg.qr(rng.standard_normal((n, 8)))[0] for _ in range(2))
    return 10 * u @ v.T + rng.standard_normal((n, n)) / (2 * np.sqrt(n))


KINDS = {
    "Gaussian 512²": lambda rng: rng.standard_normal((512, 512)),
    "Gaussian 256\N{MULTIPLICATION SIGN}1024": lambda rng: rng.standard_normal((256, 1024)),
    "power law i^-½, 512²": lambda rng: with_spectrum(rng, np.arange(1, 513) ** -0.5),
    "power law i^-1, 512²": lambda rng: with_spectrum(rng, np.arange(1, 513) ** -1.0),
    "8 spikes of 10 + noise, 512²": lambda rng: spikes(rng, 512),
}


class Sample:
    """A matrix in both precisions with its polar factors."""

    def __init__(self, x):
        self.given = {np.float32: x.astype(np.float32), np.float64: x}
        self.polar = {}
        for dtype, y in self.given.items():
            u, _, vh = np.linalg.svd(y.astype(np.float64), full_matrices=False)
            self.polar[dtype] = u @ vh

    def error(self, dtype, **options):
        """Return the relative polar error of a call."""
        q = gm.newton_schulz(self.given[dtype], **options)
        polar = self.polar[dtype]
        return np.linalg.norm(q - polar) / np.linalg.norm(polar)


def table(header, rows):
    """Print a Markdown table, errors to three decimals or as powers of ten."""
    print("|", " | ".join(header), "|")
    print("|" + "---|" * len(header))
    for *labels, errors in rows:
        cells = [f"{e:.3f}" if e >= 0.001 else f"{e:.0e}".replace("e-0", "e-") for e in errors]
        print("|", " | ".join([*labels, *cells]), "|")
    print()


def main():
    """Print the tables."""
    samples = {
        kind: [Sample(build(np.random.default_rng(seed))) for seed in range(SEEDS)]
        for kind, build in KINDS.items()
    }

    def worst(kind, dtype, **options):
        return max(sample.error(dtype, **options) for sample in samples[kind])

    print("float32, by steps\n")
    rows = [
        (
            kind,
            f"`{name}`",
            norm,
            [
                worst(kind, np.float32, steps=t, coefficients=name, normalization=norm)
                for t in STEPS
            ],
        )
        for kind in KINDS
        for name, norm in TABLES
    ]
    table(["matrix", "coefficients", "normalization", *map(str, STEPS)], rows)

    print("the default coefficients in both precisions and forms, by steps\n")
    columns = (5, 8, 12, 16, 20)
    rows = [
        (
            kind,
            dtype.__name__,
            method,
            [worst(kind, dtype, steps=t, method=method) for t in columns],
        )
        for kind in (
            "Gaussian 512²",
            "Gaussian 256\N{MULTIPLICATION SIGN}1024",
            "power law i^-1, 512²",
        )
        for dtype in (np.float32, np.float64)
        for method in ("standard", "gram")
    ]
    table(["matrix", "dtype", "method", *map(str, columns)], rows)


if __name__ == "__main__":
    main()
