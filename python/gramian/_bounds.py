"""Bounds on the spectral norm of dense matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import _arrays, _backend, _cpu
from ._bounds_calls import Result, bracket, queue
from ._options import (
    check_choice,
    check_finite_option,
    check_tolerance,
    check_whole_number,
    seed_of,
)
from ._watched import through_torch

_METHODS = ("auto", "gram", "cholesky", "eigh")
_CERTIFICATES = ("rounding",)


@dataclass(frozen=True)
class Bounds:
    """A bracket ``lower <= sigma_1 <= upper`` of the largest singular value.

    Attributes
    ----------
    lower, upper : array of shape (...)
        One pair for each matrix or operator, of the input's library and device; float64 for float64
        and complex128 input, else float32. Rounded outwards.
    converged : array of bool, of shape (...)
        Whether ``upper / lower - 1 <= rtol`` holds for the numbers returned; true where both are 0.
    n_iter : int
        The most iterations that one of them took.
    method : str
        What found the bounds.
    certificate : {"rounding", "exact-arithmetic", "probabilistic"}
        ``"rounding"``: the bounds hold with every rounding error accounted for.
        ``"exact-arithmetic"``: they would hold without rounding. ``"probabilistic"``: they hold
        with probability `confidence`.
    confidence : float
        1 unless the certificate is ``"probabilistic"``.
    """

    lower: Any
    upper: Any
    converged: Any
    n_iter: int
    method: str
    certificate: str
    confidence: float = 1.0


@through_torch
def gram_bound(
    a: Any, n_iter: int = 6, *, check_finite: bool | None = None, out: Any = None
) -> Any:
    r"""Upper bound on the spectral norm by Gram iteration.

    With :math:`H_1 = aa^H` and :math:`H_{t+1} = H_t^2` the bound is
    :math:`\|H_t\|_F^{2^{-t}}`, :math:`t` being `n_iter`: the Schatten norm of order
    :math:`2^{t+1}` [1]_. In exact arithmetic

    .. math:: \|a\|_2 \le \mathrm{bound} \le r^{2^{-(t+1)}} \|a\|_2 \qquad (r = \mathrm{rank}).

    Parameters
    ----------
    a : array of shape (..., m, n)
        NumPy or CuPy array, torch tensor or any object with ``__dlpack__``; float16, bfloat16,
        float32, float64, complex64 or complex128; any strides. Leading dimensions are a batch in
        which each matrix has its own scale. Never written to.
    n_iter : int, default 6
        Number of products, at least 0. With 0 the bound is the Frobenius norm.
    check_finite : bool or None, default None
        Whether to look for NaN and infinity in `a`. None: on the CPU, not on a GPU, where the
        answer would have to be waited for. False: a matrix that holds any gets the bound NaN, and
        the others are not affected.
    out : array of shape (...), optional
        Where to put the result: `a`'s library and device, the dtype of the result.

    Returns
    -------
    bound : array of shape (...)
        Of `a`'s library and device; float64 for float64 and complex128 input, else float32. 0 for a
        zero matrix, or one without entries; infinity where the dtype has no number so large.

    Raises
    ------
    TypeError
        `a` or `out` is no accepted array; `out` requires grad, or is given with a that does (whose
        gradient is that of :mod:`gramian.torch`); `n_iter` is not an int.
    ValueError
        `a` has under 2 dimensions or holds NaN or infinity; `out` does not match or cannot be
        written; `n_iter` is negative.
    ImportError
        `a` lies on a GPU and the CUDA module is not installed.

    Notes
    -----
    The arithmetic is that of the input (float32 for half precision), so rounding may put the bound
    below :math:`\|a\|_2`, by a factor of at most about
    :math:`1 - \frac12 j u \|a\|_F^2 / \|a\|_2^2`, where :math:`u` is the unit roundoff and
    :math:`j` the length of the longest chain of roundings: with :math:`k` the longer side
    :math:`\min(k, 512) + k / 256` on the CPU and :math:`k` on a GPU, three times that for complex
    `a`. Random matrices stay within 16 :math:`u`; sums whose roundings all go one way come close to
    the factor. :func:`spectral_norm_bounds` gives a bound that rounding cannot break.

    Cost, with :math:`m \le n` the sides: :math:`m^2 n + (t - 1) m^3` floating-point operations.
    Memory: a copy of `a` in the precision computed in and :math:`2m^2` elements, for one matrix at
    a time (small matrices: one for each thread).

    Scaling `a` by a power of two scales the bound by it exactly.

    References
    ----------
    .. [1] Delattre, Barthelemy, Araujo, Allauzen, "Efficient Bound of Lipschitz Constant for
       Convolutional Layers by Gram Iteration", ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> a = np.diag([3.0, 2.0, 1.0])
    >>> bool(3.0 <= gm.gram_bound(a) < 3.0 * 3 ** 2**-7)
    True
    """
    checked = _arrays.matrices(a, "a")
    steps = check_whole_number(n_iter, "n_iter")
    checks = check_finite_option(check_finite, checked.device == _arrays.CPU)
    backend = _backend.for_device(checked.device)
    with Result(out, checked) as result:
        backend.gram_bound(
            checked.capsule(), result.capsule(), checked.dtype, steps, checks, *queue(checked)
        )
    return result.value


def _gram_bound_and_gradient(a: Any, n_iter: int) -> tuple[Any, Any]:
    """The bound and its derivative by the entries of `a` (CPU): what autograd is to be told."""
    checked = _arrays.matrices(a, "a")
    bound, gradient = (
        _arrays.figures(None, checked),
        checked.empty_like(checked.shape, checked.dtype),
    )
    _cpu.gram_bound(
        checked.capsule(), bound.capsule(), checked.dtype, n_iter, False, gradient.capsule()
    )
    return bound.value, gradient.value


@through_torch
def spectral_norm_bounds(
    a: Any,
    *,
    rtol: float = 1e-6,
    method: str = "auto",
    certify: str = "rounding",
    rng: Any = None,
    check_finite: bool | None = None,
) -> Bounds:
    r"""Certified bracket of the spectral norm: ``lower <= sigma_1 <= upper``.

    Every rounding error is accounted for: the bounds hold for the numbers in `a` as they are. The
    arithmetic is float64 whatever the input.

    Parameters
    ----------
    a : array of shape (..., m, n)
        As in :func:`gram_bound`.
    rtol : float, default 1e-6
        Wanted ``upper / lower - 1``, positive.
    method : {"auto", "gram", "cholesky", "eigh"}, default "auto"
        How the upper bound is found and proved. ``"gram"``: repeated squaring of the Gram matrix,
        with the rounding error of each product substituted back [1]_. ``"cholesky"``: an estimate
        by Lanczos, then one Cholesky factorization of :math:`s^2 I - a^H a`, whose success in
        floating point proves :math:`\sigma_1 < s` up to a known rounding error [2]_. ``"eigh"``:
        the same with LAPACK's eigenvector for the estimate. ``"auto"``: the fastest, which is
        ``"cholesky"`` on the CPU and for large matrices on a GPU, where it falls back on
        ``"gram"`` should a matrix resist.
    certify : {"rounding"}, default "rounding"
        Kind of certificate.
    rng : None, int or numpy.random.Generator, default None
        Chooses the start vector of Lanczos. None: always the same one. Whether the bounds hold does
        not depend on it.
    check_finite : bool or None, default None
        Whether to look for NaN and infinity in `a`. None: on the CPU, not on a GPU. False: a matrix
        that holds any gets NaN for bounds, and the others are not affected.

    Returns
    -------
    Bounds
        With ``certificate == "rounding"``. The bounds are 0 for a zero matrix, or one without
        entries; `upper` is infinity where the dtype has no number so large.

    Raises
    ------
    TypeError
        `a` is no accepted array, or is inside torch.func or torch.compile (there
        :mod:`gramian.torch` has a function); an option has the wrong type.
    ValueError
        `a` has under 2 dimensions or holds NaN or infinity; an option has a value that is not
        allowed.
    NotImplementedError
        `a` lies on a GPU and `method` is ``"eigh"``.
    RuntimeError
        `a` lies on a GPU, `method` is ``"cholesky"`` and cuSOLVER cannot be found.
    ImportError
        `a` lies on a GPU and the CUDA module is not installed.

    Notes
    -----
    The bracket converges where `rtol` is at least :math:`(2m^2 + 600m + mn/128) u`, with
    :math:`m \le n` the sides and :math:`u = 2^{-53}`; three times that for complex `a`, twice for
    ``method="gram"``; on a GPU, :math:`(10mn + 80) u`. Results in float32 need 5e-7 more. Below
    that the bounds still hold, as tight as they get, and `converged` is False. So it is where
    results are subnormal numbers or too large for their dtype.

    Cost, with :math:`m \le n` the sides: :math:`m^2 n + m^3/3` floating-point operations and
    :math:`2m^2` for each Lanczos step, of which there are some tens. Memory: a copy of `a` in
    float64, :math:`m^2` and :math:`\min(m, \max(400, m/4))\,m` float64 numbers, for one matrix at a
    time (small matrices: one for each thread). The proof: docs/bounds.md.

    References
    ----------
    .. [1] Delattre, Barthelemy, Araujo, Allauzen, "Efficient Bound of Lipschitz Constant for
       Convolutional Layers by Gram Iteration", ICML 2023.
    .. [2] Rump, "Verification of positive definiteness", BIT 46, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> bounds = gm.spectral_norm_bounds(np.diag([3.0, 2.0, 1.0]))
    >>> bool(bounds.lower <= 3.0 <= bounds.upper), bool(bounds.converged)
    (True, True)
    """
    checked = _arrays.matrices(a, "a")
    check_choice(method, "method", _METHODS)
    check_choice(certify, "certify", _CERTIFICATES)
    lower, upper, converged = (_arrays.figures(None, checked) for _ in range(3))
    n_iter, used = bracket(
        checked,
        check_tolerance(rtol),
        method,
        seed_of(rng),
        check_finite_option(check_finite, checked.device == _arrays.CPU),
        lower=lower,
        upper=upper,
        converged=converged,
    )
    return Bounds(lower.value, upper.value, converged.value != 0, n_iter, used, "rounding")


@through_torch
def spectral_norm(
    a: Any,
    *,
    rtol: float = 1e-6,
    rng: Any = None,
    check_finite: bool | None = None,
    out: Any = None,
) -> Any:
    """Largest singular value, to a relative accuracy of `rtol`.

    Parameters
    ----------
    a : array of shape (..., m, n)
        As in :func:`gram_bound`.
    rtol : float, default 1e-6
        Wanted relative accuracy, positive.
    rng, check_finite
        As in :func:`spectral_norm_bounds`.
    out : array of shape (...), optional
        Where to put the result: `a`'s library and device, the dtype of the result.

    Returns
    -------
    norm : array of shape (...)
        Of `a`'s library and device; float64 for float64 and complex128 input, else float32. A
        number between the bounds of :func:`spectral_norm_bounds`.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :func:`spectral_norm_bounds`; ValueError also where `out` does not match or cannot be
        written.

    Notes
    -----
    The accuracy is proved on the way, by the bracket of :func:`spectral_norm_bounds`, at its cost
    and within its limits.

    References
    ----------
    .. [1] Rump, "Verification of positive definiteness", BIT 46, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> bool(abs(gm.spectral_norm(np.diag([3.0, 2.0, 1.0])) - 3) < 3e-6)
    True
    """
    checked = _arrays.matrices(a, "a")
    tolerance, seed, checks = (
        check_tolerance(rtol),
        seed_of(rng),
        check_finite_option(check_finite, checked.device == _arrays.CPU),
    )
    with Result(out, checked) as result:
        bracket(checked, tolerance, "auto", seed, checks, estimate=result)
    return result.value


@through_torch
def stable_rank(a: Any, *, check_finite: bool | None = None, out: Any = None) -> Any:
    r"""Stable rank :math:`\|a\|_F^2 / \|a\|_2^2`, a lower bound on the rank.

    Parameters
    ----------
    a : array of shape (..., m, n)
        As in :func:`gram_bound`.
    check_finite : bool or None, default None
        As in :func:`gram_bound`.
    out : array of shape (...), optional
        Where to put the result: `a`'s library and device, the dtype of the result.

    Returns
    -------
    rank : array of shape (...)
        Of `a`'s library and device; float64 for float64 and complex128 input, else float32. Between
        1 and the shorter side; 0 for a zero matrix.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As :func:`spectral_norm`.

    Notes
    -----
    Relative accuracy 4e-6 for float32 results and 2e-9 for float64, up to sides of some thousand;
    cost as :func:`spectral_norm_bounds`.

    References
    ----------
    .. [1] Rudelson, Vershynin, "Sampling from large matrices", J. ACM 54, 2007.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> float(round(gm.stable_rank(np.diag([2.0, 1.0, 1.0])), 6))
    1.5
    """
    checked = _arrays.matrices(a, "a")
    checks = check_finite_option(check_finite, checked.device == _arrays.CPU)
    with Result(out, checked) as result:
        rtol = 1e-9 if result.dtype == "float64" else 1e-6
        bracket(checked, rtol, "auto", 0, checks, stable_rank=result)
    return result.value
