"""The scripts that docs/torch.md shows, in a shortened form."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gramian.torch")
pytest.importorskip("sklearn")

SCRIPTS = Path(__file__).parents[2] / "docs" / "scripts"
pytestmark = [
    pytest.mark.thread_unsafe,
    pytest.mark.skipif(not SCRIPTS.exists(), reason="run away from the source tree"),
]


@pytest.fixture
def script(request):
    name = request.param
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.mark.parametrize("script", ["torch_lipschitz"], indirect=True)
def test_the_certificate_holds_at_every_step_of_training(script, capsys):
    records = script.main(steps=40, bound=2.0)
    free, bounded = records.values()
    assert max(bounded.certificates) <= 2.0
    assert all(g <= c for r in (free, bounded) for g, c in
               zip(r.gains[:-1], r.certificates[:-1], strict=True))  # fmt: skip
    assert max(free.certificates) > 2.0  # the bound is what kept the other under it
    assert bounded.certificates[-1] > 1.9
    assert bounded.losses[-1] < 0.5 * bounded.losses[0]
    assert bounded.certified[0.1] > free.certified[0.1]
    assert "held at 41 of 41 steps" in capsys.readouterr().out


@pytest.mark.parametrize("script", ["torch_muon"], indirect=True)
def test_muon_trains_as_with_the_reference(script):
    curves, gaps, spread, _ = script.main(steps=30, seeds=3)
    # The same rows: the same curve up to rounding, which a step may enlarge.
    assert gaps["gramian, the same rows"] < 0.1 * spread
    for losses in curves.values():
        assert float(losses[:, -3:].mean()) < 0.8 * float(losses[:, 0].mean())


@pytest.mark.parametrize("script", ["torch_monitor"], indirect=True)
def test_the_monitor_sees_what_an_svd_sees(script):
    net, history, losses = script.main(steps=12, every=4)
    assert [step for step, _ in history] == [0, 4, 8, 12]
    assert losses[-1] < losses[0]
    found = history[-1][1]
    assert set(found) == {n for n, p in net.named_parameters() if p.ndim > 1}
    for name, p in net.named_parameters():
        if p.ndim == 2:
            s = torch.linalg.svdvals(p.detach().double())
            norm, rank = found[name]
            assert abs(norm / float(s[0]) - 1) < 1e-5
            assert abs(rank / float((s**2).sum() / s[0] ** 2) - 1) < 1e-5
    norm, _ = found["mix.weight"]
    # At one frequency after another: what the bound is the supremum of.
    taps = net.mix.weight.detach().double().reshape(8, 8, 8, 3)
    angles = torch.linspace(0, torch.pi, 200, dtype=torch.float64)
    waves = torch.exp(1j * angles[:, None] * torch.arange(3))
    symbols = torch.einsum("goit,ft->fgoi", taps + 0j, waves)
    truth = float(torch.linalg.matrix_norm(symbols, 2).max())
    assert truth <= norm < truth * 1.01
