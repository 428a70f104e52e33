"""How many threads the CPU kernels use."""

from __future__ import annotations

import operator
from typing import Any

from . import _cpu


def set_num_threads(n: int) -> None:
    """Limit the threads of gramian's CPU kernels, process-wide.

    Parameters
    ----------
    n : int
        At least 1. Holds for calls that start from now on.

    Raises
    ------
    TypeError
        `n` is not an integer.
    ValueError
        `n` is below 1.

    Notes
    -----
    The limit is shared by all callers: however many Python threads call gramian at once, no more
    than `n` threads compute, and the others wait for their turn. Results do not depend on it, to
    the last bit. The initial value is the first of the environment variables
    ``GRAMIAN_NUM_THREADS``, ``OPENBLAS_NUM_THREADS``, ``OMP_NUM_THREADS`` that is set, else the
    number of CPUs that the process may run on. ``threadpoolctl.threadpool_limits`` sets it too.

    Examples
    --------
    >>> import gramian as gm
    >>> before = gm.get_num_threads()
    >>> gm.set_num_threads(1)
    >>> gm.get_num_threads()
    1
    >>> gm.set_num_threads(before)
    """
    if isinstance(n, bool):
        raise TypeError(f"n is {n!r}; it must be an integer of at least 1")
    try:
        count = operator.index(n)
    except TypeError:
        raise TypeError(f"n is {n!r}; it must be an integer of at least 1") from None
    if not 1 <= count <= 4096:
        raise ValueError(f"n is {count}; it must be at least 1 and at most 4096")
    _cpu.set_num_threads(count)


def get_num_threads() -> int:
    """The current limit on the threads of gramian's CPU kernels.

    Returns
    -------
    int

    See Also
    --------
    set_num_threads
    """
    return _cpu.num_threads()


def _register_with_threadpoolctl() -> None:
    """Let ``threadpoolctl`` see and set the limit, if it is installed."""
    try:
        import threadpoolctl
    except ImportError:
        return
    base: Any = threadpoolctl.LibController

    class GramianController(base):  # type: ignore[misc]
        user_api = "blas"
        internal_api = "gramian"
        filename_prefixes = ("_cpu.",)
        check_symbols = ("gramian_get_num_threads", "gramian_set_num_threads")

        def get_num_threads(self) -> int:
            return _cpu.num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            _cpu.set_num_threads(num_threads)

        def get_version(self) -> str:
            return _cpu.version()

        def set_additional_attributes(self) -> None:
            self.architecture = _cpu.instruction_set()

    threadpoolctl.register(GramianController)


_register_with_threadpoolctl()
