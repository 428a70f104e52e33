"""Drop-in replacements: functions of other libraries, with their signatures, by gramian.

Change the import and nothing else; docs/compat.md says what differs. None of these libraries is
imported here, and nobody's global random generator is read.

>>> import numpy as np
>>> from gramian.compat import randomized_svd
>>> a = np.outer(np.arange(1.0, 5.0), np.arange(1.0, 4.0))
>>> U, s, Vh = randomized_svd(a, n_components=1, random_state=0)
>>> bool(np.allclose(U * s @ Vh, a))
True
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arrays, _rsvd_rows
from ._compat_arguments import matrix_of, named, scipy_of, seed_of_state, warn_of_format
from ._newton_schulz import newton_schulz
from ._options import check_choice
from ._polar import polar as _polar
from ._rsvd import range_finder, rsvd
from ._rsvd_arguments import count
from ._rsvd_operator import fix_signs
from ._rsvd_thin import orthonormalize

__all__ = [
    "polar",
    "randomized_range_finder",
    "randomized_svd",
    "svd_lowrank",
    "zeropower_via_newtonschulz5",
]

_NORMALIZERS = ("auto", "QR", "LU", "none")


def randomized_svd(
    M: Any,
    n_components: int,
    *,
    n_oversamples: int = 10,
    n_iter: int | str = "auto",
    power_iteration_normalizer: str = "auto",
    transpose: bool | str = "auto",
    flip_sign: bool = True,
    random_state: Any = None,
    svd_lapack_driver: str = "gesdd",
) -> tuple[Any, Any, Any]:
    """``sklearn.utils.extmath.randomized_svd`` by :func:`gramian.rsvd`.

    Parameters
    ----------
    M : array-like or sparse matrix of shape (m, n)
        What :func:`gramian.rsvd` takes as one matrix, or what NumPy makes an array of. Integers
        become float64.
    n_components : int
        Number of singular values; at most min(m, n) are returned.
    n_oversamples : int, default 10
        Vectors in the sketch beyond `n_components`.
    n_iter : int or "auto", default "auto"
        Powers of :math:`A^H A`, each of them one read here. ``"auto"``: until the Ritz values
        stagnate, by whichever method is fastest.
    power_iteration_normalizer : {"auto", "QR", "LU", "none"}, default "auto"
        ``"none"``: powers without normalization in between, which lose all but the largest
        singular values for many powers, and are not faster here. The others are one: orthonormal
        vectors at each read.
    transpose : bool or "auto", default "auto"
        Ignored: a wide matrix is always read as its transpose, without a copy.
    flip_sign : bool, default True
        Ignored: the largest entry of each column of U is always positive.
    random_state : None, int, numpy.random.RandomState or numpy.random.Generator, default None
        Seed of the sketch. None: always the same sketch; the global generator is not read.
    svd_lapack_driver : {"gesdd", "gesvd"}, default "gesdd"
        Ignored.

    Returns
    -------
    u : array of shape (m, k)
    s : array of shape (k,)
        Descending.
    vh : array of shape (k, n)

    Raises
    ------
    TypeError
        `M` is of no accepted dtype, or an argument is not of its type.
    ValueError
        An argument is out of range, or `M` is not two-dimensional or holds NaN or infinity.

    References
    ----------
    Halko, Martinsson, Tropp, "Finding Structure with Randomness", SIAM Review 53, 2011.

    Examples
    --------
    >>> from gramian.compat import randomized_svd
    >>> U, s, Vh = randomized_svd([[2, 0], [0, 1]], 2, random_state=0)
    >>> s
    array([2., 1.])
    """
    warn_of_format(M)
    a = matrix_of(M, "M")
    k = count(n_components, "n_components", 1)
    more = count(n_oversamples, "n_oversamples", 0)
    powers = None if n_iter == "auto" else count(n_iter, "n_iter", 0)
    check_choice(power_iteration_normalizer, "power_iteration_normalizer", _NORMALIZERS)
    check_choice(svd_lapack_driver, "svd_lapack_driver", ("gesdd", "gesvd"))
    if not isinstance(transpose, bool | np.bool_) and transpose != "auto":
        raise ValueError(f"transpose is {transpose!r}; it must be True, False or 'auto'")
    side = min(a.shape)
    rank = min(k, side)
    if power_iteration_normalizer == "none":
        # As many as scikit-learn takes.
        powers = (7 if k < 0.1 * side else 4) if powers is None else powers
        return _without_normalization(a, rank, min(side, k + more), powers, random_state)
    seed = seed_of_state(random_state)
    with named("M"):
        if powers is None:
            found = rsvd(a, rank, oversample=more, rng=seed)
        else:
            method = _method(powers)
            found = rsvd(a, rank, oversample=more, passes=powers + 1, method=method, rng=seed)
    if not found.S.any():
        # Of zero any orthonormal factors are right; these are LAPACK's.
        for x in (found.U, found.Vh):
            x[:] = 0
            x[range(rank), range(rank)] = 1
    return found.U, found.S, found.Vh


def randomized_range_finder(
    A: Any,
    *,
    size: int,
    n_iter: int,
    power_iteration_normalizer: str = "auto",
    random_state: Any = None,
) -> Any:
    """``sklearn.utils.extmath.randomized_range_finder`` by :func:`gramian.range_finder`.

    Parameters
    ----------
    A : array-like or sparse matrix of shape (m, n)
        As `M` of :func:`randomized_svd`.
    size : int
        Number of columns; at most min(m, n) are returned, which span the range of `A`.
    n_iter : int
        Powers of :math:`A^H A`, each of them one read here.
    power_iteration_normalizer : {"auto", "QR", "LU", "none"}, default "auto"
        Ignored: vectors are made orthonormal at each read.
    random_state : None, int, numpy.random.RandomState or numpy.random.Generator, default None
        As for :func:`randomized_svd`.

    Returns
    -------
    Q : array of shape (m, size)
        With orthonormal columns.

    Raises
    ------
    TypeError
        `A` is of no accepted dtype, or an argument is not of its type.
    ValueError
        An argument is out of range, or `A` is not two-dimensional or holds NaN or infinity.

    References
    ----------
    Halko, Martinsson, Tropp, "Finding Structure with Randomness", SIAM Review 53, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian.compat import randomized_range_finder
    >>> a = np.arange(1, 10).reshape(3, 3)  # of rank 2
    >>> q = randomized_range_finder(a, size=2, n_iter=2, random_state=0)
    >>> bool(np.allclose(q @ (q.T @ a), a))
    True
    """
    a = matrix_of(A, "A")
    columns = min(count(size, "size", 1), *a.shape)
    powers = count(n_iter, "n_iter", 0)
    check_choice(power_iteration_normalizer, "power_iteration_normalizer", _NORMALIZERS)
    seed = seed_of_state(random_state)
    with named("A"):
        return range_finder(a, columns, passes=powers + 1, rng=seed)


def svd_lowrank(
    A: Any, q: int | None = 6, niter: int | None = 2, M: Any = None
) -> tuple[Any, Any, Any]:
    """``torch.svd_lowrank`` by :func:`gramian.rsvd`.

    Parameters
    ----------
    A : tensor of shape (..., m, n)
        A CPU tensor of torch, dense, or sparse with two dimensions (scipy is needed then); or what
        else :func:`gramian.rsvd` takes. Integer tensors become float32.
    q : int, default 6
        Number of singular values, from 0 to min(m, n).
    niter : int, default 2
        Powers of :math:`A^H A`, each of them one read here.
    M : tensor of shape (..., m, n), optional
        Subtracted from `A`, after broadcasting. The difference is formed.

    Returns
    -------
    U : tensor of shape (..., m, q)
    S : tensor of shape (..., q)
        Descending.
    V : tensor of shape (..., n, q)
        ``A - M`` is approximately ``U @ diag(S) @ V.mH``. The largest entry of each column of U is
        real and positive.

    Raises
    ------
    TypeError
        `A` is no accepted array, `A` or `M` requires grad, or an argument is not of its type.
    ValueError
        `q` or `niter` is out of range, or `A` holds NaN or infinity.
    NotImplementedError
        `A` lies on a GPU.

    Notes
    -----
    Always the same sketch: torch's generator is not read.

    References
    ----------
    Halko, Martinsson, Tropp, "Finding Structure with Randomness", SIAM Review 53, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian.compat import svd_lowrank
    >>> a = np.outer(np.arange(1.0, 5.0), np.arange(1.0, 4.0))
    >>> U, S, V = svd_lowrank(a, q=1)
    >>> bool(np.allclose(U * S @ V.T, a))
    True
    """
    size = 6 if q is None else count(q, "q", 0)
    powers = 2 if niter is None else count(niter, "niter", 0)
    layout = str(getattr(A, "layout", "torch.strided"))
    if layout != "torch.strided" and M is not None:
        A, layout = A.to_dense(), "torch.strided"
    if hasattr(A, "is_floating_point") and not (A.is_floating_point() or A.is_complex()):
        A = A.float()
    if layout == "torch.strided":
        _arrays.matrices(A, "A")
    if M is not None:
        _arrays.refuse_gradient(M, "M")
        if hasattr(M, "layout") != hasattr(A, "layout"):
            kinds = f"M is a {type(M).__name__}, A is a {type(A).__name__}"
            raise TypeError(f"{kinds}; they must be of one library")
        A = A - M
    if len(A.shape) >= 2 and size > min(A.shape[-2:]):
        raise ValueError(f"q is {size}; it must be from 0 to min(m, n) = {min(A.shape[-2:])}")
    if len(A.shape) >= 2 and 0 in A.shape[-2:]:  # q is 0: nothing to compute
        none = _arrays.matrices(A if layout == "torch.strided" else A.to_dense(), "A")
        *batch, m, n = none.shape
        u, v = (none.empty_like((*batch, side, 0), none.dtype).value for side in (m, n))
        return u, none.empty_like((*batch, 0), _arrays.real_dtype(none.dtype)).value, v
    if layout != "torch.strided":
        matrix, values = scipy_of(A)
    else:
        matrix, values = A, None
    method = _method(powers)
    with named("A" if M is None else "A - M"):
        found = rsvd(matrix, max(size, 1), oversample=0, passes=powers + 1, method=method, rng=0)
    u, s, v = found.U, found.S, found.Vh.conj().swapaxes(-1, -2)
    if values is not None:
        u, s, v = (values.new_tensor(x) for x in (u, s, v))
    return (u, s, v) if size else (u[..., :0], s[..., :0], v[..., :0])


def zeropower_via_newtonschulz5(G: Any, steps: int) -> Any:
    """Muon's orthogonalization (Jordan 2024) by :func:`gramian.newton_schulz`.

    Parameters
    ----------
    G : torch.Tensor of shape (..., m, n)
        On the CPU or a CUDA device; of any real dtype. Its gradient is that of
        :func:`gramian.torch.newton_schulz`.
    steps : int
        Number of steps with Muon's coefficients.

    Returns
    -------
    torch.Tensor of shape (..., m, n)
        bfloat16. Singular values within about 0.68 to 1.14, but for those that were very small.

    Raises
    ------
    TypeError
        `G` is no torch tensor; `steps` is no int.
    ValueError
        `steps` is not positive, or `G` has fewer than 2 dimensions.

    References
    ----------
    Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein, "Muon: An optimizer for hidden layers in
    neural networks", 2024.

    Examples
    --------
    >>> import torch  # doctest: +SKIP
    >>> from gramian.compat import zeropower_via_newtonschulz5
    >>> zeropower_via_newtonschulz5(torch.randn(64, 128), steps=5).dtype  # doctest: +SKIP
    torch.bfloat16
    """
    if not hasattr(G, "bfloat16"):
        raise TypeError(
            f"G is a {type(G).__name__}; it must be a torch tensor (gramian.newton_schulz takes "
            "arrays of other libraries)"
        )
    return newton_schulz(
        G.bfloat16(), steps, coefficients="muon", normalization="frobenius", check_finite=False
    )


def polar(a: Any, side: str = "right") -> tuple[np.ndarray, np.ndarray]:
    """``scipy.linalg.polar`` by :func:`gramian.polar`.

    Parameters
    ----------
    a : array-like of shape (m, n)
        What NumPy makes an array of. Integers become float64, half precision float32.
    side : {"right", "left"}, default "right"
        ``a = u @ p`` or ``a = p @ u``.

    Returns
    -------
    u : ndarray of shape (m, n)
        With orthonormal columns if m >= n, else rows, also where `a` has not full rank: then it is
        completed by singular vectors, where :func:`gramian.polar` gives the partial isometry.
    p : ndarray of shape (n, n), or (m, m) on the left
        Hermitian, positive semidefinite up to rounding.

    Raises
    ------
    TypeError
        `a` is no array of numbers.
    ValueError
        `side` is neither; `a` is not two-dimensional or holds NaN or infinity.

    References
    ----------
    Higham, "Functions of Matrices", SIAM, 2008, chapter 8.

    Examples
    --------
    >>> from gramian.compat import polar
    >>> u, p = polar([[0, -2], [2, 0]])
    >>> p
    array([[2., 0.],
           [0., 2.]])
    """
    if side not in ("right", "left"):
        raise ValueError(f"`side` must be either 'right' or 'left', not {side!r}")
    matrix = np.asarray(a)
    if matrix.ndim != 2:
        raise ValueError(f"`a` must be a 2-D array; it has {matrix.ndim} dimensions")
    if matrix.dtype.kind in "biu":
        matrix = matrix.astype(np.float64)
    elif matrix.dtype.kind not in "fc":
        raise TypeError(f"`a` has dtype {matrix.dtype}; it must hold numbers")
    elif matrix.dtype.name not in ("float32", "float64", "complex64", "complex128"):
        wide = np.float32 if matrix.dtype.itemsize < 4 else np.float64
        matrix = matrix.astype(np.complex128 if matrix.dtype.kind == "c" else wide)
    elif not matrix.dtype.isnative:
        matrix = matrix.astype(matrix.dtype.newbyteorder("="))
    with named("`a`"):
        u, p, info = _polar(matrix, side=side, return_info=True)
    if info.rank < min(matrix.shape):
        left, _, right = np.linalg.svd(matrix, full_matrices=False)
        u = left @ right
    return u, p


def _method(powers: int) -> str:
    """The same reads give more where earlier blocks are kept, at a price in memory."""
    return "krylov" if powers <= 7 else "subspace"


def _without_normalization(
    a: Any, rank: int, size: int, powers: int, random_state: Any
) -> tuple[Any, Any, Any]:
    """U, S, Vh from Q = orth(A (A^H A)^powers Z) and Q^H A: for the sake of the option alone."""
    if _rsvd_rows.is_sparse(a):
        checked, matrix = None, a
    else:
        checked = _arrays.matrices(a, "M")
        matrix = _rsvd_rows.entries(checked)
        matrix = matrix.astype(_rsvd_rows.compute_dtype(checked.dtype, double=False), copy=False)
    wide = matrix.shape[0] < matrix.shape[1]
    tall = matrix.conj().T if wide else matrix
    adjoint = tall.conj().T
    # Whether many powers still do is chance; so it is the same chance as there.
    if not isinstance(random_state, np.random.RandomState):
        random_state = np.random.RandomState(seed_of_state(random_state) % 2**32)
    z = random_state.normal(size=(tall.shape[1], size)).astype(matrix.dtype)
    for _ in range(powers):
        z = adjoint @ (tall @ z)
        # All columns alike, against overflow.
        z = z / max(np.abs(z).max(initial=0), np.finfo(z.dtype).tiny)
    y = tall @ z
    if not np.isfinite(y).all():
        raise ValueError("M contains NaN or infinity, or its norm overflows")
    q, _, _ = orthonormalize(y)
    left, s, vh = np.linalg.svd((adjoint @ q).conj().T, full_matrices=False)
    u, v = q @ left[:, :rank], vh[:rank].conj().T
    if wide:
        u, v = v, u
    u, v = fix_signs(u, v, matrix.dtype.name)
    s, vh = s[:rank], v.conj().T
    if checked is None:
        return u, s, vh
    to = checked.library.from_numpy
    return to(u, checked.dtype), to(s, _arrays.real_dtype(checked.dtype)), to(vh, checked.dtype)
