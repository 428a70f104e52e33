"""Remake docs/figures/streaming_errors.svg and the tables of docs/streaming_comparison.md.

sin^2 of the angle to the top eigenvector, against the gap and on the papers' streams, for every
estimator and for scikit-learn's IncrementalPCA. Medians over seeds; nothing is timed. Run with
gramian, scikit-learn and matplotlib installed:

    python docs/scripts/streaming_errors.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import gramian as gm
import matplotlib as mpl
import numpy as np
from sklearn.decomposition import IncrementalPCA

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.reference import paper_streams as papers  # noqa: E402

FIGURE = ROOT / "docs" / "figures" / "streaming_errors.svg"
SEEDS = range(5)
METHODS = {
    "RandomOrderTopEigenvector": lambda d, seed: gm.RandomOrderTopEigenvector(d, rng=seed),
    "OjaTopEigenvector": lambda d, seed: gm.OjaTopEigenvector(d, rng=seed),
    "BlockOja, 5 vectors": lambda d, seed: gm.BlockOja(d, 5, rng=seed),
    "BlockOja, 5 vectors, history": lambda d, seed: gm.BlockOja(d, 5, step="history", rng=seed),
    "FrequentDirections, 16 rows": lambda d, seed: gm.FrequentDirections(d, 16),
    "IncrementalPCA, 5 components": lambda d, seed: IncrementalPCA(5),
}
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#56b4e9", "#cc79a7", "#999999")


def found(make, rows, seed, batch):
    """Return sin^2 and the bound that the method states for it, nan where it states none."""
    estimator = make(rows.shape[1], seed)
    for first in range(0, len(rows), batch):
        estimator.partial_fit(rows[first : first + batch])
    bound = getattr(estimator, "certificate_", np.nan)
    return papers.sin2(estimator.components_[0], rows), bound**2


def medians(build, batch=50):
    """Return {method: (median sin^2, median bound)} over streams of five seeds."""
    streams = [build(np.random.default_rng(seed)) for seed in SEEDS]
    errors = {
        name: np.median(
            [found(make, rows, s, batch) for s, rows in zip(SEEDS, streams, strict=True)], axis=0
        )
        for name, make in METHODS.items()
    }
    oja = [papers.plain_oja(rows, np.random.default_rng(s)) for s, rows in enumerate(streams)]
    return errors | {"Oja's method, the best of 12 rates": np.array([np.median(oja), np.nan])}


def plot(sweeps):
    """Write the figure: a panel for each order."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gramian"  # the same file for the same numbers
    mpl.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained", sharey=True)
    for axis, (order, results) in zip(axes, sweeps.items(), strict=True):
        for name, colour in zip(results[0], (*COLOURS, "#000000"), strict=True):
            height = [r[name][0] for r in results]
            axis.plot(
                papers.GAPS, height, "o-", color=colour, linewidth=1, markersize=4, label=name
            )
        axis.set(xscale="log", yscale="log", title=f"{order} order", xlabel="gap λ₁/λ₂")
        axis.set_xticks(papers.GAPS, [str(g) for g in papers.GAPS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("sin²")
    axes[1].legend(fontsize="x-small")
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, metadata={"Date": None})


def table(head, results):
    """Print sin^2 as a table of Markdown, a column for each of the results."""
    print("|", head, "|\n|---" + "|--:" * len(results) + "|")
    for name in results[0]:
        print(f"| {name} | " + " | ".join(f"{r[name][0]:.2g}" for r in results) + " |")
    print()


def main():
    """Measure, print and draw."""
    sweeps = {}
    for order in ("random", "grouped"):
        sweeps[order] = [
            medians(lambda rng, g=g, order=order: papers.gap(rng, g, order=order))
            for g in papers.GAPS
        ]
        table(f"{order} order, gap | " + " | ".join(map(str, papers.GAPS)), sweeps[order])
    others = [medians(papers.heavy), medians(lambda rng: papers.unseen(), batch=6)]
    table("| heavy rows over noise | a direction that comes last", others)
    print("bounds stated:")
    for result in others:
        print({name: f"{bound:.2g}" for name, (_, bound) in result.items()})
    plot(sweeps)


if __name__ == "__main__":
    main()
