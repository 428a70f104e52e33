"""Calls of the compiled code for bounds: where figures are put, and what a GPU asks for besides."""

from __future__ import annotations

from typing import Any

from . import _arrays, _backend


class Result:
    """One figure for each matrix, in `out` or a new array, filled within the ``with``.

    GPU code writes arrays without gaps; another `out` gets its figures afterwards.
    """

    def __init__(self, out: Any, of: _arrays.Array) -> None:
        self._out = None if out is None else _arrays.figures(out, of)
        direct = self._out is not None and of.device[0] == "cpu"
        self._filled = self._out if direct else _arrays.figures(None, of)
        assert self._filled is not None
        self.dtype = self._filled.dtype
        self.capsule = self._filled.capsule
        self.value = self._filled.value

    def __enter__(self) -> Result:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._out is None or kind is not None:
            return
        if self._out is not self._filled:
            self._out.value[...] = self.value
        self.value = self._out.value
        self._out.written()


def queue(of: _arrays.Array) -> tuple[Any, ...]:
    """Where a CUDA call goes; nothing for the CPU."""
    return () if of.device[0] == "cpu" else (of.device[1], of.stream(), of.scratch)


def bracket(
    checked: _arrays.Array, rtol: float, method: str, seed: int, checks: bool, **figures: Any
) -> tuple[int, str]:
    """Fill the arrays of figures given; how many iterations, and by which method."""
    arrays = {name: array.capsule() for name, array in figures.items()}
    backend = _backend.for_device(checked.device)
    found: tuple[int, str]
    if checked.device[0] == "cpu":
        found = backend.spectral_norm_bounds(
            checked.capsule(), checked.dtype, rtol, method, seed, checks, **arrays
        )
        return found
    if method == "eigh":
        raise NotImplementedError("method is 'eigh'; a GPU has 'auto', 'gram' and 'cholesky'")
    names = ("lower", "upper", "converged", "estimate", "stable_rank")
    found = backend.spectral_norm_bounds(
        checked.capsule(),
        checked.dtype,
        rtol,
        method,
        seed,
        checks,
        *(arrays.get(name) for name in names),
        *queue(checked),
    )
    return found
