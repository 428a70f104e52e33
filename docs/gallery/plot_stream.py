"""
Principal directions of a stream
================================

*For data that passes by once.* ``FrequentDirections`` keeps a few rows of a stream,
of any length and in any order, and bounds its own error: the whole covariance to
within a number that it states, and the angle of its first direction to the true one.
"""

import gramian as gm
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

# %%
# scikit-learn's digits, 64 pixels each, sorted by label: all zeros first, nines last.
# The worst order for methods that hope for a random one.

images, labels = load_digits(return_X_y=True)
rows = images[np.argsort(labels, kind="stable")] / 16
sketch = gm.FrequentDirections(64, 16)
seen, bounds, errors, certificates, sines = [], [], [], [], []
for start in range(0, len(rows), 64):
    sketch.partial_fit(rows[start : start + 64])

    # The truth, which takes all rows seen so far.
    so_far = rows[: start + 64]
    gram = so_far.T @ so_far
    top = np.linalg.eigh(gram)[1][:, -1]
    b = sketch.sketch_
    first = sketch.components_[0]
    seen.append(len(so_far))
    errors.append(np.linalg.norm(gram - b.T @ b, 2) / np.linalg.norm(gram, 2))
    bounds.append(sketch.covariance_error_bound_ / np.linalg.norm(gram, 2))
    sines.append(np.linalg.norm(first - top * (top @ first)))
    certificates.append(sketch.certificate_)
    assert errors[-1] <= bounds[-1] + 1e-14
    assert sines[-1] <= certificates[-1] + 1e-7  # as far as eigh's vector is known

# %%
# Both bounds hold after every batch, and neither looked at a row twice.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.plot(seen, bounds, color="#0072b2", label="stated bound")
left.plot(seen, errors, color="#d55e00", label="error")
left.set(title="covariance, over its norm", xlabel="rows seen", ylim=(0, None))
right.semilogy(seen, certificates, color="#0072b2", label="certificate")
right.semilogy(
    seen, np.maximum(sines, 1e-8), color="#d55e00", label="sine of the angle"
)
right.set(title="first direction", xlabel="rows seen")
for axis in (left, right):
    axis.grid(alpha=0.3)
    axis.legend()

assert certificates[-1] < 0.1

# %%
# The directions that it holds at the end, as images, beside those of all rows at
# once.

whole = np.linalg.svd(rows, full_matrices=False)[2]
energy = np.linalg.norm(rows @ sketch.components_[:8].T) ** 2
best = np.linalg.norm(rows @ whole[:8].T) ** 2
print(f"the first eight hold {energy / best:.2%} of the energy that eight can")
assert energy > 0.98 * best

figure, axes = plt.subplots(2, 8, figsize=(9, 2.7), layout="constrained")
for row, directions in zip(axes, (sketch.components_, whole), strict=True):
    for axis, direction in zip(row, directions, strict=False):
        sign = np.sign(direction[np.argmax(np.abs(direction))])
        image = (sign * direction).reshape(8, 8)
        axis.imshow(image, cmap="RdBu_r", vmin=-0.4, vmax=0.4)
        axis.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("stream")
axes[1, 0].set_ylabel("all rows")
