"""The sign of Hermitian matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arrays, _cpu, _polar_gpu
from ._options import check_finite_option, check_flag
from ._polar import (
    PolarInfo,
    check_tolerance,
    raise_unless_converged,
    report_arrays,
)
from ._watched import through_torch


@through_torch
def matrix_sign(
    a: Any,
    *,
    tol: float | None = None,
    check_finite: bool | None = None,
    out: Any = None,
    return_info: bool = False,
) -> Any:
    r"""Sign of a Hermitian matrix: each eigenvalue goes to 1, -1 or 0, its vectors stay.

    The polar factor of `a`, Hermitian to the last bit. Eigenvalues of magnitude at most
    :math:`n\,\epsilon\,|\lambda|_{\max}` count as zero, :math:`\epsilon` the unit roundoff of the
    precision computed in, and go to 0: the square is the projector onto the others' vectors.

    Parameters
    ----------
    a : array of shape (..., n, n)
        Hermitian; any accepted array, dtype and strides, as for :func:`newton_schulz`.
    tol : float, optional
        On the residual, as for :func:`polar`.
    check_finite : bool or None, default None
        Whether to look for NaN and infinity in `a`, and whether it is Hermitian, which waits for a
        GPU. None: on the CPU only. False: neither; (a + a^H) / 2 is what counts.
    out : array, optional
        Where to put the result: `a`'s library, shape, dtype and device. It may overlap `a`.
    return_info : bool, default False
        Also return a :class:`PolarInfo`.

    Returns
    -------
    s : array of shape (..., n, n)
    info : PolarInfo
        Only with `return_info`. ``"svd"`` as its method stands for eigenvectors here, on the CPU.

    Raises
    ------
    TypeError, ValueError, ConvergenceError, ImportError
        As :func:`polar`; ValueError also where `a` is not square or not Hermitian.

    Notes
    -----
    An eigenvalue :math:`\lambda` next to zero makes the sign ill-conditioned: a relative error of
    :math:`\epsilon` in `a` turns it by :math:`\epsilon |\lambda|_{\max} / |\lambda|`. Cost as that
    of :func:`polar` without the Hermitian factor; on a GPU all products are Hermitian. What is said
    there of GPUs holds here.

    References
    ----------
    Higham, "Functions of Matrices", SIAM, 2008, chapters 5 and 8.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> gm.matrix_sign(np.array([[0.0, 2.0], [2.0, 0.0]]))
    array([[0., 1.],
           [1., 0.]])
    """
    checked = _arrays.matrices(a, "a")
    if checked.shape[-1] != checked.shape[-2]:
        raise ValueError(f"a has shape {checked.shape}; its matrices must be square")
    tolerance = check_tolerance(tol)
    finite = check_finite_option(check_finite, checked.device == _arrays.CPU)
    check_flag(return_info, "return_info")
    if finite:
        check_hermitian(checked, "a")
    result = _arrays.output(out, checked)
    reports: _polar_gpu.Reports | None
    if _polar_gpu.on_gpu(checked):
        default = _cpu.polar_tolerance(checked.dtype, *checked.shape[-2:])
        reports = _polar_gpu.call(
            "sign",
            checked,
            result,
            default,
            tolerance=tolerance,
            finite=finite,
            report=return_info,
        )
    else:
        reports = _cpu.matrix_sign(
            checked.capsule(), result.capsule(), checked.dtype, tolerance, finite
        )
    if out is not None:
        result.written()
    if reports is None:
        return result.value
    raise_unless_converged(reports, result.value, tolerance, checked, "matrix_sign")
    if not return_info:
        return result.value
    return result.value, PolarInfo(**report_arrays(reports, checked))


def check_hermitian(checked: _arrays.Array, name: str) -> None:
    """Raises ValueError where an entry differs from its mirror image by more than rounding does.

    A thousandth of all digits is allowed for, relative to the largest entry of the matrix.
    """
    a = _entries(checked)
    if a.size == 0:
        return
    if a.dtype == np.float16:
        a = a.astype(np.float32)
    unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(checked.dtype) or np.finfo(a.dtype).eps
    most = float(np.finfo(a.dtype).max)
    with np.errstate(over="ignore", invalid="ignore"):
        # Both differences and magnitudes of complex entries overflow near the largest number.
        scale = 8.0 if np.max(np.maximum(np.abs(a.real), np.abs(a.imag))) > most / 8 else 1.0
        if scale > 1:
            a = a / a.dtype.type(scale)
        gap = np.abs(a - np.conj(np.swapaxes(a, -1, -2))).max(axis=(-2, -1))
        size = np.abs(a).max(axis=(-2, -1))
        # What is not finite is found, and named, by the check that follows.
        wrong = gap > max(float(unit) ** 0.5, 4 * float(unit)) * size
    if np.any(wrong):
        worst = float(np.max(np.where(wrong, gap, 0))) * scale
        raise ValueError(
            f"{name} is not Hermitian: entries differ by up to {worst:.3g} from the conjugates of "
            f"their mirror images; pass ({name} + {name}^H) / 2 if that is meant"
        )


def _entries(checked: _arrays.Array) -> np.ndarray:
    """NumPy's array of the same numbers; bfloat16 as float32."""
    if checked.dtype != "bfloat16":
        return checked.host()
    if checked.library.name == "torch":
        return checked.library.to_host(checked.value.float())
    return checked.host().astype(np.float32)
