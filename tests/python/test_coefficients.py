"""gm.coefficients: minimax rows, presets, and what is claimed of their errors."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from gramian import _cpu, coefficients
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.newton_schulz import PRESETS
from tests.reference import coefficients as ref
from tests.reference import newton_schulz as literature

# Amsel et al. 2025, arXiv 2505.16932.
PUBLISHED = list(literature.PUBLISHED["polar_express_paper"])
PUBLISHED_CUSHION = 0.02407327424182761


# ---- Minimax rows --------------------------------------------------------------------------------


def test_published_rows_are_reproduced():
    rows = coefficients.polar_express(1e-3, 8, cushion=PUBLISHED_CUSHION)
    np.testing.assert_allclose(rows, PUBLISHED, rtol=0, atol=1e-8)
    # The rounded cushion moves the first row in its sixth digit.
    rows = coefficients.polar_express(1e-3, 8)
    np.testing.assert_allclose(rows, PUBLISHED, rtol=1.5e-5, atol=0)


@pytest.mark.parametrize("lower", [1e-12, 1e-6, 1e-3, 0.03, 0.3, 0.9])
@pytest.mark.parametrize("cushion", [0.0, 0.02407, 0.5])
@pytest.mark.parametrize("safety", [1.0, 1.01])
def test_rows_agree_with_many_digits(lower, cushion, safety):
    rows = coefficients.polar_express(lower, 10, cushion=cushion, safety=safety)
    expected = ref.polar_express(lower, 10, cushion, safety)
    low, high = lower, 1.0
    for row, wanted in zip(rows, expected, strict=True):
        # Where the interval has nearly closed the coefficients are ill determined, the map not.
        settled = low >= 0.99 * high
        if not settled:
            np.testing.assert_allclose(row, wanted, rtol=1e-8)
        x = np.geomspace(low, high, 501)
        np.testing.assert_allclose(
            ref.compose([row], x),
            ref.compose([wanted], x),
            rtol=1e-11,
            atol=1e-8 if settled else 1e-14,
        )
        low = float(ref.compose([wanted], low))
        high = 2 - low
        if low > high:
            break


@pytest.mark.parametrize("lower", [1e-3, 0.02, 0.1, 0.5, 0.9])
def test_one_row_is_the_minimax_quintic(lower):
    (row,) = coefficients.polar_express(lower, 1, cushion=0.0)
    x = np.linspace(lower, 1, 200_001)
    error = np.max(np.abs(1 - ref.compose([row], x)))
    assert error == pytest.approx(ref.minimax_error_lp(lower, 1.0), rel=1e-4, abs=1e-7)
    # Equioscillation: -, +, -, + at equal height.
    a, b, c = row
    z = sorted(np.roots([5 * c, 3 * b, a]).real)
    values = 1 - ref.compose([row], [lower, math.sqrt(z[0]), math.sqrt(z[1]), 1.0])
    np.testing.assert_allclose(values, error * np.array([1, -1, 1, -1]), rtol=1e-6)


def test_composition_is_no_worse_than_the_published_one():
    x = np.geomspace(1e-3, 1, 20_001)
    ours = coefficients.polar_express(1e-3, 5, cushion=0.0)
    assert np.max(np.abs(1 - ref.compose(ours, x))) <= np.max(
        np.abs(1 - ref.compose(PUBLISHED[:5], x))
    )


@settings(deadline=None, max_examples=200)
@given(
    exponent=st.floats(-12, -4.4e-4),
    steps=st.integers(1, 40),
    cushion=st.floats(0, 0.99),
    safety=st.floats(1, 1.2),
)
def test_rows_are_always_finite(exponent, steps, cushion, safety):
    rows = coefficients.polar_express(10.0**exponent, steps, cushion=cushion, safety=safety)
    assert len(rows) == steps
    assert np.all(np.isfinite(rows))


@settings(deadline=None, max_examples=100)
@given(
    exponent=st.floats(-12, -4.4e-4),
    steps=st.integers(1, 40),
    safety=st.sampled_from([1.001, 1.01, 1.05]),
)
def test_composed_map_stays_in_its_range(exponent, steps, safety):
    # Without a safety factor rounding at the upper end grows by up to 13 a step, which shows for
    # tiny lower ends; with one it has nowhere to grow.
    lower = 10.0**exponent
    rows = coefficients.polar_express(lower, steps, safety=safety)
    report = coefficients.lint(rows, lower=lower)
    assert 0 < report.lower <= 1 + 1e-9
    assert 1 - 1e-9 <= report.upper < 2
    assert report.upper - 1 <= (1 - report.lower) + 1e-9
    assert report.sign_flips == ()


def test_safety_factor_admits_arguments_that_much_larger():
    for safety in (1.001, 1.01, 1.05):
        rows = coefficients.polar_express(1e-3, 8, safety=safety)
        x = np.geomspace(1e-3, safety, 10_001)
        assert np.all(np.abs(ref.compose(rows, x) - 1) < 0.05)
        # the last row keeps 1 as its fixed point
        converged = ref.compose(coefficients.polar_express(0.1, 12, safety=safety), [0.1, 1.0])
        np.testing.assert_allclose(converged, 1, atol=1e-10)


# ---- Presets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", literature.PUBLISHED)
def test_published_presets_are_as_published(preset):
    """Cut to few steps, and repeating the last row for many."""
    for steps in (1, 2, 5, 8, 10):
        wanted = literature.extend(literature.PUBLISHED[preset], steps)
        assert coefficients.table(preset, steps) == wanted


@pytest.mark.parametrize("normalization", ["schatten", "frobenius"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 40])
def test_polar_express_preset_is_what_the_documentation_says(steps, normalization):
    tuned = {
        "schatten": [5e-2, 3e-2, 2e-2, 4.5e-3, 1.5e-3, 5e-4, 1.5e-4, 5e-5, 1.5e-5, 5e-6],
        "frobenius": [1e-2, 1e-2, 1e-2, 3e-3, 1.2e-3, 4e-4, 1.2e-4, 4e-5, 1.2e-5, 4e-6],
    }[normalization]
    lower = tuned[steps - 1] if steps <= 10 else max(tuned[-1] * 2.0 ** (10 - steps), 1e-12)
    assert _cpu.coefficients_lower(steps, normalization) == lower
    assert coefficients.table(
        "polar_express", steps, normalization=normalization
    ) == coefficients.polar_express(lower, steps, safety=1.01)


def test_a_known_bound_gets_the_rows_of_schatten():
    wanted = coefficients.table("polar_express", 5)
    for bound in (2.0, 3, np.float32(0.5), Fraction(1, 3)):
        assert coefficients.table("polar_express", 5, normalization=bound) == wanted
    assert coefficients.table("polar_express", 5, normalization="frobenius") != wanted


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("normalization", ["schatten", "frobenius"])
@pytest.mark.parametrize("steps", range(1, 15))
def test_presets_are_sound(name, normalization, steps):
    rows = coefficients.table(name, steps, normalization=normalization)
    assert len(rows) == steps
    report = coefficients.lint(rows)
    assert report.sign_flips == ()
    assert report.lower > 0
    # A single minimax row ends at its largest value, above 1, so its own repetition diverges.
    if steps > 1:
        assert report.divergence_margin > (0.01 if name != "polar_express_paper" else 4e-6)
    assert report.upper < 2


def test_polar_express_converges_with_steps():
    for steps, error in ((6, 0.03), (8, 4e-3), (10, 3e-4), (12, 1e-10), (14, 1e-15)):
        report = coefficients.lint(
            coefficients.table("polar_express", steps), lower=_cpu.coefficients_lower(steps)
        )
        assert max(1 - report.lower, report.upper - 1) <= error


# ---- The measured claims -------------------------------------------------------------------------
# Singular values alone: the relative polar error is rms |p(sigma) - 1|.


def _spectra():
    rng = np.random.default_rng(7)
    yield "gaussian 512", np.linalg.svd(rng.standard_normal((512, 512)), compute_uv=False)
    yield "gaussian 256", np.linalg.svd(rng.standard_normal((256, 256)), compute_uv=False)
    yield "gaussian 1:4", np.linalg.svd(rng.standard_normal((256, 1024)), compute_uv=False)
    for n in (256, 512, 1024):
        yield f"power law {n}", np.arange(1, n + 1) ** -0.5
    for height in (3.0, 10.0):
        u = np.linalg.qr(rng.standard_normal((512, 8)))[0]
        v = np.linalg.qr(rng.standard_normal((512, 8)))[0]
        noise = rng.standard_normal((512, 512)) / (2 * np.sqrt(512))
        yield f"spikes {height}", np.linalg.svd(height * u @ v.T + noise, compute_uv=False)


@pytest.fixture(scope="module")
def spectra():
    return dict(_spectra())


def _polar_error(rows, values, scale):
    bound = np.linalg.norm(values) if scale == "frobenius" else np.sum(values**8) ** 0.125
    return np.sqrt(np.mean((ref.compose(rows, values / bound) - 1) ** 2))


def test_four_steps_beat_five_of_muon(spectra):
    for kind, values in spectra.items():
        muon = _polar_error(coefficients.table("muon", 5), values, "frobenius")
        ours = _polar_error(coefficients.table("polar_express", 4), values, "schatten")
        assert ours < 0.9 * muon, kind


def test_five_steps_beat_five_published_ones(spectra):
    for kind, values in spectra.items():
        paper = _polar_error(coefficients.table("polar_express_paper", 5), values, "frobenius")
        own = _polar_error(
            coefficients.table("polar_express", 5, normalization="frobenius"), values, "frobenius"
        )
        ours = _polar_error(coefficients.table("polar_express", 5), values, "schatten")
        assert ours < 0.9 * paper, kind
        assert ours < own, kind
