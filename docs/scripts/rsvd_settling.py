"""When "auto" on a GPU stops reading, and how good it is then, simulated in NumPy.

Subspace iteration in float64 on the hard inputs of the tests and larger ones, ranks 3, 10 and 40,
and 100 of the largest, stopped by gramian's rule; errors over those of scikit-learn's
randomized_svd at its defaults. Prints the reads of each case, their mean and the largest ratios in
both norms. FIRST is the read after which gramian looks first.

    python docs/scripts/rsvd_settling.py [FIRST]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from gramian._rsvd_settling import settled
from sklearn.utils.extmath import randomized_svd

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.reference import matrices  # noqa: E402

OVERSAMPLE = 10
FIRST_LOOK = int(sys.argv[1]) if len(sys.argv) > 1 else 4
UNIT = 2.0**-24
SHAPE = (500, 300)
LARGER = {
    "larger: Gaussian": lambda rng: matrices.gaussian(rng, *SHAPE),
    "larger: Gaussian, tall": lambda rng: matrices.gaussian(rng, 900, 300),
    "larger: power law -1/4": lambda rng: matrices.power_law(rng, -0.25, *SHAPE),
    "larger: power law -1/2": lambda rng: matrices.power_law(rng, -0.5, *SHAPE),
    "larger: power law -1": lambda rng: matrices.power_law(rng, -1.0, *SHAPE),
    "larger: geometric to 1e-1": lambda rng: matrices.geometric(rng, 1e-1, *SHAPE),
    "larger: geometric to 1e-3": lambda rng: matrices.geometric(rng, 1e-3, *SHAPE),
    "larger: geometric to 1e-12": lambda rng: matrices.geometric(rng, 1e-12, *SHAPE),
    "larger: cliff at 10": lambda rng: matrices.cliff(rng, 10, *SHAPE),
    "larger: cliff at 250": lambda rng: matrices.cliff(rng, 250, *SHAPE),
    "larger: spikes and noise": lambda rng: matrices.spikes_and_noise(rng, *SHAPE),
}


LARGEST = (1500, 1100)  # rank 100 is less than an eighth, as at 8192 x 8192 with rank 128
LARGEST_CASES = {
    "largest: Gaussian": lambda rng: matrices.gaussian(rng, *LARGEST),
    "largest: power law -1/4": lambda rng: matrices.power_law(rng, -0.25, *LARGEST),
    "largest: power law -1/2": lambda rng: matrices.power_law(rng, -0.5, *LARGEST),
    "largest: power law -1": lambda rng: matrices.power_law(rng, -1.0, *LARGEST),
    "largest: geometric to 1e-1": lambda rng: matrices.geometric(rng, 1e-1, *LARGEST),
    "largest: geometric to 1e-3": lambda rng: matrices.geometric(rng, 1e-3, *LARGEST),
    "largest: cliff at 100": lambda rng: matrices.cliff(rng, 100, *LARGEST),
    "largest: cliff at 120": lambda rng: matrices.cliff(rng, 120, *LARGEST),
    "largest: spikes and noise": lambda rng: matrices.spikes_and_noise(rng, *LARGEST),
}


def norms(x):
    return np.array([np.linalg.norm(x), np.linalg.norm(x, 2)])


def iterate(a, rank, rng):
    """Reads until the rule stops, and the errors then."""
    n = a.shape[1]
    most = 8 if rank * 10 < n else 5
    z = np.linalg.qr(rng.choice([-1.0, 1.0], (n, rank + OVERSAMPLE)))[0]
    ritz = []
    for read in range(1, most + 1):
        y = a @ z
        ritz.append(np.linalg.eigvalsh(y.T @ y)[::-1])
        looked = read >= FIRST_LOOK
        if looked and settled(np.array(ritz), rank, float((a * a).sum()), UNIT):
            break
        z = np.linalg.qr(a.T @ y)[0]
    q = np.linalg.qr(y)[0]
    u, s, vh = np.linalg.svd(q.T @ a, full_matrices=False)
    return read, norms(a - (q @ u[:, :rank] * s[:rank]) @ vh[:rank])


def main():
    reads, ratios = [], []
    for name, build in {**matrices.HARD, **LARGER, **LARGEST_CASES}.items():
        a = np.asarray(build(np.random.default_rng(0)))
        if np.iscomplexobj(a) or not a.any():
            continue
        a = (a if a.shape[0] >= a.shape[1] else a.T).astype(np.float32)
        ranks = {100} if name in LARGEST_CASES else {min(rank, a.shape[1]) for rank in (3, 10, 40)}
        for rank in sorted(ranks):
            if rank + OVERSAMPLE >= a.shape[1]:
                continue
            u, s, vh = randomized_svd(a, rank, random_state=0)
            wide = a.astype(float)
            usual = norms(wide - (u.astype(float) * s) @ vh) + 200 * UNIT * np.linalg.norm(wide)
            count, errors = iterate(wide, rank, np.random.default_rng(100))
            reads.append(count)
            ratios.append(errors / usual)
            print(f"{name}, rank {rank}: {count} reads, {ratios[-1].round(4)}")
    print(f"{len(reads)} cases, {np.mean(reads):.2f} reads, {np.max(ratios, axis=0).round(4)}")


if __name__ == "__main__":
    main()
