"""Train a small network by Muon's rule with gm.newton_schulz and with the reference's formula.

Momentum, orthogonalized, for the matrices of an MLP on scikit-learn's digits; SGD for its biases
(Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024). The reference is
the five steps of the published iteration, in torch, in the same precision; gramian runs with the
reference's rows ("muon", Frobenius scaling) and with its own defaults. Losses of several seeds, the
largest gap between the means of two curves beside the spread of one over seeds, and the time spent
in orthogonalization. Remakes the table of docs/torch.md and docs/figures/torch_muon.svg:

    python docs/scripts/torch_muon.py [--steps N] [--seeds N] [--figure]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import gramian as gm
import torch
from sklearn.datasets import load_digits
from torch import nn

FIGURE = Path(__file__).parents[1] / "figures" / "torch_muon.svg"
WIDTH, BATCH = 256, 128
LEARNING_RATE, MOMENTUM = 0.02, 0.95
STYLES = (("#000000", ":", 3), ("#d55e00", "-", 1), ("#0072b2", "-", 2))


def reference(g):
    """X <- aX + (bA + cA^2)X with A = XX^T, from g over its Frobenius norm, the wider side last."""
    x = g / (g.norm() + 1e-7)
    if g.shape[0] > g.shape[1]:
        x = x.T
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if g.shape[0] > g.shape[1] else x


WAYS = {
    "reference": reference,
    "gramian, the same rows": lambda g: gm.newton_schulz(
        g, coefficients="muon", normalization="frobenius"
    ),
    "gramian": gm.newton_schulz,
}


class Muon(torch.optim.Optimizer):
    """Matrices by orthogonalized Nesterov momentum, everything else by momentum alone."""

    def __init__(self, parameters, orthogonalize):
        super().__init__(parameters, {})
        self.orthogonalize = orthogonalize
        self.seconds = 0.0

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - MOMENTUM)
                update = p.grad.lerp(momentum, MOMENTUM)
                if p.ndim == 2:
                    start = time.perf_counter()
                    update = self.orthogonalize(update)
                    self.seconds += time.perf_counter() - start
                    update = update * max(1, p.shape[0] / p.shape[1]) ** 0.5
                p.sub_(update, alpha=LEARNING_RATE)


def train(orthogonalize, steps, seed):
    """The loss of each step and the seconds spent in orthogonalization."""
    data = load_digits()
    images = torch.tensor(data.data, dtype=torch.float32) / 16
    labels = torch.tensor(data.target)
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)
    )
    optimizer = Muon(net.parameters(), orthogonalize)
    losses = []
    for _ in range(steps):
        chosen = torch.randint(len(labels), (BATCH,))
        loss = nn.functional.cross_entropy(net(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, optimizer.seconds


def plot(curves):
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gramian"  # the same file for the same numbers
    mpl.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for (name, losses), (colour, line, order) in zip(curves.items(), STYLES, strict=True):
        low, high = losses.amin(0), losses.amax(0)
        axis.fill_between(range(len(low)), low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(losses.mean(0), line, color=colour, label=name, zorder=order)
    axis.set(xlabel="step", ylabel="loss, mean and range of seeds", yscale="log")
    axis.legend(frameon=False)
    figure.savefig(FIGURE, metadata={"Date": None})


def main(steps=150, seeds=4, figure=False):
    curves, seconds = {name: [] for name in WAYS}, dict.fromkeys(WAYS, 0.0)
    for seed in range(seeds):
        for name, way in WAYS.items():  # by turns: the machine may slow down
            losses, spent = train(way, steps, seed)
            curves[name].append(losses)
            seconds[name] += spent
    curves = {name: torch.tensor(losses, dtype=torch.float64) for name, losses in curves.items()}
    base = curves["reference"]
    spread = float(base.std(0).mean())
    print("| orthogonalization | mean loss of the last tenth | gap to the reference's mean curve | "
          "ms a step |")  # fmt: skip
    print("|---|--:|--:|--:|")
    gaps = {}
    for name, losses in curves.items():
        last = float(losses[:, -max(1, steps // 10) :].mean())
        gaps[name] = float((losses.mean(0) - base.mean(0)).abs().mean())
        print(f"| {name} | {last:.4f} | {gaps[name]:.2g} | "
              f"{1e3 * seconds[name] / steps / seeds:.2f} |")  # fmt: skip
    print(f"\nStandard deviation of the reference over {seeds} seeds, mean of steps: {spread:.2g}")
    if figure:
        plot(curves)
    return curves, gaps, spread, seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--figure", action="store_true")
    given = parser.parse_args()
    main(given.steps, given.seeds, given.figure)
