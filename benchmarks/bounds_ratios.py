"""How many times as fast as its peers gramian bounds spectral norms, in one run.

    python benchmarks/bounds_ratios.py [--rounds N]

Blocks of calls take turns with a pause between them, as in ratios.py; a time is the median over the
rounds of the blocks' medians. The peers of spectral_norm_bounds (certified, rtol 1e-6) are NumPy's
and torch's norm(ord=2), which certify nothing: the ratio is to the faster one. That of gram_bound
is Gram iteration in torch with as many steps.
"""

from __future__ import annotations

import argparse
import statistics

from ratios import BLOCK_S, block

from benchmarks import spectral_norm

WANTED = {"spectral_norm_bounds": 3.0, "gram_bound": 1.6}


def race(calls: dict, rounds: int) -> dict[str, float]:
    counts = {}
    for name, call in calls.items():
        call()
        counts[name] = min(max(round(BLOCK_S / block(call, 1)), 1), 50)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(block(call, counts[name]))
    return {name: statistics.median(times) for name, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds of blocks (default 7)")
    rounds = parser.parse_args().rounds

    import gramian as gm
    import numpy as np
    import torch

    print(f"gramian {gm.__version__}, torch {torch.__version__}, NumPy {np.__version__}; threads: "
          f"gramian {gm.get_num_threads()}, torch {torch.get_num_threads()}\n")  # fmt: skip
    print(
        "| function | case | ms | peers, ms | times as fast | wanted |\n|---|---|--:|---|--:|--:|"
    )
    work = [("gram_bound", "1024x1024-float32", ("gramian.gram_bound", "torch-gram-iteration"))]
    norms = ("gramian.spectral_norm_bounds", "numpy-norm", "torch-norm")
    work += [("spectral_norm_bounds", case, norms) for case in spectral_norm.CASES]
    for function, case, names in work:
        x = spectral_norm.build(case, "gaussian")
        implementations = {name: spectral_norm.IMPLEMENTATIONS[name] for name in names}
        seconds = race({name: make(x) for name, make in implementations.items()}, rounds)
        own = seconds.pop(names[0])
        peers = ", ".join(f"{name} {1e3 * s:.3g}" for name, s in seconds.items())
        print(f"| {function} | {case} | {1e3 * own:.3g} | {peers} | "
              f"{min(seconds.values()) / own:.1f} | {WANTED[function]} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
