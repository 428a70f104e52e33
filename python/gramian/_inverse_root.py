"""Inverse roots and square roots of Hermitian positive semidefinite matrices."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays, _cpu, _inverse_root_gpu
from ._options import check_finite_option, check_flag
from ._rsvd_results import ConvergenceError
from ._watched import through_torch


@dataclass(frozen=True)
class InverseRootInfo:
    r"""How :func:`inverse_root` found its result, and how good it is.

    With :math:`B = a + \mathrm{ridge}\,\lambda_1 I`, X the result as computed, before it was
    rounded to the dtype of `a`:

    Attributes
    ----------
    residual : array of shape (...)
        :math:`\|I - X^p B\|_F / \sqrt n` for each matrix, as measured in the precision computed in.
    condition : array of shape (...)
        :math:`\kappa = \lambda_1(B) / \lambda_n(B)`, to within a third.
    largest_eigenvalue : array of shape (...)
        :math:`\lambda_1` of `a` itself, of which `ridge` is a multiple.
    steps : int
        Most steps of the iteration that a matrix of the batch took; 0 if none was iterated.
    method : {"newton", "eigh", "mixed"}
        The coupled iteration, eigenvectors, or either by matrix. ``"newton"`` for an empty batch.
    float64 : int
        How many matrices of narrower dtype were computed in float64, because they were too ill
        conditioned for float32; on a GPU all of them.
    """

    residual: Any
    condition: Any
    largest_eigenvalue: Any
    steps: int
    method: str
    float64: int


@through_torch
def inverse_root(
    a: Any,
    p: int,
    *,
    ridge: float = 0.0,
    tol: float | None = None,
    check_finite: bool | None = None,
    out: Any = None,
    return_info: bool = False,
) -> Any:
    r"""Inverse p-th root :math:`(a + \mathrm{ridge}\,\lambda_1 I)^{-1/p}` of a Hermitian matrix.

    Shampoo's preconditioners (p = 2, 4), whitening (p = 2), the inverse (p = 1): in a few Hermitian
    products where the matrix allows it, by eigenvectors where it does not.

    Parameters
    ----------
    a : array of shape (..., n, n)
        NumPy array, CuPy array, torch tensor or any object with ``__dlpack__``; float16, bfloat16,
        float32, float64, complex64 or complex128; any strides. Hermitian positive semidefinite,
        up to rounding: eigenvalues between :math:`-n u \lambda_1` and 0 count as 0, u the unit
        roundoff of its dtype. As :func:`numpy.linalg.eigh` does, only the lower triangle is read
        and taken for the whole, and the diagonal for real (`check_finite` looks at all entries).
        Never written to, unless it is also `out`.
    p : int
        At least 1.
    ridge : float, default 0.0
        Multiple of the identity added, relative to each matrix' own largest eigenvalue. That is
        known to 1e-6 of itself in float32, and to some u in float64, where it stands alone; at the
        top of a cluster to 2e-5 and 1e-7. What was added
        is exactly ``ridge * info.largest_eigenvalue``, up to rounding.
    tol : float, optional
        None: to rounding, see Notes. Else the result's residual :math:`\|I - X^p B\|_F / \sqrt n`
        is measured and must not be larger.
    check_finite : bool or None, default None
        Whether to look for NaN and infinity in `a`. None: on the CPU yes, on a GPU no, as the
        answer has to be waited for there. False: a matrix that holds any becomes NaN throughout,
        and the rest of the batch is not affected.
    out : array, optional
        Where to put the result: `a`'s library, shape, dtype and device. It may overlap `a`.
    return_info : bool, default False
        Also return an :class:`InverseRootInfo`.

    Returns
    -------
    x : array of shape (..., n, n)
        Hermitian to the last bit. Of `a`'s library, dtype and device; `out` if that was given.
    info : InverseRootInfo
        Only with `return_info`.

    Raises
    ------
    ConvergenceError
        A matrix has no answer (it is singular and `ridge` is 0; it has an eigenvalue below 0,
        beyond rounding and beyond `ridge`), or `tol` is not met. ``best`` holds all results, with
        the inverse root on the space of positive eigenvalues, and zero on the rest, for matrices
        without an answer; ``residual`` is the largest of those that failed. `out` holds the same.
        On a GPU only where the call waits: see Notes.
    TypeError
        `a` or `out` is no accepted array; `out` requires grad, or is given with a that does (whose
        gradient is that of :mod:`gramian.torch`); an option has the wrong type.
    ValueError
        `a` is not square, has under 2 dimensions or holds NaN or infinity; `out` does not match `a`
        or cannot be written; an option is out of range. Nothing is written in these cases.
    ImportError, RuntimeError
        `a` lies on a GPU, and the CUDA module is not installed; CUDA reports an error.

    Notes
    -----
    The error, with :math:`\kappa` the condition number of B and u the unit roundoff of the
    precision computed in, is within

    .. math::
        \|X - B^{-1/p}\|_2 \le 8 \sqrt n\, u\, (1 + \kappa / p)\, \|B^{-1/p}\|_2,

    and no method that first rounds `a` does better than :math:`u \kappa / p`; the residual is at
    most :math:`32 \sqrt n\, u\, (p + \kappa)`. Where :math:`\sqrt n\, u\, \kappa > 1/32` in
    float32, matrices are computed in float64 and rounded.

    The iteration takes p up to 8 where :math:`\sqrt n\, u\, \kappa \le 1/32`; the rest goes by
    eigenvectors in float64. Cost: some 15 to 40 Hermitian products of :math:`n^3` floating-point
    operations, for p = 1 one inverse, or one eigendecomposition.
    Memory besides `a` and the result: :math:`5 n^2` elements of the precision computed in, for
    each thread where matrices are small; as much again in float64 and LAPACK's :math:`3 n^2` where
    eigenvectors are computed.

    On a GPU all is computed in float64, by the iteration. The work is queued on the caller's
    current stream, and a CUDA graph can capture the call, unless `tol`, `return_info`, p > 8 or
    ``check_finite=True`` has it wait. A call that does not wait has nobody to tell: a matrix for
    which the iteration finds no answer (it is singular, or has an eigenvalue below 0 that `ridge`
    does not lift above it, if only by rounding) becomes NaN, and no other matrix is affected. One
    that waits takes eigenvectors for such matrices, as on the CPU. Memory: :math:`5 n^2` elements
    of float64 for each matrix, and a copy of `a` where `out` is given and the call waits.

    Scaling `a` by :math:`2^{kp}` scales the result by :math:`2^{-k}`, bit for bit while nothing
    under- or overflows. The number of threads changes no bit.

    References
    ----------
    .. [1] Guo, Higham, "A Schur-Newton Method for the Matrix pth Root and its Inverse", SIAM J.
       Matrix Anal. Appl. 28, 2006.
    .. [2] Amsel, Persson, Musco, Gower, "The Polar Express", 2025, arXiv 2505.16932.
    .. [3] Gupta, Koren, Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> g = np.random.default_rng(0).standard_normal((64, 256))
    >>> x = gm.inverse_root(g @ g.T, 4)
    >>> bool(np.allclose(x @ x @ x @ x @ g @ g.T, np.eye(64)))
    True
    """
    checked = _square(a)
    root = _root(p)
    lift = _number(ridge, "ridge", "a finite number, at least 0")
    tolerance = _tolerance(tol)
    check = check_finite_option(check_finite, checked.device == _arrays.CPU)
    check_flag(return_info, "return_info")
    result = _arrays.output(out, checked)
    figures: list[Any] = [None, None, None]
    if return_info:
        kind = _arrays.real_dtype(checked.dtype)
        figures = [checked.empty_like(checked.shape[:-2], kind) for _ in range(3)]
    outcome: tuple[Any, ...] | None
    if checked.device == _arrays.CPU:
        outcome = _cpu.inverse_root(
            checked.capsule(),
            result.capsule(),
            checked.dtype,
            root,
            lift,
            tolerance,
            check,
            *(f and f.capsule() for f in figures),
        )
    else:
        outcome = _inverse_root_gpu.compute(
            _inverse_root_gpu.Request(
                checked, result, None, root, lift, tolerance, check, tuple(figures), out is not None
            )
        )
    if out is not None:
        result.written()
    if outcome is None:
        return result.value
    _raise_for(outcome, checked, result.value, f"root with p = {root}, ridge = {lift:g}", tol)
    if not return_info:
        return result.value
    steps, iterated, widened = outcome[:3]
    count = math.prod(checked.shape[:-2])
    method = "newton" if iterated == count else "mixed" if iterated else "eigh"
    if 0 in checked.shape:
        method = "newton"
    residual, condition, largest = (f.value for f in figures)
    return result.value, InverseRootInfo(residual, condition, largest, steps, method, widened)


@through_torch
def sqrt_psd(
    a: Any,
    *,
    tol: float | None = None,
    check_finite: bool | None = None,
    out: tuple[Any, Any] | None = None,
) -> tuple[Any, Any]:
    r"""Square root and inverse square root of a Hermitian positive definite matrix, both at once.

    Parameters
    ----------
    a : array of shape (..., n, n)
        As for :func:`inverse_root`.
    tol : float, optional
        None: to rounding. Else :math:`\|I - X^2 a\|_F / \sqrt n` of the inverse root X is
        measured and must not be larger.
    check_finite : bool or None, default None
        As for :func:`inverse_root`.
    out : (array, array), optional
        Where to put the two: `a`'s library, shape, dtype and device. They may overlap `a`, but not
        each other.

    Returns
    -------
    root : array of shape (..., n, n)
        :math:`a^{1/2}`, Hermitian to the last bit.
    inverse_root : array of shape (..., n, n)
        :math:`a^{-1/2}`, as ``inverse_root(a, 2)`` has it.

    Raises
    ------
    ConvergenceError
        `a` is singular, has a negative eigenvalue beyond rounding, or `tol` is not met; on a GPU
        only with `tol`, and without it both results are NaN then. ``best`` is the pair: the root is
        good also where `a` is singular, the inverse holds the pseudo-inverse' root there;
        ``residual`` is that of the inverse.
    TypeError
        As for :func:`inverse_root`; `out` is no pair.
    ValueError
        As for :func:`inverse_root`; the arrays of `out` may share memory.
    ImportError, RuntimeError
        `a` lies on a GPU, and the CUDA module is not installed; CUDA reports an error.

    Notes
    -----
    Error of the inverse root: as for :func:`inverse_root`, :math:`\kappa` that of `a`. Error of the
    root: at most :math:`32 \sqrt n\, u\, (1 + \sqrt\kappa)\, \|a^{1/2}\|_2`; of a singular matrix,
    where :math:`\sqrt\kappa` is no bound, at most :math:`8 \sqrt{n u}\, \|a^{1/2}\|_2`, u that of
    the dtype: eigenvalues that rounding made of zeros are of that size. The way and the cost are
    those of :func:`inverse_root` with p = 2, and one product more.

    References
    ----------
    .. [1] Higham, "Stable Iterations for the Matrix Square Root", Numerical Algorithms 15, 1997.
    .. [2] Amsel, Persson, Musco, Gower, "The Polar Express", 2025, arXiv 2505.16932.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> root, inverse = gm.sqrt_psd(np.array([[5.0, 4.0], [4.0, 5.0]]))
    >>> bool(np.allclose(root, [[2.0, 1.0], [1.0, 2.0]]))
    True
    >>> bool(np.allclose(root @ inverse, np.eye(2)))
    True
    """
    checked = _square(a)
    tolerance = _tolerance(tol)
    check = check_finite_option(check_finite, checked.device == _arrays.CPU)
    own_out = out is not None
    if out is None:
        out = (None, None)
    elif not isinstance(out, tuple | list) or len(out) != 2:
        raise TypeError(f"out is a {type(out).__name__}; it must be a pair (root, inverse_root)")
    results = [
        _arrays.output(o, checked, name) for o, name in zip(out, ("out[0]", "out[1]"), strict=True)
    ]
    outcome: tuple[Any, ...] | None
    if checked.device == _arrays.CPU:
        outcome = _cpu.sqrt_psd(
            checked.capsule(),
            results[0].capsule(),
            results[1].capsule(),
            checked.dtype,
            tolerance,
            check,
        )
    else:
        outcome = _inverse_root_gpu.compute(
            _inverse_root_gpu.Request(
                checked, results[1], results[0], 2, 0.0, tolerance, check, (None,) * 3, own_out
            )
        )
    for given, result in zip(out, results, strict=True):
        if given is not None:
            result.written()
    pair = (results[0].value, results[1].value)
    if outcome is not None:
        _raise_for(outcome, checked, pair, "square root", tol)
    return pair


# ---- Arguments and errors -----------------------------------------------------------------------


def _square(a: Any) -> _arrays.Array:
    checked = _arrays.matrices(a, "a")
    if checked.shape[-1] != checked.shape[-2]:
        raise ValueError(f"a has shape {checked.shape}; its matrices must be square")
    return checked


def _root(p: Any) -> int:
    wrong = f"p is {p!r}; it must be an int, at least 1"
    if isinstance(p, bool | np.bool_):
        raise TypeError(wrong)
    try:
        value = operator.index(p)
    except TypeError:
        raise TypeError(wrong) from None
    if value < 1:
        raise ValueError(wrong)
    if value >= 2**31:
        raise ValueError(f"p is {p}; it must be less than 2**31")
    return value


def _number(value: Any, name: str, allowed: str) -> float:
    _arrays.refuse_gradient(value, name)
    try:
        if isinstance(value, bool | np.bool_ | str | bytes):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}; it must be {allowed}") from None
    except OverflowError:
        raise ValueError(f"{name} is {value!r}; it must be {allowed}") from None
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} is {value!r}; it must be {allowed}")
    return number


def _tolerance(tol: Any) -> float:
    """0 for None."""
    if tol is None:
        return 0.0
    allowed = "None or a finite number above 0"
    number = _number(tol, "tol", allowed)
    if number == 0:
        raise ValueError(f"tol is {tol!r}; it must be {allowed}")
    return number


def _is_zero(a: _arrays.Array, index: int) -> bool:
    """Whether matrix `index` of the batch is zero."""
    matrix = a.value[tuple(int(i) for i in np.unravel_index(index, a.shape[:-2]))]
    return not bool((matrix != 0).any())


def _raise_for(
    outcome: tuple[Any, ...], a: _arrays.Array, best: Any, what: str, tol: float | None
) -> None:
    _, _, _, failures, first, failure, eigenvalue, residual = outcome
    if not failures:
        return
    batch = a.shape[:-2]
    place = ", ".join(str(int(i)) for i in np.unravel_index(first, batch)) if batch else ""
    name = f"a[{place}]" if batch else "a"
    if failure == "singular" and _is_zero(a, first):
        failure = "zero"
    reason = {
        "zero": f"{name} is singular: all its entries are zero. The inverse {what} does not exist, "
        "and no ridge, a multiple of the largest eigenvalue, gives one",
        "singular": f"{name} is singular to rounding: its smallest eigenvalue is {eigenvalue:.1e} "
        f"of the largest. The inverse {what} does not exist; a larger ridge gives one",
        "negative": f"{name} is not positive semidefinite: its smallest eigenvalue is "
        f"{eigenvalue:.1e} of the largest in magnitude, so it has no inverse {what}",
        "tolerance": f"tol is {tol!r}; the residual of {name} is {residual:.2e}",
        "eigenvalues": f"LAPACK found no eigenvalues of {name}",
    }[failure]
    if failures > 1:
        reason += f" ({failures} matrices of the batch failed)"
    raise ConvergenceError(reason, best, residual)
