r"""
Train under a Lipschitz bound
=============================

*For robust networks.* Weights of spectral norm at most c are a convex set, and
``spectral_clip`` is the projection onto it: the few singular values above c come down
to c, the rest stay. To divide a weight by its norm instead, as is often done, brings
it under c as well, but shrinks all that it has learned with the largest direction.
"""

import gramian as gm
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

# %%
# The same network on scikit-learn's digits, trained twice: after each step of Adam
# every weight is brought under the bound in one of the two ways.

BOUND, STEPS = 1.3, 100
images, labels = (torch.as_tensor(a) for a in load_digits(return_X_y=True))
images = images.float() / 16
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
train, test = order[:1300], order[1300:]


def clipped(weight):
    return gm.spectral_clip(weight, BOUND)


def divided(weight):
    return weight * min(1.0, BOUND / float(gm.spectral_norm(weight)))


def trained(project):
    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(64, 96),
        torch.nn.Linear(96, 96),
        torch.nn.Linear(96, 10),
    ]
    relu = torch.nn.ReLU()
    net = torch.nn.Sequential(layers[0], relu, layers[1], relu, layers[2])
    adam = torch.optim.Adam(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(STEPS):
        chosen = train[torch.randint(len(train), (128,))]
        loss = torch.nn.functional.multi_margin_loss(
            net(images[chosen]), labels[chosen]
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            for layer in layers:
                layer.weight.copy_(project(layer.weight))
        losses.append(loss.item())
    return net, [layer.weight.detach() for layer in layers], losses


# %%
# The product of the layers' certified norms bounds what the network makes of any
# change of an image. So a margin between the two largest outputs of more than
# :math:`\sqrt 2\, L r` proves that no change of norm r turns the answer.

radii = np.linspace(0, 0.6, 25)
colours = {"clipped": "#0072b2", "divided": "#d55e00"}
figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
ends, proved = {}, {}
for project in (clipped, divided):
    name = project.__name__
    net, weights, losses = trained(project)
    lipschitz = float(
        np.prod([float(gm.spectral_norm_bounds(w).upper) for w in weights])
    )
    values = [np.linalg.svd(w.double().numpy(), compute_uv=False) for w in weights]
    assert lipschitz <= BOUND**3 * (1 + 1e-5)
    assert np.prod([v[0] for v in values]) <= lipschitz

    with torch.no_grad():
        outputs = net(images[test])
    top = outputs.topk(2, dim=1).values
    right = (outputs.argmax(1) == labels[test]).numpy()
    margin = (top[:, 0] - top[:, 1]).numpy() / (np.sqrt(2) * lipschitz)
    proved[name] = np.array([np.mean(right & (margin > r)) for r in radii])
    ends[name] = np.mean(losses[-20:])
    print(f"{name}: accuracy {right.mean():.3f}, Lipschitz constant {lipschitz:.3f}")

    axes[0].plot(losses, color=colours[name], label=name)
    axes[1].plot(values[1], color=colours[name], label=name)
    axes[2].plot(radii, proved[name], color=colours[name], label=name)

axes[0].set(title="loss", xlabel="step", ylim=(0, None))
axes[1].set(title="singular values, layer 2", xlabel="index", ylim=(0, None))
axes[2].set(title="share proved right", xlabel="norm of the change", ylim=(0, 1))
for axis in axes:
    axis.grid(alpha=0.3)
    axis.legend()

assert ends["clipped"] < 0.5 * ends["divided"]
assert np.all(proved["clipped"] >= proved["divided"])
