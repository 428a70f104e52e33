"""How functions become operators of torch, with shapes for its tracers and rules for its vmap."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .. import _arrays, _options, _watched

F = TypeVar("F", bound=Callable[..., Any])

NAMESPACE = "gramian"


class Operator:
    """``gramian::name`` as torch.compile, vmap and autograd know it."""

    def __init__(self, name: str, kernel: Callable[..., Any], shapes: Callable[..., Any]) -> None:
        self.name = name
        self.defined: Any = torch.library.custom_op(f"{NAMESPACE}::{name}", kernel, mutates_args=())
        self.defined.register_fake(shapes)
        self.defined.register_vmap(self._batched)
        self.register_autograd(_not_differentiable(name), setup_context=_save_nothing)

    def register_autograd(
        self,
        backward: Callable[..., Any],
        *,
        setup_context: Callable[..., Any],
        forward: Callable[..., Any] | None = None,
    ) -> None:
        """`forward` is the rule of forward mode, which torch has no place for in an operator."""
        self.defined.register_autograd(backward, setup_context=setup_context)
        self.function = self._function(
            self.defined._name, backward, setup_context, forward or backward
        )

    def set_batched(self, batched: Callable[..., Any]) -> None:
        """The rule for vmap, where leading dimensions are no batch."""
        self._batched = batched  # type: ignore[method-assign]
        self.defined.register_vmap(batched)

    def __call__(self, *arguments: Any) -> Any:
        # torch.func.grad and forward mode refuse the autograd function that torch makes for an
        # operator; functionalize refuses any.
        if torch.compiler.is_compiling():
            if torch.autograd.forward_ad._current_level >= 0:  # as the compiler sees it too
                raise NotImplementedError(
                    "forward mode (torch.func.jvp, jacfwd) inside torch.compile would lose the "
                    f"derivative of {NAMESPACE}::{self.name}; take it outside"
                )
        else:
            functorch: Any = torch._C._functorch
            transform = functorch.peek_interpreter_stack()
            if transform and transform.key() != functorch.TransformType.Functionalize:
                _refuse_nested_forward_mode(self.name)
                return self.function.apply(*arguments)
            if torch.autograd.forward_ad._current_level >= 0:
                return self.function.apply(*arguments)
        return self.defined(*arguments)

    def _batched(self, info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
        moved = []
        for value, where in zip(arguments, in_dims, strict=True):
            if isinstance(value, Tensor):
                value = (
                    value.expand(info.batch_size, *value.shape)
                    if where is None
                    else value.movedim(where, 0)
                )
            moved.append(value)
        results = self(*moved)
        return results, pytree.tree_map(lambda _: 0, results)

    def _function(
        self,
        name: str,
        backward: Callable[..., Any],
        setup_context: Callable[..., Any],
        forward: Callable[..., Any],
    ) -> Any:
        """The operator for torch.func's transforms and forward mode."""
        members = {
            "forward": staticmethod(lambda *arguments: self.defined(*arguments)),
            "setup_context": staticmethod(setup_context),
            "backward": staticmethod(backward),
            "jvp": staticmethod(forward),
            "vmap": staticmethod(lambda *arguments: self._batched(*arguments)),
        }
        return type(f"Transformed_{name}", (torch.autograd.Function,), members)


def _refuse_nested_forward_mode(name: str) -> None:
    """Inside one forward mode torch drops the derivatives of another, without a word."""
    functorch: Any = torch._C._functorch
    levels = [level.key() for level in functorch.get_interpreter_stack()]
    if levels.count(functorch.TransformType.Jvp) > 1:
        raise NotImplementedError(
            f"forward mode inside forward mode loses derivatives of {NAMESPACE}::{name} in torch; "
            "take one of them in reverse: torch.func.jacrev, grad or hessian"
        )


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass


def _not_differentiable(name: str) -> Callable[..., Any]:
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            f"{NAMESPACE}::{name} has no derivative"
            + (": the function whose gradient it is, is differentiable once" * (name[0] == "_"))
        )

    return backward


def save(ctx: Any, *values: Tensor) -> None:
    """For the derivative in either mode."""
    ctx.save_for_backward(*values)
    ctx.save_for_forward(*values)


def differentiated_again() -> bool:
    """Whether a derivative being computed may be one of whose own derivative is asked."""
    return torch.is_grad_enabled()


def operator(name: str, shapes: Callable[..., Any]) -> Callable[[Callable[..., Any]], Operator]:
    """The function as an operator.

    `shapes` takes the same arguments and returns tensors as the results will be, without values.
    All tensors, in and out, have the same leading dimensions: vmap's goes before them.
    """
    return lambda kernel: Operator(name, kernel, shapes)


