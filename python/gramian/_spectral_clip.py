"""Singular values clipped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays, _cpu, _polar_gpu
from ._options import check_finite_option, check_flag
from ._polar import (
    check_tolerance,
    choice,
    figures_like,
    raise_unless_converged,
)
from ._watched import through_torch

_KINDS = ("hard", "soft")


@dataclass(frozen=True)
class SpectralClipInfo:
    """How singular values were clipped and how well.

    Attributes
    ----------
    residual : array of shape (...)
        With ``G`` and ``K`` the Gram matrices of input and result on the shorter side ``r``, ``c``
        the bound: ``||(G - K) @ (c**2 * I - K)||_F``, which is 0 for hard clipping, or
        ``||(c**2 * I + G) @ K - c**2 * G||_F`` for soft, relative to ``sqrt(r) * c**2 *
        max(c, sigma_1)**2``.
    method : array of str of shape (...)
        ``"unchanged"``: no singular value is above the bound; ``"gram"``: steps on the Gram matrix;
        ``"eigenvectors"``: those of the Gram matrix; ``"svd"``; on a GPU ``"polynomial"``: by polar
        factors.
    """

    residual: Any
    method: Any


@through_torch
def spectral_clip(
    x: Any,
    max_norm: float,
    *,
    kind: str = "hard",
    tol: float | None = None,
    check_finite: bool | None = None,
    out: Any = None,
    return_info: bool = False,
) -> Any:
    r"""Singular values of `x` brought under a bound :math:`c`, with their vectors left alone.

    Parameters
    ----------
    x : array of shape (..., m, n)
        Any accepted array, dtype and strides, as for :func:`newton_schulz`. Leading dimensions are
        a batch in which each matrix has its own scale and method.
    max_norm : float
        The bound :math:`c`, above 0: a number, or an array without dimensions, as norms come.
    kind : {"hard", "soft"}, default "hard"
        ``"hard"``: :math:`\sigma \to \min(\sigma, c)`, the nearest matrix of spectral norm at most
        :math:`c`. ``"soft"``: :math:`\sigma \to \sigma / \sqrt{1 + \sigma^2 / c^2}`, a smooth one.
    tol : float, optional
        On the residual (see :class:`SpectralClipInfo`). Default: 4 times that of
        :func:`polar`.
    check_finite : bool or None, default None
        Whether to look for NaN and infinity in `x`, which waits for a GPU. None: on the CPU only.
        False: a matrix that holds any becomes NaN throughout, and the others are not affected.
    out : array, optional
        Where to put the result: `x`'s library, shape, dtype and device. It may overlap `x`.
    return_info : bool, default False
        Also return a :class:`SpectralClipInfo`.

    Returns
    -------
    y : array of shape (..., m, n)
        With ``kind="hard"`` equal to `x`, bit for bit, where no singular value of that matrix is
        above :math:`c` by more than :math:`8 (\sqrt{r} + 2)\,\epsilon` of it; and no singular value
        of `y` is, up to the rounding of a Gram matrix. So clipping twice is clipping once, bit for
        bit, but in half precision, which is rounded on the way out.
    info : SpectralClipInfo
        Only with `return_info`.

    Raises
    ------
    TypeError
        `x` or `out` is no accepted array; `out` requires grad, or is given with x that does (whose
        gradient is that of :mod:`gramian.torch`); an option has the wrong type.
    ValueError
        `x` has under 2 dimensions or holds NaN or infinity; `max_norm` is not above 0 or not
        finite; `out` does not match; an option has a value that is not allowed.
    ConvergenceError
        `tol` is not met, as when it is below what rounding allows. ``best`` holds the result.
    ImportError
        `x` lies on a GPU, and the CUDA module is not installed.

    Notes
    -----
    Hard: a Cholesky factorization of :math:`c^2 I - G` tells whether anything is to be done; if so,
    eigenvectors of :math:`G`, in double. Soft: steps for :math:`(I + G / c^2)^{-1/2}`. Where
    :math:`\sigma_1` is above :math:`4 c`, or the residual above the lesser of `tol` and
    a quarter of its default, an SVD, in double. The error is a multiple of
    :math:`\sqrt{r}\,\epsilon \max(c, \sigma_1)`, the change that rounding `x` makes, times
    :math:`\sigma_1 / c` at most.

    On a GPU: up to 64 rows or columns by an SVD. Larger, with :math:`x = h w`: hard
    :math:`x - (I + s) (x - c w) / 2`, :math:`s` the sign of :math:`h - c I`, soft :math:`c` times
    the part under `x` of the polar factor of :math:`(x, c I)`. Streams, graphs and `tol` as for
    :func:`polar`.

    References
    ----------
    .. [1] Newhouse et al., "Training Transformers with Enforced Lipschitz Constants", 2025.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> gm.spectral_clip(np.diag([3.0, 0.5]), 1.0)
    array([[1. , 0. ],
           [0. , 0.5]])
    """
    checked = _arrays.matrices(x, "x")
    bound = _bound(max_norm)
    hard = choice(kind, "kind", _KINDS) == "hard"
    tolerance = check_tolerance(tol)
    finite = check_finite_option(check_finite, checked.device == _arrays.CPU)
    check_flag(return_info, "return_info")
    result = _arrays.output(out, checked)
    reports: _polar_gpu.Reports | None
    if _polar_gpu.on_gpu(checked):
        reports = _polar_gpu.call(
            kind,
            checked,
            result,
            4 * _cpu.polar_tolerance(checked.dtype, *checked.shape[-2:]),
            tolerance=tolerance,
            bound=bound,
            finite=finite,
            report=return_info,
        )
    else:
        told = _cpu.spectral_clip(
            checked.capsule(), result.capsule(), checked.dtype, bound, hard, tolerance, finite
        )
        reports = [(method, 0, 0, residual, good) for method, residual, good in told]
    if out is not None:
        result.written()
    if reports is None:
        return result.value
    raise_unless_converged(reports, result.value, tolerance, checked, "spectral_clip", 4)
    if not return_info:
        return result.value
    batch = checked.shape[:-2]
    dtype = _arrays.real_dtype(checked.dtype)
    residual = np.array([r for *_, r, _ in reports], dtype).reshape(batch)
    method = np.array([m for m, *_ in reports], np.str_).reshape(batch)[()]
    return result.value, SpectralClipInfo(figures_like(residual, dtype, checked), method)


def _bound(max_norm: Any) -> float:
    _arrays.refuse_gradient(max_norm, "max_norm")
    given = max_norm
    known = isinstance(max_norm, int | float)  # or inside torch.compile, its type is
    if not known and getattr(max_norm, "ndim", None) == 0 and hasattr(max_norm, "item"):
        given = max_norm.item()  # a norm as NumPy and torch return it
    if isinstance(given, bool | np.bool_) or not isinstance(given, int | float | np.number):
        raise TypeError(f"max_norm is {max_norm!r}; it must be a number above 0")
    try:
        value = float(given)
    except OverflowError:
        value = math.inf
    if not 0 < value < math.inf:
        raise ValueError(f"max_norm is {max_norm!r}; it must be finite and above 0")
    return value
