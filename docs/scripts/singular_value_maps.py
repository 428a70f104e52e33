"""Remake the figures of docs/functions_of_singular_values.md and docs/inverse_roots.md.

docs/figures/polar_maps.svg            what each table does to a singular value
docs/figures/polar_steps.svg           error of the polar factor against steps, for each table
docs/figures/clip_maps.svg             hard and soft clipping
docs/figures/inverse_root_maps.svg     m^(1/p) T(m) of the first row, rational and polynomial
docs/figures/inverse_root_steps.svg    what is left after each row, from condition 10^4

Nothing is timed. The error is ``||Q - U V^H||_F / ||U V^H||_F`` against an SVD in float64. Run with
gramian and matplotlib installed; a minute:

    python docs/scripts/singular_value_maps.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import gramian as gm
import matplotlib as mpl
import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.reference import inverse_root_rows as rows  # noqa: E402
from tests.reference import matrices  # noqa: E402

FIGURES = ROOT / "docs" / "figures"
STEPS = range(1, 17)
TABLES = {
    "muon": "frobenius",
    "you": "frobenius",
    "polar_express": "schatten",
    "polar_express_paper": "frobenius",
    "taylor": "schatten",
}
PALETTE = ("#0072b2", "#009e73", "#d55e00", "#e69f00", "#cc79a7", "#000000")
COLOURS = dict(zip([*TABLES, "polar"], PALETTE, strict=True))
INPUTS = {
    "Gaussian 256\N{MULTIPLICATION SIGN}1024": lambda rng: matrices.gaussian(rng, 256, 1024),
    "Gaussian 256²": lambda rng: matrices.gaussian(rng, 256, 256),
    "σ = i^-1, 256²": lambda rng: matrices.power_law(rng, -1.0, 256, 256),  # noqa: RUF001
}


def composed(table, sigma):
    """Return what the rows of a table make of sigma in [0, 1]."""
    for a, b, c in table:
        sigma = sigma * (a + sigma**2 * (b + c * sigma**2))
    return sigma


def error(q, truth):
    """Return the relative polar error."""
    return np.linalg.norm(q - truth) / np.linalg.norm(truth)


def new_figure(columns, height=3.6):
    """Return a figure with so many panels side by side."""
    import matplotlib.pyplot as plt

    return plt.subplots(1, columns, figsize=(4.2 * columns, height), layout="constrained",
                        squeeze=False)  # fmt: skip


def save(figure, axes, name):
    """Write a figure."""
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.minorticks_off()
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})


def polar_maps():
    """Draw the composed polynomials of five and eight steps, for sigma over its bound."""
    sigma = np.geomspace(1e-4, 1, 120)
    figure, axes = new_figure(3)
    for axis, steps in zip(axes[0], (5, 8), strict=False):
        for name, norm in TABLES.items():
            table = gm.coefficients.table(name, steps, normalization=norm)
            axis.plot(sigma, composed(table, sigma), color=COLOURS[name], linewidth=1, label=name)
        axis.set(xscale="log", title=f"{steps} steps", xlabel="σ over its bound")  # noqa: RUF001
    axes[0, 0].set_ylabel("σ of the result")  # noqa: RUF001
    axes[0, 0].legend(fontsize="small")
    own_steps(axes[0, 2])
    save(figure, axes, "polar_maps")


def own_steps(axis):
    """Draw gm.polar's steps on a square matrix of condition 1000, each over its largest value."""
    sigma = np.geomspace(1e-3, 1, 120)
    after = (np.sqrt(1e3) * sigma + 1 / (np.sqrt(1e3) * sigma)) / 2
    upper = (np.sqrt(1e3) + 1 / np.sqrt(1e3)) / 2
    stages = {"Newton": after / upper}
    l2 = upper**-2
    d = np.cbrt(4 * (1 - l2) / l2**2)
    a = np.sqrt(1 + d) + np.sqrt(8 - 4 * d + 8 * (2 - l2) / (l2 * np.sqrt(1 + d))) / 2
    b = (a - 1) ** 2 / 4
    x = stages["Newton"]
    stages["Halley"] = x * (a + b * x**2) / (1 + (a + b - 1) * x**2)
    rows = gm.coefficients.polar_express(float(stages["Halley"].min()), 1)
    stages["polynomial"] = composed(rows, stages["Halley"])
    for (name, values), colour in zip(
        stages.items(), ("#999999", "#0072b2", "#d55e00"), strict=True
    ):
        axis.plot(sigma, values, color=colour, linewidth=1, label=f"after {name}")
    axis.set(xscale="log", title="gm.polar, square", xlabel="σ / σ₁")  # noqa: RUF001
    axis.legend(fontsize="small")


