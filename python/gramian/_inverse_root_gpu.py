"""inverse_root and sqrt_psd on a GPU: the iteration by kernels, and eigenvectors in the caller's
library, in float64, for what the iteration leaves where the caller waits for the outcome.

The latter is the CPU's inverse_root_eigen.cpp with its constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays, _backend

LARGEST_ITERATED = 8  # the iteration's p
_ROUNDOFF = 2.0**-53
_STORED_ROUNDOFF = {
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float32": 2.0**-24,
    "complex64": 2.0**-24,
    "float64": _ROUNDOFF,
    "complex128": _ROUNDOFF,
}


@dataclass(frozen=True)
class Request:
    """What is to be computed: ``tol`` is 0 for None; ``root`` only for p = 2 without ridge."""

    a: _arrays.Array
    inverse: _arrays.Array
    root: _arrays.Array | None
    p: int
    ridge: float
    tol: float
    check_finite: bool
    figures: tuple[Any, Any, Any]  # residual, condition, largest: of return_info, or None
    own_out: bool  # whether a result may share memory with a


def compute(request: Request) -> tuple[Any, ...] | None:
    """Fill the results; the outcome as the CPU module has it, or None if nothing was waited for.

    Raises
    ------
    ValueError
        ``a`` holds NaN or infinity, and `check_finite` asks for it.
    """
    a = request.a
    count = math.prod(a.shape[:-2])
    wait = request.figures[0] is not None or request.tol > 0
    if request.p > LARGEST_ITERATED and 0 not in a.shape:
        return _outcome(request, 0, list(range(count)), a.value)
    given = a.value
    if wait and request.own_out and 0 not in a.shape:
        # What the iteration cannot do is begun again, when the result may lie where a lay.
        given = _copy(a)
    steps, missed = _backend.for_device(a.device).inverse_root(
        a.capsule(),
        request.root and request.root.capsule(),
        request.inverse.capsule(),
        a.dtype,
        min(request.p, LARGEST_ITERATED),
        request.ridge,
        request.tol,
        request.check_finite,
        wait,
        *(f and f.capsule() for f in request.figures),
        a.device[1],
        a.stream(),
        a.scratch,
    )
    return _outcome(request, steps, missed, given) if wait else None


def _outcome(request: Request, steps: int, missed: list[int], given: Any) -> tuple[Any, ...]:
    a = request.a
    count = math.prod(a.shape[:-2])
    widened = 0 if a.dtype in ("float64", "complex128") else count
    if not missed:
        return steps, count, widened, 0, 0, "", 0.0, 0.0
    with a.library.current(a.device):
        found = _Eigenvectors(request, missed, given)
        found.write(request, missed)
    failed = [i for i, why in enumerate(found.failures) if why]
    first = failed[0] if failed else 0
    return (
        steps,
        count - len(missed),
        widened,
        len(failed),
        missed[first] if failed else 0,
        found.failures[first],
        float(found.eigenvalue[first]),
        float(found.residual[failed].max()) if failed else 0.0,
    )


def _copy(a: _arrays.Array) -> Any:
    with a.library.current(a.device):
        copy = a.library.empty(a.shape, a.dtype, a.device)
        copy[...] = a.value
    return copy


def _adjoint(x: Any) -> Any:
    return x.conj().swapaxes(-1, -2)


class _Eigenvectors:
    """Roots of the matrices `which` of the batch, by eigh in float64."""

    def __init__(self, request: Request, which: list[int], given: Any) -> None:
        a = request.a
        self.xp = a.module
        self.put = a.put
        self.host = a.library.to_host
        n = a.shape[-1]
        self.n = n
        self.diagonal = a.put(np.arange(n))
        wide = "complex128" if a.dtype.startswith("complex") else "float64"
        flat = given.reshape((-1, n, n))
        matrices = a.library.empty((len(which), n, n), wide, a.device)
        matrices[...] = flat if len(which) == flat.shape[0] else flat[a.put(np.asarray(which))]
        top = self.host(self.xp.amax(self.xp.abs(matrices), (-2, -1)))
        self.lost = ~np.isfinite(top)
        if request.check_finite and self.lost.any():
            raise ValueError("a contains NaN or infinity")
        exponent = np.frexp(np.where(self.lost, 1.0, top))[1].astype(np.int64)
        matrices = self._hermitian(matrices)
        matrices = self._scaled(matrices, np.ones(len(which)), -exponent)
        for i in np.flatnonzero(self.lost):
            matrices[int(i)] = 0
        self._solve(request, matrices, exponent)

    def _solve(self, request: Request, matrices: Any, exponent: np.ndarray) -> None:
        a, p, n = request.a, request.p, self.n
        values, vectors = self.xp.linalg.eigh(matrices)
        values = np.asarray(self.host(values), np.float64)
        largest = values[:, -1]
        magnitude = np.maximum(np.abs(largest), np.abs(values[:, 0]))
        shift = request.ridge * np.maximum(largest, 0.0)
        cutoff = n * _ROUNDOFF * (magnitude + shift)
        self.eigenvalue = values[:, 0] / np.where(magnitude > 0, magnitude, 1.0)
        # What rounding of the input may have put below zero counts as zero; the ridge may lift the
        # rest.
        below = values[:, 0] < -n * _STORED_ROUNDOFF[a.dtype] * magnitude
        kept = np.where(below[:, None], values, np.maximum(values, 0.0))
        lifted = kept + shift[:, None]
        good = lifted[:, 0] > cutoff
        negative, singular = below & ~good, ~below & ~good
        self.condition = np.full(len(values), np.inf)
        self.condition[good] = lifted[good, -1] / lifted[good, 0]
        self.largest = np.ldexp(largest, exponent)

        inverse = self._function(vectors, lifted, -1 / p, cutoff[:, None])
        power, rest = np.divmod(exponent, p)
        self.inverse = self._scaled(inverse, np.exp2(-rest / p), -power)
        self.root = None
        if request.root is not None:
            root = self._function(vectors, lifted, 0.5, 0.0)
            self.root = self._scaled(root, np.exp2(rest / 2), power)
        matrices[:, self.diagonal, self.diagonal] += self.put(shift[:, None])
        self.residual = self._residual(matrices, inverse, p)
        missed = (request.tol > 0) & ~(self.residual <= request.tol)
        why = np.select(
            [self.lost, negative, singular, missed], ["", "negative", "singular", "tolerance"], ""
        )
        self.failures = [str(w) for w in why]
        for figure in (self.residual, self.condition, self.largest):
            figure[self.lost] = np.nan
        for i in np.flatnonzero(self.lost):
            for x in (self.inverse, self.root):
                if x is not None:
                    x[int(i)] = math.nan

    def _function(self, vectors: Any, values: np.ndarray, power: float, zero: Any) -> Any:
        """V f(w) V^H for f(w) = w^power, zero where w <= zero; half the power from either side."""
        kept = values > zero
        weights = np.where(kept, np.where(kept, values, 1.0) ** (power / 2), 0.0)
        scaled = vectors * self.put(weights[:, None, :])
        return self._hermitian(scaled @ _adjoint(scaled))

    def _hermitian(self, x: Any) -> Any:
        """The lower triangle and its mirror image, the diagonal real."""
        below = self.xp.tril(x, -1)
        whole = below + _adjoint(below)
        whole[:, self.diagonal, self.diagonal] += x[:, self.diagonal, self.diagonal].real
        return whole

    def _scaled(self, x: Any, factor: np.ndarray, exponent: np.ndarray) -> Any:
        """x factor 2^exponent, the powers in two factors: one may be out of double's range."""
        half = exponent // 2
        first = factor * np.ldexp(1.0, half)
        second = np.ldexp(1.0, exponent - half)
        return x * self.put(first[:, None, None]) * self.put(second[:, None, None])

    def _residual(self, b: Any, x: Any, p: int) -> np.ndarray:
        """||I - B X^p||_F / sqrt(n)."""
        power = x
        while p > 0:
            if p & 1:
                b = b @ power
            p >>= 1
            if p:
                power = power @ power
        b[:, self.diagonal, self.diagonal] -= 1
        squares = (self.xp.abs(b) ** 2).sum((-2, -1))
        return np.sqrt(np.asarray(self.host(squares), np.float64) / self.n)

    def write(self, request: Request, which: list[int]) -> None:
        shape = request.a.shape
        batch = shape[:-2]
        targets = [(request.inverse, self.inverse)]
        if request.root is not None:
            targets.append((request.root, self.root))
        for figure, values in zip(
            request.figures, (self.residual, self.condition, self.largest), strict=True
        ):
            if figure is not None:
                targets.append((figure, self.put(values)))
        whole = len(which) == math.prod(batch)
        for array, values in targets:
            if whole:
                array.value[...] = values.reshape(array.shape)
                continue
            for i, b in enumerate(which):
                place = tuple(int(k) for k in np.unravel_index(b, batch))
                array.value[place] = values[i]
