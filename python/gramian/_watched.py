"""Functions whose torch tensors may be followed by autograd: those go on to `gramian.torch`.

Nothing is tested beforehand: the function itself refuses such a tensor before it does anything.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ._arrays import WatchedTensor

P = ParamSpec("P")
R = TypeVar("R")

# torch.compiler.is_compiling, and what a tracer is to see in place of each function: both filled in
# by gramian.torch, without which torch.compile breaks its graph at a call.
is_compiling: Callable[[], bool] | None = None
functions: dict[str, Callable[..., Any]] = {}


def through_torch(function: Callable[P, R]) -> Callable[P, R]:
    """The function; its first argument, if torch follows it, goes to the one of `gramian.torch`."""
    name = function.__name__
    first = next(iter(inspect.signature(function).parameters))

    @wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        if is_compiling is not None and is_compiling():
            return _hand_on(name, first, arguments, dict(options))  # type: ignore[no-any-return]
        try:
            return function(*arguments, **options)
        except WatchedTensor as refusal:
            if refusal.name != first:
                raise
        return _hand_on(name, first, arguments, dict(options))  # type: ignore[no-any-return]

    return call


def _hand_on(name: str, first: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    for option in ("out", "return_info"):
        value = options.pop(option, None)
        if value is not None and value is not False:
            raise TypeError(
                f"{first} requires grad or is inside torch.func or torch.compile, where there is "
                f"no {option}=; leave it out, or pass {first}.detach()"
            )
    if is_compiling is None:  # or another thread is half-way through this import
        importlib.import_module(f"{__package__}.torch")
    return functions[name](*arguments, **options)
