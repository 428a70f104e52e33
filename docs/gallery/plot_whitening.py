"""
Whiten images
=============

*For preprocessing, and for optimizers like Shampoo.* Whitening multiplies data by the
inverse square root of its covariance; ZCA whitening, by the symmetric one, stays as
close to the data as can be. ``inverse_root`` computes that for any root, with a ridge
for covariances that are singular.
"""

import gramian as gm
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

# %%
# scikit-learn's digits. Some pixels are blank in all of them, so the covariance is
# singular: ``ridge`` adds that share of the largest eigenvalue to all.

images, _ = load_digits(return_X_y=True)
centred = images - images.mean(0)
covariance = centred.T @ centred / (len(images) - 1)
ridge = 1e-3
root, info = gm.inverse_root(covariance, 2, ridge=ridge, return_info=True)
white = centred @ root

added = ridge * info.largest_eigenvalue
regular = covariance + added * np.eye(64)
assert (
    np.linalg.norm(root @ regular @ root - np.eye(64)) < 1e-10
)  # root = regular^(-1/2)
assert np.array_equal(root, root.T)

# %%
# Directions of a variance far above the ridge come out with variance 1, the others
# below.

variances = np.linalg.eigvalsh(covariance)[::-1]
after = np.linalg.eigvalsh(white.T @ white / (len(images) - 1))[::-1]
assert np.all(after <= 1 + 1e-10)
assert np.allclose(after, np.sort(variances / (variances + added))[::-1], atol=1e-10)

figure = plt.figure(figsize=(9, 4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(1, 1.4))
axis = left.subplots()
axis.semilogy(np.maximum(variances, 1e-3), color="#d55e00", label="digits")
axis.semilogy(np.maximum(after, 1e-3), color="#0072b2", label="whitened")
axis.axhline(added, color="black", linewidth=0.8, label="ridge")
axis.set(xlabel="index", ylabel="variance", title="along principal directions")
axis.grid(alpha=0.3)
axis.legend()
panels = right.subplots(2, 5)
right.suptitle("before and after")
for column, (before, whitened) in enumerate(zip(centred[:5], white[:5], strict=True)):
    panels[0, column].imshow(before.reshape(8, 8), cmap="gray")
    panels[1, column].imshow(whitened.reshape(8, 8), cmap="gray")
for panel in panels.flat:
    panel.set_axis_off()

# %%
# Shampoo preconditions a gradient G of a matrix by :math:`L^{-1/4} G R^{-1/4}`, with
# L and R sums of :math:`G G^T` and :math:`G^T G`. Of a single gradient, that is its
# polar factor:

gradient = np.random.default_rng(0).standard_normal((40, 40))
l_root, r_root = gm.inverse_root(
    np.stack([gradient @ gradient.T, gradient.T @ gradient]), 4
)
direction = l_root @ gradient @ r_root
difference = np.linalg.norm(direction - gm.polar(gradient, compute_hermitian=False))
print(f"difference from the polar factor: {difference:.1e}")
assert difference < 1e-6
