"""When the GPU's subspace iteration stops reading: the rule by itself, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest
from gramian._rsvd_settling import settled

from tests.reference import matrices

UNIT = 2.0**-24


def approaching(missing):
    """Ritz values of a flat spectrum of ones, each short of 1 by so much, read by read."""
    return 1 - np.outer(missing, np.ones(12))


@pytest.mark.parametrize(
    ("missing", "stops"),
    [
        ([0, 0, 0], True),
        ([0.9, 0.09, 0.009], True),  # 2 x 0.009 may be left
        ([0.9, 0.6, 0.4], False),  # 0.4 is left, and thought to be
        ([0.9, 0.3, 0.1], False),  # 0.2 may be left, of each more than 0.12
        ([1 / 2, 1 / 3, 1 / 4], False),
        ([0.2, 0.1, 0.0999], True),
        ([0.1, 0.2, 0.3], True),  # rounding may take values down
    ],
)
def test_what_may_still_come(missing, stops):
    assert settled(approaching(missing), 5, 100.0, UNIT) is stops


def test_the_sum_counts_beside_what_is_left():
    ritz = approaching([0.5, 0.1, 0.05])  # 2 (0.05 / 8) / (7 / 8) a value may come
    assert settled(ritz, 10, 30.0, UNIT)
    assert not settled(ritz, 10, 10.0, UNIT)


@pytest.mark.parametrize("rank", [3, 10, 40])
@pytest.mark.parametrize("build", [matrices.gaussian, matrices.power_law, matrices.geometric])
def test_the_error_is_nearly_that_of_the_usual_reads(build, rank):
    rng = np.random.default_rng(rank)
    given = {matrices.gaussian: (), matrices.power_law: (-0.5,), matrices.geometric: (1e-3,)}
    a = build(rng, *given[build], 300, 180)
    most = 8 if rank < 18 else 5
    z = np.linalg.qr(rng.choice([-1.0, 1.0], (180, rank + 10)))[0]
    ritz, errors, stopped = [], [], None
    for read in range(1, most + 1):
        y = a @ z
        ritz.append(np.linalg.eigvalsh(y.T @ y)[::-1])
        q = np.linalg.qr(y)[0]
        u, s, vh = np.linalg.svd(q.T @ a, full_matrices=False)
        left = a - (q @ u[:, :rank] * s[:rank]) @ vh[:rank]
        errors.append((np.linalg.norm(left), np.linalg.norm(left, 2)))
        if stopped is None and read >= 3 and settled(np.array(ritz), rank, (a * a).sum(), UNIT):
            stopped = read
        z = np.linalg.qr(a.T @ y)[0]
    ratios = np.array(errors[(stopped or most) - 1]) / np.array(errors[-1])
    assert np.all(ratios <= 1.05)
