"""Steps of BlockOja on a GPU that no kernel takes: centred rows, "history", many vectors.

The rows are read by the package's kernel, which adds up products with all vectors and, where rows
are centred, sums of the rows. What then becomes of the vectors, once for each block, is done here
by the caller's library, in float64 on its device, and waits for nothing; a state that has come to
the host goes on by NumPy. docs/streaming.md#steps-beside-the-kernels has the mathematics.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays, _backend, _streaming_gpu_host
from ._rsvd_rows import entries
from ._streaming_gpu_host import (
    BLOCK_ROWS,
    BLOCK_SQUARES,
    _add,
    stream_block,
    stream_depth,
)

if TYPE_CHECKING:
    from ._streaming_base import State
    from ._streaming_gpu import Layout

# Eigenproblems that a block of a GPU solves.
MOST_HISTORY = 144

# Vectors whose step a kernel takes.
MOST_KERNEL = 56

# Vectors that are made orthonormal together.
_PANEL = 128

# Rows of "sums", each with the sum of the weights behind it: of the stages that have ended, of this
# stage, of the block that is not full yet.
PAST, STAGE, BLOCK = range(3)

# Rows of "figures": StreamLayout::AdaFigure.
_SQUARED_STEPS, _VALUES = 0, 1

_U = 2.0**-53

# Ritz values below this part of the largest say nothing about a direction.
_NOTHING = 1e-12


def update(layout: Layout, state: State, batch: _arrays.Array, weights: Any) -> None:
    """Goes on with rows."""
    d, (count, _) = batch.shape[1], batch.shape
    first = 0
    while first < count:
        done, held, block_reads, reads, depth = state["position"]
        block = stream_block(done, d)
        taken = min(count - first, block - held)
        part = _arrays.Array(batch.value[first : first + taken], batch.library, (taken, d),
                             batch.dtype, batch.device)  # fmt: skip
        own = None if weights is None else weights[first : first + taken]
        _gather(layout, state, part, own)
        position = (done, held + taken, block_reads + 1, reads + 1,
                    max(depth, stream_depth(taken, d)))  # fmt: skip
        if held + taken == block:
            with batch.library.current(batch.device):
                end_block(layout, state, Small(batch.library, batch.device))
            position = (done + block, 0, 0, *position[3:])
        state["position"] = position
        first += taken


def _gather(layout: Layout, state: State, batch: _arrays.Array, weights: Any) -> None:
    library, sums = batch.library, state["sums"][BLOCK]
    if batch.device[0] == "cpu":
        arrays = [library.to_numpy(state[k]) for k in ("vectors", "gathered", "totals")]
        x = np.asarray(entries(batch), np.float64)
        w = np.ones(len(x)) if weights is None else library.to_numpy(weights)
        if layout.center:
            into = library.to_numpy(sums)
            into *= 1.0 if layout.decay == 1 else layout.decay ** float((w > 0).sum())
            into += np.append(w @ x, w.sum())
        _add(x, w, layout.decay, *arrays)
        return
    _backend.for_device(batch.device).stream_gather(
        features=batch.shape[1],
        columns=layout.columns,
        decay=float(layout.decay),
        vectors=library.capsule(state["vectors"], "float64"),
        gathered=library.capsule(state["gathered"], "float64"),
        totals=library.capsule(state["totals"], "float64"),
        sums=library.capsule(sums, "float64") if layout.center else None,
        rows=batch.capsule(),
        dtype=batch.dtype,
        weights=None if weights is None else library.capsule(weights, "float64"),
        device=batch.device[1],
        stream=batch.stream(),
        allocate=batch.scratch,
    )


# ---- Small matrices -----------------------------------------------------------------------------


class Small:
    """Factors of small matrices where the state lies; none waits."""

    def __init__(self, library: _arrays.Library, device: _arrays.Device) -> None:
        self.library, self.device = library, device
        self.module = sys.modules[library.name]

    def zeros(self, *shape: int) -> Any:
        found = self.library.empty(shape, "float64", self.device)
        found[...] = 0
        return found

    def eye(self, size: int) -> Any:
        where = {}
        if self.library.name == "torch":
            where["device"] = f"{self.device[0]}:{self.device[1]}"
        return self.module.eye(size, dtype=self.module.float64, **where)

    def cholesky(self, gram: Any) -> tuple[Any, Any]:
        """R and its inverse with RᵀR near `gram`, shifted where that has no such factor."""
        size = gram.shape[0]
        least, shift = 2.0**-46, 1e-13 * size
        if self.device[0] == "cpu":
            found = _cholesky(self.library.to_numpy(gram), least, shift)
            return tuple(self.library.from_host(x, self.device) for x in found)
        triangle, inverse, figures = self.zeros(size, size), self.zeros(size, size), self.zeros(3)
        _backend.for_device(self.device).small_cholesky(
            gram=self._capsule(gram + 0),
            triangle=self._capsule(triangle),
            inverse=self._capsule(inverse),
            figures=self._capsule(figures),
            least=least,
            shift=shift,
            device=self.device[1],
            stream=self._stream(figures),
        )
        return triangle, inverse

    def eigen(self, gram: Any) -> tuple[Any, Any]:
        """Eigenvalues, descending, and eigenvectors, each to a column."""
        size = gram.shape[0]
        if self.device[0] == "cpu":
            host = self.library.to_numpy(gram)
            if not np.isfinite(host).all():
                nothing = np.full_like(host, np.nan)
                found = nothing[0], nothing
            else:
                values, vectors = np.linalg.eigh(host)
                found = values[::-1].copy(), vectors[:, ::-1].copy()
            values, vectors = (self.library.from_host(x, self.device) for x in found)
            return values, vectors
        shift = 2.0**-44 * gram.diagonal().sum()
        triangle, _ = self.cholesky(gram + shift * self.eye(size))
        values, figures = self.zeros(size), self.zeros(3)
        vectors, divided = self.zeros(size, size), self.zeros(size, size)
        _backend.for_device(self.device).small_jacobi(
            triangle=self._capsule(triangle),
            values=self._capsule(values),
            vectors=self._capsule(vectors),
            divided=self._capsule(divided),
            figures=self._capsule(figures),
            tolerance=1e-13,
            device=self.device[1],
            stream=self._stream(figures),
        )
        return values - shift, vectors

    def _capsule(self, x: Any) -> object:
        return self.library.capsule(x, "float64")

    def _stream(self, like: Any) -> int:
        return _arrays.Array(like, self.library, (3,), "float64", self.device).stream()


def _cholesky(gram: Any, least: float, shift: float) -> tuple[Any, Any]:
    size = len(gram)
    with np.errstate(all="ignore"):
        lengths = np.sqrt(gram.diagonal())
        scaled = gram / lengths[:, None] / lengths
        for extra in (0.0, shift):
            try:
                lower = np.linalg.cholesky(scaled + extra * np.eye(size))
            except np.linalg.LinAlgError:
                continue
            if (lower.diagonal() ** 2 >= least).all():
                inverse = np.linalg.inv(lower)
                return lower.T * lengths, inverse.T / lengths[:, None]
    nothing = np.zeros((size, size))
    return nothing, nothing


def orthonormal(small: Small, rows: Any) -> Any:
    """Rows made orthonormal one after the other, in panels: each twice, as far as rounding goes."""
    found = 0 * rows
    for first in range(0, len(rows), _PANEL):
        panel = rows[first : first + _PANEL]
        before = found[:first]
        for _ in range(2):
            if first:
                panel = panel - (panel @ before.T) @ before
            _, inverse = small.cholesky(panel @ panel.T)
            panel = inverse.T @ panel
        found[first : first + _PANEL] = panel
    return found


# ---- Steps --------------------------------------------------------------------------------------


def end_block(layout: Layout, state: State, small: Small) -> None:
    """The vectors take their step with what the block has gathered."""
    module, live = small.module, layout.live
    vectors, gathered, totals = state["vectors"], state["gathered"], state["totals"]
    figures, sums = state["figures"], state["sums"]
    q, g = vectors[:live], gathered[:live]
    past = 1.0
    if layout.decay != 1:
        past = layout.decay ** totals[BLOCK_ROWS : BLOCK_ROWS + 1]
        sums[:BLOCK] *= past
    if layout.center:
        g[...] = scattered(module, q, g, sums[BLOCK], sums[PAST] + sums[STAGE], _plain_sums)
        sums[STAGE] += sums[BLOCK]
        sums[BLOCK] = 0
    if layout.step == "history":
        vectors[:live] = _history(small, q, g, figures, past)
    elif live <= MOST_KERNEL:
        _kernel_step(layout, state, small)
        return
    else:
        vectors[:live] = _adaoja(small, q, g, figures, past)
    gathered[:live] = 0
    totals[BLOCK_SQUARES : BLOCK_SQUARES + 1] = 0
    totals[BLOCK_ROWS : BLOCK_ROWS + 1] = 0


def _kernel_step(layout: Layout, state: State, small: Small) -> None:
    """AdaOja's, as without centring."""
    library, device = small.library, small.device
    options = {"step": layout.step, "features": state["vectors"].shape[1], "live": layout.live,
               "decay": float(layout.decay), "position": (0, 1, 1, 1, 1)}  # fmt: skip
    names = ("vectors", "gathered", "figures", "totals")
    if device[0] == "cpu":
        _streaming_gpu_host.stream_finish(
            **options, **{name: library.to_numpy(state[name]) for name in names}
        )
        return
    like = _arrays.Array(state["totals"], library, (5,), "float64", device)
    _backend.for_device(device).stream_finish(
        **options,
        **{name: library.capsule(state[name], "float64") for name in names},
        device=device[1],
        stream=like.stream(),
        allocate=like.scratch,
    )


