"""Which compiled module computes for a device."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType

from . import _cpu


def for_device(device: tuple[str, int]) -> ModuleType:
    """The module for ``("cpu", 0)`` or ``("cuda", i)``; the CUDA one is loaded at its first use.

    Raises
    ------
    ImportError
        The CUDA module is not installed.
    NotImplementedError
        It is, but holds no kernels yet.
    """
    if device[0] == "cpu":
        return _cpu
    cuda = cuda_module()
    if cuda is None:
        raise ImportError(
            f"the array lies on {device[0]}:{device[1]}, and gramian's CUDA module is not "
            "installed; install it with: pip install gramian[cu13]"
        )
    raise NotImplementedError(
        f"the array lies on {device[0]}:{device[1]}; this version of gramian computes on the CPU "
        "only. Move the array to the CPU first"
    )


def cuda_module() -> ModuleType | None:
    """The CUDA module, or None where it is not installed. One that fails to load raises why."""
    if find_spec(f"{__package__}._cuda") is None:
        return None
    from . import _cuda

    module: ModuleType = _cuda
    return module
