"""
Compress an image to a given error
==================================

*For compression.* ``rsvd`` finds the leading singular vectors in a few reads of the
matrix. Asked for a rank it estimates the error; asked for an error it finds the rank,
and proves that the error holds.
"""

import gramian as gm
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

# %%
# A photograph that comes with scikit-learn, 427 x 640 in three colours: a row of the
# matrix is a row of pixels, three numbers each.

photograph = load_sample_image("china.jpg").astype(np.float64) / 255
a = photograph.reshape(len(photograph), -1)
print("matrix:", a.shape)

results = {}
for tolerance in (0.15, 0.08, 0.04):
    result = gm.rsvd(a, tol=tolerance, rng=0)
    u, s, vh = result
    error = np.linalg.norm(a - (u * s) @ vh) / np.linalg.norm(a)
    assert result.info.error_kind == "upper bound"
    assert error <= result.info.error_estimate <= tolerance
    ratio = a.size / ((len(u) + vh.shape[1]) * len(s))
    title = f"rank {len(s)}: error {error:.3f}\n{ratio:.1f} times smaller"
    results[title] = (u * s) @ vh
results["as it was"] = a

figure, axes = plt.subplots(2, 2, figsize=(8, 5.8), layout="constrained")
for axis, (title, image) in zip(axes.flat, results.items(), strict=True):
    axis.imshow(image.reshape(photograph.shape).clip(0, 1))
    axis.set_title(title, fontsize="medium")
    axis.set_axis_off()

# %%
# For given ranks: the estimate beside the error, and beside the least possible, which
# takes all singular values to know.

ranks = np.array([2, 5, 10, 20, 40, 80, 160])
singular_values = np.linalg.svd(a, compute_uv=False)
least, true, estimated, reads = [], [], [], []
for rank in ranks:
    result = gm.rsvd(a, int(rank), rng=0)
    u, s, vh = result
    least.append(
        np.linalg.norm(singular_values[rank:]) / np.linalg.norm(singular_values)
    )
    true.append(np.linalg.norm(a - (u * s) @ vh) / np.linalg.norm(a))
    estimated.append(float(result.info.error_estimate))
    reads.append(result.info.passes)
print("reads of the matrix:", reads)

figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
axis.loglog(ranks, least, color="black", linewidth=1, label="least possible")
axis.loglog(ranks, true, "o", color="#0072b2", label="rsvd")
axis.loglog(
    ranks, estimated, "x", color="#d55e00", markersize=10, label="its own estimate"
)
axis.set(xlabel="rank", ylabel="relative error")
axis.set_xticks(ranks, ranks)
axis.minorticks_off()
axis.grid(alpha=0.3)
axis.legend()

assert np.all(np.array(true) <= 1.02 * np.array(least))
assert np.allclose(estimated, true, rtol=1e-6)
