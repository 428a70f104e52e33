"""Objects whose state changes and which several threads may share: one method at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any, Self, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class OneAtATime:
    """Base of a class whose public methods and properties each take the object's lock.

    So what a thread sees is always the state between two calls. The lock of another such object
    among the arguments is taken as well, in the same order everywhere: ``a.merge(b)`` and
    ``b.merge(a)`` do not wait for each other.
    """

    # A slot: not among the attributes, which scikit-learn takes for parameters, nor in a pickle.
    __slots__ = ("_lock",)
    _lock: threading.RLock

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        new = super().__new__(cls)
        new._lock = threading.RLock()
        return new

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, value in list(vars(cls).items()):
            if name.startswith("_") and name != "__getstate__":
                continue
            if isinstance(value, property) and value.fget is not None:
                setattr(cls, name, value.getter(_locked(value.fget)))
            elif callable(value) and not isinstance(value, type):
                setattr(cls, name, _locked(value))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._lock = threading.RLock()  # pickles of protocol 0 and 1 come without __new__
        vars(self).update(state)


def _locked(method: F) -> F:
    @wraps(method)
    def call(self: OneAtATime, *arguments: Any, **options: Any) -> Any:
        others: list[OneAtATime] = []
        if arguments or options:
            others = [v for v in (*arguments, *options.values()) if isinstance(v, OneAtATime)]
        if not others:
            with self._lock:
                return method(self, *arguments, **options)
        with ExitStack() as held:
            for one in sorted((self, *others), key=id):
                held.enter_context(one._lock)
            return method(self, *arguments, **options)

    return call  # type: ignore[return-value]
