"""Rows a second that streaming estimators take on a GPU, and their share of what a copy moves.

    python3 benchmarks/gpu/streaming.py [--out FILE.md] [--cases D:ROWS[:DTYPE] ...] [--rounds N]

Rows of width D in batches of ROWS, one direction standing out of noise; batches take turns, so that
none lies in the cache. The share is bytes of rows a second over the bytes that a copy of the same
batches reads and writes. Beside them `X @ v` and `X.T @ (X @ Q)` of torch in the rows' type (no
tf32), and what cuBLAS takes for the products in float64. Accuracy is sin of the angle between the
first component and the top eigenvector of the rows seen before the race, in float64; the
certificate must not be below it.

`--device cpu --smoke` runs all of it on few rows, on the road that a state from a GPU takes on the
host, to test this program; without Frequent Directions, which has none.
"""

from __future__ import annotations

import itertools
import statistics
import sys
from collections.abc import Callable
from typing import Any

import clock
import command_line
import gramian as gm
import torch
from gramian import _streaming_gpu
from torch import Tensor

CASES = [
    "4096:16384", "4096:65536", "4096:4096", "4096:1024", "4096:16384:bfloat16", "1024:65536",
    "512:131072", "4096:16384:float64", "8192:8192",
]  # fmt: skip
SMOKE = ["64:300", "33:200:float64"]
SKETCHED = 4096  # rows of the longest batch for Frequent Directions: a tenth of a second
WARM = 8  # passes over all batches: blocks reach their full length after 8 times as many rows


def estimators(d: int) -> dict[str, Any]:
    return {
        "OjaTopEigenvector": gm.OjaTopEigenvector(d, rng=0),
        "BlockOja, k=1": gm.BlockOja(d, 1, rng=0),
        "BlockOja, k=8": gm.BlockOja(d, min(8, d), rng=0),
        "BlockOja, k=8, decay": gm.BlockOja(d, min(8, d), decay=1 - 1e-6, rng=0),
        "BlockOja, k=8, history": gm.BlockOja(d, min(8, d), step="history", rng=0),
        "BlockOja, k=8, center": gm.BlockOja(d, min(8, d), center=True, rng=0),
    }


def sketches(d: int) -> dict[str, Any]:
    found = {f"FrequentDirections, l={size}": gm.FrequentDirections(d, size) for size in (32, 72)}
    found["FrequentDirections, l=32, center"] = gm.FrequentDirections(d, 32, center=True)
    return found | {"RandomOrderTopEigenvector": gm.RandomOrderTopEigenvector(d, rng=0)}


def peers(d: int, x: Tensor) -> dict[str, Callable[[Tensor], object]]:
    v = torch.randn(d, 1, device=x.device).to(x.dtype)
    q = torch.randn(d, 8, device=x.device).to(x.dtype)
    wide = torch.randn(d, 16, device=x.device, dtype=torch.float64)
    return {
        "X @ v": lambda rows: rows @ v,
        "X.T @ (X @ Q), k=8": lambda rows: rows.mT @ (rows @ q),
        "the same in float64, k=16": lambda rows: rows.double().mT @ (rows.double() @ wide),
    }


def batches(d: int, rows: int, dtype: str, device: str) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    one = torch.empty(rows, d, device=device, dtype=getattr(torch, dtype))
    count = max(2, clock.buffers_for(one)) if device == "cuda" else 2
    found = []
    for _ in range(count):
        x = torch.randn(rows, d, generator=generator, device=device)
        x[:, d // 3] *= 4 * d**0.5
        found.append(x.to(one.dtype))
    return found


def angle(found: Tensor, given: list[Tensor], decay: float, center: bool) -> float:
    """To the top eigenvector of all rows, seen WARM times in turn."""
    rows = len(given[0])
    after = torch.arange(len(given) * rows, device=found.device, dtype=torch.float64).flip(0)
    weights = sum(decay ** (after + turn * len(after)) for turn in range(WARM))
    parts = [w[:, None] * x.double() for w, x in zip(weights.split(rows), given, strict=True)]
    gram = sum(part.mT @ x.double() for part, x in zip(parts, given, strict=True))
    if center:
        total = sum(part.sum(dim=0) for part in parts)
        gram = gram - torch.outer(total, total) / sum(w.sum() for w in weights.split(rows))
    top = torch.linalg.eigh(gram)[1][:, -1]
    v = found.double()
    v = v / v.norm()
    across = v - (v @ top) * top
    return float((across - (across @ top) * top).norm())


def race(case: str, device: str, rounds: int) -> list[str]:
    d, rows, *rest = case.split(":")
    dtype = rest[0] if rest else "float32"
    given = batches(int(d), int(rows), dtype, device)
    into = torch.empty_like(given[0])
    nbytes = given[0].nbytes

    def entry(name: str, call: Callable[[Tensor], object]) -> clock.Entry:
        turn = itertools.cycle(given)
        return clock.Entry(name, "stream", lambda: call(next(turn)))

    ours = estimators(int(d))
    if device == "cuda" and int(rows) <= SKETCHED:
        ours |= sketches(int(d))
    figures_of = {}
    for name, estimator in ours.items():
        # A sketch is as fast from the start, and rows seen once more turn no eigenvector.
        sketched = isinstance(estimator, gm.FrequentDirections | gm.RandomOrderTopEigenvector)
        for _ in range(1 if sketched else WARM):
            for x in given:
                estimator.partial_fit(x)
        decay, center = (getattr(estimator, k, 1 - i) for i, k in enumerate(("decay", "center")))
        true = angle(estimator.components_[0], given, decay, bool(center))
        bound = estimator.certificate_
        figures_of[name] = [f"{true:.1e}", f"{bound:.1e}", "" if true <= bound else "VIOLATED"]
    entries = [entry("copy", into.copy_)]
    entries += [entry(name, e.partial_fit) for name, e in ours.items()]
    entries += [entry(name, call) for name, call in peers(int(d), given[0]).items()]
    times = clock.race(entries, rounds, device)
    copied = 2 * nbytes / times["copy", "stream"]
    lines = []
    for e in entries:
        took = times[e.name, "stream"]
        share = (2 if e.name == "copy" else 1) * nbytes / took / copied
        speed = [f"{1e3 * took / int(rows):.4f}", f"{share:.3f}"]
        figures = speed + figures_of.get(e.name, ["", "", ""])
        lines.append(command_line.row([case, e.name, *figures]))
    spread = max(statistics.median(e.turns) / min(e.turns) for e in entries)
    lines.append(
        command_line.row([case, f"median / least of a turn: up to {spread:.2f}", *[""] * 5])
    )
    return lines


def main() -> int:
    options = command_line.options(__doc__, "cases", "D:ROWS[:DTYPE]", 7, "few rows")
    if options.device == "cpu":
        _streaming_gpu.takes = lambda state, x: True
    head = ["width:rows", "", "us a row", "share of a copy", "sin", "certificate", ""]
    lines = [command_line.row(head), "|---|---|--:|--:|--:|--:|---|"]
    for case in options.cases or (SMOKE if options.smoke else CASES):
        found = race(case, options.device, options.rounds)
        print("\n".join(found), flush=True)
        lines += found
    return command_line.finish(lines, options.out)


if __name__ == "__main__":
    sys.exit(main())
