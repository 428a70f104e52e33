"""How many times as fast as its peers gramian computes functions of matrices, with the errors.

    python benchmarks/functions_ratios.py [--rounds N] [--cpu] [--only NAME]

Calls take turns; a time is the median over the rounds. --cpu takes the process' CPU time, which a
machine with other load disturbs less; it means something with one thread. Errors are against
float64: ||x - u p||_F / ||x||_F for polar, of the result for the others, where NumPy in float64 is
the truth and shows 0. The ratio is to the
fastest peer whose error is at most ten times gramian's or 1e-12, so that no peer is beaten that is
wrong, and all peers are shown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from benchmarks import inverse_root, polar


def polar_case(shape: str, dtype: str, condition: str = "gaussian") -> tuple:
    def make(name: str) -> tuple[Callable, Callable]:
        suite = polar.Polar()
        suite.setup(shape, dtype, condition, name)
        return suite.call, lambda: suite.track_product_error(shape, dtype, condition, name)

    return "polar", f"{shape} {dtype} {condition}", list(polar.IMPLEMENTATIONS), make


def suite_case(function: str, suite_type: type, implementations: dict, *params) -> tuple:
    def make(name: str) -> tuple[Callable, Callable]:
        suite = suite_type()
        suite.setup(*params, name)
        return suite.call, lambda: suite.track_error(*params, name)

    return function, " ".join(map(str, params)), list(implementations), make


def root_case(case: str, p: int, spectrum: str) -> tuple:
    def make(name: str) -> tuple[Callable, Callable]:
        suite = inverse_root.InverseRootError()
        suite.setup(case, p, spectrum, name)
        return suite.call, lambda: suite.track_error(case, p, spectrum, name)

    return "inverse_root", f"{case} p={p} {spectrum}", list(inverse_root.IMPLEMENTATIONS), make


BATCHES = ("64x128x128", "512x32x32")
CASES = [
    *(polar_case(shape, "float64") for shape in ("512x512", "256x1024", *BATCHES)),
    polar_case("512x512", "float64", "1e12"),
    *(polar_case(shape, "float32") for shape in ("512x512", "256x1024", *BATCHES)),
    *(
        suite_case("matrix_sign", polar.MatrixSign, polar.SIGNS, shape, "float64")
        for shape in ("512x512", *BATCHES)
    ),
    *(
        suite_case("spectral_clip", polar.SpectralClip, polar.CLIPS, shape, "float64", kind)
        for kind in ("hard", "soft")
        for shape in ("512x512", *BATCHES)
    ),
    *(
        root_case("1024x1024-float32", p, spectrum)
        for p in (1, 2, 4)
        for spectrum in inverse_root.SPECTRA
    ),
    *(root_case(f"{shape}-float32", 4, "ridge-1e-4") for shape in BATCHES),
    *(
        suite_case("sqrt_psd", inverse_root.SqrtPsd, inverse_root.SQUARE_ROOTS, case)
        for case in ("512x512-float64", "64x128x128-float32", "512x32x32-float32")
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=7, help="calls of each (default 7)")
    parser.add_argument("--cpu", action="store_true", help="CPU time instead of the clock's")
    parser.add_argument("--only", default="", help="functions whose name has this in it")
    options = parser.parse_args()
    clock = time.process_time if options.cpu else time.perf_counter

    import gramian as gm
    import numpy as np
    import torch

    print(f"gramian {gm.__version__}, torch {torch.__version__}, NumPy {np.__version__}; threads: "
          f"gramian {gm.get_num_threads()}, torch {torch.get_num_threads()}\n")  # fmt: skip
    print("| function | case | ms (error) | peers, ms (error) | times as fast |")
    print("|---|---|--:|---|--:|")
    for function, case, names, make in CASES:
        if options.only not in function:
            continue
        made = {name: make(name) for name in names}
        errors = {name: error() for name, (_, error) in made.items()}
        times: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(options.rounds):
            for name, (call, _) in made.items():
                start = clock()
                call()
                times[name].append(1e3 * (clock() - start))
        found = {name: statistics.median(t) for name, t in times.items()}
        shown = [f"{name} {found[name]:.3g} ({errors[name]:.1e})" for name in names[1:]]
        own = names[0]
        peers = [found[n] for n in names[1:] if errors[n] <= max(10 * errors[own], 1e-12)]
        ratio = f"{min(peers) / found[own]:.1f}" if peers else "no peer as accurate"
        time_of_own = f"{found[own]:.3g} ({errors[own]:.1e})"
        print(f"| {function} | {case} | {time_of_own} | {', '.join(shown)} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
