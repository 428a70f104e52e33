"""What the programs of this folder that print one table have in common: options, and the file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch


def options(
    doc: str | None, cases: str, metavar: str, rounds: int, smoke: str
) -> argparse.Namespace:
    """Of the command line: `cases` names the option for other cases than the usual ones.

    Sets torch for measuring: no gradients, and float32 products in float32.
    """
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", 1)[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument(f"--{cases}", dest="cases", nargs="+", metavar=metavar)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--smoke", action="store_true", help=smoke)
    parser.add_argument("--out", metavar="FILE.md")
    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = False
    return parser.parse_args()


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def finish(lines: Sequence[str], out: str | None) -> int:
    """Write the table, if a file is named; the exit status: 1 if any row says VIOLATED."""
    if out:
        with open(out, "w") as file:
            file.write("\n".join(lines) + "\n")
    return 1 if any("VIOLATED" in line for line in lines) else 0
