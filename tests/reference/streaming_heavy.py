"""What the kernel of cuda/src/streaming_light.cu does, by NumPy, in pieces as there."""

from __future__ import annotations

import numpy as np
from gramian._rsvd_rows import entries

SQUARES, MOST, KEPT, COUNT, LENGTH, BLOCK, LAST, LIGHT = range(8)


class Plan:
    """Looks at the squared norms of a piece of rows one by one; what is kept is moved later."""

    def __init__(self, figures, heavy_squares, part):
        self.figures, self.squares, self.part = figures, heavy_squares, part
        self.slots = [-1 - s for s in range(int(figures[KEPT]))]  # or numbers of rows
        self.light = []

    def run(self, squares):
        for row, square in enumerate(squares):
            if square != 0:
                self.add(row, square)
        self.figures[KEPT] = len(self.slots)
        return self.light

    def lightest(self):
        return int(np.argmin(self.squares[: len(self.slots)]))

    def drop(self):
        slot = self.lightest()
        self.light.append((self.slots[slot], self.squares[slot]))
        end = len(self.slots) - 1
        self.slots[slot], self.squares[slot] = self.slots[end], self.squares[end]
        self.slots.pop()

    def add(self, row, square):
        self.figures[SQUARES] += square
        bar = self.part * self.figures[SQUARES]
        while self.slots and not self.squares[self.lightest()] >= bar:
            self.drop()
        full = len(self.slots) == self.figures[MOST]
        if square < bar or (full and not self.slots):
            self.light.append((row, square))
            return
        if full:
            if self.squares[self.lightest()] >= square:
                self.light.append((row, square))
                return
            self.drop()
        self.squares[len(self.slots)] = square
        self.slots.append(row)


def heavy_update(state, batch, weights, most):
    """Stands in for _streaming_gpu_random._take."""
    x = entries(batch).astype(np.float64)
    w = np.ones(len(x)) if weights is None else batch.library.to_numpy(weights)
    arrays = [
        batch.library.to_numpy(state[k]) for k in ("heavy", "heavy_squares", "vectors", "stream")
    ]
    assert arrays[3][MOST] == most
    piece = min(4096, max(2**22 // x.shape[1], 64))
    for first in range(0, len(x), piece):
        _piece(*arrays, x[first : first + piece], w[first : first + piece])


def _piece(heavy, heavy_squares, vectors, f, x, w):
    d = x.shape[1]
    plan = Plan(f, heavy_squares, 1 / (d * (1 + np.log(d))))
    light = plan.run(w * np.einsum("ij,ij->i", x, x))
    z, sums, before = vectors

    def row(source):
        return np.sqrt(w[source]) * x[source] if source >= 0 else heavy[-1 - source]

    first = 0
    while first < len(light):
        last = min(len(light), first + int(f[LENGTH] - f[COUNT]))
        rows = np.array([row(source) for source, _ in light[first:last]])
        squares = sum(square for _, square in light[first:last])
        sums += (rows @ z) @ rows
        f[BLOCK] += squares
        f[LIGHT] += squares
        f[COUNT] += last - first
        first = last
        if f[COUNT] == f[LENGTH]:
            norm = np.linalg.norm(sums)
            if norm > 0:
                z[...] = sums / norm
            before[...] = sums
            sums[...] = 0
            f[LAST], f[BLOCK], f[COUNT] = f[BLOCK], 0, 0
            f[LENGTH] = np.ceil(1.5 * f[LENGTH])
    for slot, source in enumerate(plan.slots):
        assert source >= 0 or -1 - source >= slot  # nothing is overwritten before it is moved
        heavy[slot] = row(source)
