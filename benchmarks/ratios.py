"""How many times as fast newton_schulz is as Muon's orthogonalization, at what polar error.

    python benchmarks/ratios.py [--check] [--markdown] [--rounds N] [--cases NAME ...]

All implementations run in this one process on the same matrices. They take turns in blocks, each
several times in a row, because torch's OpenMP workers spin for some milliseconds after a call and
would slow whatever comes next; a pause separates the blocks. A time is the median over the rounds
of the medians of the blocks, and only ratios of times are shown, since these travel between
machines. Each round takes the matrix of the next spectrum: with a fixed number of steps the time
does not depend on the values.

For each spectrum a star marks the fastest number of gramian steps whose error is at most the
reference's, and the last row gives its ratio: the ratio at equal or better error.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import matrices, peers

PAUSE_S = 0.02
BLOCK_S = 0.25  # what a block may take, as far as its least number of calls allows
FORCING = (  # variables that hold a library to kernels other than those it would choose
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "GRAMIAN_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
)


@dataclass(frozen=True)
class Outcome:
    seconds: dict[str, float]
    spread: dict[str, tuple[float, float]]  # of the ratio, over the rounds
    errors: dict[str, dict[str, float]]  # by implementation, then spectrum

    def ratio(self, name: str) -> float:
        return self.seconds[peers.REFERENCE] / self.seconds[name]

    def best(self, spectrum: str) -> str | None:
        """The fastest gramian whose error is at most the reference's."""
        limit = self.errors[peers.REFERENCE][spectrum]
        good = [n for n in peers.GRAMIAN if self.errors[n][spectrum] <= limit]
        return min(good, key=self.seconds.__getitem__, default=None)


def target(case: matrices.Case) -> float | None:
    """The least ratio at equal or better error that the project promises."""
    if case.dtype != "float32":
        return None
    if len(case.shape) > 2:
        return 3.0
    return 2.0 if case.shape[0] == case.shape[1] else 2.5


def block(call: Callable[[], object], calls: int) -> float:
    time.sleep(PAUSE_S)
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measure(case: str, spectra: list[str], rounds: int) -> Outcome:
    calls: dict[str, list[Callable[[], object]]] = {}
    errors: dict[str, dict[str, float]] = {}
    inputs = {spectrum: matrices.build(case, spectrum) for spectrum in spectra}
    for spectrum, x in inputs.items():
        truth = matrices.polar(x)
        for name, prepare in peers.IMPLEMENTATIONS.items():
            try:
                call = prepare(x)
            except NotImplementedError as reason:
                print(f"{name} is left out: {reason}", file=sys.stderr)
                continue
            calls.setdefault(name, []).append(call)
            errors.setdefault(name, {})[spectrum] = matrices.relative_error(call(), truth)

    counts = {}
    for name in calls:
        once = block(calls[name][0], 1)
        least = 3 if name in peers.GRAMIAN or name == peers.REFERENCE else 1
        counts[name] = min(max(round(BLOCK_S / once), least), 50)
    medians: dict[str, list[float]] = {name: [] for name in calls}
    for r in range(rounds):
        for name in calls:
            medians[name].append(block(calls[name][r % len(spectra)], counts[name]))

    reference = medians[peers.REFERENCE]
    spread = {}
    for name, own in medians.items():
        by_round = [a / b for a, b in zip(reference, own, strict=True)]
        spread[name] = (min(by_round), max(by_round))
    seconds = {name: statistics.median(own) for name, own in medians.items()}
    return Outcome(seconds, spread, errors)


