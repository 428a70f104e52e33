"""Watch the spectral norm and the stable rank of every layer while a network trains.

A small transformer-like classifier of scikit-learn's digits (8 rows of 8 pixels as tokens), trained
by AdamW. `SpectralMonitor` takes any module: matrices of equal shape are handed over as one batch,
convolutions by their own bounds. Prints a table of the run and what watching costs:

    python docs/scripts/torch_monitor.py [--steps N] [--every N]
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import gramian as gm
import torch
from sklearn.datasets import load_digits
from torch import nn

WIDTH, BATCH = 64, 128
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class SpectralMonitor:
    """Spectral norms and stable ranks of a module's layers.

    Parameters
    ----------
    module : torch.nn.Module
        Its parameters of 2 dimensions are watched, and the kernels of its convolutions: of those
        the norm over all sizes of input, and the stable rank of (c_out, c_in * taps).
    """

    def __init__(self, module):
        self.kernels = {
            f"{name}.weight".lstrip("."): layer
            for name, layer in module.named_modules()
            if isinstance(layer, CONVOLUTIONS)
        }
        self.matrices = {
            name: p for name, p in module.named_parameters() if p.ndim == 2 or name in self.kernels
        }
        self.seconds = 0.0

    @torch.no_grad()
    def __call__(self):
        """{name: (spectral norm, stable rank)} of the weights as they are now."""
        start = time.perf_counter()
        groups = defaultdict(list)
        for name, p in self.matrices.items():
            groups[p.flatten(1).shape, p.dtype, p.device].append(name)
        found = {}
        for names in groups.values():
            batch = torch.stack([self.matrices[name].flatten(1) for name in names])
            ranks = gm.stable_rank(batch).tolist()
            norms = gm.spectral_norm(batch).tolist()
            found.update(zip(names, zip(norms, ranks, strict=True), strict=True))
        for name, layer in self.kernels.items():
            bounds = gm.conv_spectral_norm_bounds(
                layer.weight, stride=layer.stride, padding=layer.padding, dilation=layer.dilation,
                groups=layer.groups, padding_mode=layer.padding_mode,
            )  # fmt: skip
            found[name] = (float(bounds.upper), found[name][1])
        self.seconds += time.perf_counter() - start
        return {name: found[name] for name in self.matrices}


class Classifier(nn.Module):
    """Rows of an image as tokens, a convolution along them, two blocks of attention and MLP."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, WIDTH)
        self.mix = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=8)
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, images):
        tokens = self.embed(images)
        tokens = tokens + self.mix(tokens.mT).mT
        return self.head(self.blocks(tokens).mean(1))


def main(steps=150, every=10):
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32) / 16
    labels = torch.tensor(data.target)
    torch.manual_seed(0)
    net = Classifier()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
    monitor = SpectralMonitor(net)
    history, losses, training = [(0, monitor())], [], 0.0
    for step in range(1, steps + 1):
        start = time.perf_counter()
        chosen = torch.randint(len(labels), (BATCH,))
        loss = nn.functional.cross_entropy(net(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        training += time.perf_counter() - start
        if step % every == 0 or step == steps:
            history.append((step, monitor()))
    shown = [history[0], history[len(history) // 2], history[-1]]
    titles = " | ".join(f"norm, step {s} | stable rank" for s, _ in shown)
    print(f"| layer | {titles} |")
    print("|---|" + "--:|--:|" * len(shown))
    for name in history[0][1]:
        cells = " | ".join(f"{h[name][0]:.3f} | {h[name][1]:.2f}" for _, h in shown)
        print(f"| {name} | {cells} |")
    each = 1e3 * monitor.seconds / len(history)
    print(f"\nLoss {losses[0]:.3f} to {losses[-1]:.3f}; {1e3 * training / steps:.1f} ms a step, "
          f"{each:.1f} ms each time all {len(monitor.matrices)} layers are looked at.")  # fmt: skip
    return net, history, losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--every", type=int, default=10)
    given = parser.parse_args()
    main(given.steps, given.every)
