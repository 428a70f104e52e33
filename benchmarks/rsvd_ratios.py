"""How many times as fast as its peers gramian finds a truncated SVD at equal error, in one run.

    python benchmarks/rsvd_ratios.py [--rounds N]

Calls take turns as in ratios.py. Against each peer the fastest number of reads is taken whose
Frobenius error is at most 1.0005 times the peer's.
"""

from __future__ import annotations

import argparse
import statistics

from ratios import block

from benchmarks import rsvd

WANTED = {"scikit-learn": 3.0, "torch.svd_lowrank": 1.3, "scipy.svds": 1.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of blocks (default 5)")
    rounds = parser.parse_args().rounds
    print("| case | spectrum | peer | ms (error) | gramian | ms (error) | times as fast | wanted |")
    print("|---|---|---|--:|---|--:|--:|--:|")
    for case in rsvd.CASES:
        rank = rsvd.CASES[case].rank
        for spectrum in rsvd.SPECTRA:
            x = rsvd.build(case, spectrum)
            best = rsvd.best_error(x, rank)
            calls = {name: make(x, rank) for name, make in rsvd.IMPLEMENTATIONS.items()}
            errors = {name: rsvd.relative_error(x, call(), best) for name, call in calls.items()}
            taken: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(rounds):
                for name, call in calls.items():
                    taken[name].append(block(call, 1))
            ms = {name: 1e3 * statistics.median(times) for name, times in taken.items()}
            for peer in rsvd.PEERS:
                good = [n for n in rsvd.GRAMIAN if errors[n] <= 1.0005 * errors[peer]]
                own = min(good, key=ms.__getitem__, default=None)
                shown = (
                    f"{own} | {ms[own]:.1f} ({errors[own]:.4f}) | {ms[peer] / ms[own]:.1f}"
                    if own
                    else "none as exact | | "
                )
                print(f"| {case} | {spectrum} | {peer} | {ms[peer]:.1f} ({errors[peer]:.4f}) | "
                      f"{shown} | {WANTED[peer]} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
