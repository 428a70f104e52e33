"""
Orthogonalize a momentum
========================

*For optimizers.* A momentum is dominated by a few directions: a step along it moves
the weights much in those and hardly at all in the rest. Muon replaces it by its polar
factor :math:`U V^T`, which moves all directions alike. ``newton_schulz`` computes
that in five steps of products, with no decomposition.
"""

import gramian as gm
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

# %%
# A momentum of a real training: the second layer of a small network on scikit-learn's
# digits, after forty steps of SGD.

images, labels = (torch.as_tensor(a) for a in load_digits(return_X_y=True))
torch.manual_seed(0)
net = torch.nn.Sequential(
    torch.nn.Linear(64, 256),
    torch.nn.ReLU(),
    torch.nn.Linear(256, 192),
    torch.nn.ReLU(),
    torch.nn.Linear(192, 10),
)
sgd = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.95)
for _ in range(40):
    chosen = torch.randint(len(labels), (128,))
    sgd.zero_grad()
    outputs = net(images[chosen].float() / 16)
    torch.nn.functional.cross_entropy(outputs, labels[chosen]).backward()
    sgd.step()
momentum = sgd.state[net[2].weight]["momentum_buffer"]
print("momentum:", tuple(momentum.shape), momentum.dtype)

# %%
# Three steps, five, and the converged factor. A tensor goes in, a tensor comes out;
# shapes and types stay.

results = {
    "newton_schulz, 3 steps": gm.newton_schulz(momentum, 3),
    "newton_schulz, 5 steps": gm.newton_schulz(momentum),
    "polar": gm.polar(momentum, compute_hermitian=False),
}


def singular_values(x):
    return np.linalg.svd(x.double().numpy(), compute_uv=False)


before = singular_values(momentum)
after = {name: singular_values(x) for name, x in results.items()}

figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
axis.semilogy(before / before[0], "k--", label="momentum, over its largest")
colours = ("#d55e00", "#0072b2", "#009e73")
for (name, values), colour in zip(after.items(), colours, strict=True):
    axis.semilogy(values, color=colour, label=name)
axis.set(xlabel="index", ylabel="singular value", ylim=(1e-4, 3))
axis.grid(alpha=0.3)
axis.legend(loc="lower left")

# %%
# What can be relied on: a step is a polynomial in each singular value, and ``lint``
# computes where five of them take any singular value in [0.001, 1] of the bound that
# the matrix is divided by.

report = gm.coefficients.lint(gm.coefficients.table("polar_express", 5), lower=1e-3)
print(f"five steps take [0.001, 1] to [{report.lower:.3f}, {report.upper:.3f}]")

bound = np.sum(before**8) ** (1 / 8)  # the Schatten norm of the default normalization
five = after["newton_schulz, 5 steps"]
reached = before >= 1e-3 * bound
print(f"{reached.sum()} of {len(before)} singular values are in that range")
assert np.all(five[reached] > report.lower - 1e-4)
assert np.all(five[reached] < report.upper + 1e-4)
assert before[0] / before[reached][-1] > 100  # what was far apart before
# The converged factor takes all to 1, but those that float32 cannot tell from zero.
one = np.abs(after["polar"] - 1) < 1e-4
assert np.all(one[before > 1e-4 * before[0]])
assert np.all(one | (after["polar"] < 1e-4))