def polar_steps():
    """Draw errors against steps, and where polar itself ends."""
    figure, axes = new_figure(3)
    for axis, (title, build) in zip(axes[0], INPUTS.items(), strict=True):
        x = build(np.random.default_rng(0)).astype(np.float64)
        u, _, vh = np.linalg.svd(x, full_matrices=False)
        for name, norm in TABLES.items():
            errors = [
                error(gm.newton_schulz(x, t, coefficients=name, normalization=norm), u @ vh)
                for t in STEPS
            ]
            print(title, name, " ".join(f"{e:.0e}" for e in errors))
            axis.plot(STEPS, errors, color=COLOURS[name], linewidth=1, label=name)
        factor, info = gm.polar(x, compute_hermitian=False, return_info=True)
        end = error(factor, u @ vh)
        print(title, "polar", int(info.steps), f"{end:.0e}", info.method)
        axis.plot([int(info.steps)], [end], "o", color=COLOURS["polar"], markersize=5,
                  label="gm.polar")  # fmt: skip
        axis.set(yscale="log", title=title, xlabel="steps")
    axes[0, 0].set_ylabel("relative error of the factor")
    axes[0, 0].legend(fontsize="small")
    save(figure, axes, "polar_steps")


def clip_maps():
    """Draw what spectral_clip made of singular values, for c = 1."""
    sigma = np.linspace(0, 4, 81)
    figure, axes = new_figure(1)
    for kind, style in (("hard", "-"), ("soft", "--")):
        result = np.diagonal(gm.spectral_clip(np.diag(sigma), 1.0, kind=kind))
        axes[0, 0].plot(sigma, result, style, color="#0072b2", linewidth=1, label=kind)
    axes[0, 0].set(xlabel="σ / c", ylabel="result / c")  # noqa: RUF001
    axes[0, 0].legend(fontsize="small")
    save(figure, axes, "clip_maps")


def inverse_root_maps():
    """Draw m^(1/p) T(m) of a first row for eigenvalues in [1e-4, 1]."""
    m = np.geomspace(1e-5, 1, 150)
    figure, axes = new_figure(2)
    for axis, p in zip(axes[0], (2, 4), strict=True):
        for (name, row), colour in zip(rows.first_rows(p, 1e-4).items(),
                                       ("#d55e00", "#0072b2", "#999999"), strict=True):  # fmt: skip
            axis.plot(m, m ** (1 / p) * row(m), color=colour, linewidth=1, label=name)
        axis.axhline(1, color="black", linewidth=0.5)
        axis.set(xscale="log", title=f"p = {p}", xlabel="m")
    axes[0, 0].set_ylabel("m^(1/p) T(m)")
    axes[0, 0].legend(fontsize="small")
    save(figure, axes, "inverse_root_maps")


def inverse_root_steps():
    """Draw max |1 - m| after each step for eigenvalues in [1e-4, 1]."""
    figure, axes = new_figure(2)
    for axis, p in zip(axes[0], (2, 4), strict=True):
        for name, colour in (("rational", "#d55e00"), ("polynomial", "#0072b2"),
                             ("Guo and Higham", "#999999")):  # fmt: skip
            left = rows.convergence(name, p, 1e-4)
            print(f"p = {p}, {name}:", " ".join(f"{e:.0e}" for e in left))
            axis.plot(range(len(left)), np.maximum(left, 1e-16), "o-", color=colour, linewidth=1,
                      markersize=3, label=name)  # fmt: skip
        axis.set(yscale="log", title=f"p = {p}", xlabel="steps")
    axes[0, 0].set_ylabel("largest |1 − m|")  # noqa: RUF001
    axes[0, 0].legend(fontsize="small")
    save(figure, axes, "inverse_root_steps")


def main():
    """Draw all."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gramian"  # the same file for the same numbers
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["path.simplify_threshold"] = 0.5
    FIGURES.mkdir(exist_ok=True)
    for draw in (polar_maps, polar_steps, clip_maps, inverse_root_maps, inverse_root_steps):
        draw()


if __name__ == "__main__":
    main()
