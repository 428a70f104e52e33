"""Everything that takes part in the race, by name.

A contestant's builder imports what it needs and raises if that is missing; the race reports the
reason. Nothing here is copied from a peer: a peer's own file is imported from the folder given.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]

MUON = (3.4445, -4.7750, 2.0315)
MUON_STEPS = 5
# Past some thousands of nodes a graph takes longer to build than the whole row; only the function
# that has no batches gets there.
MOST_CAPTURED_LOOPS = 64


@dataclass(frozen=True)
class Contestant:
    name: str
    call: Function  # as its documentation says to call it: timed eagerly
    capture: Function | None  # what a CUDA graph records; None where the call is itself a replay
    ours: bool = False
    writes_input: bool = False  # such a one gets input buffers of its own
    loops_over_batch: bool = False

    def capturable(self, shape: tuple[int, ...]) -> bool:
        if self.capture is None:
            return False
        batch = shape[0] if len(shape) > 2 else 1
        return not self.loops_over_batch or batch <= MOST_CAPTURED_LOOPS


def gramian(name: str, device: str) -> Contestant:
    import gramian as gm

    steps = int(name.rsplit("-", 1)[1])

    def call(x: Tensor) -> Tensor:
        return gm.newton_schulz(x, steps)

    return Contestant(name, call, call, ours=True)


def muon(x: Tensor) -> Tensor:
    """Muon's orthogonalization from its formula, five steps in bfloat16.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """
    a, b, c = MUON
    tall = x.shape[-2] > x.shape[-1]
    y = x.bfloat16()
    y = y.mT if tall else y
    y = y / (torch.linalg.matrix_norm(y, keepdim=True) + 1e-7)
    for _ in range(MUON_STEPS):
        gram = y @ y.mT
        y = a * y + (b * gram + c * (gram @ gram)) @ y
    return y.mT if tall else y


def muon_reference(name: str, device: str) -> Contestant:
    if name == "muon-reduce-overhead":
        if device == "cpu":
            raise NotImplementedError("there are no CUDA graphs on a CPU")
        return Contestant(name, torch.compile(muon, dynamic=False, mode="reduce-overhead"), None)
    if device == "cpu":  # compiling takes longer there than the whole smoke test
        return Contestant(name, muon, None)
    compiled = torch.compile(muon, dynamic=False)
    return Contestant(name, compiled, compiled)


def torch_optim_muon(name: str, device: str) -> Contestant:
    """What torch.optim.Muon calls, one matrix at a time. It divides its argument in place."""
    from torch.optim._muon import _zeropower_via_newtonschulz as zeropower

    def call(x: Tensor) -> Tensor:
        if x.ndim == 2:
            return zeropower(x, MUON, MUON_STEPS, 1e-7)
        return torch.stack([zeropower(matrix, MUON, MUON_STEPS, 1e-7) for matrix in x])

    return Contestant(name, call, call, writes_input=True, loops_over_batch=True)


def dion(name: str, device: str) -> Contestant:
    """microsoft/dion: symmetric Triton kernels, You's rows; "fast": four steps after AOL."""
    from dion import newton_schulz_triton as file

    _shorten_autotuning(file)
    call = file.newton_schulz_triton
    if name == "dion-fast":
        call = file.newton_schulz_triton_fast
    elif name == "dion-polar-express":
        from dion import polar_express

        call = polar_express.polar_express_triton
    return Contestant(name, call, call)


def turbo_muon(name: str, device: str) -> Contestant:
    """Boissin et al., Turbo-Muon: four steps after AOL preconditioning, compiled as published."""
    from turbo_muon import newton_schulz_triton as file

    return Contestant(name, file.NS_ours, file.NS_ours)


def gram_newton_schulz(name: str, device: str) -> Contestant:
    """Dao-AILab/gram-newton-schulz. Its default mode replays CUDA graphs that inductor recorded.

    A replay cannot be captured again, so another instance without that mode is captured.
    """
    from gram_newton_schulz import GramNewtonSchulz

    build = functools.partial(GramNewtonSchulz, ns_use_kernels=name == "gns-cute")
    if device == "cpu":
        return Contestant(name, build(compile_kwargs=None), None)
    return Contestant(name, build(), build(compile_kwargs={"fullgraph": True}))


