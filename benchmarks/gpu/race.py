"""How many times as fast newton_schulz is on a GPU as everything else that does its work.

    python3 benchmarks/gpu/race.py [--peers DIR] [--rows large|mid|small|all] [--out FILE]...

All contestants run in this one process on the same bfloat16 matrices and take turns. A time is the
median over rounds of the median of three blocks of back-to-back calls, by the GPU's clock:

  stream  each call made from Python, as a user makes it. Where launching takes longer than
          computing, that is what is seen.
  graph   the calls recorded once and replayed as a CUDA graph. What inductor replays by itself
          (muon-reduce-overhead, and gns-* by default) counts as "stream" only; for gns-* the
          same function compiled without that mode is recorded.

The input alternates among enough copies not to be found in the L2 cache. Each result is judged
against the polar factor of the rounded input in float64: the relative error in the Frobenius norm
and the range of its singular values.

A ratio counts only at equal or better error. Against each peer, gramian is represented by its
fastest number of steps (3, 4, 5) whose error on that input is at most 1.02 times the peer's. The
headline of a row is the ratio against its fastest peer, marked with a star; the least ratio against
any peer stands beside it in the summary.

DIR holds the peers that are not part of torch, as importable packages: dion/newton_schulz_triton.py
(and polar_express.py) of microsoft/dion, turbo_muon/newton_schulz_triton.py of Turbo-Muon, and
gram_newton_schulz with what it needs (quack, tvm_ffi, nvidia_cutlass_dsl). A peer that is missing
or fails is listed with the reason. FILE ends in .json or .md.

`--device cpu --smoke` runs all of it on tiny matrices by the wall clock, to test this program.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings

import clock
import contestants
import inputs
import results
import torch

BEGUN = time.monotonic()
ROUNDS = {"gaussian": 7, "rank1": 3}  # with three blocks a turn: at least 21 timed calls and 9
WARM_LIMIT_S = 150


def say(message: str) -> None:
    print(f"[{time.monotonic() - BEGUN:6.1f} s] {message}", flush=True)


def reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' / '.join(lines[:3])}"[:300]


def check_alive(name: str, device: str) -> None:
    """Some CUDA errors end every later call of the process: then there is no going on."""
    if device == "cuda":
        try:
            torch.cuda.synchronize()
        except RuntimeError as error:
            say(f"{name} HAS LEFT THE GPU UNUSABLE (--without NAME leaves one contestant out)")
            raise SystemExit(3) from error


def fill_caches(names: list[str], shapes: list[inputs.Shape], options) -> None:
    """Compile side by side, in processes of their own, what the race would compile in turn."""
    running = []
    for name in names:
        shares = contestants.COMPILED.get(name, 0)
        for share in range(shares):
            command = [sys.executable, __file__, "--warm", name, f"{share}/{shares}"]
            command += ["--shapes", *map(inputs.name_of, shapes)]
            command += ["--peers", options.peers] if options.peers else []
            log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (outlives this loop)
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            running.append((f"{name} {share + 1}/{shares}", process, log))
    say(f"compiling in {len(running)} processes")
    limit = time.monotonic() + WARM_LIMIT_S
    while running:
        for item in list(running):
            label, process, log = item
            if process.poll() is None and time.monotonic() < limit:
                continue
            if process.poll() is None:
                process.kill()
                say(f"  {label}: stopped after {WARM_LIMIT_S} s")
            elif process.returncode:
                log.seek(0)
                last = (log.read().strip().splitlines() or ["no output"])[-1]
                say(f"  {label}: failed: {last[:200]}")
            else:
                say(f"  {label}: done")
            process.wait()
            log.close()
            running.remove(item)
        time.sleep(0.2)


def load(names: list[str], device: str) -> tuple[list[contestants.Contestant], dict[str, str]]:
    loaded, failed = [], {}
    for name in names:
        try:
            builder = (contestants.BUILDERS | contestants.EXTRA)[name]
            loaded.append(builder(name, device))
        except Exception as error:
            failed[name] = reason(error)
            say(f"{name} cannot be loaded: {failed[name]}")
    return loaded, failed


def prepare_entries(
    row: results.Row,
    shape: inputs.Shape,
    runners: list[contestants.Contestant],
    x: torch.Tensor,
    device: str,
) -> tuple[list[clock.Entry], list[torch.Tensor]]:
    """Compile, warm up and record everything; what fails leaves the row."""
    shared = [x.clone() for _ in range(clock.buffers_for(x))]
    entries, all_buffers = [], list(shared)
    for runner in runners:
        buffers, begun, added = shared, time.monotonic(), []
        try:
            if runner.writes_input:
                buffers = [x.clone() for _ in shared]
            for number in range(4):  # a mode that records graphs by itself does so in the first
                runner.call(buffers[number % len(buffers)])
            added.append(clock.stream_entry(runner.name, runner.call, buffers))
            if device == "cuda":
                torch.cuda.synchronize()
        except Exception as error:
            row.failed[runner.name] = reason(error)
            say(f"  {runner.name} FAILED: {row.failed[runner.name]}")
            check_alive(runner.name, device)
            continue
        if device == "cuda" and runner.capturable(shape):
            try:
                recorded = buffers[:1] if runner.loops_over_batch else buffers
                added.append(clock.graph_entry(runner.name, runner.capture, recorded))
            except Exception as error:
                row.failed[f"{runner.name} (graph)"] = reason(error)
                say(f"  {runner.name} as a graph FAILED: {reason(error)}")
                check_alive(runner.name, device)
        entries += added
        if buffers is not shared:
            all_buffers += buffers
        say(f"  {runner.name} ready after {time.monotonic() - begun:.1f} s")
    return entries, all_buffers


def run_row(
    shape: inputs.Shape, runners: list[contestants.Contestant], options, failed: dict[str, str]
) -> results.Row:
    device = options.device
    row = results.Row(inputs.name_of(shape), inputs.judged(shape), failed=dict(failed))
    row.ours = [runner.name for runner in runners if runner.ours]
    say(f"{row.shape}")
    x = inputs.build(shape, "gaussian", device)
    entries, buffers = prepare_entries(row, shape, runners, x, device)
    for kind, rounds in ROUNDS.items():
        x = inputs.build(shape, kind, device)
        for buffer in buffers:
            buffer.copy_(x)
        times = clock.race(entries, options.rounds or rounds, device)
        row.ms[kind] = {}
        for (name, which), ms in times.items():
            row.ms[kind].setdefault(name, {})[which] = ms
    say("  timed")
    working = {entry.name for entry in entries}
    for kind in inputs.KINDS:
        x = inputs.build(shape, kind, device)
        first = x if x.ndim == 2 else x[: row.judged]
        truth = inputs.polar_factor(first.reshape(-1, *shape[-2:]))
        row.quality[kind] = {}
        for runner in runners:
            if runner.name not in working:
                continue
            try:
                # A graph of inductor's writes every result to the same place: keep a copy.
                q = runner.call(x.clone() if runner.writes_input else x).clone()
                row.quality[kind][runner.name] = inputs.judge(q, truth)
            except Exception as error:
                row.failed[runner.name] = f"on {kind}: {reason(error)}"
                say(f"  {runner.name} FAILED {row.failed[runner.name]}")
                check_alive(runner.name, device)
    say("  judged")
    return row


def check_polar_factor(device: str) -> None:
    for kind in inputs.KINDS:
        size = (512, 768) if device == "cuda" else (48, 64)
        x = inputs.build(size, kind, device)
        u, _, vh = torch.linalg.svd(x.double(), full_matrices=False)
        exact = u @ vh
        far = float((inputs.polar_factor(x) - exact).norm() / exact.norm())
        if not far < 1e-9:
            raise ArithmeticError(f"the polar factor of {kind} is off by {far:.2g}")


def save(rows: list[results.Row], title: str, options) -> None:
    for path in options.out:
        with open(path, "w") as file:
            if path.endswith(".json"):
                json.dump({"title": title, "rows": [row.to_json() for row in rows]}, file, indent=1)
            else:
                file.write(results.report(rows, title, markdown=True))


def parse() -> argparse.Namespace:
    known = [*contestants.BUILDERS, *contestants.EXTRA]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--peers", metavar="DIR", help="folder with the peers' packages")
    parser.add_argument("--rows", choices=["large", "mid", "small", "all"], default="all")
    parser.add_argument("--shapes", nargs="+", metavar="BxMxN", help="these instead of --rows")
    parser.add_argument("--only", nargs="+", choices=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--without", nargs="+", choices=known, metavar="NAME", default=[])
    parser.add_argument("--extra", action="store_true", help="also " + ", ".join(contestants.EXTRA))
    parser.add_argument("--rounds", type=int, help="default: 7 on gaussian input, 3 on rank1")
    budget = "begin no row that would end later than this (default 540)"
    parser.add_argument("--budget", type=float, default=540, metavar="S", help=budget)
    parser.add_argument("--cold", action="store_true", help="do not compile side by side first")
    parser.add_argument("--out", action="append", default=[], metavar="FILE")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a comparison is lost")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny matrices")
    parser.add_argument("--warm", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for path in options.out:
        if not path.endswith((".json", ".md")):
            parser.error(f"--out is {path}; it must end in .json or .md")
    if options.device == "cpu" and not options.smoke and not options.shapes:
        parser.error("--device cpu is for --smoke or --shapes only")
    return options


def main() -> int:
    options = parse()
    warnings.filterwarnings("ignore")  # the compilers' advice, once a shape
    if options.peers:
        contestants.add_peers(os.path.abspath(options.peers))
    contestants.prepare_torch()
    if options.shapes:
        shapes = [tuple(map(int, name.split("x"))) for name in options.shapes]
    else:
        chosen = ["smoke"] if options.smoke else ["large", "mid", "small"]
        if options.rows != "all" and not options.smoke:
            chosen = [options.rows]
        shapes = [shape for group in chosen for shape in inputs.ROWS[group]]
    if options.warm:
        share, shares = map(int, options.warm[1].split("/"))
        contestants.warm(options.warm[0], shapes, share, shares)
        return 0

    names = [*contestants.BUILDERS, *(contestants.EXTRA if options.extra else ())]
    names = [n for n in options.only or names if n not in options.without]
    if not options.peers:
        names = [n for n in names if not n.startswith(contestants.FROM_PEERS)]
    title = f"torch {torch.__version__}, bfloat16, "
    if options.device == "cuda":
        title += f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    else:
        title += "CPU, wall clock, nothing compiled: these times mean nothing"
    say(title)
    if options.device == "cuda" and not options.cold:
        fill_caches(names, shapes, options)
    check_polar_factor(options.device)
    runners, failed = load(names, options.device)

    rows: list[results.Row] = []
    longest = 0.0
    for shape in shapes:
        begun = time.monotonic()
        if begun - BEGUN + longest > options.budget:
            say(f"{inputs.name_of(shape)} is LEFT OUT: the budget of {options.budget} s is spent")
            continue
        try:
            row = run_row(shape, runners, options, failed)
        except Exception as error:
            say(f"{inputs.name_of(shape)} IS LOST: {reason(error)}")
            check_alive(inputs.name_of(shape), options.device)
            continue
        rows.append(row)
        print(results.text(results.measured(row), markdown=False), flush=True)
        print(results.text(results.against_each(row), markdown=False), flush=True)
        save(rows, title, options)
        if options.device == "cuda":
            contestants.forget_shape()
            gc.collect()
            torch.cuda.empty_cache()
        longest = max(longest, time.monotonic() - begun)

    print("Against the fastest peer [least against any], at equal or better error")
    print(results.text(results.summary(rows), markdown=False))
    for name, why in {k: v for row in rows for k, v in row.failed.items()}.items():
        print(f"FAILED   {name}: {why}")
    lost = results.losses(rows)
    for line in lost:
        print(f"NOT WON  {line}")
    say("all won" if not lost else f"{len(lost)} comparisons not won")
    incomplete = len(rows) < len(shapes)
    heads = [h for row in rows for k in row.quality for h in [row.headline(k, "stream")] if h]
    if not heads or not all(math.isfinite(h.peer_ms) for h in heads):
        say("NOTHING WAS COMPARED")
        return 2
    return 1 if options.check and (lost or incomplete) else 0


if __name__ == "__main__":
    sys.exit(main())
