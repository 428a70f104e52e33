"""Remake the tables and the plot of docs/bounds_comparison.md: error of a norm against time.

The comparison of Delattre, Barthelemy, Araujo and Allauzen, "Efficient Bound of Lipschitz Constant
for Convolutional Layers by Gram Iteration", ICML 2023: power iteration, Gram iteration, and here
gramian, on a Gaussian matrix and on random filters at the shapes of ResNet-18's layers. Run with
gramian, torch and matplotlib installed, on a machine with nothing else to do; some minutes:

    python docs/scripts/compare_bounds.py

It writes the page's tables between their markers, and docs/figures/bounds_comparison.svg. Every
time is the shortest of some rounds, in each of which all methods have their turn.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import time
from pathlib import Path

import gramian as gm
import matplotlib as mpl
import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from benchmarks import resnet_layers, spectral_norm  # noqa: E402

PAGE = ROOT / "docs" / "bounds_comparison.md"
FIGURE = ROOT / "docs" / "figures" / "bounds_comparison.svg"

DENSE_CASE = "1024x1024-float32"
# method: (function, name of its setting, settings)
DENSE = {
    "power iteration": (spectral_norm.torch_power_iteration, "steps", (3, 10, 30, 100, 300, 1000)),
    "Gram iteration": (spectral_norm.torch_gram_iteration, "steps", (2, 4, 6, 8, 10, 12)),
    "gramian, gram_bound": (spectral_norm.gramian_gram_bound, "steps", (2, 4, 6, 8, 10, 12)),
    "gramian, bracket": (spectral_norm.gramian_bounds, "rtol", (1e-1, 1e-2, 1e-4, 1e-6)),
    "SVD": (spectral_norm.torch_norm, None, (None,)),
}
CONV = {
    "power iteration": (resnet_layers.power_iteration, "steps", (5, 20, 100)),
    "Gram iteration": (resnet_layers.gram_iteration, "steps", (2, 4, 6)),
    "gramian, bracket": (resnet_layers.gramian, "rtol", (1e-3,)),
    "SVD": (resnet_layers.svd, None, (None,)),
}
# What the tables show of them.
SHOWN = {
    "power iteration": 100,
    "Gram iteration": 6,
    "gramian, gram_bound": 6,
    "gramian, bracket": {"dense": 1e-6, "conv": 1e-3},
    "SVD": None,
}
COLOURS = {
    "power iteration": "#999999",
    "Gram iteration": "#0072b2",
    "gramian, gram_bound": "#e69f00",
    "gramian, bracket": "#d55e00",
    "SVD": "#000000",
}


def measure(methods, arguments, truth, rounds):
    """Return {(method, setting): (shortest time, value / truth - 1)}."""
    calls = {
        (method, setting): function(*arguments, **({name: setting} if name else {}))
        for method, (function, name, settings) in methods.items()
        for setting in settings
    }
    values = {}
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for key, call in calls.items():
            start = time.perf_counter()
            values[key] = float(call())
            best[key] = min(best[key], time.perf_counter() - start)
    return {key: (best[key], values[key] / truth - 1) for key in calls}


def zero_padding(layer, rounds):
    """Return the shortest time and the bounds for the layer as networks have it."""
    weight, best = layer.weight(), float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        bounds = gm.conv_spectral_norm_bounds(
            weight,
            input_size=layer.size,
            stride=layer.stride,
            padding=layer.padding,
        )
        best = min(best, time.perf_counter() - start)
    return best, float(bounds.lower), float(bounds.upper)


def table(header, rows):
    """Return a Markdown table, the first column left, the others right."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|--:" * (len(header) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def cell(result, reference):
    """Return the error, and the time as a multiple of the reference."""
    seconds, error = result
    return f"{error:+.0e}".replace("e-0", "e-"), f"{seconds / reference:.2g}×"  # noqa: RUF001


def shown(method, kind):
    """Return the key of what a table shows of a method."""
    setting = SHOWN[method]
    return method, setting[kind] if isinstance(setting, dict) else setting


def setting_name(method, kind):
    """Return the method's name with its setting."""
    setting = shown(method, kind)[1]
    if setting is None:
        return method
    if method == "gramian, bracket":
        return f"{method}, rtol {setting:.0e}".replace("e-0", "e-")
    return f"{method}, {setting} steps"


def dense_table(results):
    """Return the table of every setting on the Gaussian matrix."""
    reference = results[shown("gramian, bracket", "dense")][0]
    rows = []
    for (method, setting), result in results.items():
        error, ratio = cell(result, reference)
        kind = "—" if setting is None else f"{setting:g}"
        rows.append([method, kind, error, ratio])
    return table(["method", "steps or rtol", "error", "time"], rows)


def conv_table(results):
    """Return the table of one setting of each method on every layer."""
    methods = [shown(method, "conv") for method in CONV]
    header = ["layer"]
    for method, _ in methods:
        header += [setting_name(method, "conv"), "time"]
    rows = []
    for name, found in results.items():
        reference = found[shown("gramian, bracket", "conv")][0]
        rows.append([name])
        for key in methods:
            rows[-1] += cell(found[key], reference)
    return table(header, rows)


def zeros_table(results):
    """Return the table of brackets under zero padding, next to the norm under circular padding."""
    rows = []
    for name, (seconds, lower, upper, circular, reference) in results.items():
        width = f"{upper / lower - 1:.1e}".replace("e-0", "e-")
        rows.append([name, f"{circular:.5f}", f"{lower:.5f}", f"{upper:.5f}", width,
                     f"{seconds / reference:.2g}×"])  # fmt: skip  # noqa: RUF001
    header = ["layer", "σ₁, circular", "lower", "upper", "upper/lower − 1", "time"]  # noqa: RUF001
    return table(header, rows)


def plot(dense, conv):
    """Write the figure: |error| over time; a mark is filled where the value is no less than σ₁."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gramian"  # the same file for the same numbers
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.fonttype"] = "none"
    panels = {f"Gaussian {DENSE_CASE}": ("dense", dense)}
    panels |= {name: ("conv", results) for name, results in conv.items()}
    figure, axes = plt.subplots(2, 3, figsize=(12, 7), layout="constrained")
    for axis, (title, (kind, results)) in zip(axes.flat, panels.items(), strict=True):
        reference = results[shown("gramian, bracket", kind)][0]
        for method in dict.fromkeys(m for m, _ in results):
            points = np.array([r for (m, _), r in results.items() if m == method])
            ratio, error = points[:, 0] / reference, points[:, 1]
            height = np.maximum(np.abs(error), 1e-9)
            colour = COLOURS[method]
            axis.plot(ratio, height, "-o", color=colour, linewidth=1, markersize=5, label=method)
            below = error < 0
            axis.plot(ratio[below], height[below], "o", color="white", markersize=3)
        axis.set(xscale="log", yscale="log", title=title)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("time / that of gramian's bracket")
    for axis in axes[:, 0]:
        axis.set_ylabel("|value / σ₁ − 1|")  # noqa: RUF001
    axes[0, 0].legend(fontsize="small")
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, metadata={"Date": None})


def write(sections):
    """Put the texts between their markers in the page."""
    page = PAGE.read_text(encoding="utf-8")
    for name, text in sections.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        page, count = re.subn(pattern, lambda m, t=text: f"{m[1]}{t}\n{m[2]}", page, flags=re.S)
        if count != 1:
            raise SystemExit(f"{PAGE} has {count} sections {name}; it must have one")
    PAGE.write_text(page, encoding="utf-8")


def processor():
    """Return the model's name where the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    found = re.search(r"model name\s*: (.*)", text)
    return found[1] if found else platform.processor()


def main():
    """Measure, write the page and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="the shortest of so many is taken")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for all methods")
    arguments = parser.parse_args()
    rounds, threads = arguments.rounds, arguments.threads
    gm.set_num_threads(threads)
    torch.set_num_threads(threads)

    x = spectral_norm.build(DENSE_CASE, "gaussian")
    dense = measure(DENSE, (x,), float(spectral_norm.largest(x)), rounds)
    print("dense done", flush=True)
    conv, zeros = {}, {}
    for layer in resnet_layers.RESNET:
        sigma = resnet_layers.truth(layer)
        conv[layer.name] = measure(CONV, (layer.weight(), layer), sigma, rounds)
        reference = conv[layer.name][shown("gramian, bracket", "conv")][0]
        zeros[layer.name] = (*zero_padding(layer, rounds), sigma, reference)
        print(layer.name, "done", flush=True)
    machine = (
        f"One run on a shared machine, threads: {threads} ({processor()}), "
        f"gramian {gm.__version__.split('+')[0]}, torch {torch.__version__}; "
        f"the shortest of {rounds} rounds."
    )
    write({
        "machine": machine,
        "dense": dense_table(dense),
        "conv": conv_table(conv),
        "zeros": zeros_table(zeros),
    })  # fmt: skip
    plot(dense, conv)


if __name__ == "__main__":
    main()
