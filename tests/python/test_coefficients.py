"""gm.coefficients: presets, minimax rows, lint, restarts."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import pathlib
from fractions import Fraction

import numpy as np
import pytest
from gramian import _cpu, coefficients
from hypothesis import given, settings
from hypothesis import strategies as st


def _load_reference():
    path = pathlib.Path(__file__).parents[1] / "reference" / "coefficients.py"
    spec = importlib.util.spec_from_file_location("reference_coefficients", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ref = _load_reference()

PRESETS = ["polar_express", "polar_express_paper", "muon", "you", "taylor"]
# Amsel et al. 2025, arXiv 2505.16932.
PUBLISHED = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
]
PUBLISHED_CUSHION = 0.02407327424182761
HALF = -4e-4


# Minimax rows


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


# Presets


def test_preset_rows():
    assert coefficients.table("polar_express_paper", 8) == PUBLISHED
    assert coefficients.table("polar_express_paper", 10) == PUBLISHED + PUBLISHED[-1:] * 2
    assert coefficients.table("muon", 5) == [(3.4445, -4.7750, 2.0315)] * 5
    assert coefficients.table("taylor", 3) == [(15 / 8, -10 / 8, 3 / 8)] * 3
    you = coefficients.table("you", 7)
    assert you[0] == (4.0848, -6.8946, 2.9270)
    assert you[4:] == [(2.8366, -3.0525, 1.2012)] * 3
    assert coefficients.table("you", 2) == you[:2]


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


# The measured claims: singular values alone, relative polar error = rms |p(sigma) - 1|.


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


# lint


def test_lint_of_broken_tables():
    # The first rows of two tables in public use. This one sends 1 to a + b + c = -0.5852.
    report = coefficients.lint([(4.0098, -7.0585, 2.4635)])
    assert report.lower == pytest.approx(-0.5852)
    ((low, high),) = report.sign_flips
    z = (7.0585 - math.sqrt(7.0585**2 - 4 * 2.4635 * 4.0098)) / (2 * 2.4635)
    assert low == pytest.approx(math.sqrt(z), rel=1e-12)
    assert high == 1.0
    # However the rows go on: converging ones cannot turn the sign back.
    report = coefficients.lint([(4.0098, -7.0585, 2.4635)] + [(15 / 8, -10 / 8, 3 / 8)] * 6)
    assert report.sign_flips == ((low, 1.0),)
    assert report.lower == pytest.approx(-1.0, abs=1e-3)
    # This one sends 1 to 1.9915 and 1.01 to 2.26: past what a row made for [0, 2] bears.
    first = (8.4703, -25.1081, 18.6293)
    assert coefficients.lint([first]).divergence_margin == 0
    following = coefficients.polar_express(0.02, 4, cushion=0.0)
    following = [(a / 1.9915, b / 1.9915**3, c / 1.9915**5) for a, b, c in following]
    assert coefficients.lint([first, *following]).divergence_margin < 0.01


def test_lint_margins_in_closed_form():
    # Taylor: the outer fixed point of p(x) = -x, 3z^2 - 10z + 23 has none; p = x at z = 7/3.
    report = coefficients.lint(coefficients.table("taylor", 3))
    assert report.divergence_margin == pytest.approx(math.sqrt(7 / 3) - 1, rel=1e-12)
    a, b, c = coefficients.table("muon", 1)[0]
    z = (-b + math.sqrt(b * b - 4 * c * (a - 1))) / (2 * c)
    report = coefficients.lint(coefficients.table("muon", 5))
    assert report.divergence_margin == pytest.approx(math.sqrt(z) - 1, rel=1e-12)
    assert coefficients.lint([(0.5, 0.0, 0.0)]).divergence_margin == math.inf
    assert coefficients.lint([(1.0, 0.0, 0.0)]).divergence_margin == math.inf
    assert coefficients.lint([(2.0, 0.0, 0.0)]).divergence_margin == 0
    # p(x) = 1.5x - 0.5x^3 is bounded up to sqrt(5), which lies past the cap of 2.
    assert coefficients.lint([(1.5, -0.5, 0.0)]).divergence_margin == math.inf


def test_lint_of_odd_tables():
    report = coefficients.lint([(-1.0, 0.0, 0.0)])
    assert report.sign_flips == ((0.0, 1.0),)
    assert (report.lower, report.upper) == (-1.0, -1e-3)
    report = coefficients.lint([(0.0, 0.0, 0.0)])
    assert (report.lower, report.upper, report.sign_flips) == (0.0, 0.0, ())
    report = coefficients.lint([(1e200, 1e200, 1e200)] * 3)
    assert report.upper == math.inf
    assert report.divergence_margin == 0
    assert not math.isnan(report.lower)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("steps", [1, 3, 5, 8])
def test_lint_range_matches_a_dense_grid(name, steps):
    rows = coefficients.table(name, steps)
    values = ref.compose(rows, ref.dense_grid(1e-3, 1.0))
    report = coefficients.lint(rows)
    assert report.lower <= values.min() + 1e-12
    assert report.upper >= values.max() - 1e-12
    assert report.lower == pytest.approx(values.min(), abs=2e-5)
    assert report.upper == pytest.approx(values.max(), abs=2e-5)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(0.5, 4), st.floats(-7, 1), st.floats(-1, 3)), min_size=1, max_size=3
    )
)
def test_sign_flips_match_a_dense_grid(rows):
    x = np.linspace(1e-4, 1, 5001)
    with np.errstate(over="ignore", invalid="ignore"):
        values = ref.compose(rows, x)
    report = coefficients.lint(rows)
    inside = np.zeros(x.shape, dtype=bool)
    near = np.zeros(x.shape, dtype=bool)
    for low, high in report.sign_flips:
        assert 0 <= low < high <= 1
        inside |= (low < x) & (x < high)
        near |= (np.abs(x - low) < 1e-9) | (np.abs(x - high) < 1e-9)
    clear = ~near & np.isfinite(values) & (np.abs(values) > 1e-9)
    np.testing.assert_array_equal(inside[clear], values[clear] < 0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(0.5, 4), st.floats(-7, 1), st.floats(0, 3)), min_size=1, max_size=4
    )
)
def test_divergence_margin_matches_iteration(rows):
    margin = coefficients.lint(rows).divergence_margin
    safe = min(margin, 1.0)
    if margin > 1e-6:
        x = np.linspace(0, 1 + 0.999999 * safe, 2001)
        assert np.all(np.abs(ref.compose(rows + rows[-1:] * 60, x)) < 1e12)


def test_report_is_frozen_and_hashable():
    report = coefficients.lint(coefficients.table("muon", 5))
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.lower = 0.0
    assert hash(report) == hash(coefficients.lint(coefficients.table("muon", 5)))


# Restarts of the Gram form


def test_restarts_of_five_steps_in_half_precision():
    for name in ("polar_express", "polar_express_paper", "you"):
        rows = coefficients.table(name, 5)
        assert _cpu.best_restarts(rows, HALF, 1) == [2]
        assert coefficients.lint(rows).restarts == (2,)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("delta", [HALF, -3e-5, -6e-14])
@pytest.mark.parametrize(("steps", "count"), [(4, 1), (5, 1), (5, 2), (7, 2), (8, 3)])
def test_best_restarts_match_trying_all(name, delta, steps, count):
    rows = coefficients.table(name, steps)
    found = _cpu.best_restarts(rows, delta, count)
    assert found == sorted(set(found))
    assert len(found) == count
    wanted = ref.gram_condition(rows, ref.best_restarts(rows, delta, count), delta)
    if math.isfinite(wanted):
        assert ref.gram_condition(rows, found, delta) <= wanted * (1 + 1e-6)
        assert _cpu.gram_condition(rows, found, delta) == pytest.approx(wanted, rel=1e-5)


def test_restart_counts_are_capped():
    rows = coefficients.table("polar_express", 4)
    assert _cpu.best_restarts(rows, HALF, 0) == []
    assert _cpu.best_restarts(rows, HALF, -3) == []
    assert _cpu.best_restarts(rows, HALF, 9) == [1, 2, 3]
    assert _cpu.best_restarts(rows[:1], HALF, 2) == []
    long = coefficients.table("polar_express", 40)
    found = _cpu.best_restarts(long, HALF, 12)
    assert found == sorted(set(found))
    assert len(found) == 12
    assert 1 <= found[0] < found[-1] < 40


@pytest.mark.parametrize("name", ["polar_express", "muon", "you", "taylor"])
@pytest.mark.parametrize("delta", [1e-6, 1e-12])
@pytest.mark.parametrize(("steps", "restarts"), [(3, []), (5, [2]), (5, [1, 3]), (8, [2, 4])])
def test_gram_error_matches_a_dense_model(name, delta, steps, restarts):
    rows = coefficients.table(name, steps)
    wanted = ref.gram_error(rows, restarts, delta)
    assert _cpu.gram_error(rows, restarts, delta) == pytest.approx(wanted, rel=0.25)
    assert _cpu.gram_error(rows, restarts, -delta) == _cpu.gram_error(rows, restarts, delta)


def test_gram_error_overflows_to_infinity():
    rows = coefficients.table("polar_express", 12)
    assert _cpu.gram_error(rows, [], 4e-4) == math.inf
    assert _cpu.gram_condition(rows, [], HALF) == math.inf


def test_gram_error_bounds_a_float32_run():
    rng = np.random.default_rng(3)
    n = 128
    u = np.linalg.qr(rng.standard_normal((n, n)))[0]
    v = np.linalg.qr(rng.standard_normal((n, n)))[0]
    delta = math.sqrt(n) * 2.0**-24
    for name, restarts in (("polar_express", [2]), ("muon", [2]), ("you", [2])):
        rows = coefficients.table(name, 5)
        for values in (np.geomspace(1, 1e-6, n), np.linspace(1, 1e-3, n)):
            x = ((u * values) @ v.T).astype(np.float32)
            r = x @ x.T
            q = np.eye(n, dtype=np.float32)
            eye = q
            for t, row in enumerate(rows):
                a, b, c = map(np.float32, row)
                if t in restarts:
                    x = q @ x
                    r, q = x @ x.T, eye
                z = b * r + c * (r @ r)
                q = a * q + q @ z
                w = a * eye + z
                r = w @ r @ w
                r = (r + r.T) / 2
            error = np.linalg.norm(q @ x - (u * ref.compose(rows, values)) @ v.T, 2)
            # Between the model's own 4 n u of accumulated rounding and the model itself.
            assert error <= _cpu.gram_error(rows, restarts, delta) + 4 * n * 2.0**-24


# Arguments


@pytest.mark.parametrize("steps", [0, -1, 10**9])
def test_steps_out_of_range(steps):
    with pytest.raises(ValueError, match=rf"steps={steps}"):
        coefficients.table("muon", steps)
    with pytest.raises(ValueError, match=rf"steps={steps}"):
        coefficients.polar_express(1e-3, steps)


@pytest.mark.parametrize("steps", [True, 2.0, "3", None, np.bool_(True)])
def test_steps_of_wrong_type(steps):
    with pytest.raises(TypeError, match="steps must be an integer"):
        coefficients.table("muon", steps)
    with pytest.raises(TypeError, match="steps must be an integer"):
        coefficients.polar_express(1e-3, steps)


def test_steps_may_be_any_integer():
    assert len(coefficients.table("muon", np.int64(3))) == 3


def test_names_and_normalizations():
    with pytest.raises(ValueError, match=r"name='newton'.*'polar_express'.*'taylor'"):
        coefficients.table("newton", 5)
    with pytest.raises(TypeError, match="name must be a string"):
        coefficients.table(5, 5)
    for bad in ("spectral", 0.0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"normalization=.*'schatten', 'frobenius'"):
            coefficients.table("muon", 5, normalization=bad)
    for bad in (None, True, [1.0], 1j):
        with pytest.raises(TypeError, match=r"normalization=.*'schatten', 'frobenius'"):
            coefficients.table("muon", 5, normalization=bad)


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("lower", [0.0, -0.1, 1.0, 2.0, math.nan, math.inf]),
        ("cushion", [-0.1, 1.0, math.nan]),
        ("safety", [0.99, math.inf, math.nan]),
    ],
)
def test_polar_express_ranges(argument, values):
    for value in values:
        with pytest.raises(ValueError, match=f"{argument}={value!r}"):
            coefficients.polar_express(**({"lower": 0.1, "steps": 3} | {argument: value}))
    for value in (None, "0.1", True, 1j):
        with pytest.raises(TypeError, match=f"{argument} must be a real number"):
            coefficients.polar_express(**({"lower": 0.1, "steps": 3} | {argument: value}))


def test_lint_arguments():
    for lower in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="lower="):
            coefficients.lint([(1.5, -0.5, 0.0)], lower=lower)
    with pytest.raises(ValueError, match="no rows"):
        coefficients.lint([])
    with pytest.raises(ValueError, match=r"table\[1\].*2 entries"):
        coefficients.lint([(1.5, -0.5, 0.0), (1.0, 2.0)])
    with pytest.raises(ValueError, match=r"table\[0\].*finite"):
        coefficients.lint([(1.5, math.nan, 0.0)])
    for bad in (None, "muon", 3.0, [1.5, -0.5, 0.0], [("1", 0, 0)], [None]):
        with pytest.raises(TypeError, match="table"):
            coefficients.lint(bad)
    array = np.array(coefficients.table("muon", 3))
    assert coefficients.lint(array) == coefficients.lint(coefficients.table("muon", 3))


def test_core_guards_its_own_entry():
    for call in (
        lambda: _cpu.coefficients_table("newton", 3),
        lambda: _cpu.coefficients_table("muon", 0),
        lambda: _cpu.coefficients_table("muon", 3, "spectral"),
        lambda: _cpu.coefficients_lower(0),
        lambda: _cpu.polar_express(0.0, 3, 0.0, 1.0),
        lambda: _cpu.lint_table([], 1e-3),
        lambda: _cpu.lint_table([(1.0, 0.0, 0.0)], 0.0),
        lambda: _cpu.best_restarts([], HALF, 1),
    ):
        with pytest.raises(ValueError, match=r"allowed|needs|needed"):
            call()
