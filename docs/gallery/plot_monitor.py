"""
Watch a network while it trains
===============================

*For training monitors.* Two numbers tell much about a weight: its spectral norm,
which is what the layer can amplify, and its stable rank :math:`\\|W\\|_F^2 /
\\|W\\|_2^2`, how many directions carry it. Both are cheap enough to look at every few
steps, and the norm comes with a proof.
"""

import gramian as gm
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

# %%
# A network on scikit-learn's digits, with a learning rate that is a little too large,
# as one finds out afterwards. All weights of one shape go into one call: leading
# dimensions are a batch.

images, labels = (torch.as_tensor(a) for a in load_digits(return_X_y=True))
torch.manual_seed(0)
net = torch.nn.Sequential(
    torch.nn.Linear(64, 64),
    torch.nn.ReLU(),
    torch.nn.Linear(64, 64),
    torch.nn.ReLU(),
    torch.nn.Linear(64, 64),
    torch.nn.ReLU(),
    torch.nn.Linear(64, 10),
)
watched = [layer.weight for layer in net if isinstance(layer, torch.nn.Linear)][:3]
adam = torch.optim.AdamW(net.parameters(), lr=5e-3)
steps, losses, uppers, ranks = [], [], [], []

for step in range(121):
    chosen = torch.randint(len(labels), (128,))
    outputs = net(images[chosen].float() / 16)
    loss = torch.nn.functional.cross_entropy(outputs, labels[chosen])
    if step % 5 == 0:
        with torch.no_grad():
            weights = torch.stack(watched)
            bounds = gm.spectral_norm_bounds(weights)
            ranks.append(gm.stable_rank(weights).numpy())
        steps.append(step)
        losses.append(loss.item())
        uppers.append(bounds.upper.numpy())

        # The bracket holds at every look, and so does the rank.
        s = np.linalg.svd(weights.double().numpy(), compute_uv=False)
        assert np.all(bounds.lower.numpy() <= s[:, 0])
        assert np.all(s[:, 0] <= bounds.upper.numpy())
        assert np.allclose(ranks[-1], (s**2).sum(-1) / s[:, 0] ** 2, rtol=1e-5)
    adam.zero_grad()
    loss.backward()
    adam.step()

# %%
# The norms grow while the loss falls, and the weights lose stable rank: a few
# directions take over.

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
axes[0].semilogy(steps, losses, color="black")
for values, axis in ((uppers, axes[1]), (ranks, axes[2])):
    for layer, colour in enumerate(("#0072b2", "#d55e00", "#009e73")):
        one = [v[layer] for v in values]
        axis.plot(steps, one, color=colour, label=f"layer {layer + 1}")
titles = ("loss", "spectral norm, certified", "stable rank")
for axis, title in zip(axes, titles, strict=True):
    axis.set(title=title, xlabel="step")
    axis.grid(alpha=0.3)
axes[1].legend()

assert losses[-1] < 0.2 * losses[0]
assert np.all(uppers[-1] > uppers[0])
assert np.all(ranks[-1] < ranks[0])
# What the three layers can do to the difference of two images, at first and now.
print(f"product of the norms: {np.prod(uppers[0]):.2f} and {np.prod(uppers[-1]):.1f}")
