"""What a randomized SVD multiplies where there is no dense array: row blocks, sparse, operators.

Each kind gives products with some rows of a matrix; `_rsvd_reads.py` puts them together to reads.
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from . import _arrays

ACCEPTED = (
    "an array, a scipy sparse matrix or array, a scipy LinearOperator (or an object with shape, "
    "dtype, matvec and rmatvec), or an iterable of row blocks, each of them an array"
)
_OPERATORS = ("float32", "float64", "complex64", "complex128")

# Rows are multiplied by Z and then, from cache, by Y: so many bytes of them. Less would leave the
# products too small for NumPy's calls, 20 us each, to be cheap.
_TILE_BYTES = 2**21

# Entries that are converted to double precision at a time.
_CHUNK = 2**17

Figures = tuple[float, int]


class Rows(Protocol):
    """Some rows of a matrix, in the precision that is computed in."""

    shape: tuple[int, int]

    def times(self, z: Any) -> Any:
        """A z."""

    def adjoint_times(self, y: Any) -> Any:
        """A^H y."""

    def times_and_sums(self, z: Any) -> tuple[Any, Any]:
        """A z and the sums of the rows, double."""

    def column_sums(self) -> Any:
        """Double."""

    def gram(self, exponent: int) -> Any:
        """A^H A of 2^-exponent A, double."""

    def squares(self) -> Figures | None:
        """Sum of squares s and exponent e: s 2^(2 e). NaN if not finite, None if unknown."""

    def less(self, means: Any) -> Rows | None:
        """The rows less a row of means, where that costs no more than the rows themselves."""


# ---- Precision ----------------------------------------------------------------------------------


def compute_dtype(dtype: str, *, double: bool) -> np.dtype[Any]:
    """What entries of a dtype are computed in."""
    if dtype.startswith("complex"):
        return np.dtype("complex128" if double else dtype)
    return np.dtype("float64" if double or dtype == "float64" else "float32")


def wide_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Double precision, of the same kind."""
    return np.dtype("complex128" if dtype.kind == "c" else "float64")


def scaled(x: Any, exponent: int) -> Any:
    """x 2^exponent; exact unless the result overflows or underflows."""
    if exponent == 0:
        return x
    half = exponent // 2
    real = x.real.dtype.type
    return x * real(math.ldexp(1, half)) * real(math.ldexp(1, exponent - half))


def _as_reals(x: Any) -> Any:
    """Real and imaginary parts side by side in the last axis."""
    if x.dtype.kind != "c":
        return x
    return np.ascontiguousarray(x).view(x.real.dtype)


def _squares_of_chunk(x: Any, exponent: int) -> float:
    wide = scaled(_as_reals(x).astype(np.float64, copy=False), -exponent)
    return float(np.vecdot(wide, wide).sum())


def _added(values: Iterable[float]) -> float:
    """With one rounding: a certificate counts those of each sum (docs/rsvd_operators.md)."""
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf


def sum_of_squares(x: Any) -> Figures:
    """In double precision, of a two-dimensional array of any magnitude."""
    step = max(1, _CHUNK // max(1, x.shape[1]))
    chunks = [x[i : i + step] for i in range(0, x.shape[0], step)]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        total = _added(_squares_of_chunk(chunk, 0) for chunk in chunks)
        if math.isfinite(total) and total > 1e-250:
            return total, 0
        top = max((float(np.abs(_as_reals(chunk)).max(initial=0)) for chunk in chunks), default=0.0)
        if not math.isfinite(top):
            return math.nan, 0
        exponent = math.frexp(top)[1]
        return _added(_squares_of_chunk(chunk, exponent) for chunk in chunks), exponent


# ---- Kinds --------------------------------------------------------------------------------------


class DenseRows:
    """Rows in memory, as few as stay in cache."""

    def __init__(self, entries: Any) -> None:
        self._entries = entries
        self.shape: tuple[int, int] = entries.shape

    def times(self, z: Any) -> Any:
        return self._entries @ z

    def adjoint_times(self, y: Any) -> Any:
        # As a product with the plain transpose, which BLAS takes as it lies.
        if self._entries.dtype.kind == "c":
            return (self._entries.T @ y.conj()).conj()
        return self._entries.T @ y

    def times_and_sums(self, z: Any) -> tuple[Any, Any]:
        return self.times(z), self._entries.sum(axis=1, dtype=wide_dtype(self._entries.dtype))

    def column_sums(self) -> Any:
        return self._entries.sum(axis=0, dtype=wide_dtype(self._entries.dtype))

    def gram(self, exponent: int) -> Any:
        wide = scaled(self._entries.astype(wide_dtype(self._entries.dtype), copy=False), -exponent)
        return wide.conj().T @ wide

    def squares(self) -> Figures | None:
        return sum_of_squares(self._entries)

    def less(self, means: Any) -> Rows:
        return DenseRows((self._entries - means).astype(self._entries.dtype))


class SparseRows:
    """A matrix in CSR format, each entry stored once."""

    def __init__(self, matrix: Any) -> None:
        self._matrix = matrix
        self.shape: tuple[int, int] = matrix.shape
        self.stored = int(matrix.nnz)

    def times(self, z: Any) -> Any:
        return self._matrix @ z

    def adjoint_times(self, y: Any) -> Any:
        if self._matrix.dtype.kind == "c":
            return (self._matrix.T @ y.conj()).conj()
        return self._matrix.T @ y

    def _sums(self, matrix: Any) -> Any:
        # scipy's own sums would be taken in single precision.
        wide = wide_dtype(matrix.dtype)
        return matrix.astype(wide) @ np.ones(matrix.shape[1], wide)

    def times_and_sums(self, z: Any) -> tuple[Any, Any]:
        return self.times(z), self._sums(self._matrix)

    def column_sums(self) -> Any:
        return self._sums(self._matrix.T)

    def gram(self, exponent: int) -> Any:
        wide = self._matrix.astype(wide_dtype(self._matrix.dtype))
        wide.data = scaled(wide.data, -exponent)
        return (wide.conj().T @ wide).toarray()

    def squares(self) -> Figures | None:
        data = self._matrix.data
        whole = data.size // 128 * 128
        figures = [
            sum_of_squares(data[:whole].reshape(-1, 128)),
            sum_of_squares(data[whole:][None]),
        ]
        exponent = max((e for s, e in figures if s != 0), default=0)
        return _added(math.ldexp(s, 2 * (e - exponent)) for s, e in figures), exponent

    def less(self, means: Any) -> None:
        return None


class OperatorRows:
    """All rows of an operator, or of its adjoint, of which only products are known."""

    _needed = "both A v (matvec) and A^H u (rmatvec) are"

    def __init__(self, op: Any, dtype: np.dtype[Any], *, adjoint: bool) -> None:
        self._op = op
        self._dtype = dtype
        self._adjoint = adjoint
        m, n = op.shape
        self.shape: tuple[int, int] = (n, m) if adjoint else (m, n)

    def _product(self, x: Any, *, adjoint: bool) -> Any:
        many, one = ("rmatmat", "rmatvec") if adjoint else ("matmat", "matvec")
        size = self._op.shape[1] if adjoint else self._op.shape[0]
        call = getattr(self._op, many, None)
        try:
            if callable(call):
                result = np.asarray(call(x))
            else:
                vectors = [np.asarray(getattr(self._op, one)(v)).reshape(-1) for v in x.T]
                result = np.stack(vectors, axis=1)
        except (NotImplementedError, TypeError) as error:
            if isinstance(error, TypeError) and self._has(one, x.shape[0]):
                raise
            raise TypeError(f"a has no {one}; {self._needed} needed") from error
        if result.shape != (size, x.shape[1]):
            raise ValueError(
                f"a.{many} returned shape {result.shape} for {x.shape}; it must be "
                f"{(size, x.shape[1])}, as a has shape {self._op.shape}"
            )
        kinds = "fciu" if self._dtype.kind == "c" else "fiu"
        if result.dtype.kind not in kinds:
            raise TypeError(f"a.{many} returned {result.dtype}; a has dtype {self._dtype}")
        return result.astype(self._dtype, copy=False)

    def _has(self, name: str, size: int) -> bool:
        """Whether a product that failed exists; scipy calls a missing rmatmat as if it did."""
        try:
            getattr(self._op, name)(np.zeros(size, self._dtype))
        except NotImplementedError:
            return False
        except TypeError:
            pass
        return True

    def times(self, z: Any) -> Any:
        return self._product(z, adjoint=self._adjoint)

    def adjoint_times(self, y: Any) -> Any:
        return self._product(y, adjoint=not self._adjoint)

    def times_and_sums(self, z: Any) -> tuple[Any, Any]:
        y = self.times(np.c_[z, np.ones((z.shape[0], 1), z.dtype)])
        return y[:, :-1], y[:, -1].astype(wide_dtype(self._dtype))

    def column_sums(self) -> Any:
        ones = np.ones((self.shape[0], 1), self._dtype)
        return self.adjoint_times(ones)[:, 0].conj().astype(wide_dtype(self._dtype))

    def gram(self, exponent: int) -> Any:
        raise AssertionError("an operator has no entries")

    def squares(self) -> None:
        return None

    def less(self, means: Any) -> None:
        return None


# ---- Arguments ----------------------------------------------------------------------------------


def is_sparse(a: Any) -> bool:
    # Such a matrix can only exist once its package is loaded.
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(a))


