"""Randomized SVD of sparse matrices and of row blocks beside scikit-learn and SciPy, one run.

OPENBLAS_NUM_THREADS=1 python benchmarks/rsvd_operator_ratios.py [--repeats 5]

Interleaved, the median of each; errors over the least possible for the sparse ones come from
||A||_F^2 - sum sigma_i^2 of the factors returned, which all of them make orthonormal.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import gramian as gm
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds
from sklearn.decomposition import IncrementalPCA
from sklearn.utils.extmath import randomized_svd


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def race(name, contenders, error, repeats):
    times = {key: [] for key in contenders}
    errors = {}
    for _ in range(repeats):
        for key, function in contenders.items():
            seconds, result = timed(function)
            times[key].append(seconds)
            errors[key] = error(result)
    for key in contenders:
        print(f"| {name} | {key} | {1e3 * statistics.median(times[key]):.0f} | {errors[key]:.5f} |")


def sparse_case(shape, density, k, repeats):
    rng = np.random.default_rng(0)
    a = sparse.random_array(shape, density=density, rng=rng, format="csr", dtype=np.float64)
    a = (a @ sparse.diags_array(np.arange(1.0, shape[1] + 1) ** -0.5)).tocsr()
    best = svds(a, k, return_singular_vectors=False, random_state=0)

    def error(factors):
        u, s, vh = factors
        whole = (a.data**2).sum()
        # ||A - U S V^H||^2 with U, V orthonormal, without forming it.
        inner = np.einsum("ij,ij->j", u, a @ vh.T) @ s
        left = whole - 2 * inner + (s**2).sum()
        return float(np.sqrt(left / (whole - (best**2).sum())))

    contenders = {
        "gramian": lambda: gm.rsvd(a, k),
        "gramian, 3 reads": lambda: gm.rsvd(a, k, passes=3),
        "gramian, 4 reads": lambda: gm.rsvd(a, k, passes=4),
        "scikit-learn": lambda: randomized_svd(a, k, random_state=0),
        "scipy svds": lambda: svds(a, k, random_state=0),
    }
    race(f"{shape[0]}x{shape[1]}, {density:.2%}, k = {k}", contenders, error, repeats)


def block_case(rows, columns, k, repeats):
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.f32"
        turn = np.linalg.qr(rng.standard_normal((columns, columns)))[0].astype(np.float32)
        decay = np.arange(1, columns + 1, dtype=np.float32) ** -0.5
        with open(path, "wb") as file:
            for _ in range(0, rows, 2000):
                block = rng.standard_normal((2000, columns), dtype=np.float32)
                ((block * decay) @ turn).tofile(file)
        a = np.memmap(path, np.float32, "r", shape=(rows, columns))
        blocks = [a[i : i + 2000] for i in range(0, rows, 2000)]
        exact = np.linalg.eigvalsh(sum(np.dot(b.T.astype(float), b) for b in blocks))[::-1]
        whole = exact.sum()

        def error(factors):
            _, _, vh = factors
            kept = sum(np.linalg.norm(b @ vh.T) ** 2 for b in blocks)
            return float(np.sqrt((whole - kept) / (whole - exact[:k].sum())))

        def incremental():
            model = IncrementalPCA(k)
            for block in blocks:
                model.partial_fit(block)
            return None, None, model.components_

        contenders = {
            "gramian, row blocks": lambda: gm.rsvd(blocks, k),
            "gramian, row blocks, 1 read": lambda: gm.rsvd(blocks, k, method="single_pass"),
            "gramian, one array": lambda: gm.rsvd(np.asarray(a), k),
            "IncrementalPCA, 1 read": incremental,
        }
        race(f"{rows}x{columns} float32 file, k = {k}", contenders, error, repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print("| case | | ms | error over the least |")
    print("|---|---|--:|--:|")
    sparse_case((20000, 5000), 0.005, 20, repeats)
    sparse_case((200000, 20000), 0.0005, 10, repeats)
    sparse_case((3000, 40000), 0.002, 20, repeats)
    block_case(40000, 1000, 20, repeats)


if __name__ == "__main__":
    main()
