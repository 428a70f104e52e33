"""Coefficient tables of the Newton-Schulz step, and what they do to singular values.

One step ``X <- a X + (b A + c A^2) X`` with ``A = X X^H`` sends every singular value ``x`` of
``X`` to ``a x + b x^3 + c x^5`` and leaves the singular vectors alone. A table is a sequence of
rows ``(a, b, c)``, one per step; :func:`gramian.newton_schulz` takes any such table.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import SupportsIndex

from . import _cpu

__all__ = ["LintReport", "lint", "polar_express", "table"]

Row = tuple[float, float, float]

_DEFAULT_CUSHION = 0.02407


@dataclass(frozen=True)
class LintReport:
    """What :func:`lint` found.

    Attributes
    ----------
    lower, upper : float
        Range of the composed map over singular values in ``[lower argument, 1]``. Infinite where
        it overflows.
    sign_flips : tuple of (float, float)
        Intervals within ``(0, 1]`` that the composed map sends below zero: singular directions
        there come out reversed. Empty for a sound table.
    divergence_margin : float
        How far above 1 a singular value may lie: the largest ``t >= 0`` such that everything in
        ``[0, 1 + t]`` stays bounded under the table and then under its last row repeated for ever.
        ``inf`` when ``t = 1`` still does, 0 when 1 itself does not.
    restarts : tuple of int
        Steps before which the Gram form should restart in half precision: the fewest that keep it
        well conditioned.
    """

    lower: float
    upper: float
    sign_flips: tuple[tuple[float, float], ...]
    divergence_margin: float
    restarts: tuple[int, ...]


def table(name: str, steps: SupportsIndex, *, normalization: str | float = "schatten") -> list[Row]:
    """Rows that a preset uses for this number of steps.

    Parameters
    ----------
    name : {"polar_express", "polar_express_paper", "muon", "you", "taylor"}
        ``"polar_express"``: minimax rows made for this number of steps and normalization, with
        safety factor 1.01; ``"polar_express_paper"``: the published rows [1]_; ``"muon"``: 3.4445,
        -4.7750, 2.0315 repeated [2]_; ``"you"``: five tuned rows; ``"taylor"``: 15/8, -10/8, 3/8
        repeated, which converges from any scaled input and is slow on small singular values.
    steps : int
        Number of rows, at least 1. Tables with fewer rows repeat their last row, longer ones are
        cut.
    normalization : {"schatten", "frobenius"} or positive number
        What the input will be divided by. A number is a known bound on the largest singular value
        and gets the rows of ``"schatten"``. Only ``"polar_express"`` depends on it.

    Returns
    -------
    list of (float, float, float)
        ``steps`` rows ``(a, b, c)``.

    Raises
    ------
    TypeError
        `name` is no string, `steps` no integer, `normalization` neither string nor real number.
    ValueError
        `name` or `normalization` is unknown, `steps` < 1, or a `normalization` that is not
        positive and finite.

    References
    ----------
    .. [1] Amsel, Persson, Musco, Gower, "The Polar Express: Optimal Matrix Sign Methods and
       Their Application to the Muon Algorithm", 2025, arXiv 2505.16932.
    .. [2] Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    Examples
    --------
    >>> from gramian import coefficients
    >>> coefficients.table("muon", 2)
    [(3.4445, -4.775, 2.0315), (3.4445, -4.775, 2.0315)]
    >>> len(coefficients.table("polar_express", 5, normalization="frobenius"))
    5
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r} of type {type(name).__name__}")
    names = _cpu.coefficients_names()
    if name not in names:
        raise ValueError(f"name={name!r} is unknown; allowed: {', '.join(map(repr, names))}")
    return _cpu.coefficients_table(name, _steps(steps), _scale(normalization))


def polar_express(
    lower: float,
    steps: SupportsIndex,
    *,
    cushion: float = _DEFAULT_CUSHION,
    safety: float = 1.0,
) -> list[Row]:
    """Compute minimax rows for singular values in ``[lower, 1]``.

    Each row is the odd quintic closest to 1, in the maximum norm, on the interval that the rows
    before it leave. The composition is then the best of all compositions of that many odd quintics
    [1]_.

    Parameters
    ----------
    lower : float
        Lower end of the singular values that are to be sent near 1, ``0 < lower < 1``. Smaller
        ones grow as well, but do not arrive.
    steps : int
        Number of rows, at least 1.
    cushion : float
        Rows are made for ``[max(l, cushion * u), u]`` rather than ``[l, u]`` and centred again,
        ``0 <= cushion < 1``. It costs little and lowers the first peaks; 0 gives the exact minimax
        rows, which amplify rounding at the upper end by up to 25 a step and want a `safety` above
        1 when `lower` is tiny.
    safety : float
        Every row but the last becomes ``(a/s, b/s**3, c/s**5)``, so that arguments up to `s` times
        its interval stay inside: for a norm bound that rounding left a little low. At least 1.
        Half precision wants 1.05, float32 1.01. The last row keeps its fixed point at 1.

    Returns
    -------
    list of (float, float, float)
        ``steps`` rows ``(a, b, c)``, all finite.

    Raises
    ------
    TypeError
        `steps` is no integer, or another argument no real number.
    ValueError
        An argument is outside the range above.

    Notes
    -----
    Takes O(`steps`) operations; microseconds. The published table has ``lower=1e-3`` and
    ``cushion=0.02407327424182761``.

    References
    ----------
    .. [1] Amsel, Persson, Musco, Gower, "The Polar Express: Optimal Matrix Sign Methods and
       Their Application to the Muon Algorithm", 2025, arXiv 2505.16932.

    Examples
    --------
    >>> from gramian import coefficients
    >>> rows = coefficients.polar_express(0.05, 3)
    >>> x = 0.05
    >>> for a, b, c in rows:
    ...     x = a * x + b * x**3 + c * x**5
    >>> abs(x - 1) < 0.01
    True
    """
    lower = _real("lower", lower)
    if not 0.0 < lower < 1.0:
        raise ValueError(f"lower={lower!r} is not allowed; needs 0 < lower < 1")
    cushion = _real("cushion", cushion)
    if not 0.0 <= cushion < 1.0:
        raise ValueError(f"cushion={cushion!r} is not allowed; needs 0 <= cushion < 1")
    safety = _real("safety", safety)
    if not (safety >= 1.0 and math.isfinite(safety)):
        raise ValueError(f"safety={safety!r} is not allowed; needs a finite number >= 1")
    return _cpu.polar_express(lower, _steps(steps), cushion, safety)


