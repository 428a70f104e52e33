"""The randomized SVD of a matrix that a `Reader` reads: sketch, iteration, factors, estimate.

The steps, constants and choices are those of cpp/src/rsvd_matrix.hpp, explained in docs/rsvd.md;
what differs is said in docs/rsvd_operators.md. Arrays with the columns' side are in double. They
lie where the reader's do, and `reader.thin` computes with them: `_rsvd_thin.py` or its likes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._rsvd_reads import PROBES, Reader

# What Ritz values may still gain, beside what is left, where another read does not pay.
STAGNATION = 0.08

# Multiply-adds of dense products in the time of one with a stored entry, on either side of A.
_SPARSE_RATE = 8


@dataclass
class Options:
    """Checked arguments; `passes` is 0 for "auto"."""

    rank: int
    oversample: int
    passes: int
    method: str
    seed: int
    start: Any = None  # n x j
    in_core: bool = True


@dataclass
class Factors:
    """2^exponent u diag(s) v^H; `error` is relative."""

    u: Any
    s: Any
    v: Any
    error: float
    method: str
    householder: int = 0


@dataclass
class Plan:
    method: str
    block: int
    passes: int


# ---- Iteration ----------------------------------------------------------------------------------


def make_plan(reader: Reader, o: Options) -> Plan:
    """As rsvd_plan.hpp, but for what rows are not known or products cost otherwise."""
    n = reader.columns
    short = n if reader.rows < 0 else min(reader.rows, n)
    # Of a matrix read wide, more vectors than rows: a sketch may be orthogonal to a row.
    block = min(n, o.rank + o.oversample)
    plan = Plan(o.method, block, o.passes or (8 if o.rank * 10 < short else 5))
    if plan.method == "single_pass":
        plan.passes = 1
    if o.passes == 0 and block == n and plan.method != "gram":
        plan.passes = 1
    if plan.method != "auto":
        return plan
    if plan.passes == 1:
        plan.method = "subspace" if block == n else "single_pass"
    elif o.in_core:
        room = min(plan.passes, 4) * block <= n / 2
        plan.method = "krylov" if room and _krylov_is_cheaper(reader, o, plan) else "subspace"
    elif o.passes == 0 and o.start is None and n <= 16 * block:
        plan.method = "gram"
    else:
        # Of row blocks there may be more than of anything else: the basis must not grow.
        plan.method = "subspace"
    return plan


def _krylov_is_cheaper(reader: Reader, o: Options, plan: Plan) -> bool:
    """The model of rsvd_plan.hpp; an operator's products are taken to be dense."""
    m, n, size = reader.rows, reader.columns, plan.block
    stored = reader.pieces.stored
    read = 2 * m * n * size if stored is None else 2 * _SPARSE_RATE * stored * size
    q = o.passes or 4
    longer = 1.5 * q if o.passes else min(1.5 * q, plan.passes)
    orders = q * (q + 1) / 2
    krylov = (
        q * read + 20 * orders**2 * size**3 + (2 * orders * m + 3.5 * q * (q - 1) * n) * size**2
    )
    return krylov < longer * (read + 20 * size**3 + (2 * m + 6 * n) * size**2)


