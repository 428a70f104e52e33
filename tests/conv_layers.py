"""Random layers for conv_spectral_norm_bounds, and the roads that it may take."""

from __future__ import annotations

import itertools
import math

import gramian as gm
import numpy as np
from gramian import _conv_bounds, _conv_ends, _conv_geometry, _conv_road, _conv_symbol
from gramian._conv_layer import checked_layer

from tests.reference import conv

# What a float64 SVD may be off by, relative to the norm: sides here are at most some thousand.
SVD_ERROR = 1e-12
MODES = ("zeros", "circular")


def bounds(weight, **options):
    return gm.conv_spectral_norm_bounds(weight, **options)


def options_without_size(options):
    return {k: v for k, v in options.items() if k != "input_size"}


# ---- Random layers ------------------------------------------------------------------------------


def random_weight(rng, shape, kind):
    if kind == "ones":
        return np.ones(shape)
    if kind == "integers":
        return rng.integers(-2, 3, shape).astype(float)
    if kind == "complex":
        return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    if kind == "float32":
        return rng.standard_normal(shape).astype(np.float32)
    if kind == "gaps":  # the first and the last tap of each axis alone
        weight = np.zeros(shape)
        corners = itertools.product(*[{0, k - 1} for k in shape[2:]])
        channels = rng.standard_normal(shape[:2])
        for tap in corners:
            weight[(slice(None), slice(None), *tap)] = channels
        return weight
    return rng.standard_normal(shape)


KINDS = ("normal", "normal", "normal", "ones", "integers", "complex", "float32", "gaps")


def random_layer(rng):
    """A weight and options, some of which torch would not take either."""
    axes = int(rng.choice([1, 2, 2, 3]))
    groups = int(rng.choice([1, 1, 2, 3]))
    kernel = rng.integers(1, 6 if axes < 3 else 4, axes)
    channels = rng.integers(1, 5, 2)
    if rng.random() < 0.15:
        channels[:] = 1
    shape = (groups * int(channels[0]), int(channels[1]), *map(int, kernel))
    mode = str(rng.choice(MODES))
    transposed = bool(rng.random() < 0.25) and mode == "zeros"
    stride = tuple(int(s) for s in rng.choice([1, 1, 2, 3], axes))
    padding = ("same", "valid", tuple(int(p) for p in rng.integers(0, 5, axes)))[
        int(rng.choice(3, p=[0.35, 0.15, 0.5]))
    ]
    if padding == "same":
        if transposed:
            padding = 1
        else:
            stride = 1
    options = {
        "input_size": tuple(int(n) for n in rng.integers(1, {1: 40, 2: 12, 3: 6}[axes], axes)),
        "stride": stride,
        "padding": padding,
        "padding_mode": mode,
        "dilation": tuple(int(d) for d in rng.choice([1, 1, 2, 3], axes)),
        "groups": groups,
        "transposed": transposed,
    }
    return random_weight(rng, shape, str(rng.choice(KINDS))), options


def layers(seed, count):
    rng = np.random.default_rng(seed)
    found = 0
    while found < count:
        weight, options = random_layer(rng)
        try:
            checked_layer(weight.shape, *[options[k] for k in (
                "input_size", "stride", "padding", "padding_mode", "dilation", "groups",
                "transposed")])  # fmt: skip
        except ValueError:
            continue
        found += 1
        yield weight, options


def as_given(weight):
    return weight


def violations(seed, count, also_every_size=True, array=as_given):
    """Layers whose norm is outside the bracket; `array` makes the argument from NumPy's."""
    wrong = []
    for weight, options in layers(seed, count):
        truth = conv.norm(
            conv.dense(weight, options["input_size"], **options_without_size(options))
        )
        found = bounds(array(weight), **options)
        lower, upper = float(found.lower), float(found.upper)
        inside = lower <= truth * (1 + SVD_ERROR) and truth * (1 - SVD_ERROR) <= upper
        if also_every_size:
            every = bounds(array(weight), **options_without_size(options))
            inside = inside and truth * (1 - SVD_ERROR) <= float(every.upper)
            inside = inside and float(every.lower) <= float(every.upper)
        if not inside:
            wrong.append((weight.shape, options, lower, truth, upper))
    return wrong