def _adaoja(small: Small, q: Any, g: Any, figures: Any, past: Any) -> Any:
    module = small.module
    figures[_SQUARED_STEPS] = past * figures[_SQUARED_STEPS] + (g * g).sum(1)
    energy = (q * g).sum(1)
    # Also NaN goes on.
    figures[_VALUES] = past * figures[_VALUES] + module.where(energy < 0, 0 * energy, energy)
    squares = figures[_SQUARED_STEPS]
    nothing = squares == 0
    steps = module.where(nothing, 0 * squares, 1 / (squares + nothing) ** 0.5)
    return orthonormal(small, q + steps[:, None] * g)


def _history(small: Small, q: Any, g: Any, figures: Any, past: Any) -> Any:
    """Eigenvectors of WᵀC⁺W for W = QM, C = WQᵀ, M the past and the block: Nyström's for M."""
    module = small.module
    w = past * figures[_VALUES][:, None] * q + g
    c = w @ q.T
    c = (c + c.T) / 2
    eye = small.eye(len(c))
    trace = abs(c.diagonal()).sum()
    shift = 2.0**-44 * trace
    _, inverse = small.cholesky(c + (shift + 1.0 * (trace == 0)) * eye)
    b = inverse.T @ w
    values, turn = small.eigen(b @ b.T)
    # The sign of an eigenvector is its largest entries'.
    turn = turn * (1 - 2.0 * ((turn * turn * turn).sum(0) < 0))
    values = module.where(values < 0, 0 * values, values)
    found = turn.T @ b
    lengths = (found * found).sum(1) ** 0.5
    # Where there is no energy yet, vectors stay as they are.
    known = values > _NOTHING * values[:1]
    found = found / (lengths + (lengths == 0))[:, None]
    figures[_VALUES] = values
    return orthonormal(small, module.where(known[:, None], found, q))


