"""Which compiled module serves a device, and what the CUDA one refuses before it asks for a GPU."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from gramian import _backend, _cpu

TAYLOR = [(15 / 8, -10 / 8, 3 / 8)] * 5


@pytest.fixture
def cuda():
    module = _backend.cuda_module()
    if module is None:
        pytest.skip("built without the CUDA module")
    return module


def test_the_cpu_has_its_module():
    assert _backend.for_device(("cpu", 0)) is _cpu


def test_without_the_cuda_module_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(_backend, "cuda_module", lambda: None)
    with pytest.raises(ImportError, match=r"cuda:1.*pip install"):
        _backend.for_device(("cuda", 1))


@pytest.mark.thread_unsafe
def test_cublas_is_looked_for_where_packages_and_toolkits_have_it(tmp_path, monkeypatch):
    """First beside torch's and CuPy's, newest first; directories without one are left out."""
    site, toolkit = tmp_path / "site", tmp_path / "toolkit"
    wanted = [site / "nvidia/cu13/lib", site / "nvidia/cublas/lib", toolkit / "lib64"]
    for directory in (*wanted, site / "nvidia/cudnn/lib"):
        directory.mkdir(parents=True)
    for directory in wanted:
        (directory / "libcublas.so.13").touch()
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    for variable in ("CUDA_PATH", "CUDA_HOME", "CONDA_PREFIX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CUDA_HOME", str(toolkit))
    found = [path for path in _backend._library_directories() if tmp_path in path.parents]
    assert found == wanted


@pytest.mark.parametrize("arithmetic", ["half", "tf32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(64, 64), (64, 512), (512, 64), (1, 9)])
def test_cuda_plans(cuda, shape, arithmetic):
    for method in ("auto", "standard", "gram"):
        used, restarts = cuda.newton_schulz_plan(*shape, TAYLOR, arithmetic, method)
        assert used == method or (method == "auto" and used in ("standard", "gram"))
        assert all(0 < t < 5 for t in restarts)
    with pytest.raises(ValueError, match="arithmetic"):
        cuda.newton_schulz_plan(*shape, TAYLOR, "float8", "auto")


def test_cuda_module_refuses_memory_of_the_host(cuda):
    """The package never passes any; a wrong pointer would end the process."""
    x = np.ones((3, 4), np.float32)
    with pytest.raises(BufferError, match=r"x: lies on DLPack device type 1.*CUDA"):
        cuda.newton_schulz(x.__dlpack__(), x.__dlpack__(), "float32", TAYLOR, "schatten", 1.0,
                           "standard", (), "float32", False, None, None, 0, 0, bytes)  # fmt: skip
