"""Newton-Schulz orthogonalization."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from . import _arrays, _backend, _cpu, coefficients
from ._options import check_finite_option, check_flag
from ._watched import through_torch
from .coefficients import Row

_METHODS = ("auto", "standard", "gram")


@dataclass(frozen=True)
class NewtonSchulzInfo:
    """What :func:`newton_schulz` did and how far its result is from orthogonal.

    Attributes
    ----------
    residual : array of shape (...)
        ``||I - G||_F / sqrt(r)`` for each matrix, ``G`` the Gram matrix of the result on its
        shorter side ``r``: the root mean square of ``1 - sigma**2`` over the result's singular
        values. 1 for a zero matrix, 0 for one without entries.
    steps : int
        Polynomial steps taken.
    method : {"standard", "gram"}
        The form of the iteration that ran.
    restarts : tuple of int
        Step indices before which the Gram form touched the matrix again; empty for ``"standard"``.
    norm_bound : array of shape (...)
        What each matrix was divided by, on the scale of the input. With the Schatten and Frobenius
        normalizations an upper bound on its largest singular value, up to a few units of rounding.
    """

    residual: Any
    steps: int
    method: str
    restarts: tuple[int, ...]
    norm_bound: Any


@through_torch
def newton_schulz(
    x: Any,
    steps: int = 5,
    *,
    coefficients: str | Iterable[Sequence[float]] = "polar_express",
    normalization: str | float = "schatten",
    method: str = "auto",
    compute_dtype: Any = None,
    check_finite: bool | None = None,
    out: Any = None,
    return_info: bool = False,
) -> Any:
    r"""Approximate polar factor :math:`U V^H` of :math:`x = U \Sigma V^H` in a few products.

    Each step maps every singular value :math:`\sigma` to
    :math:`a\sigma + b\sigma^3 + c\sigma^5` and leaves the singular vectors alone; the rows
    ``(a, b, c)`` are chosen so that a handful of steps takes all of them close to 1. This is the
    orthogonalization at the heart of the Muon optimizer [1]_.

    Parameters
    ----------
    x : array of shape (..., m, n)
        NumPy array, CuPy array, torch tensor or any object with ``__dlpack__``; float16, bfloat16,
        float32, float64, complex64 or complex128; any strides. (An object that has nothing but
        ``__dlpack__`` cannot hold bfloat16: NumPy has no such type of its own.) Leading dimensions
        are a batch in which each matrix has its own scale. Never written to, unless it is also
        `out`.
    steps : int, default 5
        Number of steps, at least 1.
    coefficients : str or sequence of (a, b, c), default "polar_express"
        A preset of :func:`gramian.coefficients.table`, or the rows themselves: more than `steps`
        are cut, with fewer the last is repeated. Rows are used as they stand; a safety factor, if
        wanted, lives in the rows. In half precision on a GPU they need room above 1, where rounding
        may put a singular value (``divergence_margin`` of :func:`gramian.coefficients.lint`);
        ``"polar_express_paper"`` has none and may diverge there.
    normalization : {"schatten", "frobenius"} or positive number, default "schatten"
        What `x` is divided by first. ``"frobenius"``: its Frobenius norm. ``"schatten"``: the bound
        :math:`\|(xx^H)^2\|_F^{1/4}`, at most :math:`r^{1/8}\sigma_1` for rank :math:`r` where the
        Frobenius norm may be :math:`r^{1/2}\sigma_1`; the first step forms it anyway. A number: a
        known upper bound on the largest singular value.
    method : {"auto", "standard", "gram"}, default "auto"
        ``"standard"`` iterates on `x`, ``"gram"`` on its Gram matrix [2]_, with as many restarts as
        the precision asks for; ``"auto"`` takes the cheaper one that is accurate.
    compute_dtype : {None, "float32", "float64", "tf32"}, default None
        Precision of the arithmetic (a dtype object or the complex dtype of that precision will do).
        None: that of the input; for half-precision input float32 on the CPU, and on a GPU tensor
        cores with iterates stored in float16 and sums in float32 (for bfloat16 as well, which is
        rounded on the way in and out: float16 holds three bits more, and the range of bfloat16 is
        taken care of by the scale). ``"tf32"``, on a GPU and for input of at most 32 bits a number:
        iterates stored in float32, whose products take 11 significant bits of each.
    check_finite : bool or None, default None
        Whether to look for NaN and infinity in `x`. None: on the CPU yes, on a GPU no, as the
        answer has to be waited for there. False: a matrix that holds any becomes NaN throughout,
        and the rest of the batch is not affected.
    out : array, optional
        Where to put the result: `x`'s library, shape, dtype and device. It may overlap `x`.
    return_info : bool, default False
        Also return a :class:`NewtonSchulzInfo`.

    Returns
    -------
    q : array of shape (..., m, n)
        Of `x`'s library, dtype and device; `out` if that was given. Zero for a zero matrix.
    info : NewtonSchulzInfo
        Only with `return_info`.

    Raises
    ------
    TypeError
        `x` or `out` is no accepted array; `out` requires grad, or is given with x that does (whose
        gradient is that of :mod:`gramian.torch`); an option has the wrong type.
    ValueError
        `x` has under 2 dimensions or holds NaN or infinity; `out` does not match `x` or cannot be
        written; an option has a value that is not allowed. Nothing is written in these cases.
    ImportError
        `x` lies on a GPU, and the CUDA module is not installed; or it only has ``__dlpack__``, and
        CuPy is not.
    RuntimeError
        CUDA or cuBLAS reports an error. Where the library of `x` finds no memory for the result or
        the work space, its own exception is raised.

    Notes
    -----
    Cost, with :math:`m \le n` the sides and :math:`T` steps: :math:`T(3n/m + 1)m^3` floating-point
    operations in the standard form. The Gram form with :math:`K` restarts takes
    :math:`(3(K+1)n/m + 4T - 3(K+1))m^3`. Memory besides `x` and the result: :math:`3m^2` elements
    of the compute precision in the standard form, :math:`4m^2` in the Gram form, :math:`mn` more
    where the result cannot be computed in place (half precision, another `compute_dtype`, an `out`
    with neither rows nor columns adjacent), and packing buffers of some hundred times :math:`m`.
    An `out` that overlaps `x` in another layout costs a copy of `x`.

    On a GPU the work is queued on the caller's current stream (torch's or CuPy's, for `x`'s device)
    and nothing waits for it, unless `check_finite` is True: `x` must be ready in the order of that
    stream, the results, those of `return_info` too, are ready in its order, and a CUDA graph can
    capture the call. Memory besides `x` and the result comes from `x`'s library and goes back to
    it: none for small matrices, which stay in shared memory from the first step to the last; for
    others, for each matrix of the batch, :math:`2m^2` elements of the precision of the iterates in
    the standard form, :math:`4m^2` in the Gram form, and :math:`mn`, or :math:`2mn` where the
    result cannot hold an iterate on the way; cuBLAS, where it serves, takes 32 MiB more. (CuPy's
    pool does not keep that memory for a captured graph, as torch's does: there capture small
    matrices only, or give the graph a pool of its own.) The same call on the same GPU gives the
    same bits.

    Scaling `x` by a power of two leaves the result the same bit for bit, and so does the number of
    threads.

    References
    ----------
    .. [1] Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    .. [2] Zhang, Amsel, Chen, Dao, "Gram Newton-Schulz", 2026.
    .. [3] Amsel, Persson, Musco, Gower, "The Polar Express", 2025, arXiv 2505.16932.
    .. [4] Delattre, Barthelemy, Araujo, Allauzen, "Efficient Bound of Lipschitz Constant for
       Convolutional Layers by Gram Iteration", ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> x = np.random.default_rng(0).standard_normal((64, 256))
    >>> q, info = gm.newton_schulz(x, return_info=True)
    >>> bool(np.linalg.norm(q @ q.T - np.eye(64), 2) < 0.05)
    True
    >>> bool(info.norm_bound >= np.linalg.norm(x, 2))
    True
    """
    checked = _arrays.matrices(x, "x")
    count = _checked_steps(steps)
    rule, bound = _normalization(normalization)
    if not isinstance(method, str):
        raise TypeError(f"method is {method!r}; it must be one of {_METHODS}")
    if method not in _METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {_METHODS}")
    kind, index = checked.device
    checks = check_finite_option(check_finite, kind == "cpu")
    check_flag(return_info, "return_info")
    arithmetic = _arithmetic(compute_dtype, checked.dtype, kind)
    table = _table(coefficients, count, rule)
    result = _arrays.output(out, checked)
    backend = _backend.for_device(checked.device)

    rows, cols = checked.shape[-2:]
    used, restarts = _plan(kind, rows, cols, table, arithmetic, method)
    residual = norm_bound = None
    if return_info:
        figures = _arrays.real_dtype(checked.dtype)
        residual = checked.empty_like(checked.shape[:-2], figures)
        norm_bound = checked.empty_like(checked.shape[:-2], figures)
    arguments = (
        checked.capsule(),
        result.capsule(),
        checked.dtype,
        table,
        rule,
        bound,
        used,
        restarts,
        arithmetic == "float64" if kind == "cpu" else arithmetic,
        checks,
        residual and residual.capsule(),
        norm_bound and norm_bound.capsule(),
    )
    if kind == "cpu":
        backend.newton_schulz(*arguments)
    else:
        backend.newton_schulz(*arguments, index, checked.stream(), checked.scratch)
    if out is not None:
        result.written()
    if residual is None or norm_bound is None:
        return result.value
    return result.value, NewtonSchulzInfo(residual.value, count, used, restarts, norm_bound.value)


def _derivative(
    x: Any, direction: Any, table: tuple[Row, ...], rule: str, bound: float, double: bool,
    adjoint: bool,
) -> Any:  # fmt: skip
    """The derivative in a direction or, `adjoint`, the gradient by `x` (CPU): for autograd."""
    checked = _arrays.matrices(x, "x")
    along = _arrays.matrices(direction, "direction")
    result = checked.empty_like(checked.shape, checked.dtype)
    wide = double or checked.dtype in ("float64", "complex128")
    rows, cols = checked.shape[-2:]
    # Near square the Gram form saves little, and rounding shows more in it than in the standard.
    method = "auto" if max(rows, cols) >= 2 * min(rows, cols) else "standard"
    plan = _plan("cpu", rows, cols, table, "float64" if wide else "float32", method)
    _cpu.newton_schulz_derivative(
        checked.capsule(), along.capsule(), result.capsule(), checked.dtype, table, rule, bound,
        *plan, wide, adjoint,
    )  # fmt: skip
    return result.value


def _checked_steps(steps: Any) -> int:
    return coefficients._steps(steps)


def _normalization(normalization: Any) -> tuple[str, float]:
    """Name of the rule ("bound" for a number) and the bound."""
    rule = coefficients._scale(normalization)
    if isinstance(normalization, str):
        return rule, 1.0
    _arrays.refuse_gradient(normalization, "normalization")
    return "bound", float(normalization)  # checked by _scale


def _table(rows: Any, steps: int, rule: str) -> tuple[Row, ...]:
    if isinstance(rows, str):
        return _preset(rows, steps, rule)
    given = coefficients._rows("coefficients", rows)
    return tuple(given[min(t, len(given) - 1)] for t in range(steps))


@lru_cache(maxsize=256)
def _preset(name: str, steps: int, rule: str) -> tuple[Row, ...]:
    known = _cpu.coefficients_names()
    if name not in known:
        raise ValueError(
            f"coefficients is {name!r}; it must be one of {', '.join(map(repr, known))} or a "
            "sequence of rows (a, b, c)"
        )
    return tuple(
        coefficients.table(
            name, steps, normalization="frobenius" if rule == "frobenius" else "schatten"
        )
    )


@lru_cache(maxsize=1024)
def _plan(
    kind: str, rows: int, cols: int, table: tuple[Row, ...], arithmetic: str, method: str
) -> tuple[str, tuple[int, ...]]:
    if kind == "cpu":
        return _cpu.newton_schulz_plan(rows, cols, table, arithmetic == "float64", method)
    plan: tuple[str, tuple[int, ...]] = _backend.for_device((kind, 0)).newton_schulz_plan(
        rows, cols, table, arithmetic, method
    )
    return plan


# What products are computed in, by dtype, when nothing else is asked for.
_HALF = ("float16", "bfloat16")
_DEFAULT_ARITHMETIC = {
    "cpu": {d: "float64" if d in ("float64", "complex128") else "float32" for d in _arrays.DTYPES},
}
_DEFAULT_ARITHMETIC["cuda"] = _DEFAULT_ARITHMETIC["cpu"] | dict.fromkeys(_HALF, "half")


def _arithmetic(compute_dtype: Any, dtype: str, kind: str) -> str:
    """What the compiled module is told: half (float16 storage, float32 sums), tf32, float32, ..."""
    if compute_dtype is None:
        return _DEFAULT_ARITHMETIC[kind][dtype]
    name = compute_dtype if isinstance(compute_dtype, str) else _dtype_name(compute_dtype)
    allowed = {"float32": "float32", "float64": "float64"}
    if kind == "cuda" and dtype not in ("float64", "complex128"):
        allowed["tf32"] = "tf32"
    if dtype.startswith("complex"):
        allowed |= {"complex64": "float32", "complex128": "float64"}
    if name not in allowed:
        where = "the CPU" if kind == "cpu" else "a GPU"
        raise ValueError(
            f"compute_dtype is {compute_dtype!r}; for {dtype} input on {where} it must be None or "
            f"one of {', '.join(allowed)}"
        )
    return allowed[name]


def _dtype_name(dtype: Any) -> str:
    """Name of a NumPy, CuPy or torch dtype, or of a NumPy scalar type."""
    name = getattr(dtype, "__name__", None) or getattr(dtype, "name", None) or str(dtype)
    return str(name).removeprefix("torch.")