@dataclass
class Iteration:
    """Z, Y = A Z and W = A^H Y, with the eigenvalues of Y^H Y."""

    reader: Reader
    options: Options
    z: Any = None
    y: Any = None
    w: Any = None
    gram: Any = None
    ritz: Any = None
    vectors: Any = None
    method: str = ""
    householder: int = 0

    def orthonormalize(self, y: Any) -> tuple[Any, Any]:
        """Q, R; counts what CholeskyQR2 does not do."""
        q, r, fallback = self.reader.thin.orthonormalize(y)
        self.householder += fallback
        return q, r

    def first_block(self, size: int) -> Any:
        """The start vectors and as much of the sketch as is wanted, orthonormal."""
        reader, thin = self.reader, self.reader.thin
        given = self.options.start
        used = 0 if given is None else min(given.shape[1], size)
        seed = self.options.seed
        z = thin.sketch(seed, reader.columns, size - used, reader.wide, first_column=used)
        if used:
            z = thin.joined(thin.cast(given[:, :used], reader.wide), z)
        return self.rounded(self.orthonormalize(z)[0])

    def rounded(self, z: Any) -> Any:
        """To the dtype that products are computed in, so that Y is A times what is kept."""
        thin = self.reader.thin
        return thin.cast(thin.cast(z, self.reader.dtype), self.reader.wide)

    def build(self) -> bool:
        """False if the matrix is not finite."""
        plan = make_plan(self.reader, self.options)
        self.method = plan.method
        return self._by_gram(plan) if plan.method == "gram" else self._by_blocks(plan)

    def _by_blocks(self, plan: Plan) -> bool:
        grow = plan.method == "krylov"
        thin = self.reader.thin
        z = self.first_block(plan.block)
        before: Any = None
        while True:
            y, w = self.reader.read(z)
            if not self.reader.finite:
                return False
            if grow and self.z is not None:
                self.append(z, y, w)
            else:
                self.z, self.y, self.w, self.gram = z, y, w, thin.gram(y)
            del y, w
            self.ritz, self.vectors = thin.eigen(self.gram)
            settled = before is not None and self._stagnated(before)
            before = self.ritz
            reads = self.reader.reads
            if reads >= plan.passes or (self.options.passes == 0 and settled):
                return True
            full = self.z.shape[1] == self.reader.columns
            if grow and full:
                return True  # all of A
            if grow:
                z = self.next_krylov(min(plan.block, self.reader.columns - self.z.shape[1]))
            else:
                # In descending order: the columns of the next Y are graded.
                z = self.rounded(self.orthonormalize(self.w @ self.vectors)[0])
                self.y = None  # not needed while the next one is made

    def _stagnated(self, before: Any) -> bool:
        """Whether the Ritz values may still grow by too little, one by one and in all."""
        wanted = min(self.options.rank, before.size, self.ritz.size)
        noise = 16 * self.unit * max(self.ritz[0], 0.0)
        t = self.reader.reads
        # Without gaps in the spectrum what is missing falls like 1/t^2 (Krylov) or 1/t.
        still = (t - 1) ** 2 / (2 * t - 1) if self.method == "krylov" else t - 1
        grown = self.ritz[:wanted] - before[:wanted]
        next_value = self.ritz[min(wanted, self.ritz.size - 1)]
        if np.any(still * grown > STAGNATION * next_value + noise):
            return False
        left = max(self.reader.squares_or_estimate - float(self.ritz[:wanted].sum()), 0.0)
        return bool(still * np.maximum(grown, 0).sum() <= STAGNATION * left + wanted * noise)

    @property
    def unit(self) -> float:
        return float(np.finfo(self.reader.dtype).eps) / 2

    def next_krylov(self, block: int) -> Any:
        """The part of the newest W that is orthogonal to all of Z, orthonormal."""
        thin = self.reader.thin
        z = self.w[:, self.w.shape[1] - block :]
        for turn in range(3):
            c = self.z.conj().T @ z
            if turn > 0 and thin.top(c) < 50 * self.unit:
                return z
            z = self.rounded(self.orthonormalize(z - self.z @ c)[0])
        # W holds nothing new, and what QR fills in lies anywhere: so all columns together.
        return self.rounded(thin.qr(thin.joined(self.z, z))[0][:, -block:])

    def append(self, z: Any, y: Any, w: Any) -> None:
        thin = self.reader.thin
        side = thin.gram(self.y, y)
        above = thin.joined(self.gram, side)
        self.gram = thin.joined(above, thin.joined(side.conj().T, thin.gram(y)), axis=0)
        self.z, self.y, self.w = (
            thin.joined(*pair) for pair in ((self.z, z), (self.y, y), (self.w, w))
        )

    def _by_gram(self, plan: Plan) -> bool:
        """Top eigenvectors of A^H A, and steps with W where it cannot tell them apart."""
        if not self.whole_gram():
            return False
        last = min(self.options.rank, self.reader.columns) - 1
        half_step = self.ritz[last] < 1e-9 * self.ritz[0]
        size = min(self.reader.columns, plan.block if half_step else self.options.rank)
        self.z = self.rounded(self.orthonormalize(self.vectors[:, :size])[0])
        self.y, self.w = self.reader.read(self.z, adjoint=bool(half_step))
        if half_step and self.options.passes == 0:
            # Below sqrt(u) sigma_1 these eigenvectors are a start like any other: a power more.
            thin = self.reader.thin
            _, e = thin.eigen(thin.gram(self.y))
            self.z = self.rounded(self.orthonormalize(self.w @ e)[0])
            self.y, self.w = self.reader.read(self.z)
        return True

    def whole_gram(self) -> bool:
        """Eigenvalues and eigenvectors of A^H A, in one read."""
        h = self.reader.gram()
        if not self.reader.finite:
            return False
        self.ritz, self.vectors = self.reader.thin.eigen(h)
        return True

    # ---- Factors --------------------------------------------------------------------------------

    def compress(self, size: int) -> None:
        """Z, Y and W onto the Ritz vectors with the largest values, in descending order."""
        if self.method == "gram":  # they are the columns already
            self.z, self.y = self.z[:, :size], self.y[:, :size]
            self.w = None if self.w is None else self.w[:, :size]
            return
        e = self.vectors[:, :size]
        self.z, self.y = self.z @ e, self.reader.thin.rotate(self.y, e)
        self.w = None if self.w is None else self.w @ e

    def finish(self) -> Factors:
        """U, S, V of Q B with Y = Q R, B = R Z^H + (R^-H W_perp^H): see rsvd_matrix.hpp."""
        rows, n, rank = self.reader.rows, self.reader.columns, self.options.rank
        most = min(rows, rank + self.options.oversample)
        columns = self.y.shape[1]
        if (
            self.reader.reads == 1
            or columns > rows
            or (columns > most and self.ritz[most - 1] > 1e-10 * self.ritz[0])
        ):
            self.compress(min(most, columns))
        size = self.y.shape[1]
        q, r = self.orthonormalize(self.y)
        self.y = None
        thin, whole = self.reader.thin, self.reader.squares
        right, middle = self.z, r
        if self.w is not None and size < n:
            right, middle = self.half_step(r)
        left, s, turned = thin.svd(middle)
        k = min(rank, size)
        if not thin.sums_in_cache and float(s[:k] @ s[:k]) > whole * (1 + 1e4 * self.unit):
            # More than all of A: noise has come in by the half step.
            right, (left, s, turned) = self.z, thin.svd(r)
        u = thin.rotate(q, left[:, :k])
        v = right @ turned[:, :k]
        return Factors(u, s[:k], v, self.error(u, s[:k], v), self.method, self.householder)

    def finish_without_half_step(self) -> tuple[Factors, Any]:
        """U, S, V of Q R Z^H with Y = Q R, and C with V = Z C."""
        q, r = self.orthonormalize(self.y)
        left, s, turned = self.reader.thin.svd(r)
        k = min(self.options.rank, s.size)
        c = turned[:, :k]
        u = self.reader.thin.rotate(q, left[:, :k])
        return Factors(u, s[:k], self.z @ c, 0.0, self.method, self.householder), c

    def half_step(self, r: Any) -> tuple[Any, Any]:
        thin = self.reader.thin
        inverse = thin.inverse_of_upper(r)
        inner = self.z.conj().T @ self.w
        rest = self.w - self.z @ inner
        with np.errstate(all="ignore"):
            sums = thin.to_host(abs(inverse).sum(0))
            usable = sums * math.sqrt(max(self.ritz[0], 0.0)) < 0.1 / self.unit
        # Rounding of W, divided by R: a row of the second term must stand above it.
        b = thin.only(rest @ thin.only(inverse, usable), usable)
        rounding = 24 * self.unit * self._size_of_w() + self._seen(inner, r)
        noise = rounding * np.where(usable, sums, 0)
        lengths = thin.to_host((abs(b) ** 2).sum(0) ** 0.5)
        b = thin.only(b, lengths > noise)
        right, r = self.orthonormalize(b + self.z @ r.conj().T)
        return right, r.conj().T

    def _seen(self, inner: Any, r: Any) -> float:
        """What W's rounding amounts to where many rows are summed at once: Z^H W is Y^H Y."""
        if self.reader.thin.sums_in_cache:
            return 0.0
        away = abs(inner - r.conj().T @ r) ** 2
        return 3 * math.sqrt(float(away.sum()) * self.reader.columns / max(1, inner.shape[0]))

    def _size_of_w(self) -> float:
        """What W is known to u of: ||A_p|| ||Y||, A_p the matrix whose products were centered."""
        top = max(float(self.ritz[0]), 0.0)
        whole = top + self.reader.lost
        return whole if self.reader.late_centers else math.sqrt(top) * math.sqrt(whole)

    def error(self, u: Any, s: Any, v: Any) -> float:
        reader = self.reader
        kept = float(s @ s)
        if reader.is_operator:
            # E ||(A - U S V^H) x||^2 = ||A - U S V^H||_F^2 for random signs x, which nothing of U,
            # S, V depends on.
            seen = v.conj().T @ reader.probes.astype(reader.wide)
            left = reader.probed - reader.thin.rotate(u, s[:, None] * seen)
            square = float(np.vdot(left, left).real) / PROBES
            whole = kept + square
        else:
            whole = reader.squares
            square = max(whole - kept, 0.0) + 4 * self.unit * whole
        return math.sqrt(square / whole) if whole > 0 else 0.0
