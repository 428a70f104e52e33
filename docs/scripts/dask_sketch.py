"""Map and reduce with dask: a FrequentDirections sketch of each partition, merged as a tree.

The rows never meet; what travels is sketches of 2 * sketch_size rows. Run with dask and distributed
installed:

    python docs/scripts/dask_sketch.py
"""

from __future__ import annotations

import gramian as gm
import numpy as np
from dask import delayed
from distributed import Client, LocalCluster

ROWS, COLUMNS, PARTITIONS, SKETCH = 5000, 200, 8, 24


def partition(number):
    """Return the rows of one partition: made, or read from a file, where they are needed."""
    rng = np.random.default_rng(number)
    scales = np.r_[20.0, 10.0, 5.0, np.ones(COLUMNS - 3)]
    return rng.standard_normal((ROWS, COLUMNS)) * scales


def sketch(rows, sketch_size=SKETCH, batch=500):
    """Return the sketch of a partition's rows."""
    own = gm.FrequentDirections(rows.shape[1], sketch_size)
    for first in range(0, len(rows), batch):
        own.partial_fit(rows[first : first + batch])
    return own


def merged(sketches):
    """Return the sketch of all rows as a tree of merges: log2 of them lie on any path."""
    sketches = list(sketches)
    while len(sketches) > 1:
        pairs = zip(sketches[::2], sketches[1::2], strict=False)
        rest = sketches[-1:] if len(sketches) % 2 else []
        sketches = [delayed(gm.FrequentDirections.merge)(a, b) for a, b in pairs] + rest
    return sketches[0]


def main():
    """Sketch all partitions on a cluster of two processes, and print what is known of the rows."""
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster):
        parts = [delayed(sketch)(delayed(partition)(i)) for i in range(PARTITIONS)]
        whole = merged(parts).compute()
    print(f"{whole.n_samples_seen_} rows, ||A||_F^2 = {whole.frobenius_squared_:.6g}")
    print("eigenvalues of A^T A / n:", np.round(whole.explained_variance_[:4], 2))
    print(f"||A^T A - B^T B|| <= {whole.covariance_error_bound_:.4g}")
    print(f"sine of the angle to the top eigenvector <= {whole.certificate_:.3g}")


if __name__ == "__main__":
    main()
