"""Random streams for Frequent Directions, cut and merged at random, and what must hold of them."""

import math

import gramian as gm
import numpy as np
import pytest

from tests.reference import streams


def cut(rng, n):
    """A stream of n rows cut into calls at random."""
    ends = np.unique(np.append(rng.integers(1, n + 1, rng.integers(0, 4)), n))
    return list(zip(np.append(0, ends[:-1]), ends, strict=True))


def fed(estimator, x, weights, pieces):
    for a, b in pieces:
        estimator.partial_fit(x[a:b], None if weights is None else weights[a:b])
    return estimator


def random_case(rng, *, is_complex=False):
    """Rows of any kind, their weights, options of a sketch, its width and size."""
    d, size = int(rng.integers(1, 9)), int(rng.integers(1, 7))
    n = int(rng.integers(1, 50))
    kind = str(rng.choice(streams.KINDS))
    if is_complex:
        x = streams.complex_rows(rng, kind, n, d).astype(rng.choice([np.complex64, np.complex128]))
    else:
        x = streams.rows(rng, kind, n, d).astype(rng.choice([np.float32, np.float64]))
    weights = rng.choice([0.0, 0.5, 1.0, 3.0, 1e4], n) if rng.random() < 0.3 else None
    decay = float(rng.choice([1.0, 1.0, 0.99, 0.5]))
    return x, weights, {"decay": decay, "center": bool(rng.random() < 0.3)}, d, size


def merged(rng, parts):
    """A tree of merges that keeps the order of the parts."""
    parts = list(parts)
    while len(parts) > 1:
        i = int(rng.integers(len(parts) - 1))
        parts[i : i + 2] = [parts[i].merge(parts[i + 1])]
    return parts[0]


def check_bounds(sketch, a):
    """covariance_error_bound_, frobenius_squared_, certificate_ against float64's SVD of A."""
    b = streams.double(sketch.sketch_)
    error = np.linalg.norm(a.conj().T @ a - b.conj().T @ b, 2)
    squares = float(np.linalg.norm(a) ** 2)
    assert error <= sketch.covariance_error_bound_ + 1e-14 * max(a.shape) * squares
    assert sketch.frobenius_squared_ == pytest.approx(squares, rel=1e-6, abs=1e-300)
    truth = streams.top(a)
    if truth is not None:
        vector, unsure = truth
        true = streams.sine(sketch.components_[0], vector)
        assert true <= sketch.certificate_ + unsure


def check_trees(rng, trials, *, is_complex=False):
    """Bounds of sketches of random streams, in one piece or merged; how many certificates were
    finite."""
    finite = 0
    for _ in range(trials):
        x, weights, options, d, size = random_case(rng, is_complex=is_complex)
        pieces = cut(rng, len(x))
        if rng.random() < 0.5:
            sketch = fed(gm.FrequentDirections(d, size, **options), x, weights, pieces)
        else:
            parts = [gm.FrequentDirections(d, size, **options)]
            for piece in pieces:
                parts.append(fed(gm.FrequentDirections(d, size, **options), x, weights, [piece]))
            sketch = merged(rng, parts)
        a = streams.stacked(x, weights, **options)
        if sketch.n_samples_seen_ == 0:
            continue
        # Centring by a mean in float64 leaves an error that float64's own truth has as well.
        if options["center"] and np.abs(x).max() > 1e3 * np.abs(a).max():
            continue
        check_bounds(sketch, a)
        finite += math.isfinite(sketch.certificate_)
    return finite
