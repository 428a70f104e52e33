"""Train a network on scikit-learn's digits under a certified Lipschitz bound; check it each step.

Two convolutions and a linear layer, each parametrized to a spectral norm of at most the cube root
of BOUND, with ReLU between them: the network's Lipschitz constant is at most BOUND at every step,
not at the end alone. The product of the certified bounds of the layers' weights, computed anew,
shows it; the largest gain between pairs of images shows how much of it is used. A margin between
the two largest outputs of more than sqrt(2) BOUND r proves that no change of the image of norm r
changes the answer. Remakes the table of docs/torch.md and docs/figures/torch_lipschitz.svg; needs
gramian, torch, scikit-learn and, for the figure, matplotlib:

    python docs/scripts/torch_lipschitz.py [--steps N] [--bound L] [--figure]
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import gramian as gm
import torch
from gramian.torch.parametrizations import spectral_norm
from sklearn.datasets import load_digits
from torch import nn

FIGURE = Path(__file__).parents[1] / "figures" / "torch_lipschitz.svg"
BATCH = 128
HELD_OUT = 360


@dataclass
class Record:
    """What was seen at each step; certificate and gain are of the weights before the step."""

    losses: list[float] = field(default_factory=list)
    certificates: list[float] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    accuracy: float = 0.0
    certified: dict[float, float] = field(default_factory=dict)
    seconds: float = 0.0


def digits():
    """Images in [0, 1] of 8 x 8 and labels: (training, held out)."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held, rest = order[:HELD_OUT], order[HELD_OUT:]
    return (images[rest], labels[rest]), (images[held], labels[held])


def network(bound=None):
    """With `bound`, every layer is parametrized; without, it is as torch makes it."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1),
              nn.Linear(16 * 4 * 4, 10))  # fmt: skip
    if bound is not None:
        for layer in layers:
            size = {"input_size": 8} if isinstance(layer, nn.Conv2d) else {}
            spectral_norm(layer, bound=bound ** (1 / 3), **size)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), nn.Flatten(), layers[2])


def certificate(net):
    """The product of certified upper bounds of the layers' norms, from their weights alone."""
    product = 1.0
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                product *= float(gm.spectral_norm_bounds(layer.weight).upper)
            elif isinstance(layer, nn.Conv2d):
                found = gm.conv_spectral_norm_bounds(
                    layer.weight, input_size=8, stride=layer.stride, padding=layer.padding
                )
                product *= float(found.upper)
    return product


def largest_gain(net, images):
    """Of ||f(x) - f(y)|| / ||x - y|| over pairs of images and over steps along gradients."""
    x, y = images[:-1], images[1:]
    close = images + 1e-3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    pairs = [(x, y), (images, close)]
    with torch.no_grad():
        gains = [
            (net(a) - net(b)).norm(dim=1) / (a - b).flatten(1).norm(dim=1).clamp_min(1e-12)
            for a, b in pairs
        ]
    return max(float(g.max()) for g in gains)


def train(steps, bound=None):
    (images, labels), (held_images, held_labels) = digits()
    net = network(bound)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    record = Record()
    rng = torch.Generator().manual_seed(2)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (BATCH,), generator=rng)
        record.certificates.append(certificate(net))
        record.gains.append(largest_gain(net, images[chosen]))
        start = time.perf_counter()
        loss = nn.functional.multi_margin_loss(net(images[chosen]), labels[chosen], margin=1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        record.seconds += time.perf_counter() - start
        record.losses.append(float(loss.detach()))
    record.certificates.append(certificate(net))
    record.gains.append(largest_gain(net, images))
    with torch.no_grad():
        outputs = net(held_images)
    top = outputs.topk(2, dim=1).values
    right = outputs.argmax(1) == held_labels
    record.accuracy = float(right.float().mean())
    for radius in (0.1, 0.2, 0.4):
        safe = (top[:, 0] - top[:, 1]) > math.sqrt(2) * record.certificates[-1] * radius
        record.certified[radius] = float((right & safe).float().mean())
    return record


def plot(record, bound):
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gramian"  # the same file for the same numbers
    mpl.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot as plt

    figure, left = plt.subplots(figsize=(7, 3.2), layout="constrained")
    left.axhline(bound, color="#999999", linewidth=1, label="bound")
    left.plot(record.certificates, color="#d55e00", label="certificate")
    left.plot(record.gains, color="#0072b2", label="largest gain seen")
    left.set(xlabel="step", ylabel="Lipschitz constant", ylim=(0, 1.1 * bound))
    left.legend(loc="center right", bbox_to_anchor=(1, 0.72), frameon=False)
    right = left.twinx()
    right.plot(record.losses, color="#009e73", linewidth=0.8)
    right.set_ylabel("loss", color="#009e73")
    right.set_ylim(bottom=0)
    figure.savefig(FIGURE, metadata={"Date": None})


def main(steps=300, bound=8.0, figure=False):
    records = {"free": train(steps), f"norm at most {bound:g}": train(steps, bound)}
    print("| network | certificate, start | certificate, end | largest gain | accuracy | proved at "
          "0.1 | 0.2 | 0.4 | ms a step |")  # fmt: skip
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, r in records.items():
        proved = " | ".join(f"{v:.3f}" for v in r.certified.values())
        print(f"| {name} | {r.certificates[0]:.4g} | {r.certificates[-1]:.4g} | "
              f"{max(r.gains):.3g} | {r.accuracy:.3f} | {proved} | "
              f"{1e3 * r.seconds / steps:.1f} |")  # fmt: skip
    bounded = records[f"norm at most {bound:g}"]
    held = sum(c <= bound for c in bounded.certificates)
    print(f"\nThe certificate held at {held} of {len(bounded.certificates)} steps; the largest was "
          f"{max(bounded.certificates):.6f}.")  # fmt: skip
    if figure:
        plot(bounded, bound)
    return records


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--bound", type=float, default=8.0)
    parser.add_argument("--figure", action="store_true")
    given = parser.parse_args()
    main(given.steps, given.bound, given.figure)
