"""
Bracket the norm of a layer
===========================

*For training monitors and proofs.* Power iteration, the usual way, approaches the
spectral norm from below and never says how far off it is. ``spectral_norm_bounds``
returns a bracket, proved with every rounding error; ``gram_bound`` an upper bound
alone, whose gradient is in closed form.
"""

from importlib.resources import files

import gramian as gm
import matplotlib.pyplot as plt
import numpy as np

# %%
# The weight of an attention layer of a real network, MiniLM, comes with the package.

with np.load(files("gramian") / "data" / "minilm-weights.npz") as archive:
    weight = archive["encoder.layer.0.attention.self.query.weight"].astype(np.float64)
truth = np.linalg.svd(weight, compute_uv=False)[0]

bounds = gm.spectral_norm_bounds(weight, rtol=1e-10)
print(f"{bounds.lower:.12f} <= sigma_1 <= {bounds.upper:.12f}, {bounds.certificate}")
assert bounds.lower <= truth <= bounds.upper
assert bounds.upper <= (1 + 1e-10) * bounds.lower

# %%
# Beside it what others find in as many products, from three random vectors. The two
# largest singular values lie one percent apart, which makes it hard for them.

products = np.arange(2, 81, 2)
power = []
for seed in range(3):
    v = np.random.default_rng(seed).standard_normal(weight.shape[1])
    power.append([])
    for _ in products:  # each a product with the weight and one with its transpose
        v /= np.linalg.norm(v)
        v = weight.T @ (weight @ v)
        power[-1].append(np.sqrt(np.linalg.norm(v)))
rounds = np.arange(1, 11)
gram = [float(gm.gram_bound(weight, int(n))) for n in rounds]
wanted = 10.0 ** -np.arange(1, 11)
brackets = [gm.spectral_norm_bounds(weight, rtol=rtol) for rtol in wanted]

figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
for estimates in power:
    axes[0].semilogy(products, 1 - np.array(estimates) / truth, color="#d55e00")
axes[0].set(title="power iteration: too low by", xlabel="products with a vector")
axes[1].semilogy(rounds, np.array(gram) / truth - 1, "o-", color="#009e73")
axes[1].set(title="gram_bound: too high by", xlabel="squarings")
above = [b.upper / truth - 1 for b in brackets]
below = [1 - b.lower / truth for b in brackets]
axes[2].loglog(wanted, above, "o-", color="#0072b2", label="upper, too high by")
axes[2].loglog(wanted, below, "o-", color="#d55e00", label="lower, too low by")
axes[2].set(title="spectral_norm_bounds", xlabel="rtol asked for")
axes[2].invert_xaxis()
axes[2].legend()
for axis in axes:
    axis.grid(alpha=0.3)

assert np.all(np.array(power) < truth)  # an estimate, never a bound
assert np.all(np.array(gram) > truth)
assert np.all(np.diff(gram) < 0)
for rtol, b in zip(wanted, brackets, strict=True):
    assert b.lower <= truth <= b.upper
    assert b.upper / b.lower - 1 <= rtol
