"""Objects whose state changes and which several threads may share: one method at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial, wraps
from types import FunctionType
from typing import Any, Self, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class OneAtATime:
    """Base of classes whose public methods and properties each take the object's lock.

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
        # A method of a caller's subclass may wait for rows, or merge with others in a loop: its
        # lock would keep readers out, or never be had. What it calls here takes the lock.
        if cls.__module__.partition(".")[0] != __name__.partition(".")[0]:
            return
        for name, value in list(vars(cls).items()):
            if name.startswith("_") and name != "__getstate__":
                continue
            if isinstance(value, property) and value.fget is not None:
                setattr(cls, name, value.getter(_locked(value.fget)))
            elif isinstance(value, FunctionType):
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
        task = partial(method, self, *arguments, **options)
        return _holding(sorted((self, *others), key=id), task)

    return call  # type: ignore[return-value]


def _holding(objects: list[OneAtATime], task: Callable[[], Any]) -> Any:
    """task() under the locks of all objects."""
    if not objects:
        return task()
    # No ExitStack: a signal, as of Ctrl-C, between its taking a lock and noting that would leave
    # the lock taken for good. In a with statement no handler runs there.
    with objects[0]._lock:
        return _holding(objects[1:], task)
