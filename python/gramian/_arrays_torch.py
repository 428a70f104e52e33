"""torch's tensors: which ones may be computed with, and how their memory travels.

torch is not imported here: a tensor can only exist once it is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np

from ._arrays_library import CPU, DTYPES, Device


class WatchedTensor(TypeError):
    """A tensor that autograd, a transform or a tracer of torch's follows; `gramian.torch` takes it.

    Raised before anything is done, so that the call can be made again there.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class Torch:
    name = "torch"

    def owns(self, kind: type) -> bool:
        torch = sys.modules.get("torch")
        return torch is not None and issubclass(kind, getattr(torch, "Tensor", ()))

    def describe(self, value: Any, name: str) -> tuple[str, Device]:
        torch = sys.modules["torch"]
        if value.layout != torch.strided or value.is_nested:
            raise TypeError(f"{name} is a torch tensor of layout {value.layout}; it must be dense")
        if _without_memory(value):
            raise WatchedTensor(
                f"{name} is a torch tensor without memory of its own ({type(value).__name__}, on "
                "the meta device or inside torch.func or torch.compile); it must be a plain tensor",
                name,
            )
        if torch._C._len_torch_dispatch_stack():
            raise WatchedTensor(
                f"{name} is a torch tensor under a dispatch mode (of a tracer, a counter or the "
                "like), which would not see this function; leave the mode first",
                name,
            )
        device = CPU
        if not value.is_cpu:
            if value.device.type != "cuda":
                raise TypeError(
                    f"{name} lies on torch device {value.device}; it must be cpu or cuda"
                )
            device = ("cuda", value.get_device())
        if carries_tangent(value):
            raise WatchedTensor(
                f"{name} carries a forward-mode tangent, and this function defines no derivative "
                f"for it; pass torch.autograd.forward_ad.unpack_dual({name}).primal",
                name,
            )
        if value.requires_grad and torch.is_grad_enabled():
            raise WatchedTensor(
                f"{name} requires grad, and this function defines no gradient for it; pass "
                f"{name}.detach(), or call it under torch.no_grad()",
                name,
            )
        dtype = _torch_names().get(value.dtype) or str(value.dtype).removeprefix("torch.")
        return dtype, device

    def strides(self, value: Any) -> Sequence[int]:
        strides: Sequence[int] = value.stride()
        return strides

    def writable(self, value: Any) -> bool:
        # Nor can a result be written through such a bit.
        return not (value.is_conj() or value.is_neg())

    def empty(self, shape: tuple[int, ...], dtype: str, device: Device) -> Any:
        torch = sys.modules["torch"]
        strides, step = [1] * len(shape), 1
        for d in range(len(shape) - 1, -1, -1):
            strides[d] = step
            step *= shape[d] or 1
        # torch.empty takes 1 us longer.
        return torch.empty_strided(
            shape, strides, dtype=getattr(torch, dtype), device=_torch_device(device)
        )

    def capsule(self, value: Any, dtype: str) -> object:
        torch = sys.modules["torch"]
        # Conjugate and negative views are bits on the tensor that DLPack cannot carry.
        if value.is_conj() or value.is_neg():
            value = value.detach().resolve_conj().resolve_neg()
        # The method __dlpack__ takes 3 us longer and asks the tensor's device to be current.
        capsule: object = torch.utils.dlpack.to_dlpack(value)
        return capsule

    def stream(self, device: Device) -> int:
        torch = sys.modules["torch"]
        raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)
        if raw is None:
            return int(torch.cuda.current_stream(device[1]).cuda_stream)
        return int(raw(device[1]))  # the same, without an object made for it

    def written(self, value: Any) -> None:
        # As torch's own in-place functions do: a backward pass that saved the old values must fail.
        sys.modules["torch"].autograd.graph.increment_version(value)

    def to_host(self, value: Any) -> np.ndarray:
        array: np.ndarray = value.detach().cpu().resolve_conj().resolve_neg().numpy()
        return array

    def from_host(self, value: np.ndarray, device: Device) -> Any:
        torch = sys.modules["torch"]
        return torch.from_numpy(np.array(value, order="C")).to(_torch_device(device))

    def current(self, device: Device) -> AbstractContextManager[Any]:
        # Every operation goes to its operands' device, on that device's current stream.
        return nullcontext()

    def to_numpy(self, value: Any) -> Any:
        torch = sys.modules["torch"]
        value = value.detach().resolve_conj().resolve_neg()
        if value.dtype == torch.bfloat16:
            return value.view(torch.int16).numpy().view(np.uint16)
        return value.numpy()

    def from_numpy(self, values: Any, dtype: str) -> Any:
        torch = sys.modules["torch"]
        return torch.from_numpy(np.ascontiguousarray(values)).to(getattr(torch, dtype))


def refuse_gradient(value: Any, name: str) -> None:
    """Raises TypeError for a number that is a torch tensor whose derivative would be lost."""
    if isinstance(value, int | float):  # or one that torch.compile does not know, but its type is
        return
    if getattr(value, "requires_grad", False) and sys.modules["torch"].is_grad_enabled():
        raise TypeError(f"{name} requires grad, and it gets no gradient; pass {name}.detach()")
    if Torch().owns(type(value)) and carries_tangent(value):
        raise TypeError(
            f"{name} carries a forward-mode tangent, which would be lost; pass "
            f"torch.autograd.forward_ad.unpack_dual({name}).primal"
        )


def is_watched(value: Any) -> bool:
    """Whether a torch tensor may only be used through operators that torch knows."""
    torch = sys.modules["torch"]
    return bool(
        (value.requires_grad and torch.is_grad_enabled())
        or torch._C._len_torch_dispatch_stack()
        or _without_memory(value)
        or carries_tangent(value)
    )


def carries_tangent(value: Any) -> bool:
    """Whether forward mode follows a torch tensor."""
    torch = sys.modules["torch"]
    forward = torch.autograd.forward_ad
    # Outside of every level, as most calls are, that is all there is to ask.
    if forward._current_level < 0:
        return False
    # Below the dispatch key of tangents, as where torch.func.linearize computes constants, there
    # are none, and torch fails to look for them (in inference mode it does not).
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded
    if excluded(torch._C.DispatchKey.ADInplaceOrView) and not torch.is_inference_mode_enabled():
        return False
    return forward.unpack_dual(value).tangent is not None


def _without_memory(value: Any) -> bool:
    torch = sys.modules["torch"]
    if value.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(value):
        return True
    kind = type(value)
    return kind is not torch.Tensor and any(c.__name__ == "FakeTensor" for c in kind.__mro__)


@lru_cache(maxsize=1)
def _torch_names() -> dict[Any, str]:
    torch = sys.modules["torch"]
    return {getattr(torch, name): name for name in DTYPES}


@lru_cache(maxsize=64)
def _torch_device(device: Device) -> Any:
    torch = sys.modules["torch"]
    return torch.device("cpu") if device == CPU else torch.device(*device)
