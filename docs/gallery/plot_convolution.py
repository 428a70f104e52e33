"""
The norm of a convolution
=========================

*For Lipschitz networks.* Spectral normalization as it is mostly done takes the kernel
for a matrix of shape (channels out, channels in x taps) and its norm for the layer's.
That is what the layer makes of one patch; of patches that overlap it can make more,
up to the root of the number of taps times as much. ``conv_spectral_norm_bounds``
brackets the norm of the layer itself, with its padding and stride.
"""

import gramian as gm
import matplotlib.pyplot as plt
import numpy as np
import torch

# %%
# Kernels of 3 x 3 with six channels in and out, on inputs of 8 x 8: small enough to
# write the layer as a dense matrix and look at its singular values. Random kernels
# are mixed with a blur, which sums up its taps, as layers learn to.

SIZE, CHANNELS = 8, 6
rng = np.random.default_rng(0)
noise = rng.standard_normal((CHANNELS, CHANNELS, 3, 3)) / 6
blur = np.einsum("oi,h,w->oihw", np.eye(CHANNELS), [1, 2, 1], [1, 2, 1]) / 8
kinds = {
    "noise": noise,
    "noise and blur": (noise + blur) / 2,
    "blur": blur,
    "differences": np.einsum("oi,h,w->oihw", np.eye(CHANNELS), [0, 1, 0], [-1, 2, -1])
    / 2,
}


def as_matrix(kernel, **layer):
    """Columns: what the layer makes of each unit image."""
    pixels = CHANNELS * SIZE**2
    unit = torch.eye(pixels, dtype=torch.float64).reshape(
        pixels, CHANNELS, SIZE, SIZE
    )
    images = torch.nn.functional.conv2d(unit, torch.from_numpy(kernel), **layer)
    return images.flatten(1).T.numpy()


rows = []
for name, kernel in kinds.items():
    for stride in (1, 2):
        bounds = gm.conv_spectral_norm_bounds(
            kernel, input_size=SIZE, padding=1, stride=stride
        )
        truth = np.linalg.norm(as_matrix(kernel, padding=1, stride=stride), 2)
        heuristic = np.linalg.norm(kernel.reshape(CHANNELS, -1), 2)
        rows.append((f"{name}, stride {stride}", bounds.upper, truth, heuristic))
        assert bounds.lower <= truth <= bounds.upper <= 1.001 * bounds.lower

# %%
# The heuristic is left of the truth everywhere: a network that is normalized by it is
# not Lipschitz with the constant that it claims.

names, upper, truth, heuristic = (np.array(c) for c in zip(*rows, strict=True))
height = np.arange(len(names))
figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
axis.barh(height, truth, color="#bbbbbb", label="largest singular value of the layer")
axis.plot(
    upper, height, "|", color="#0072b2", markersize=20, label="certified upper bound"
)
axis.plot(
    heuristic, height, "x", color="#d55e00", label="norm of the kernel as a matrix"
)
axis.set_yticks(height, names)
axis.invert_yaxis()
axis.set(xlabel="norm")
figure.legend(loc="outside upper center", ncols=3, fontsize="small")

factor = truth / heuristic
print(f"norm of the layer over heuristic: {factor.min():.2f} to {factor.max():.2f}")
assert np.all(factor > 1.05)
assert np.all(factor <= np.sqrt(9))
