"""Which compiled module computes for a device."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from . import _cpu


def for_device(device: tuple[str, int]) -> ModuleType:
    """The module for ``("cpu", 0)`` or ``("cuda", i)``; the CUDA one is loaded at its first use.

    Raises
    ------
    ImportError
        The CUDA module is not installed.
    """
    if device[0] == "cpu":
        return _cpu
    cuda = cuda_module()
    if cuda is None:
        raise ImportError(
            f"the array lies on {device[0]}:{device[1]}, and gramian's CUDA module is not "
            "installed; install it with: pip install gramian[cu13]"
        )
    return cuda


@cache
def cuda_module() -> ModuleType | None:
    """The CUDA module, or None where it is not installed. One that fails to load raises why.

    It is part of this package where that was built with ``nvcc``, and else of the distribution
    gramian-cu13, which has to be of the same version.
    """
    for package in (__package__, "gramian_cu13"):
        if find_spec(package) is not None and find_spec(f"{package}._cuda") is not None:
            module = import_module(f"{package}._cuda")
            break
    else:
        return None
    if module.version() != _cpu.version():
        raise ImportError(
            f"gramian-cu13 is of version {module.version()} and gramian of {_cpu.version()}; "
            "install both at once: pip install --upgrade gramian[cu13]"
        )
    module.set_library_directories([str(path) for path in _library_directories()])
    return module


def _library_directories() -> list[Path]:
    """Directories that hold cuBLAS, cuSOLVER or what they need, the likeliest first.

    The packages of nvidia's that torch and CuPy depend on come first: another cuBLAS beside the
    one that those have loaded would cost its memory twice. None of them is imported.
    """
    candidates = []
    spec = find_spec("nvidia")
    for root in (spec and spec.submodule_search_locations) or ():
        # cu13 has all of a toolkit; before that each library had a package of its own.
        toolkits = sorted(Path(root).glob("cu[0-9]*/lib"), reverse=True)
        libraries = (
            Path(root, name, "lib") for name in ("cublas", "cusolver", "cusparse", "nvjitlink")
        )
        candidates += [*toolkits, *libraries]
    for variable in ("CUDA_PATH", "CUDA_HOME", "CONDA_PREFIX"):
        if home := os.environ.get(variable):
            candidates += [Path(home, "lib64"), Path(home, "lib")]
    candidates += [Path(sys.prefix, "lib"), Path("/usr/local/cuda/lib64")]
    return [path for path in dict.fromkeys(candidates) if any(path.glob("lib*.so*"))]
