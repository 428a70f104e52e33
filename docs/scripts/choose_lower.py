"""Remake the tables of docs/coefficients.md: how good the presets are, how they were chosen.

Works on singular values alone: a table keeps the singular vectors, so that the relative polar
error ``|Q - U V^H|_F / |U V^H|_F`` is ``rms |p(sigma) - 1|``. Run with gramian installed; a few
seconds. ``--sweep`` adds the errors over a grid of lower ends, from which the ones in
cpp/src/coefficients_presets.cpp were picked.
"""

from __future__ import annotations

import sys

import numpy as np
from gramian import coefficients

MUON = coefficients.table("muon", 5)
PAPER = coefficients.table("polar_express_paper", 5)
GRID = [1e-1, 7e-2, 5e-2, 3e-2, 2e-2, 1e-2, 7e-3, 5e-3, 3e-3, 2e-3, 1.5e-3, 1e-3, 7e-4, 5e-4]


def spiked(rng, n, height, decay):
    """Return the singular values of eight spikes plus Gaussian noise of spectral norm about 1."""
    u = np.linalg.qr(rng.standard_normal((n, 8)))[0]
    v = np.linalg.qr(rng.standard_normal((n, 8)))[0]
    spikes = height / np.arange(1, 9) if decay else np.full(8, height)
    noise = rng.standard_normal((n, n)) / (2 * np.sqrt(n))
    return np.linalg.svd((u * spikes) @ v.T + noise, compute_uv=False)


def spectra(seeds=3):
    """Yield (kind, singular values)."""
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        for n in (256, 512, 1024):
            yield f"Gaussian {n}²", np.linalg.svd(rng.standard_normal((n, n)), compute_uv=False)
        for n in (256, 512):
            a = rng.standard_normal((n, 4 * n))
            yield f"Gaussian {n}\N{MULTIPLICATION SIGN}{4 * n}", np.linalg.svd(a, compute_uv=False)
        for height in (3.0, 10.0, 100.0):
            yield f"8 spikes of {height:g} + noise, 512²", spiked(rng, 512, height, False)
        for height in (10.0, 100.0):
            yield f"8 spikes {height:g}/i + noise, 512²", spiked(rng, 512, height, True)
    for power in (0.5, 1.0):
        for n in (256, 512, 1024):
            yield f"power law i^-{power:g}, {n}", np.arange(1, n + 1) ** -power
    yield "logspace(0, -3), 512", np.logspace(0, -3, 512)


def error(rows, values, normalization):
    """Return the relative polar error of the table on these singular values."""
    if normalization == "frobenius":
        x = values / np.linalg.norm(values)
    else:
        x = values / np.sum((values / values[0]) ** 8) ** 0.125 / values[0]
    for a, b, c in rows:
        x = x * (a + x * x * (b + c * x * x))
    return np.sqrt(np.mean((x - 1) ** 2))


def show(columns, kinds):
    """Print a Markdown table of the worst error over seeds per kind."""
    print("| spectrum |", " | ".join(name for name, _, _ in columns), "|")
    print("|---|" + "---|" * len(columns))
    for kind, samples in kinds.items():
        cells = [max(error(rows, s, scale) for s in samples) for _, rows, scale in columns]
        print(f"| {kind} |", " | ".join(f"{cell:.4f}" for cell in cells), "|")
    print()


def main():
    """Print the tables."""
    kinds: dict[str, list] = {}
    for kind, values in spectra():
        kinds.setdefault(kind, []).append(values)
    columns = [("5 muon, F", MUON, "frobenius"), ("5 published, F", PAPER, "frobenius")]
    rows = coefficients.table("polar_express", 5, normalization="frobenius")
    columns.append(("5 steps, F", rows, "frobenius"))
    for steps in (3, 4, 5, 6, 8, 10):
        rows = coefficients.table("polar_express", steps)
        columns.append((f"{steps} steps", rows, "schatten"))
    show(columns, kinds)
    print(
        "Worst ratio of errors over seeds: 3 and 4 steps to muon's 5, 5 steps to 5 published ones\n"
    )
    print("| spectrum | 3 : muon | 4 : muon | 5 : published |\n|---|---|---|---|")
    for kind, samples in kinds.items():
        cells = []
        for steps, reference in ((3, MUON), (4, MUON), (5, PAPER)):
            rows = coefficients.table("polar_express", steps)
            cells.append(
                max(error(rows, s, "schatten") / error(reference, s, "frobenius") for s in samples)
            )
        print(f"| {kind} |", " | ".join(f"{cell:.2f}" for cell in cells), "|")
    print("\n| table | steps | range on [1e-3, 1] | sign flips | margin | restarts |")
    print("|---|---|---|---|---|---|")
    for name in ("polar_express", "polar_express_paper", "muon", "you", "taylor"):
        for steps in range(1, 11) if name == "polar_express" else (3, 5, 8):
            r = coefficients.lint(coefficients.table(name, steps))
            print(
                f"| {name} | {steps} | [{r.lower:.4f}, {r.upper:.4f}] | {len(r.sign_flips)} |"
                f" {r.divergence_margin:.2g} | {r.restarts} |"
            )
    if "--sweep" in sys.argv:
        for scale in ("schatten", "frobenius"):
            for steps in (3, 4, 5, 6):
                print(f"\n{steps} steps, {scale}, by lower end\n")
                show(
                    [
                        (f"{low:g}", coefficients.polar_express(low, steps, safety=1.01), scale)
                        for low in GRID
                    ],
                    kinds,
                )


if __name__ == "__main__":
    main()
