"""What importing gramian costs, brings along and shows."""

from __future__ import annotations

import inspect
import json
import pydoc
import re
from importlib import metadata

import gramian as gm

PUBLIC = {"BlockOja", "Bounds", "ConvergenceError", "FrequentDirections", "InverseRootInfo",
          "NewtonSchulzInfo", "OjaTopEigenvector", "Partial", "PolarInfo",
          "RandomOrderTopEigenvector", "SVDInfo", "SVDResult", "SpectralClipInfo",
          "coefficients", "compat", "conv_spectral_norm_bounds", "get_num_threads", "gram_bound",
          "inverse_root", "matrix_sign", "newton_schulz", "nystrom_eigh", "operator_norm_bounds",
          "polar", "range_finder", "rsvd", "rsvd_finish", "rsvd_partial", "set_num_threads",
          "spectral_clip", "spectral_norm", "spectral_norm_bounds", "sqrt_psd", "stable_rank",
          "__version__"}  # fmt: skip


def test_importing_brings_no_optional_library(run_python):
    code = (
        "import json, sys; import gramian as gm, numpy as np; gm.newton_schulz(np.eye(3));"
        "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    loaded = set(json.loads(run_python(code)))
    assert not loaded & {"torch", "cupy", "jax", "scipy", "ml_dtypes", "array_api_compat"}


def test_torch_can_come_before_or_after(run_python):
    body = "x = torch.eye(3); assert type(gm.newton_schulz(x)) is torch.Tensor; print('ok')"
    for order in ("import gramian as gm, torch; ", "import torch, gramian as gm; "):
        assert run_python(order + body).strip() == "ok"


def test_import_is_quick(run_python):
    """Beyond NumPy at most 150 ms of the processor, the best of several."""
    code = (
        "import time, numpy; t = time.process_time(); import gramian;print(time.process_time() - t)"
    )
    assert min(float(run_python(code)) for _ in range(9)) < 0.15


def test_version_is_that_of_the_distribution():
    assert gm.__version__ == metadata.version("gramian")
    assert re.match(r"\d+\.\d+", gm.__version__)


def test_public_names():
    assert set(gm.__all__) >= PUBLIC
    for name in gm.__all__:
        assert getattr(gm, name) is not None
    # What is not in __all__ is private, also to completion; gramian.torch needs an import.
    assert {n for n in vars(gm) if not n.startswith("_")} <= {*gm.__all__, "torch"}


def test_signature_is_the_contract():
    parameters = inspect.signature(gm.newton_schulz).parameters
    defaults = {name: p.default for name, p in parameters.items() if name != "x"}
    assert defaults == {"steps": 5, "coefficients": "polar_express", "normalization": "schatten",
                        "method": "auto", "compute_dtype": None, "check_finite": None,
                        "out": None, "return_info": False}  # fmt: skip
    positional = [n for n, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ["x", "steps"]
    assert all(parameters[n].kind is inspect.Parameter.KEYWORD_ONLY for n in [*defaults][1:])


def test_docstring_is_numpydoc():
    doc = pydoc.getdoc(gm.newton_schulz)
    for section in ("Parameters", "Returns", "Raises", "Examples", "References"):
        assert re.search(rf"^{section}\n-+$", doc, re.M), f"no section {section}"
    for name in inspect.signature(gm.newton_schulz).parameters:
        assert re.search(rf"^{name} : ", doc, re.M), f"parameter {name} is not described"


def test_private_modules_are_typed():
    files = {f.name for f in metadata.files("gramian") or ()}
    assert "py.typed" in files
    assert "_cpu.pyi" in files
