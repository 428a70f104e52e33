"""When a subspace iteration on a GPU has read often enough: docs/rsvd.md, "On a GPU"."""

from __future__ import annotations

import numpy as np

# Of what Ritz values may still grow by, in all beside the square of the error that is left, and one
# by one beside the next Ritz value.
_IN_ALL = 0.08
_EACH = 0.12


def settled(ritz: np.ndarray, rank: int, whole: float, unit: float) -> bool:
    """Whether more reads would change the error by little.

    Parameters
    ----------
    ritz : array of shape (t, l)
        Ritz values of A^H A after each of t >= 3 reads, descending.
    rank : int
        How many count.
    whole : float
        Sum of squares of A.
    unit : float
        Unit roundoff of products with A.
    """
    now = ritz[-1]
    wanted = min(rank, now.size)
    noise = 16 * unit * max(float(now[0]), 0.0)
    growth = _growth(ritz, wanted)
    if np.any(growth > _EACH * now[min(wanted, now.size - 1)] + noise):
        return False
    left = max(whole - float(now[:wanted].sum()), 0.0)
    return bool(growth.sum() <= _IN_ALL * left + wanted * noise)


def _growth(ritz: np.ndarray, wanted: int) -> np.ndarray:
    """What each Ritz value may still grow by.

    Without gaps in the spectrum what is missing falls like 1/t; with gaps, like a power of how much
    less the last growth was than the one before, which is taken at twice its word.
    """
    last = np.maximum(ritz[-1] - ritz[-2], 0)[:wanted]
    before = np.maximum(ritz[-2] - ritz[-3], 0)[:wanted]
    falls = last < before
    ratio = np.divide(last, before, out=np.zeros_like(last), where=falls)
    powers = np.where(falls, 2 * last * ratio / (1 - ratio), np.inf)
    found: np.ndarray = np.minimum((len(ritz) - 1) * last, powers)
    return found
