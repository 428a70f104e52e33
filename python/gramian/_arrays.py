"""The one place that knows array libraries: what an argument is, where it lies, how it travels.

Every array goes to the compiled code as a DLPack capsule, and every result and all work space on
a GPU is allocated by the library the input came from, on the stream that it would use itself: so
memory that is freed while work is queued is handed out again in that stream's order. Neither torch
nor CuPy is imported here: an array of theirs can only exist once its library is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
ACCEPTED = (
    "a NumPy array, CuPy array, torch tensor or an object with __dlpack__, of dtype "
    + ", ".join(DTYPES)
)

Device = tuple[str, int]
CPU: Device = ("cpu", 0)


def real_dtype(dtype: str) -> str:
    """The dtype of real figures about an array: norms, bounds, residuals."""
    return "float64" if dtype in ("float64", "complex128") else "float32"


class Library(Protocol):
    """What gramian asks of an array library."""

    name: str

    def owns(self, kind: type) -> bool: ...

    def describe(self, value: Any, name: str) -> tuple[str, Device]:
        """dtype and device; raises TypeError for arrays that cannot be computed with."""

    def strides(self, value: Any) -> Sequence[int]: ...

    def writable(self, value: Any) -> bool: ...

    def empty(self, shape: tuple[int, ...], dtype: str, device: Device) -> Any: ...

    def capsule(self, value: Any, dtype: str) -> object:
        """Hands the memory over as it is; no stream waits for another."""

    def stream(self, device: Device) -> int:
        """The stream that the library would queue work for the device on now."""

    def written(self, value: Any) -> None:
        """Tells the library that the kernel has changed an array of the caller's."""

    def to_host(self, value: Any) -> np.ndarray:
        """NumPy's array of the same numbers; from a GPU it waits for the stream."""

    def from_host(self, value: np.ndarray, device: Device) -> Any:
        """The library's array of NumPy's numbers, on the device."""

    def current(self, device: Device) -> AbstractContextManager[Any]:
        """Where the library's own operations on arrays of the device are to be called."""

    def to_numpy(self, value: Any) -> Any:
        """The entries of an array on the CPU, without a copy; bfloat16 as its bits, uint16."""

    def from_numpy(self, values: Any, dtype: str) -> Any:
        """An array on the CPU of NumPy's entries, without a copy where the dtype is theirs."""


