"""What a call of gramian.torch costs, and what its documentation says."""

from __future__ import annotations

import doctest
import inspect
import re
import sys
import time

import gramian as gm
import pytest

torch = pytest.importorskip("torch")
gt = pytest.importorskip("gramian.torch")

pytestmark = pytest.mark.thread_unsafe


def sample(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# ---- Overhead -----------------------------------------------------------------------------------


def test_eager_calls_without_gradient_bypass_the_operator(monkeypatch):
    def never(*_):
        raise AssertionError("the operator was called")

    monkeypatch.setattr(gt._newton_schulz, "_operator", never)
    x = sample(16, 16)
    gt.newton_schulz(x)
    gm.newton_schulz(x)
    with torch.no_grad():
        gt.newton_schulz(x.requires_grad_())
    with pytest.raises(AssertionError):
        gt.newton_schulz(x)


def test_overhead_of_a_small_call():
    """A generous bound on what asv tracks: 15 us for the whole call on a quiet machine."""
    x = sample(16, 16, dtype=torch.float32)

    def best(call):
        times = []
        for _ in range(30):
            start = time.perf_counter()
            for _ in range(50):
                call()
            times.append((time.perf_counter() - start) / 50)
        return min(times)

    gm.newton_schulz(x)
    assert best(lambda: gt.newton_schulz(x)) < 2 * best(lambda: gm.newton_schulz(x.numpy())) + 1e-5


# ---- Documentation ------------------------------------------------------------------------------


def test_docstrings():
    """Their examples run, and no argument goes without a word."""
    import gramian.torch.parametrizations as parametrizations

    functions = [getattr(gt, n) for n in gt.__all__ if n[0].islower()]
    for function in (*functions, parametrizations.spectral_norm):
        doc = inspect.getdoc(function)
        for section in ("Parameters", "Returns", "Raises", "References", "Examples"):
            assert re.search(rf"^{section}\n-+$", doc, re.M), f"{function.__name__}: {section}"
        described = doc[doc.index("Parameters") : doc.index("Returns\n")]
        for name in inspect.signature(function).parameters:
            assert re.search(rf"^([\w, ]*\b)?{name}\b", described, re.M), f"{function}: {name}"
    modules = {sys.modules[f.__module__] for f in functions} | {gt, parametrizations}
    for module in modules:
        found = doctest.testmod(module)
        assert found.attempted > 0
        assert not found.failed


def test_options_are_those_of_gramian():
    left_out = {"out", "return_info", "certify", "tol", "v0"}
    for name in gt.__all__:
        if name[0].islower():
            theirs = dict(inspect.signature(getattr(gm, name)).parameters)
            ours = dict(inspect.signature(getattr(gt, name)).parameters)
            assert set(theirs) - set(ours) <= left_out
            for option, parameter in ours.items():
                if (name, option) != ("rsvd", "rank"):
                    assert parameter.default == theirs[option].default
                assert parameter.kind == theirs[option].kind
