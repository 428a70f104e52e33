"""
The rotation that fits best
===========================

*For scientific code.* Two descriptions of the same things, such as coordinates of a
molecule in two frames or embeddings of two runs, often differ by a rotation. The one
that fits best in the mean square is the polar factor of their cross-covariance, and
the trace of the other factor tells how well it fits: orthogonal Procrustes, in one
call of ``polar``. Where a reflection fits better than any rotation, the factor is
that reflection; here its determinant shows that it is none.
"""

import gramian as gm
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

# %%
# Two embeddings of scikit-learn's digits in eight dimensions, by the principal
# components of two noisy copies, the first in some other frame.

images, labels = load_digits(return_X_y=True)


def embedding(seed):
    noisy = images + np.random.default_rng(seed).normal(0, 4, images.shape)
    result = gm.rsvd(noisy, 8, center=True, rng=0)
    return result.U * result.S


turn = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8))).Q
turn[:, 0] *= np.sign(np.linalg.det(turn))  # a rotation, no reflection
first, second = embedding(1) @ turn, embedding(2)
rotation, p = gm.polar(first.T @ second)
aligned = first @ rotation

# %%
# The residual follows from p alone, and no other orthogonal matrix has a smaller one.

before, residual = (np.linalg.norm(x - second) ** 2 for x in (first, aligned))
predicted = np.linalg.norm(first) ** 2 + np.linalg.norm(second) ** 2 - 2 * np.trace(p)
size = np.linalg.norm(second) ** 2
print(f"relative residual {before / size:.3f} before, {residual / size:.3f} after")
assert np.isclose(residual, predicted, rtol=1e-9)
assert np.linalg.norm(rotation.T @ rotation - np.eye(8)) < 1e-13
assert np.linalg.det(rotation) > 0
rng = np.random.default_rng(0)
for _ in range(20):
    other = gm.polar(
        rotation + 0.1 * rng.standard_normal((8, 8)), compute_hermitian=False
    )
    assert np.linalg.norm(first @ other - second) ** 2 > residual

figure, axes = plt.subplots(
    1, 3, figsize=(9, 3.4), layout="constrained", sharex=True, sharey=True
)
colours = {0: "#0072b2", 1: "#d55e00", 4: "#009e73", 6: "#cc79a7"}
titles = ("first embedding", "first, rotated onto the second", "second embedding")
for axis, points, title in zip(axes, (first, aligned, second), titles, strict=True):
    for digit, colour in colours.items():
        shown = points[labels == digit]
        axis.plot(
            shown[:, 0], shown[:, 1], ".", color=colour, markersize=3, label=digit
        )
    axis.set(title=title, xticks=[], yticks=[])
    axis.set_aspect("equal")
axes[0].legend(markerscale=3, title="digit")

# %%
# Many small problems are one call: leading dimensions are a batch. Here a thousand
# rotations in space that have drifted, as by integration with rounding or large
# steps, are brought back to the nearest ones.

exact = np.linalg.qr(rng.standard_normal((1000, 3, 3))).Q
exact *= np.linalg.det(exact)[:, None, None].round()  # rotations, whatever QR's signs
drifted = exact + 1e-3 * rng.standard_normal(exact.shape)
restored = gm.polar(drifted, compute_hermitian=False)
assert np.linalg.norm(restored.mT @ restored - np.eye(3), axis=(-2, -1)).max() < 1e-13
assert np.all(np.linalg.det(restored) > 0)
assert np.linalg.norm(restored - exact) < np.linalg.norm(drifted - exact)