class WatchedTensor(TypeError):
    """A tensor that autograd, a transform or a tracer of torch's follows; `gramian.torch` takes it.

    Raised before anything is done, so that the call can be made again there.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(slots=True, eq=False)
class Array:
    """A checked argument; not to be changed (frozen dataclasses take 1 us to make)."""

    value: Any
    library: Library
    shape: tuple[int, ...]
    dtype: str
    device: Device

    def capsule(self) -> object:
        """A DLPack capsule; good for one call."""
        return self.library.capsule(self.value, self.dtype)

    def written(self) -> None:
        """To be called once a result has been put into the array."""
        self.library.written(self.value)

    def stream(self) -> int:
        """The caller's current stream on the array's device, as CUDA's handle."""
        return self.library.stream(self.device)

    def scratch(self, size: int) -> object:
        """A capsule of so many bytes on the array's device, in the order of its stream."""
        return self.library.capsule(self.library.empty((size,), "uint8", self.device), "uint8")

    def empty_like(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An array without values, of the same library and device, row-major."""
        value = self.library.empty(shape, dtype, self.device)
        return Array(value, self.library, shape, dtype, self.device)

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """The library's array of zeros, of the same dtype and device."""
        value = self.library.empty(shape, self.dtype, self.device)
        value[...] = 0
        return value

    def host(self) -> np.ndarray:
        """The numbers as NumPy's; from a GPU it waits for the stream."""
        return self.library.to_host(self.value)

    def put(self, value: np.ndarray) -> Any:
        """NumPy's numbers as an array of this one's library, on its device."""
        return self.library.from_host(value, self.device)

    @property
    def module(self) -> Any:
        """The library's module, for what NumPy, torch and CuPy call the same."""
        return sys.modules[self.library.name]


class _NumPy:
    name = "numpy"

    def owns(self, kind: type) -> bool:
        return issubclass(kind, np.ndarray)

    def describe(self, value: Any, name: str) -> tuple[str, Device]:
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(
                f"{name} is a masked array; its mask would be ignored. Fill it first: "
                f"{name}.filled(...)"
            )
        if not value.dtype.isnative:
            raise TypeError(
                f"{name} has the byte order of another machine ({value.dtype.str}); convert it "
                f"with {name}.astype({name}.dtype.newbyteorder('='))"
            )
        return _dtype_name(value.dtype), CPU

    def strides(self, value: Any) -> Sequence[int]:
        strides: Sequence[int] = value.strides
        return strides

    def writable(self, value: Any) -> bool:
        return bool(value.flags.writeable) and _whole_elements(value)

    def empty(self, shape: tuple[int, ...], dtype: str, device: Device) -> Any:
        return np.empty(shape, _numpy_dtype(dtype))

    def capsule(self, value: Any, dtype: str) -> object:
        if dtype == "bfloat16":
            value = value.view(np.uint16)
        if not _whole_elements(value):
            value = value.copy()
        capsule: object = value.__dlpack__(max_version=(1, 1))
        return capsule

    def stream(self, device: Device) -> int:
        raise AssertionError("NumPy has no streams")

    def written(self, value: Any) -> None:
        pass

    def to_host(self, value: Any) -> np.ndarray:
        return np.asarray(value)

    def from_host(self, value: np.ndarray, device: Device) -> Any:
        return value

    def current(self, device: Device) -> AbstractContextManager[Any]:
        return nullcontext()

    def to_numpy(self, value: Any) -> Any:
        return value.view(np.uint16) if value.dtype.name == "bfloat16" else value

    def from_numpy(self, values: Any, dtype: str) -> Any:
        return values.astype(_numpy_dtype(dtype), copy=False)


def _whole_elements(value: Any) -> bool:
    """False for fields of packed records and the like, which DLPack cannot describe."""
    return bool(value.flags.aligned) and _whole_steps(value)


def _whole_steps(value: Any) -> bool:
    item = value.itemsize
    return all(s % item == 0 for s in value.strides)


# NumPy composes the name of a dtype anew at each request, in 2 us.
_NUMPY_NAMES = {np.dtype(name): name for name in DTYPES if name != "bfloat16"}


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return _NUMPY_NAMES.get(dtype) or dtype.name


def _numpy_dtype(dtype: str) -> np.dtype[Any]:
    if dtype == "bfloat16":
        # Only ever asked for when the input was such an array, so its package is loaded.
        bfloat16: np.dtype[Any] = np.dtype(sys.modules["ml_dtypes"].bfloat16)
        return bfloat16
    return np.dtype(dtype)


class _Torch:
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
                f"{name} is a torch tensor without memory of its own ({type(value).__name__}, or "
                "one inside torch.func or torch.compile); it must be a plain tensor",
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
        forward = torch.autograd.forward_ad
        if forward.unpack_dual(value).tangent is not None:
            raise TypeError(
                f"{name} carries a forward-mode tangent, and this function defines no derivative "
                f"for it; pass torch.autograd.forward_ad.unpack_dual({name}).primal"
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
    """Raises TypeError for a number that is a torch tensor whose gradient would be lost."""
    if isinstance(value, int | float):  # or one that torch.compile does not know, but its type
        return
    if getattr(value, "requires_grad", False) and sys.modules["torch"].is_grad_enabled():
        raise TypeError(f"{name} requires grad, and it gets no gradient; pass {name}.detach()")


def is_watched(value: Any) -> bool:
    """Whether a torch tensor may only be used through operators that torch knows."""
    torch = sys.modules["torch"]
    return bool(
        (value.requires_grad and torch.is_grad_enabled())
        or torch._C._len_torch_dispatch_stack()
        or _without_memory(value)
    )


def _without_memory(value: Any) -> bool:
    torch = sys.modules["torch"]
    if torch._C._functorch.is_functorch_wrapped_tensor(value):
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


class _CuPy:
    name = "cupy"

    def owns(self, kind: type) -> bool:
        cupy = sys.modules.get("cupy")
        return cupy is not None and issubclass(kind, getattr(cupy, "ndarray", ()))

    def describe(self, value: Any, name: str) -> tuple[str, Device]:
        return _dtype_name(value.dtype), ("cuda", int(value.device.id))

    def strides(self, value: Any) -> Sequence[int]:
        strides: Sequence[int] = value.strides
        return strides

    def writable(self, value: Any) -> bool:
        return _whole_steps(value) and not _backward(value)

    def empty(self, shape: tuple[int, ...], dtype: str, device: Device) -> Any:
        cupy = sys.modules["cupy"]
        if cupy.cuda.runtime.getDevice() == device[1]:
            return cupy.empty(shape, _numpy_dtype(dtype))
        with cupy.cuda.Device(device[1]):
            return cupy.empty(shape, _numpy_dtype(dtype))

    def capsule(self, value: Any, dtype: str) -> object:
        if dtype == "bfloat16":
            value = value.view(np.uint16)
        if not _whole_steps(value) or _backward(value):
            with value.device:
                value = value.copy()
        capsule: object = value.__dlpack__(stream=-1)
        return capsule

    def stream(self, device: Device) -> int:
        return int(sys.modules["cupy"].cuda.get_current_stream(device[1]).ptr)

    def written(self, value: Any) -> None:
        pass

    def to_host(self, value: Any) -> np.ndarray:
        array: np.ndarray = value.get()
        return array

    def from_host(self, value: np.ndarray, device: Device) -> Any:
        with self.current(device):
            return sys.modules["cupy"].asarray(value)

    def current(self, device: Device) -> AbstractContextManager[Any]:
        # Operations go to the current device, and to its current stream.
        context: AbstractContextManager[Any] = sys.modules["cupy"].cuda.Device(device[1])
        return context

    def to_numpy(self, value: Any) -> Any:
        raise AssertionError("a CuPy array lies on a GPU")

    def from_numpy(self, values: Any, dtype: str) -> Any:
        raise AssertionError("a CuPy array lies on a GPU")


def _backward(value: Any) -> bool:
    """Whether CuPy's capsule would be wrong: it takes negative strides for positive ones."""
    return any(stride < 0 for stride in value.strides)


LIBRARIES: tuple[Library, ...] = (_NumPy(), _Torch(), _CuPy())


def _from_dlpack(value: Any, name: str) -> Any:
    """An array of a library that only speaks DLPack, as NumPy's (CPU) or CuPy's (CUDA)."""
    kind = int(value.__dlpack_device__()[0])
    try:
        if kind in (1, 3):  # DLPack's CPU and pinned host memory
            return np.from_dlpack(value)
        if kind in (2, 13):  # CUDA and CUDA managed memory
            return _imported_cupy(value, name).from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"{name} is a {_type_name(value)} whose __dlpack__ gave no usable array: {error} (of "
            "the accepted dtypes, bfloat16 cannot be taken from an object with only __dlpack__)"
        ) from error
    raise TypeError(f"{name} lies on DLPack device type {kind}; it must be a CPU (1) or CUDA (2)")


def _imported_cupy(value: Any, name: str) -> Any:
    try:
        import cupy  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ImportError(
            f"{name} is a {_type_name(value)} on a GPU, known by its __dlpack__ alone; its result "
            "would be a CuPy array, and CuPy cannot be imported. Pass a CuPy array or torch tensor"
        ) from error
    return cupy


@lru_cache(maxsize=64)
def _library_of(kind: type) -> Library:
    """The library that arrays of this type belong to; LookupError (which is not cached) if none."""
    for library in LIBRARIES:
        if library.owns(kind):
            return library
    raise LookupError(kind)


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def array(value: Any, name: str, dtypes: tuple[str, ...] = DTYPES) -> Array:
    """Check an argument, whose dtype must be one of `dtypes`.

    Raises
    ------
    TypeError
        Not an array, or not of an accepted dtype.
    """
    kind: Any = type(value)
    try:
        library = _library_of(kind)
    except LookupError:
        if not (hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__")):
            raise TypeError(f"{name} is a {_type_name(value)}; it must be {ACCEPTED}") from None
        value = _from_dlpack(value, name)
        kind = type(value)
        library = _library_of(kind)
    dtype, device = library.describe(value, name)
    if dtype not in dtypes:
        raise TypeError(f"{name} has dtype {dtype}; it must be one of {', '.join(dtypes)}")
    return Array(value, library, tuple(value.shape), dtype, device)


def matrices(value: Any, name: str) -> Array:
    """Check an argument of shape (..., m, n)."""
    checked = array(value, name)
    if len(checked.shape) < 2:
        raise ValueError(
            f"{name} has shape {checked.shape}; it must have at least 2 dimensions (..., m, n)"
        )
    return checked


def figures(out: Any, of: Array) -> Array:
    """``out`` checked, or a new array: one real figure for each matrix of a batch."""
    wanted = Array(of.value, of.library, of.shape[:-2], real_dtype(of.dtype), of.device)
    return output(out, wanted, because=f"for {'x'.join(map(str, of.shape))} input of {of.dtype}")


def output(out: Any, like: Array, name: str = "out", *, because: str = "as the input's") -> Array:
    """``out`` checked against the array it must match, or a new array where it is None.

    `because` tells where the wanted dtype, shape and device come from.
    """
    if out is None:
        return like.empty_like(like.shape, like.dtype)
    library = like.library
    if not library.owns(type(out)):
        raise TypeError(
            f"{name} is a {_type_name(out)}; it must be an array of the input's library, "
            f"{like.library.name}"
        )
    dtype, device = library.describe(out, name)
    shape = tuple(out.shape)
    for what, given, wanted in (
        ("dtype", dtype, like.dtype),
        ("shape", shape, like.shape),
        ("device", device, like.device),
    ):
        if given != wanted:
            raise ValueError(f"{name} has {what} {given}; it must be {wanted}, {because}")
    if not library.writable(out):
        raise ValueError(
            f"{name} cannot be written in place: it is read-only, misaligned (as a field of a "
            "packed record), a torch view with a pending conjugation or negation, or a CuPy view "
            "with negative strides; it must be writable"
        )
    if _overlaps_itself(shape, library.strides(out)):
        raise ValueError(
            f"{name} has strides {tuple(library.strides(out))} for shape {shape}, so that several "
            "entries may share memory; it must hold each entry on its own"
        )
    return Array(out, library, shape, dtype, device)


def _overlaps_itself(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether entries may share memory: no dimension may step within the reach of the smaller ones.

    Sufficient for every layout made by slicing, transposing and broadcasting.
    """
    if 0 in shape:
        return False
    reach = 0
    for stride, size in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False
