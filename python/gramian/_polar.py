"""The polar decomposition, to working precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays, _cpu, _polar_gpu
from ._options import check_finite_option, check_flag
from ._rsvd_results import ConvergenceError
from ._watched import through_torch

_SIDES = ("right", "left")
_METHODS = ("auto", "svd")


@dataclass(frozen=True)
class PolarInfo:
    """How polar factors were found and how good they are.

    For one matrix each attribute is a scalar, for a batch of shape (...) an array of that shape:
    `residual` of the input's library and device, the others NumPy's.

    Attributes
    ----------
    residual : array of shape (...)
        ``||I - G||_F / sqrt(r)``, ``G`` the Gram matrix of the factor on its shorter side ``r``.
        Where `rank` is less than ``r``: ``||G - G @ G||_F / sqrt(rank)``. 0 for a zero matrix.
    steps : array of int of shape (...)
        Products of the matrix with a polynomial or averages with its inverse. 0 for an SVD.
    method : array of str of shape (...)
        ``"polynomial"``, ``"gram"``: polynomial steps, on the matrix itself or on its Gram matrix;
        ``"newton"``: scaled Newton steps, then polynomials; ``"qr"``: these on the triangular
        factor of a QR factorization; ``"svd"``: the last resort, and on a GPU the road of up to 64
        rows or columns; ``"zero"``: nothing to do.
    rank : array of int of shape (...)
        Singular values above the cutoff.
    """

    residual: Any
    steps: Any
    method: Any
    rank: Any


@through_torch
def polar(
    x: Any,
    *,
    tol: float | None = None,
    side: str = "right",
    compute_hermitian: bool = True,
    method: str = "auto",
    check_finite: bool | None = None,
    out: Any = None,
    return_info: bool = False,
) -> Any:
    r"""Polar decomposition: :math:`x = u p`, or :math:`x = p u`.

    With :math:`x = U \Sigma V^H`: :math:`u = U V^H`, :math:`p = V \Sigma V^H`, or
    :math:`p = U \Sigma U^H` on the left. Singular values of at most
    :math:`\max(m, n)\,\epsilon\,\sigma_1` count as zero, :math:`\epsilon` the unit roundoff of the
    precision computed in: `u` is then the partial isometry that maps their vectors to 0.

    Parameters
    ----------
    x : array of shape (..., m, n)
        Any accepted array, dtype and strides, as for :func:`newton_schulz`. Leading dimensions are
        a batch in which each matrix has its own scale, method and convergence.
    tol : float, optional
        On the residual of `u` (see :class:`PolarInfo`). Default:
        :math:`(8 \sqrt{r} + 2 \sqrt{k})\,\epsilon`, :math:`r` the shorter side, :math:`k` the
        roundings of a sum along the longer one :math:`N`,
        :math:`\min(N, 512) + \lceil N/256 \rceil`; :math:`\epsilon` that of float32 for half
        precision.
    side : {"right", "left"}, default "right"
        Where `p` stands.
    compute_hermitian : bool, default True
        False: `u` alone is computed and returned.
    method : {"auto", "svd"}, default "auto"
        ``"auto"``: by bounds on the singular values, see Notes. ``"svd"``: always an SVD.
    check_finite : bool or None, default None
        Whether to look for NaN and infinity in `x`, which waits for a GPU. None: on the CPU only.
        False: a matrix that holds any becomes NaN throughout, and the others are not affected.
    out : array or (array, array), optional
        Where to put `u`, or `u` and `p`: `x`'s library, dtype and device. They may overlap `x`.
    return_info : bool, default False
        Also return a :class:`PolarInfo`.

    Returns
    -------
    u : array of shape (..., m, n)
    p : array of shape (..., n, n), or (..., m, m) on the left
        Hermitian to the last bit, and positive semidefinite up to rounding. Only with
        `compute_hermitian`.
    info : PolarInfo
        Only with `return_info`.

    Raises
    ------
    TypeError
        `x` or `out` is no accepted array; `out` requires grad, or is given with x that does (whose
        gradient is that of :mod:`gramian.torch`); an option has the wrong type.
    ValueError
        `x` has under 2 dimensions or holds NaN or infinity; `out` does not match; an option has a
        value that is not allowed.
    ConvergenceError
        `tol` is not met, as when it is below what rounding allows. ``best`` holds what would have
        been returned without `return_info`, for the whole batch, and ``residual`` the largest.
    ImportError
        `x` lies on a GPU, and the CUDA module is not installed.
    NotImplementedError
        ``method="svd"`` for larger matrices on a GPU than are decomposed there.

    Notes
    -----
    From the Gram matrix :math:`G` comes a bound on :math:`\sigma_1`, and its spread or its Cholesky
    factor tells about the smallest singular value. Near to orthogonal: Taylor steps. Well
    conditioned and not square: Newton-Schulz steps with the minimax rows [1]_ for the interval, on
    :math:`G`, then on `x` until the residual is met. Square, or brought to a square by QR: Newton
    steps [2]_, each of which takes the square root of the condition number, down to 40, then from
    order 96 a Halley step [4]_ and a polynomial of degree 8, or minimax steps. A singular value too
    near the cutoff, or a result whose :math:`u^H x` is not Hermitian: an SVD, in double. Which it
    was is in ``info.method``.

    Cost in multiply-adds of one product :math:`x^H x` (:math:`m^2 n`): 9 to 14 for well conditioned
    input far from square; about 19 where square, growing with the logarithm of the logarithm of the
    condition number.

    On a GPU everything is computed in float64, whatever `x` holds: up to 64 rows or columns by
    Jacobi rotations, an SVD, of which a block does one matrix; larger ones by polynomial steps
    alone, which cost a product with `x` and two Hermitian ones each. The work is queued on the
    caller's current stream and can be captured into a CUDA graph; it is waited for only with
    `tol`, `return_info` or `check_finite`. Where it is not, nothing can be raised: a matrix whose
    steps do not converge (seen where many singular values lie within a hundredth of the cutoff)
    becomes NaN.

    References
    ----------
    .. [1] Amsel, Persson, Musco, Gower, "The Polar Express", 2025, arXiv 2505.16932.
    .. [2] Higham, "Computing the Polar Decomposition - with Applications", SIAM J. Sci. Stat.
       Comput. 7, 1986; Byers, Xu, "A New Scaling for Newton's Iteration for the Polar Decomposition
       and Its Backward Stability", SIAM J. Matrix Anal. Appl. 30, 2008.
    .. [3] Nakatsukasa, Higham, "Backward Stability of Iterations for Computing the Polar
       Decomposition", SIAM J. Matrix Anal. Appl. 33, 2012.
    .. [4] Nakatsukasa, Bai, Gygi, "Optimizing Halley's Iteration for Computing the Matrix Polar
       Decomposition", SIAM J. Matrix Anal. Appl. 31, 2010.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> x = np.random.default_rng(0).standard_normal((6, 4))
    >>> u, p = gm.polar(x)
    >>> bool(np.allclose(u @ p, x)), bool(np.allclose(u.T @ u, np.eye(4)))
    (True, True)
    """
    checked = _arrays.matrices(x, "x")
    tolerance = check_tolerance(tol)
    right = choice(side, "side", _SIDES) == "right"
    always_svd = choice(method, "method", _METHODS) == "svd"
    wanted = check_flag(compute_hermitian, "compute_hermitian")
    finite = check_finite_option(check_finite, checked.device == _arrays.CPU)
    check_flag(return_info, "return_info")
    *batch, rows, cols = checked.shape
    order = cols if right else rows
    square = _arrays.Array(
        checked.value, checked.library, (*batch, order, order), checked.dtype, checked.device
    )
    outs = (out, None) if not wanted or out is None else out
    if not isinstance(outs, tuple | list) or len(outs) != 2:
        raise TypeError("out must be a pair of arrays, for u and p, where both are computed")
    unitary = _arrays.output(outs[0], checked, "out" if not wanted else "out[0]")
    hermitian = None
    if wanted:
        because = f"for {side} factors of {rows}x{cols} matrices of {checked.dtype}"
        hermitian = _arrays.output(outs[1], square, "out[1]", because=because)
        if out is not None and _share_memory(unitary, hermitian):
            raise ValueError("out[0] and out[1] may share memory; each needs its own")
    if _polar_gpu.on_gpu(checked):
        if always_svd:
            _polar_gpu.check_svd(checked)
        reports = _polar_gpu.call(
            "polar",
            checked,
            unitary,
            _cpu.polar_tolerance(checked.dtype, rows, cols),
            hermitian=hermitian,
            right=right,
            tolerance=tolerance,
            finite=finite,
            report=return_info,
        )
    else:
        reports = _cpu.polar(
            checked.capsule(),
            unitary.capsule(),
            hermitian and hermitian.capsule(),
            checked.dtype,
            right,
            tolerance,
            always_svd,
            finite,
        )
    if out is not None:
        unitary.written()
        if hermitian is not None:
            hermitian.written()
    result = unitary.value if hermitian is None else (unitary.value, hermitian.value)
    if reports is None:
        return result
    info = PolarInfo(**report_arrays(reports, checked))
    raise_unless_converged(reports, result, tolerance, checked, "polar")
    if not return_info:
        return result
    return (result, info) if hermitian is None else (*result, info)


def _share_memory(a: _arrays.Array, b: _arrays.Array) -> bool:
    """Of arrays on the CPU. (Those on a GPU are compared where their addresses are known.)"""
    if a.device != _arrays.CPU:
        return False
    return np.may_share_memory(a.library.to_numpy(a.value), b.library.to_numpy(b.value))


def choice(value: Any, name: str, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}; it must be one of {allowed}")
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {allowed}")
    return value


def check_tolerance(tol: Any) -> float:
    """The tolerance as a float; 0 for the default."""
    if tol is None:
        return 0.0
    if isinstance(tol, bool | np.bool_) or not isinstance(tol, int | float | np.number):
        raise TypeError(f"tol is {tol!r}; it must be None or a number above 0")
    value = float(tol)
    if not 0 < value < math.inf:
        raise ValueError(f"tol is {tol!r}; it must be finite and above 0")
    return value


def report_arrays(reports: _polar_gpu.Reports, like: _arrays.Array) -> dict[str, Any]:
    """The attributes of :class:`PolarInfo`."""
    batch = like.shape[:-2]
    methods, steps, ranks, residuals, _ = zip(*reports, strict=True) if reports else ((),) * 5
    dtype = _arrays.real_dtype(like.dtype)
    residual = np.array(residuals, dtype).reshape(batch)
    shaped = [
        np.array(values, kind).reshape(batch)
        for values, kind in ((steps, np.int64), (methods, np.str_), (ranks, np.int64))
    ]
    # [()]: a scalar where the batch has no dimensions.
    return {
        "residual": figures_like(residual, dtype, like),
        **dict(zip(("steps", "method", "rank"), (a[()] for a in shaped), strict=True)),
    }


def figures_like(values: np.ndarray, dtype: str, like: _arrays.Array) -> Any:
    """NumPy's figures as an array of that library and device."""
    if like.device == _arrays.CPU:
        return like.library.from_numpy(values, dtype)
    return like.put(values)


def raise_unless_converged(
    reports: _polar_gpu.Reports,
    best: Any,
    tolerance: float,
    of: _arrays.Array,
    function: str,
    factor: int = 1,
) -> None:
    """factor: the function's default tolerance as a multiple of polar's."""
    failed = [r[3] for r in reports if not r[4]]
    if not failed:
        return
    default = factor * _cpu.polar_tolerance(of.dtype, *of.shape[-2:])
    worst = max(failed)
    raise ConvergenceError(
        f"{function} reached a residual of {worst:.3g}, above tol={tolerance or default:.3g}"
        f" (the default for {of.dtype} matrices of {of.shape[-2]}x{of.shape[-1]} is"
        f" {default:.3g}), in {len(failed)} of {len(reports)} matrices",
        best,
        worst,
    )
