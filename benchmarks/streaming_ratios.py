"""How many times as fast as its peers gramian takes streams of rows, in one run.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/streaming_ratios.py [--rounds N]

The cases of benchmarks/streaming.py. Methods take turns; a time is the median over the rounds of a
whole stream's processor time, one thread each. A sketch is compared with incremental PCA where it
misses no more: the fewest rows that do.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from benchmarks import streaming

PEER = "sklearn-incremental-pca"


def race(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor seconds of each call."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            found[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in found.items()}


def sketches(rounds: int) -> None:
    print("| batch | method | us a row | energy missed | times as fast |\n|--:|---|--:|--:|--:|")
    for batch in streaming.StreamingSketch.params[1]:
        suite = streaming.StreamingSketch()
        calls, missed = {}, {}
        for name in streaming.SKETCHES:
            suite.setup(name, batch)
            calls[name] = suite.fit
            missed[name] = suite.track_energy_missed(name, batch)
        seconds = race(calls, rounds)
        for name, own in seconds.items():
            as_good = missed[name] <= missed[PEER]
            note = "" if as_good else " (misses more)"
            print(f"| {batch} | {name} | {1e6 * own / len(suite.x):.1f} | {missed[name]:.2g} | "
                  f"{seconds[PEER] / own:.1f}{note} |", flush=True)  # fmt: skip


def top_eigenvector(rounds: int) -> None:
    print("\n| method | us a row | sine | times as fast |\n|---|--:|--:|--:|")
    suite = streaming.StreamingTopEigenvector()
    calls, sines = {}, {}
    for name in streaming.PEERS:
        suite.setup(name)
        calls[name] = suite.fit
        sines[name] = suite.track_sine(name)
    seconds = race(calls, rounds)
    for name, own in seconds.items():
        print(f"| {name} | {1e6 * own / len(suite.x):.2f} | {sines[name]:.2g} | "
              f"{seconds[PEER] / own:.1f} |", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of turns (default 5)")
    rounds = parser.parse_args().rounds
    sketches(rounds)
    top_eigenvector(rounds)


if __name__ == "__main__":
    main()