def is_operator(a: Any) -> bool:
    return all(hasattr(a, name) for name in ("matvec", "rmatvec", "shape", "dtype"))


def is_iterable(a: Any) -> bool:
    """Whether `a` may be an iterable of row blocks: no array, not made of characters or keys."""
    arrays = hasattr(a, "__dlpack__") or hasattr(a, "__array__") or hasattr(a, "ndim")
    return hasattr(type(a), "__iter__") and not (
        arrays or isinstance(a, str | bytes | bytearray | memoryview | dict)
    )


def _widened(bits: Any) -> Any:
    """float32 of the bits of bfloat16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def entries(checked: _arrays.Array) -> Any:
    """Of an array on the CPU, as NumPy's; bfloat16 as float32."""
    values = checked.library.to_numpy(checked.value)
    return _widened(values) if checked.dtype == "bfloat16" else values


def check_sparse(a: Any, name: str) -> None:
    if a.ndim != 2:
        raise ValueError(f"{name} has shape {a.shape}; it must have 2 dimensions (m, n)")
    if a.dtype.name not in _OPERATORS:
        raise TypeError(f"{name} has dtype {a.dtype}; it must be one of {', '.join(_OPERATORS)}")


def sparse_rows(a: Any, *, double: bool, adjoint: bool) -> SparseRows:
    """A sparse matrix, or its adjoint. CSR, or CSC of the adjoint, without a copy."""
    matrix = (a.T if adjoint else a).tocsr()
    # Products add up what is stored twice, sums of squares do not.
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    matrix = matrix.astype(compute_dtype(a.dtype.name, double=double), copy=False)
    return SparseRows(matrix.conj() if adjoint and matrix.dtype.kind == "c" else matrix)


def check_operator(a: Any, name: str) -> None:
    shape = a.shape
    if len(shape) != 2 or not all(hasattr(s, "__index__") and s >= 0 for s in shape):
        raise ValueError(
            f"{name} has shape {shape!r}; it must be two sizes (m, n), each at least 0"
        )
    try:
        # NumPy takes None for float64.
        dtype = "None" if a.dtype is None else np.dtype(a.dtype).name
    except TypeError:
        dtype = str(a.dtype)
    if dtype not in _OPERATORS:
        raise TypeError(f"{name} has dtype {dtype}; it must be one of {', '.join(_OPERATORS)}")


class Block:
    """A checked row block: what it is made of, and its rows in pieces that fit in cache."""

    def __init__(self, value: Any, name: str) -> None:
        self.name = name
        self._sparse = is_sparse(value)
        self.library: _arrays.Library = _arrays.LIBRARIES[0]
        self.device = _arrays.CPU
        self.kind = "scipy.sparse"
        if self._sparse:
            check_sparse(value, name)
            self._value = value
            self.dtype, self.shape = value.dtype.name, tuple(value.shape)
            return
        checked = _arrays.array(value, name)
        if len(checked.shape) != 2:
            raise ValueError(
                f"{name} has shape {checked.shape}; it must have 2 dimensions (rows, n)"
            )
        self.library, self.dtype, self.shape = checked.library, checked.dtype, checked.shape
        self.kind, self.device = checked.library.name, checked.device
        # On a GPU it stays what it is: `_rsvd_gpu_rows.py` multiplies it.
        self.array = checked
        if self.is_on_host:
            self._value = checked.library.to_numpy(checked.value)

    @property
    def is_on_host(self) -> bool:
        return self.device == _arrays.CPU

    def fingerprint(self) -> int:
        """Tells blocks apart, by their first row; on a GPU nothing, so as not to wait."""
        if not self.is_on_host:
            return 0
        if self._sparse:
            return int(self._value.nnz)
        return zlib.crc32(np.ascontiguousarray(self._value[:1]).tobytes())

    def pieces(self, width: int, *, double: bool) -> Iterator[Any]:
        """For products with `width` vectors, computed in float64 if `double`."""
        if not self.is_on_host:
            yield self.array
            return
        if self._sparse:
            yield sparse_rows(self._value, double=double, adjoint=False)
            return
        dtype = compute_dtype(self.dtype, double=double)
        rows, columns = self.shape
        fitting = _TILE_BYTES // max(1, columns * dtype.itemsize)
        # Fewer rows than vectors would make the sum of all W dearer than the products.
        step = max(fitting, 2 * width, 16)
        for i in range(0, rows, step):
            piece = self._value[i : i + step]
            if self.dtype == "bfloat16":
                piece = _widened(piece)
            yield DenseRows(piece.astype(dtype, copy=False))
