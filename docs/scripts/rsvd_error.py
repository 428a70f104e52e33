"""Remake docs/figures/rsvd_error.svg: error of gm.rsvd against reads of the matrix.

Subspace iteration and block Krylov on four spectra, in both norms, over the least error at that
rank; beside them scikit-learn's randomized_svd at its defaults, with the products that it makes as
its reads. Nothing is timed. Run with gramian, scikit-learn and matplotlib installed:

    python docs/scripts/rsvd_error.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import gramian as gm
import matplotlib as mpl
import numpy as np
from sklearn.utils.extmath import randomized_svd

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.reference import matrices  # noqa: E402

FIGURE = ROOT / "docs" / "figures" / "rsvd_error.svg"
SHAPE = (1000, 500)
RANK = 10
READS = range(1, 9)
SEEDS = range(5)
# What scikit-learn makes of A at this rank by default: 7 iterations of two products, one before
# them and one after.
SCIKIT_LEARN_READS = 2 * 7 + 2
SPECTRA = {
    "Gaussian entries": lambda rng: matrices.gaussian(rng, *SHAPE),
    "σ = i^-½": lambda rng: matrices.power_law(rng, -0.5, *SHAPE),  # noqa: RUF001
    "σ = i^-1": lambda rng: matrices.power_law(rng, -1.0, *SHAPE),  # noqa: RUF001
    "σ from 1 to 10^-12, geometric": lambda rng: matrices.geometric(rng, 1e-12, *SHAPE),  # noqa: RUF001
}
COLOURS = {"subspace": "#0072b2", "krylov": "#d55e00", "scikit-learn": "#999999"}


def excess(a, factors, sigma):
    """Return both errors over the least at that rank, less 1: Frobenius and spectral norm."""
    u, s, vh = factors
    rest = a - (u * s) @ vh
    best = np.linalg.norm(sigma[RANK:]), sigma[RANK]
    return [np.linalg.norm(rest) / best[0] - 1, np.linalg.norm(rest, 2) / best[1] - 1]


def measure(build):
    """Return {method: (reads, their errors)}, medians over matrices and seeds."""
    found = {method: [] for method in COLOURS}
    for seed in SEEDS:
        a = build(np.random.default_rng(seed))
        sigma = np.linalg.svd(a, compute_uv=False)
        for method in ("subspace", "krylov"):
            found[method].append([
                excess(a, gm.rsvd(a, RANK, method=method, passes=reads, rng=seed), sigma)
                for reads in READS
            ])  # fmt: skip
        theirs = randomized_svd(a, RANK, random_state=seed)
        found["scikit-learn"].append([excess(a, theirs, sigma)])
    reads = {"scikit-learn": [SCIKIT_LEARN_READS]}
    return {
        method: (reads.get(method, list(READS)), np.median(errors, axis=0))
        for method, errors in found.items()
    }


def plot(results):
    """Write the figure: a panel for each spectrum, the spectral norm dashed."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gramian"  # the same file for the same numbers
    mpl.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained", sharex=True)
    for axis, (title, methods) in zip(axes.flat, results.items(), strict=True):
        for method, (reads, errors) in methods.items():
            for column, (norm, style) in enumerate((("Frobenius", "o-"), ("spectral", "s--"))):
                height = np.maximum(errors[:, column], 1e-12)
                axis.plot(reads, height, style, color=COLOURS[method], linewidth=1, markersize=4,
                          label=f"{method}, {norm}")  # fmt: skip
        axis.set(yscale="log", title=title)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("reads of A")
    for axis in axes[:, 0]:
        axis.set_ylabel("error / least error − 1")  # noqa: RUF001
    axes[0, 0].legend(fontsize="small")
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, metadata={"Date": None})


def main():
    """Measure and draw."""
    results = {}
    for title, build in SPECTRA.items():
        results[title] = measure(build)
        print(title)
        for method, (reads, errors) in results[title].items():
            for read, (frobenius, spectral) in zip(reads, errors, strict=True):
                print(f"  {method:13}{read:3} reads  {frobenius:9.2e}  {spectral:9.2e}")
    plot(results)


if __name__ == "__main__":
    main()