def lint(table: Iterable[Sequence[float]], *, lower: float = 1e-3) -> LintReport:
    """Check what a table does to singular values.

    Nothing is sampled: ranges are taken from each row's own critical points, sign changes are
    located by bisection on monotone pieces.

    Parameters
    ----------
    table : iterable of (a, b, c)
        At least one row of three finite real numbers.
    lower : float
        The reported range is that of singular values in ``[lower, 1]``, ``0 < lower < 1``.

    Returns
    -------
    LintReport

    Raises
    ------
    TypeError
        `table` is not iterable, a row not a sequence of real numbers, or `lower` no real number.
    ValueError
        `table` is empty, a row has not three entries or one that is not finite, or `lower` is out
        of range.

    Examples
    --------
    A row that reverses the largest singular directions:

    >>> from gramian import coefficients
    >>> report = coefficients.lint([(4.0098, -7.0585, 2.4635)])
    >>> [(round(a, 3), b) for a, b in report.sign_flips]
    [(0.884, 1.0)]

    A preset:

    >>> report = coefficients.lint(coefficients.table("polar_express", 5))
    >>> report.sign_flips, report.divergence_margin > 0.01, report.restarts
    ((), True, (2,))
    """
    rows = _rows("table", table)
    lower = _real("lower", lower)
    if not 0.0 < lower < 1.0:
        raise ValueError(f"lower={lower!r} is not allowed; needs 0 < lower < 1")
    low, high, flips, margin, restarts = _cpu.lint_table(rows, lower)
    return LintReport(low, high, tuple(flips), margin, tuple(restarts))


def _steps(value: SupportsIndex) -> int:
    if isinstance(value, bool):
        raise TypeError(f"steps must be an integer, got {value!r} of type bool")
    try:
        steps = operator.index(value)
    except TypeError:
        raise TypeError(
            f"steps must be an integer, got {value!r} of type {type(value).__name__}"
        ) from None
    if not 1 <= steps <= _MAX_STEPS:
        raise ValueError(f"steps={steps} is not allowed; needs 1 <= steps <= {_MAX_STEPS}")
    return steps


# Far past any use; it keeps a slip of the pen from asking for gigabytes of rows.
_MAX_STEPS = 1_000_000


def _real(argument: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{argument} must be a real number, got {value!r} of type {type(value).__name__}"
        )
    return _float(argument, value)


def _float(argument: str, value: Real) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{argument} is too large for a floating-point number") from None


def _scale(normalization: object) -> str:
    """Return what the rows are made for: a known bound counts as ``"schatten"``."""
    allowed = "allowed: 'schatten', 'frobenius', or a positive finite number"
    if isinstance(normalization, str):
        if normalization not in ("schatten", "frobenius"):
            raise ValueError(f"normalization={normalization!r} is unknown; {allowed}")
        return normalization
    known = isinstance(normalization, int | float)  # or inside torch.compile, its type is
    if not known and getattr(normalization, "ndim", None) == 0 and hasattr(normalization, "item"):
        normalization = normalization.item()  # a norm as NumPy and torch return it
    if isinstance(normalization, bool) or not isinstance(normalization, Real):
        raise TypeError(
            f"normalization={normalization!r} is of type {type(normalization).__name__}; {allowed}"
        )
    bound = _float("normalization", normalization)
    if not 0.0 < bound < math.inf:
        raise ValueError(f"normalization={normalization!r} is not allowed; {allowed}")
    return "schatten"


def _rows(argument: str, value: object) -> list[Row]:
    """Return a non-empty list of rows of three finite floats; errors name the argument."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(
            f"{argument} must be a sequence of rows (a, b, c), got {value!r} "
            f"of type {type(value).__name__}"
        )
    rows: list[Row] = []
    for index, row in enumerate(value):
        if isinstance(row, str | bytes) or not isinstance(row, Iterable):
            raise TypeError(
                f"{argument}[{index}] must be a row (a, b, c), got {row!r} "
                f"of type {type(row).__name__}"
            )
        entries = [_real(f"{argument}[{index}]", entry) for entry in row]
        if len(entries) != 3:
            raise ValueError(
                f"{argument}[{index}]={tuple(entries)!r} has {len(entries)} entries; "
                "a row is (a, b, c)"
            )
        # Compared, as normalization is: torch.compile has no math.isfinite of its dynamic numbers.
        if not all(-math.inf < entry < math.inf for entry in entries):
            raise ValueError(f"{argument}[{index}]={tuple(entries)!r} must be finite")
        rows.append((entries[0], entries[1], entries[2]))
    if not rows:
        raise ValueError(f"{argument}=[] has no rows; needs at least one row (a, b, c)")
    return rows
