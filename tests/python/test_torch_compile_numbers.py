"""gramian.torch under torch.compile with numbers of which the compiler knows the type alone."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
gt = pytest.importorskip("gramian.torch")

pytestmark = pytest.mark.thread_unsafe

FUNCTIONS = {
    "newton_schulz": lambda x, r: gt.newton_schulz(x, normalization=8 + r),
    "spectral_norm": lambda x, r: gt.spectral_norm(x, rtol=r),
    "spectral_norm_bounds": lambda x, r: gt.spectral_norm_bounds(x, rtol=r).upper,
    "conv": lambda x, r: gt.conv_spectral_norm_bounds(x[None], input_size=9, rtol=r).upper,
    "spectral_clip": lambda x, r: gt.spectral_clip(x, r, tol=r / 1000),
    "polar": lambda x, r: gt.polar(x, tol=r / 1000)[0],
    "matrix_sign": lambda x, r: gt.matrix_sign(x @ x.mT, tol=r / 1000),
    "inverse_root": lambda x, r: gt.inverse_root(x @ x.mT, 2, ridge=r, tol=r / 1000),
    "sqrt_psd": lambda x, r: gt.sqrt_psd(x @ x.mT, tol=r / 1000)[0],
}


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_number_that_changes_keeps_one_graph(name, requires_grad):
    """After its second value the compiler takes a number for any: a schedule, say."""
    torch._dynamo.reset()
    function = FUNCTIONS[name]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    rng = torch.Generator().manual_seed(0)
    for number in (0.25, 0.5, 0.375):
        x = torch.randn(3, 5, dtype=torch.float64, generator=rng).requires_grad_(requires_grad)
        torch.testing.assert_close(compiled(x, number), function(x, number))


@pytest.mark.parametrize("name", ["spectral_norm", "spectral_norm_bounds", "stable_rank", "rsvd",
                                  "gram_bound", "newton_schulz"])  # fmt: skip
def test_defaults_with_everything_unknown(name):
    def function(x):
        result = gt.rsvd(x.detach(), 2) if name == "rsvd" else getattr(gt, name)(x)
        return result if isinstance(result, torch.Tensor) else result[1]

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    rng = torch.Generator().manual_seed(0)
    for shape in ((3, 5), (6, 4), (2, 3, 4)):
        x = torch.randn(*shape, dtype=torch.float64, generator=rng).requires_grad_()
        torch.testing.assert_close(compiled(x), function(x))


@pytest.mark.parametrize("last", [0.3, float("inf")])
def test_rows_of_which_no_number_is_known(last):
    def function(x, last):
        return gt.newton_schulz(x, 3, coefficients=[(2.0, -1.5, 0.5), (1.9, -1.2, last)])

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if last == 0.3:
        torch.testing.assert_close(compiled(x, last), function(x, last))
    else:
        with pytest.raises(Exception, match="must be finite"):
            compiled(x, last)
