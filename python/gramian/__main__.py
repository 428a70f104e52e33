"""``python -m gramian``: what is installed. ``python -m gramian demo``: its job on real input."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__, _backend, _cpu, _demo, get_num_threads
from ._matrix_files import FileError

# Names under which a module is distributed.
_OPTIONAL = {
    "torch": ("torch",),
    "cupy": ("cupy", "cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x"),
}


def installed_version(module: str) -> str | None:
    """Version of an optional package, which is not imported for that; None if it is absent."""
    if importlib.util.find_spec(module) is None:
        return None
    for name in _OPTIONAL[module]:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown version"


def information() -> dict[str, Any]:
    """All that a bug report needs."""
    cuda = _backend.cuda_module()
    return {
        "gramian": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "numpy": importlib.metadata.version("numpy"),
        "torch": installed_version("torch"),
        "cupy": installed_version("cupy"),
        "compiler": _cpu.compiler(),
        "blas": _cpu.blas_description(),
        "instruction_set": _cpu.instruction_set(),
        "threads": get_num_threads(),
        "cuda": None if cuda is None else dict(cuda.system_info()),
    }


def _cuda_lines(cuda: dict[str, Any] | None) -> list[str]:
    if cuda is None:
        return ["not built"]
    if cuda["error"]:
        return [f"built, not usable: {cuda['error']}"]
    lines = [f"runtime {_cuda_version(cuda['runtime'])}, driver {_cuda_version(cuda['driver'])}"]
    for index, device in enumerate(cuda["devices"]):
        major, minor = device["compute_capability"]
        lines.append(
            f"{index}: {device['name']}, compute capability {major}.{minor}, "
            f"{device['multiprocessors']} multiprocessors, {device['memory'] / 2**30:.1f} GiB"
        )
    if not cuda["devices"]:
        lines[0] += ", no device"
    return lines


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _text(facts: dict[str, Any]) -> str:
    cuda = _cuda_lines(facts["cuda"])
    rows = [
        ("gramian", facts["gramian"]),
        ("Python", f"{facts['python']}, {facts['platform']}"),
        ("NumPy", facts["numpy"]),
        ("torch", facts["torch"] or "not installed"),
        ("CuPy", facts["cupy"] or "not installed"),
        ("compiler", facts["compiler"]),
        ("BLAS", facts["blas"]),
        ("CPU instructions", facts["instruction_set"]),
        ("threads, at most", facts["threads"]),
        ("CUDA", cuda[0]),
        *(("", line) for line in cuda[1:]),
    ]
    return "\n".join(f"{name:<18}{value}" for name, value in rows)


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed; it must be at least 1")
    return value


def _duration(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not allowed; it must be from 0 to 3600")
    return value


_positive_int.__name__ = "integer"  # argparse names the type in its message
_duration.__name__ = "number"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gramian", description="Without a command: versions, BLAS, CPU and CUDA."
    )
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    demo = parser.add_subparsers(dest="command", title="commands").add_parser(
        "demo",
        help="orthogonalize the matrices of files, next to an SVD",
        description="Orthogonalize every floating-point matrix of the files with newton_schulz; "
        "print time, residual, error and the ratio to numpy.linalg.svd. float32 and float64 are "
        "computed in themselves, half precision in float32.",
    )
    demo.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help=".npy, .npz or .safetensors; without any, two bundled weight matrices",
    )
    demo.add_argument(
        "--steps", type=_positive_int, default=5, metavar="N", help="steps (default: 5)"
    )
    demo.add_argument(
        "--seconds",
        type=_duration,
        default=3.0,
        metavar="S",
        help="most time to spend on timing each matrix (default: 3); one round is always run",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        facts = information()
        print(json.dumps(facts, indent=2) if options.json else _text(facts))
        return 0
    if options.json:
        parser.error("--json goes with no command")
    try:
        _demo.run(options.paths, options.steps, options.seconds)
    except FileError as error:
        print(f"{parser.prog} demo: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
