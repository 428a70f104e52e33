"""What the tests of newton_schulz share: rows of presets, and the check against the polynomial."""

from __future__ import annotations

import gramian as gm

from tests.reference import newton_schulz as reference

PRESETS = ["polar_express", "polar_express_paper", "muon", "you", "taylor"]
DTYPES = ["float32", "float64", "complex64", "complex128"]
METHODS = ["standard", "gram"]
NORMALIZATIONS = ["frobenius", "schatten"]


def preset_rows(name, steps=5, normalization="schatten"):
    """The rows of a preset: from the literature where it published them, else the library's own."""
    if name in reference.PUBLISHED:
        return reference.extend(reference.PUBLISHED[name], steps)
    return [tuple(row) for row in gm.coefficients.table(name, steps, normalization=normalization)]


def check(machine, x, q, info, rows, normalization, truth=None):
    """q is within the derived tolerance of the exact polynomial, for one matrix."""
    if truth is None:
        truth = reference.exact(x, rows, normalization=normalization)
    allowed = machine.tolerance(
        x, rows, normalization=normalization, method=info.method, restarts=info.restarts
    )
    assert reference.rms_distance(q, truth) <= allowed