# The roads for large operators, on small ones: (dense side, windows' cost, blocks' cost).
ROADS = {
    "default": {},
    "symbol": {"DENSE_SIDE": 0, "WINDOW_COST": 0, "LOOSE_WINDOW_COST": 0, "LOOSE_BLOCK_COST": 0},
    "window": {"DENSE_SIDE": 0, "WINDOW_COST": 1e12, "LOOSE_BLOCK_COST": 0},
    "blocks": {"DENSE_SIDE": 0, "LOOSE_BLOCK_COST": 1e6, "LOOSE": 1.0},
    "every angle": {"DENSE_SIDE": 0, "GRID_POINTS": 0, "CROWDED": 1.0, "LOOSE_BLOCK_COST": 0},
    "fft": {"DENSE_SIDE": 0, "FFT_TAPS": 0, "LONG": 0, "LOOSE_BLOCK_COST": 0},
    "double precision": {"DENSE_SIDE": 0, "SINGLE_RTOL": 1.0},
}


def take_gpu_road(monkeypatch):
    """Arrays on the host are treated as those on a GPU; only their library computes elsewhere."""
    monkeypatch.setattr(_conv_road, "HOST", _conv_road.DEVICE)


def take_road(monkeypatch, road):
    for name, value in ROADS[road].items():
        modules = (_conv_bounds, _conv_ends, _conv_symbol, _conv_geometry, _conv_road)
        module = next(m for m in modules if hasattr(m, name))
        monkeypatch.setattr(module, name, value)


# ---- One layer of each kind ---------------------------------------------------------------------

CASES = {
    "circular": ((16, 16, 3, 3), {"input_size": 16, "padding_mode": "circular"}),
    "zeros": ((16, 16, 3, 3), {"input_size": 16}),
    "small": ((8, 8, 3, 3), {"input_size": 9}),
    "every size": ((16, 12, 3, 3), {}),
    "large grid": ((6, 6, 3, 3), {"input_size": 100}),
    "depthwise": ((32, 1, 3, 3), {"input_size": 20, "groups": 32}),
    "groups": ((24, 6, 3, 3), {"input_size": 20, "groups": 4}),
    "strided": ((32, 16, 3, 3), {"input_size": 16, "stride": 2, "padding": 1}),
    "patches": ((48, 3, 8, 8), {"input_size": 64, "stride": 8, "padding": "valid"}),
    "long": ((4, 4, 301), {"input_size": 1000}),
    "3-D": ((4, 4, 3, 3, 3), {"input_size": 9}),
    "transposed": ((16, 24, 4, 4), {"input_size": 14, "stride": 2, "padding": 1,
                                    "transposed": True}),
    "corners": ((8, 8, 3, 3, 3), {"input_size": 9}),
    "complex": ((12, 12, 3, 3), {"input_size": 12}),
    "complex, circular": ((12, 12, 3, 3), {"input_size": 12, "padding_mode": "circular"}),
}  # fmt: skip


def case_layer(case):
    shape, options = CASES[case]
    kind = {"corners": "gaps"}.get(case, "complex" if "complex" in case else "normal")
    return random_weight(np.random.default_rng(3), shape, kind), options


def assert_as_on_the_host(found, host):
    assert found.certificate == host.certificate == "rounding"
    assert found.method == host.method
    assert found.converged or not host.converged  # the search may go some steps further
    lower, upper = float(found.lower), float(found.upper)
    assert lower <= host.upper
    assert host.lower <= upper
    # What is looser: frequencies that are not the largest have a tenth of rtol.
    assert upper <= host.upper * (1 + 1.1e-4)
    assert lower >= host.lower * (1 - 1e-4)


def same(found, other):
    """Up to the order of summation; half precision anywhere would be off by 1e-4 and more."""
    pairs = ((found.lower, other.lower), (found.upper, other.upper))
    return all(math.isclose(float(a), float(b), rel_tol=1e-6) for a, b in pairs)
