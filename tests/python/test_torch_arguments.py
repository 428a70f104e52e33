"""Arguments that are torch tensors and no matrices: numbers, weights, those of drop-ins."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from gramian import compat

torch = pytest.importorskip("torch")
gt = pytest.importorskip("gramian.torch")

pytestmark = pytest.mark.thread_unsafe


def sample(*shape, seed=0):
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )  # fmt: skip


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("module", [gm, gt])
def test_numbers_of_no_dimension_are_numbers(module, requires_grad):
    """As norms come from torch and NumPy."""
    x = sample(4, 6).requires_grad_(requires_grad)
    for number in (torch.tensor(0.7, dtype=torch.float64), np.float64(0.7), np.array(0.7)):
        for call in (
            lambda c: module.spectral_clip(x, c),
            lambda c: module.newton_schulz(x, normalization=10 * c),
            lambda c: module.inverse_root(x @ x.mT, 2, ridge=c),
            lambda c: module.spectral_norm(x, rtol=c),
        ):
            assert torch.equal(call(number), call(0.7))
    for bad, error in ((torch.ones(2), TypeError), (torch.tensor(True), TypeError),
                       (torch.tensor(-1.0), ValueError), (torch.tensor(1j), TypeError),
                       (np.array("a"), TypeError)):  # fmt: skip
        with pytest.raises(error, match="max_norm is"):
            module.spectral_clip(x, bad)
    number = torch.tensor(0.7, requires_grad=True)
    with pytest.raises(TypeError, match=r"^max_norm requires grad"):
        module.spectral_clip(x, number)
    with torch.no_grad():
        assert torch.equal(module.spectral_clip(x, number), module.spectral_clip(x, float(number)))


@pytest.mark.parametrize("make", [
    lambda: gm.OjaTopEigenvector(3, rng=0),
    lambda: gm.RandomOrderTopEigenvector(3, rng=0),
    lambda: gm.BlockOja(3, 2, rng=0),
    lambda: gm.FrequentDirections(3, 2),
])  # fmt: skip
def test_weights_that_require_grad_are_refused_by_name(make):
    rows, weights = sample(5, 3), torch.ones(5, requires_grad=True)
    estimator = make().partial_fit(rows)
    for given in (rows, rows.numpy()):
        with pytest.raises(TypeError, match=r"^sample_weight requires grad.*sample_weight\.detach"):
            estimator.partial_fit(given, weights)
    assert estimator.n_samples_seen_ == 5
    with torch.no_grad():
        estimator.partial_fit(rows, weights)
    wanted = make().partial_fit(rows).partial_fit(rows, np.ones(5))
    assert np.array_equal(np.asarray(estimator.components_), np.asarray(wanted.components_))


def test_svd_lowrank_names_its_own_arguments():
    a = sample(5, 4)
    nan = a.clone()
    nan[1, 2] = torch.nan
    for bad, error in ((a.clone().requires_grad_(), TypeError), (nan, ValueError),
                       (nan.to_sparse(), ValueError), (a[0], ValueError), ("x", TypeError),
                       (np.ma.masked_array(a.numpy()), TypeError),
                       (a.to("meta"), TypeError)):  # fmt: skip
        with pytest.raises(error, match=r"^A\b"):
            compat.svd_lowrank(bad, 2)
    with pytest.raises(TypeError, match=r"^M requires grad"):
        compat.svd_lowrank(a, 2, M=torch.ones(5, 4, requires_grad=True))
    with pytest.raises(ValueError, match=r"^A - M contains NaN"):
        compat.svd_lowrank(a, 2, M=nan)
    with pytest.raises(ValueError, match=r"^M contains NaN"):
        compat.randomized_svd(nan.numpy(), 2)
    with torch.no_grad():
        compat.svd_lowrank(a.clone().requires_grad_(), 2, M=torch.ones(5, 4, requires_grad=True))