# ---- Centring -----------------------------------------------------------------------------------


def row_sums(module: Any, x: Any) -> Any:
    """In a column; the same bits by every library, whose own sums are in other orders.

    Only additions: a certificate rests on them.
    """
    sums = x
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        pairs = sums[:, :half] + sums[:, half : 2 * half]
        if sums.shape[1] % 2:
            pairs[:, :1] += sums[:, 2 * half :]
        sums = pairs
    return sums


def _plain_sums(module: Any, x: Any) -> Any:
    """The same by the library, for steps alone."""
    return x.sum(1)[:, None]


def scattered(
    module: Any,
    z: Any,
    gathered: Any,
    sums: Any,
    before: Any,
    row_sums: Callable[[Any, Any], Any] = row_sums,
) -> Any:
    """Products with z of the scatter of some rows about their mean, from those of XᵀX.

    And what the mean of `before` adds to that (Chan, Golub, LeVeque, 1979).
    """
    weight, past = sums[-1:], before[-1:]
    none, fresh = 1.0 * (weight == 0), 1.0 * (past == 0)
    mean = sums[:-1] / (weight + none)
    gap = mean - before[:-1] / (past + fresh)
    factor = past / (past + weight + none * fresh) * weight
    along = row_sums(module, z * mean)
    across = row_sums(module, z * gap)
    return gathered - along * sums[:-1] + across * factor * gap


def end_stage(layout: Layout, state: State, module: Any, z: Any, products: Any) -> Any:
    """The fixed vectors' products of a stage that ends, of centred rows if they are."""
    if not layout.center:
        return products
    sums = state["sums"]
    found = scattered(module, z, products, sums[STAGE], sums[PAST])
    sums[PAST] += sums[STAGE]
    sums[STAGE] = 0
    return found


def finished(layout: Layout, host: State) -> dict[str, Any]:
    """Arrays of a state of the host's, which changes, once its block has ended by NumPy."""
    if host["position"][1]:
        with np.errstate(all="ignore"):
            end_block(layout, host, Small(_arrays.LIBRARIES[0], ("cpu", 0)))
    found = {name: host[name] for name in ("vectors", "gathered", "figures", "totals")}
    if layout.center:
        sums, live = host["sums"], layout.live
        z, products = host["vectors"][live:], host["gathered"]
        with np.errstate(all="ignore"):
            products[live:] = scattered(np, z, products[live:], sums[STAGE], sums[PAST])
        found["sums"] = sums.sum(axis=0)
    return found
