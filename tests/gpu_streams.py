"""What the tests of streaming estimators on a GPU share."""

from __future__ import annotations

import contextlib
import itertools

from gramian import _streaming_gpu, _streaming_gpu_random, _streaming_gpu_sketch

from tests.reference.streaming_heavy import heavy_update
from tests.reference.streaming_sketch import Kernels

DTYPES = ["float16", "bfloat16", "float32", "float64"]


def fed(estimator, x, cuts, weights=None):
    """The rows from each cut to the next, in a call of their own."""
    for first, last in itertools.pairwise(cuts):
        own = None if weights is None else weights[first:last]
        estimator.partial_fit(x[first:last], own)
    return estimator


def on_host(estimator, x, monkeypatch, cuts, weights=None):
    """The same stream by the host's counterpart of the kernels, from the same start."""
    with monkeypatch.context() as patch:
        patch.setattr(_streaming_gpu, "takes", lambda state, x: True)
        patch.setattr(_streaming_gpu_sketch, "_append", Kernels())
        patch.setattr(_streaming_gpu_random, "_take", heavy_update)
        return fed(estimator, x, cuts, weights)


@contextlib.contextmanager
def nothing_waits(torch, late=None, x=None, ticks=200_000_000):
    """Within the block the current stream is busy, and nothing may wait for it.

    With `late`, that is written after the slow kernel, as `x`, and is zero again after the block:
    work on any other stream would read zeros.
    """
    torch.cuda._sleep(ticks)
    if late is not None:
        late.copy_(x)
    done = torch.cuda.Event()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
    if late is not None:
        late.zero_()
    done.record()
    assert not done.query()