def in_place_of(plain: Callable[..., Any]) -> Callable[[F], F]:
    """Has the function of the package go on to this one, where torch follows its argument."""

    def register(function: F) -> F:
        _watched.functions[plain.__name__] = function
        return function

    return register


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The package's function without the way to here."""
    undecorated: Callable[..., Any] = function.__wrapped__  # type: ignore[attr-defined]
    return undecorated


def followed(value: Any) -> bool:
    """Whether the operator is needed, which takes some us longer than the function itself."""
    return torch.compiler.is_compiling() or (
        isinstance(value, Tensor) and _arrays.is_watched(value)
    )


def matrices(value: Any, name: str) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}; it must be a torch tensor")
    if value.ndim < 2:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}; it must have at least 2 dimensions (..., m, n)"
        )


def square(value: Any, name: str) -> None:
    matrices(value, name)
    if value.shape[-1] != value.shape[-2]:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; its matrices must be square")


def check_options(
    function: Callable[..., Any], value: Tensor, *positional: Any, **options: Any
) -> None:
    """Raises as the package's function does for its options, by a call with an empty batch.

    The operator's schema would take True for 1, and say less clearly what it does not take. Inside
    tracers and transforms nothing is called.
    """
    if torch.compiler.is_compiling():
        return
    value = value.detach()
    if value.is_meta and type(value) is Tensor:
        value = torch.empty(value.shape[-2:], dtype=value.dtype, device="cpu")
    if not _arrays.is_watched(value):
        function(value.new_empty((0, *value.shape[-2:])), *positional, **options)


def without_gradient(value: Tensor, name: str, function: str) -> None:
    """Raises TypeError where a gradient would be lost."""
    if value.requires_grad and torch.is_grad_enabled():
        raise TypeError(
            f"{name} requires grad, and {function} is not differentiable; pass {name}.detach(), or "
            "call it under torch.no_grad()"
        )


def as_given(value: Tensor) -> Any:
    """A context in which products stay in their dtype: autocast, if on, would narrow them."""
    if value.is_meta:  # which has no autocast
        return nullcontext()
    return torch.autocast(value.device.type, enabled=False)


def like(value: Tensor) -> Tensor:
    """As a result of the value's shape and dtype: row-major."""
    return value.new_empty(value.shape)


def figures(value: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """One real number for each matrix."""
    return value.new_empty(value.shape[:-2], dtype=dtype or real_dtype(value))


def real_dtype(value: Tensor) -> torch.dtype:
    return torch.float64 if value.dtype in (torch.float64, torch.complex128) else torch.float32


def wide(value: Tensor) -> Tensor:
    """In double precision."""
    return value.to(torch.complex128 if value.is_complex() else torch.float64)


def single(value: Tensor) -> Tensor:
    """In single precision, where it was half."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def real_product(a: Tensor, b: Tensor) -> Tensor:
    """Re tr(a^H b) of each matrix, as a matrix of one entry."""
    product = a.conj() * b
    return (product.real if product.is_complex() else product).sum((-2, -1), keepdim=True)


def slope(gradient: Tensor, direction: Tensor) -> Tensor:
    """The derivative of a number of each matrix, by its gradient, in a direction."""
    product = real_product(single(gradient), single(direction))[..., 0, 0]
    return product.to(real_dtype(gradient))


def scaled(grad: Tensor, direction: Tensor) -> Tensor:
    """One number for each matrix times the matrix."""
    return grad[..., None, None].to(direction.dtype) * direction


def without_nan(*values: Tensor) -> tuple[Tensor, ...]:
    """The matrices, zero where one of a place is not finite, for LAPACK; and what to add: 0 or NaN.

    So a matrix that is not finite gets NaN for its result, and the rest of a batch is not affected.
    """
    good = torch.stack([v.isfinite().all(-1).all(-1) for v in values]).all(0)[..., None, None]
    safe = tuple(torch.where(good, v, torch.zeros_like(v)) for v in values)
    return *safe, torch.where(good, 0.0, torch.nan)


def hermitian_part(a: Tensor) -> Tensor:
    return (a + a.mH) / 2


def seed_of(rng: Any) -> int:
    """The seed as a signed number of 64 bits, which is what operators take."""
    seed = _options.seed_of(rng)
    return seed if seed < 2**63 else seed - 2**64


def seed_from(signed: int) -> int:
    return signed % 2**64
