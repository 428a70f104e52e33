"""``python -m gramian demo``: newton_schulz on matrices from files, next to an SVD."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from ._matrix_files import FileError, Matrix, read_matrices
from ._newton_schulz import newton_schulz
from ._threads import get_num_threads

BUNDLED = "minilm-weights.npz"
_ROUNDS = 9  # at most; fewer where the time given runs out first
_PAUSE = 0.05  # seconds; NumPy's BLAS threads spin that long after a call and would slow ours


@dataclass(frozen=True)
class Row:
    """What was found about one matrix."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    seconds: float
    residual: float
    error: float
    ratio: float
    method: str


def run(paths: Sequence[Path], steps: int, seconds: float) -> None:
    """Print a row for each matrix and a summary.

    Raises
    ------
    FileError
        A file cannot be read or no file holds a matrix.
    """
    print(f"newton_schulz, {steps} step{'s' * (steps > 1)}, threads: {get_num_threads()}")
    if paths:
        rows = list(_files(paths, steps, seconds))
    else:
        print("Input: two weight matrices of all-MiniLM-L6-v2, bundled (Apache-2.0)")
        with resources.as_file(resources.files(__package__) / "data" / BUNDLED) as path:
            rows = list(_files([path], steps, seconds))
    print()
    print(_summary(rows, steps))


def _files(paths: Sequence[Path], steps: int, seconds: float) -> Iterator[Row]:
    many = len(paths) > 1
    headed = False
    for path in paths:
        matrices = 0
        for name, value in read_matrices(path):
            matrices += 1
            label = f"{path.name}: {name}" if many else name
            if not np.isfinite(value).all():
                print(f"{label}: passed over, it holds NaN or infinity")
                continue
            if not headed:
                print(_HEADER)
                headed = True
            row = _measure(label, value, steps, seconds)
            print(_line(row), flush=True)
            yield row
        if matrices == 0:
            raise FileError(f"{path} holds no floating-point matrix (an array of 2 dimensions)")
    if not headed:
        raise FileError("no matrix is finite throughout, so there is nothing to compute")


def _measure(name: str, value: Matrix, steps: int, seconds: float) -> Row:
    x = np.ascontiguousarray(value, np.result_type(value.dtype, np.float32))
    q, info = newton_schulz(x, steps, return_info=True)
    error = _polar_error(q, x)
    _time(lambda: newton_schulz(x, steps))
    # In turn, so that whatever else the machine does falls on both alike.
    ours: list[float] = []
    svd: list[float] = []
    start = time.perf_counter()
    while not ours or (len(svd) < _ROUNDS and time.perf_counter() - start < seconds):
        time.sleep(_PAUSE)
        ours += [_time(lambda: newton_schulz(x, steps)) for _ in range(3)]
        svd.append(_time(lambda: np.linalg.svd(x, full_matrices=False)))
    fast = statistics.median(ours)
    # A threaded SVD may take many times longer on a busy machine; only its best time is fair.
    ratio = min(svd) / fast
    return Row(name, x.shape, x.dtype.name, fast, float(info.residual), error, ratio, info.method)


def _time(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _polar_error(q: Matrix, x: Matrix) -> float:
    """``||Q - U V^H||_F / ||U V^H||_F`` in float64, over the directions that x has.

    Singular values under ``max(m, n) u`` of the largest count as zero: their directions are noise.
    """
    double = np.result_type(x.dtype, np.float64)
    top = np.abs(x).max()
    if top == 0:
        return 0.0 if not q.any() else float("inf")
    u, sigma, vh = np.linalg.svd(x.astype(double) / float(top), full_matrices=False)
    rank = int(np.sum(sigma > max(x.shape) * np.finfo(x.dtype).eps / 2 * sigma[0]))
    polar = u[:, :rank] @ vh[:rank]
    return float(np.linalg.norm(q - polar) / np.sqrt(rank))


_WIDTH = 48
_HEADER = "\n" + (
    f"{'matrix':{_WIDTH}} {'shape':>13} {'dtype':>10} {'ms':>9} {'residual':>9} "
    f"{'error':>9} {'SVD/ours':>9}"
)


def _line(row: Row) -> str:
    name = row.name if len(row.name) <= _WIDTH else "..." + row.name[3 - _WIDTH :]
    shape = " x ".join(map(str, row.shape))
    return (
        f"{name:{_WIDTH}} {shape:>13} {row.dtype:>10} {1e3 * row.seconds:9.4g} "
        f"{row.residual:9.2e} {row.error:9.2e} {row.ratio:9.3g}"
    )


def _summary(rows: Sequence[Row], steps: int) -> str:
    ratio = statistics.median(row.ratio for row in rows)
    error = statistics.median(row.error for row in rows)
    compared = (
        f"{ratio:.3g} times as fast as" if ratio >= 1 else f"{1 / ratio:.3g} times slower than"
    )
    middle = "" if len(rows) == 1 else ", in the median"
    return (
        "ms: median time of a call. residual: |I - QQ^H|_F / sqrt(r), r the shorter side.\n"
        "error: |Q - UV^H|_F / |UV^H|_F against the float64 SVD. SVD/ours: the best time of "
        "numpy.linalg.svd over ms.\n\n"
        f"{len(rows)} matri{'x' if len(rows) == 1 else 'ces'}: newton_schulz is {compared} the SVD "
        f"and {100 * error:.2g} % of the polar factor's norm away from it{middle}.\n"
        "The SVD gives the polar factor to rounding; more steps come closer to it (--steps "
        f"{steps + 3})."
    )
