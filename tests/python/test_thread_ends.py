"""Threads in the first calls of a process, and in the last."""

from __future__ import annotations

import sys
import sysconfig

import pytest

pytestmark = pytest.mark.thread_unsafe  # each starts processes of its own

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_first_calls_of_a_process_at_once(run_python):
    """Import, choice of kernels, tables made at their first use, OpenBLAS: from all sides."""
    code = """
import threading, numpy as np
x = np.random.default_rng(0).standard_normal((40, 30))
spd = x.T @ x
start, found, errors = threading.Barrier(12), [], []
def work(i):
    try:
        start.wait()
        import gramian as gm
        calls = [lambda: gm.polar(x)[0], lambda: gm.inverse_root(spd, 4),
                 lambda: gm.newton_schulz(x), lambda: gm.spectral_norm(x),
                 lambda: gm.nystrom_eigh(spd, 3, rng=0)[0],
                 lambda: gm.FrequentDirections(30, 4).partial_fit(x).sketch_]
        k = i % len(calls)
        found.append((k, np.asarray(calls[k]()).tobytes()))
    except BaseException as error:
        errors.append(error)
threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
for t in threads: t.start()
for t in threads: t.join()
print(errors or "", len(found), len(set(found)))
"""
    for _ in range(2):
        assert run_python(code).split() == ["12", "6"]


def test_no_function_is_handed_on_before_gramian_torch_is_whole(run_python):
    """A thread that comes while another imports gramian.torch waits for the end of the import."""
    pytest.importorskip("torch")
    code = """
import importlib, importlib.abc, sys, threading, torch, gramian as gm
half_way, looked_up, whole = threading.Event(), threading.Event(), []
class Functions(dict):
    def __getitem__(self, name):
        whole.append(gm._watched.is_compiling is not None)
        looked_up.set()
        return super().__getitem__(name)
gm._watched.functions = Functions()
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "gramian.torch._rsvd":  # the last; all others have been registered
            half_way.set()
            looked_up.wait(0.5)
sys.meta_path.insert(0, Slow())
importer = threading.Thread(target=lambda: importlib.import_module("gramian.torch"))
importer.start()
half_way.wait()
gm._watched._hand_on("spectral_norm", "a", (torch.eye(3),), {})  # as for a watched tensor
importer.join()
print(whole)
"""
    assert run_python(code, timeout=300).strip() == "[True]"


@pytest.mark.parametrize("which", ["functions", "derivative"])
def test_daemon_threads_do_not_disturb_the_end_of_a_process(run_python, which):
    """Kernels that return while the interpreter shuts down: run_python wants exit code 0."""
    code = """
import threading, time, numpy as np, gramian as gm
x = np.random.default_rng(0).standard_normal((40, 30))
spd = x.T @ x
sketch = gm.FrequentDirections(30, 4)
def spin(call):
    while True:
        call()
calls = {
    "functions": (lambda: gm.polar(x), lambda: gm.rsvd(x, 3, rng=0),
                  lambda: gm.inverse_root(spd, 4), lambda: sketch.partial_fit(x)),
    "derivative": (lambda: derivative(large, large, table, "schatten", 1.0, True, True),) * 3,
}
derivative = gm._newton_schulz._derivative  # what autograd calls
large = np.random.default_rng(0).standard_normal((120, 120))
table = tuple(gm.coefficients.table("polar_express", 5))
for call in calls[WHICH]:
    call()
    threading.Thread(target=spin, args=(call,), daemon=True).start()
time.sleep(0.05)
print("end")
"""
    for _ in range(3):
        assert run_python(f"WHICH = {which!r}\n{code}").strip() == "end"


@pytest.mark.skipif(not FREE_THREADED, reason="needs a free-threaded interpreter (python3.14t)")
def test_the_gil_stays_off():
    assert not sys._is_gil_enabled()