BUILDERS: dict[str, Callable[[str, str], Contestant]] = {
    "gramian-3": gramian,
    "gramian-4": gramian,
    "gramian-5": gramian,
    "muon-compile": muon_reference,
    "muon-reduce-overhead": muon_reference,
    "torch.optim.Muon": torch_optim_muon,
    "dion-triton": dion,
    "turbo-muon": turbo_muon,
    "gns-cute": gram_newton_schulz,
    "gns-torch": gram_newton_schulz,
}
# Further functions of the same files; each adds autotuning time to every row.
EXTRA = {"dion-fast": dion, "dion-polar-express": dion}
FROM_PEERS = ("dion", "turbo-muon", "gns")  # starts of the names that need the peers' folder
# What compiles for long; the race has these fill the compilers' caches side by side first.
COMPILED = {
    "muon-compile": 1,
    "muon-reduce-overhead": 1,
    "dion-triton": 4,
    "turbo-muon": 1,
    "gns-cute": 1,
    "gns-torch": 1,
}


def add_peers(folder: str) -> None:
    """Make the packages in that folder importable, after everything installed."""
    places = [os.path.join(folder, "nvidia_cutlass_dsl", "python_packages"), folder]
    sys.path += [place for place in places if os.path.isdir(place)]
    # Compiling happens in subprocesses too.
    inherited = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    os.environ["PYTHONPATH"] = os.pathsep.join(inherited + places)


def prepare_torch() -> None:
    """Settings that every process of the race needs alike, since compilers' caches key on them."""
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    torch.set_grad_enabled(False)
    # A compiled function is compiled anew for each shape; the default gives up after eight.
    for limit in ("recompile_limit", "cache_size_limit", "accumulated_recompile_limit"):
        if hasattr(dynamo, limit):
            setattr(dynamo, limit, 1024)
    # Choices among kernels must come from the race itself, when nothing else uses the GPU, not
    # from the processes that fill the caches side by side.
    if hasattr(inductor, "autotune_local_cache"):
        inductor.autotune_local_cache = False


def kernels_of(module) -> list:
    """The autotuned Triton kernels of a module."""
    from triton.runtime.autotuner import Autotuner

    return [value for value in vars(module).values() if isinstance(value, Autotuner)]


def _shorten_autotuning(module) -> None:
    """Time each candidate for a quarter as long as Triton's default of 25 + 100 ms.

    There are sixty of them for each shape. A median over 25 ms tells them apart as well.
    """
    import triton.testing

    for kernel in kernels_of(module):
        if "_do_bench" in vars(kernel):
            kernel._do_bench = functools.partial(triton.testing.do_bench, warmup=5, rep=25)


def _compile_only(launch: Callable[[], object], quantiles: tuple[float, ...]) -> list[float]:
    launch()
    return [1.0 for _ in quantiles]


def forget_shape() -> None:
    """Drop what was compiled and chosen for one shape before the next.

    Both autotuners take sizes for equal that are not: dion's key leaves out the batch, and a
    kernel whose code inductor has seen keeps its first choice. Each shape gets its own.
    """
    import torch._inductor.utils as inductor

    torch._dynamo.reset()
    inductor.clear_inductor_caches()
    if "dion.newton_schulz_triton" in sys.modules:
        for kernel in kernels_of(sys.modules["dion.newton_schulz_triton"]):
            kernel.cache.clear()


def warm(name: str, shapes: list[tuple[int, ...]], share: int, shares: int) -> None:
    """Compile what a contestant needs for those shapes, so that the compilers' caches hold it.

    Autotuned Triton kernels called directly compile one candidate after the other; each of several
    processes takes its share of them, and one shape, since the sizes are no part of the code.
    Nothing is timed: the choices made here are forgotten, and others use the GPU meanwhile.
    """
    from torch._inductor.runtime.benchmarking import benchmarker

    for method in ("benchmark", "benchmark_gpu"):
        setattr(benchmarker, method, lambda *args, **kwargs: 1.0)
    contestant = BUILDERS[name](name, "cuda")
    if shares > 1:
        for kernel in kernels_of(sys.modules["dion.newton_schulz_triton"]):
            kernel.configs = kernel.configs[share::shares]
            kernel._do_bench = _compile_only
        shapes = [min(shapes, key=lambda shape: functools.reduce(int.__mul__, shape))]
    for shape in shapes:
        x = torch.randn(shape, device="cuda").bfloat16()
        contestant.call(x)
        if contestant.capture is not None and contestant.capture is not contestant.call:
            contestant.capture(x)
        torch.cuda.synchronize()
