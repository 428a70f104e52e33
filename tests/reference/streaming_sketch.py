"""What the kernels of cuda/src/streaming_sketch* do, by NumPy: rows in, shrinking, its cost."""

from __future__ import annotations

import numpy as np
from gramian._rsvd_rows import entries

from tests.reference import direct_svd

U = 2.0**-53
ARRAYS = ("held", "factors", "totals")
DELTA, ROUNDING, LOST, ROWS, DROPPED = range(5)


def raised(v):
    return v + 32 * U * abs(v)


def g(roundings):
    return 1.01 * U * roundings


class Kernels:
    """Stands in for _streaming_gpu_sketch._append; `vectors` may spoil what Jacobi found."""

    def __init__(self, vectors=lambda u: u):
        self.vectors = vectors
        self.shrinkings = 0

    def __call__(self, state, batch, weights, size, decay, decayed):
        x = entries(batch).astype(np.float64)
        w = np.ones(len(x)) if weights is None else batch.library.to_numpy(weights)
        arrays = {name: batch.library.to_numpy(state[name]) for name in ARRAYS}
        m = state["held"].shape[1]
        filled, first = state["position"][0], 0
        while first < len(x):
            taken = min(len(x) - first, m - filled)
            part = slice(first, first + taken)
            self.rows(arrays, x[part], w[part], decay, filled)
            filled, first = filled + taken, first + taken
            if filled == m:
                with np.errstate(all="ignore"):
                    self.shrink(arrays, size, decayed)
                filled = size
        state["position"] = (filled,)

    def rows(self, state, x, w, decay, filled):
        held, factors, totals = state["held"], state["factors"], state["totals"]
        counts = w != 0
        after = counts[::-1].cumsum()[::-1] - counts
        new = slice(filled, filled + len(x))
        factors[:filled] *= decay ** (0.5 * counts.sum())
        factors[new] = 1
        held[:, new] = ((np.sqrt(w) * decay ** (0.5 * after))[:, None] * x).T
        totals[ROWS] += counts.sum()
        if decay != 1:
            past = decay ** float(counts.sum())
            totals[LOST] *= past
            for bound in (DELTA, ROUNDING):
                if totals[bound] > 0:
                    totals[bound] = max(raised(totals[bound] * past), 2.0**-1000)

    def shrink(self, state, size, decayed):
        self.shrinkings += 1
        held, factors, totals = state["held"], state["factors"], state["totals"]
        d, m = held.shape
        gram = held.T @ held
        trace = (factors * factors * np.diag(gram)).sum()
        unit = 1.0
        if trace < 1.7e308:
            unit = 2.0 ** (np.frexp(trace)[1] - 1) if trace > 2.0**-1000 else 2.0**-1000
        trace /= unit
        k = np.outer(factors, factors) * (gram / unit)
        shift = trace * 2.0**-24 if trace > 0 else 1.0
        figures = [0, 0, 0]
        triangle = direct_svd.cholesky(k + shift * np.eye(m), 2.0**-40, 2.0**-20, figures)[0]
        values, vectors = direct_svd.jacobi(triangle, 1e-13, figures)
        vectors = self.vectors(vectors)
        values = np.maximum(values - shift, 0)
        up = 1 + 1e-11
        norm = up * np.linalg.norm(vectors)
        eta = up * np.linalg.norm(vectors.T @ vectors - np.eye(m)) + g(m + 24) * norm**2
        kappa = max(values[0], up * np.linalg.norm(k))
        left = up * np.linalg.norm(k @ vectors - vectors * values)
        tau = 1.0001 * trace
        error = g(d + 64) * tau + left + g(m + 32) * 2 * kappa * norm + 2 * eta * kappa
        rounded = (32 + (13 * m if decayed else 0)) * U * tau
        if figures[0] == 0 and eta < 0.01 and error < 1e300:
            taken = values[size]
            kept = values[:size]
            delta = taken + 5 * U * (kappa + error) + error
            p = g(m + 32) * np.sqrt(size) * 1.01 * np.sqrt(tau)
            rounded += 2.1 * eta * (kappa + error) + 2.02 * np.sqrt(kappa + error) * p + p * p
            lost = max(0, trace - np.maximum(kept - taken, 0).sum())
            share = np.where(kept > taken, (kept - taken) / kept, 0)
            combined = vectors[:, :size] * np.sqrt(share)
        else:
            lost = np.diag(k)[size:].sum()
            delta = 1.001 * lost
            totals[DROPPED] += 1
            combined = np.eye(m)[:, :size]
        totals[DELTA] = raised(totals[DELTA] + unit * delta)
        totals[ROUNDING] = raised(totals[ROUNDING] + unit * rounded + 1e-290)
        totals[LOST] += unit * lost
        held[:, :size] = held @ (factors[:, None] * combined)
        held[:, size:] = 0
        factors[:] = 1