def table(case: str, spectra: list[str], outcome: Outcome, absolute: bool) -> list[list[str]]:
    head = ["implementation", "times as fast", "over rounds", *(f"error, {s}" for s in spectra)]
    rows = [head + ["ms"] * absolute]
    best = {s: outcome.best(s) for s in spectra}
    for name in outcome.seconds:
        low, high = outcome.spread[name]
        row = [name, f"{outcome.ratio(name):.2f}", f"{low:.2f} to {high:.2f}"]
        for s in spectra:
            row.append(f"{outcome.errors[name][s]:.2g}" + " *" * (best[s] == name))
        rows.append(row + [f"{1e3 * outcome.seconds[name]:.3g}"] * absolute)
    goal = target(matrices.CASES[case])
    last = ["at equal or better error", "", f"wanted: {goal}" if goal else ""]
    for s in spectra:
        last.append(f"{outcome.ratio(best[s]):.2f}" if best[s] else "none")
    rows.append(last + [""] * absolute)
    return rows


def show(title: str, rows: list[list[str]], markdown: bool) -> None:
    if markdown:
        print(f"**{title}**\n")
        print("| " + " | ".join(rows[0]) + " |")
        print("|---|" + "--:|" * (len(rows[0]) - 1))
        for row in rows[1:]:
            print("| " + " | ".join(cell.replace("*", "\\*") for cell in row) + " |")
    else:
        print(title)
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            print("  " + "  ".join(cells))
    print(flush=True)


def misses(case: str, spectra: list[str], outcome: Outcome) -> list[str]:
    goal = target(matrices.CASES[case])
    if goal is None:
        return []
    found = []
    for s in spectra:
        name = outcome.best(s)
        if name is None:
            found.append(f"{case}, {s}: no number of steps has an error as low as the reference's")
        elif outcome.ratio(name) < goal:
            found.append(f"{case}, {s}: {outcome.ratio(name):.2f}, wanted {goal}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of blocks (default 5)")
    parser.add_argument("--cases", nargs="+", choices=matrices.CASES, default=[*matrices.CASES],
                        metavar="CASE", help=", ".join(matrices.CASES))  # fmt: skip
    parser.add_argument("--spectra", nargs="+", choices=matrices.SPECTRA, metavar="SPECTRUM",
                        default=[*matrices.SPECTRA], help=", ".join(matrices.SPECTRA))  # fmt: skip
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument("--absolute", action="store_true", help="show milliseconds too")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--allow-forced-kernels", action="store_true",
                        help="run although the environment forces a library's kernels")  # fmt: skip
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; it must be at least 1")

    forced = [f"{name}={os.environ[name]}" for name in FORCING if name in os.environ]
    if forced:
        print(f"THE ENVIRONMENT FORCES KERNELS: {', '.join(forced)}", file=sys.stderr)
        if not options.allow_forced_kernels:
            print("Unset these variables: ratios taken under them are not what users see. "
                  "(--allow-forced-kernels goes on all the same.)", file=sys.stderr)  # fmt: skip
            return 2

    import gramian as gm
    import numpy as np
    import torch

    print(f"gramian {gm.__version__}, torch {torch.__version__}, NumPy {np.__version__}; threads: "
          f"gramian {gm.get_num_threads()}, torch {torch.get_num_threads()}; "
          f"{options.rounds} rounds\n")  # fmt: skip
    if forced:
        print("Forced kernels: " + ", ".join(forced) + "\n")
    if os.getloadavg()[0] > 0.5:
        print(
            f"THE MACHINE IS BUSY (load {os.getloadavg()[0]:.1f}): torch's threads wait for each "
            "other at every step and suffer more from that; expect ratios that are too high\n"
        )
    if gm.get_num_threads() != torch.get_num_threads():
        print("gramian and torch differ in their threads: no fair comparison", file=sys.stderr)
        return 2

    missed = []
    for case in options.cases:
        outcome = measure(case, options.spectra, options.rounds)
        title = f"{case}{'' if case.endswith('float64') else ' float32'}, against {peers.REFERENCE}"
        show(title, table(case, options.spectra, outcome, options.absolute), options.markdown)
        missed += misses(case, options.spectra, outcome)
    for line in missed:
        print(f"MISSED  {line}")
    if not missed:
        print("All targets are met.")
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
