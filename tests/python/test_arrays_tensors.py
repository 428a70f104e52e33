"""Tensors of torch: views, gradients, tangents, and those that have no memory of their own."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest

from tests.host_arrays import sample


@pytest.mark.thread_unsafe
def test_requires_grad_is_never_silently_detached(torch):
    x = torch.randn(4, 6, requires_grad=True)
    for differentiable in (x, torch.nn.Parameter(torch.randn(4, 6)), x * 2):
        assert gm.newton_schulz(differentiable).requires_grad
        with pytest.raises(TypeError, match=r"\ba\b(?s:.*)(detach|no_grad)"):
            gm.rsvd(differentiable, 2)
    q = gm.newton_schulz(x.detach())
    with torch.no_grad():
        p = gm.newton_schulz(x)
    with torch.inference_mode():
        r = gm.newton_schulz(x)
    assert torch.equal(q, p)
    assert torch.equal(q, r)
    assert not any(t.requires_grad for t in (q, p, r))
    assert type(gm.newton_schulz(torch.nn.Parameter(x.detach(), requires_grad=False))
                ) is torch.Tensor  # fmt: skip


def test_conjugate_and_negative_views_of_torch_equal_their_copies(torch):
    z = torch.from_numpy(sample((6, 9), "complex128"))
    cases = {"conj": z.conj(), "mH": z.mH, "conj of conj": z.conj().resolve_conj().conj(),
             "negative": z.conj().imag, "imag": z.imag, "real": z.real}  # fmt: skip
    assert cases["conj"].is_conj()
    assert cases["negative"].is_neg()
    for name, view in cases.items():
        dense = view.resolve_conj().resolve_neg().contiguous()
        np.testing.assert_allclose(gm.newton_schulz(view).numpy(), gm.newton_schulz(dense).numpy(),
                                   atol=1e-11, err_msg=name)  # fmt: skip


def test_strides_of_torch_do_not_matter(torch):
    x = torch.from_numpy(sample((12, 18)))
    q = gm.newton_schulz(x)
    for view, expected in (
        (x.T, q.T),
        (x.T.contiguous().T, q),
        (x.repeat_interleave(2, 1)[:, ::2], q),
        (x.expand(3, 12, 18), q.expand(3, 12, 18)),
        (x.flatten().as_strided((12, 18), (18, 1)), q),
    ):
        got = gm.newton_schulz(view)
        assert got.is_contiguous()
        torch.testing.assert_close(got, expected, atol=1e-11, rtol=0)
    row = x[:1].expand(12, 18)
    torch.testing.assert_close(gm.newton_schulz(row), gm.newton_schulz(row.clone()),
                               atol=1e-11, rtol=0)  # fmt: skip


def test_torch_tensors_that_are_no_strided_memory_are_refused(torch):
    for bad in (
        torch.eye(3).to_sparse(),
        torch.eye(3).to_sparse_csr(),
        torch.zeros(3, 3, dtype=torch.float8_e4m3fn),
        torch.nested.nested_tensor([torch.eye(3), torch.eye(2)]),
        torch.nested.nested_tensor([torch.eye(3), torch.ones(2, 3)], layout=torch.jagged),
    ):
        with pytest.raises(TypeError, match=r"\bx\b"):
            gm.newton_schulz(bad)


def test_fake_tensors_give_fake_tensors_or_are_refused(torch):
    """They have a shape and no values, as under torch.compile's tracing."""
    fake_tensor = pytest.importorskip("torch._subclasses.fake_tensor")
    with fake_tensor.FakeTensorMode() as mode:
        made_inside = torch.ones(3, 4)
        assert type(gm.newton_schulz(made_inside)) is fake_tensor.FakeTensor
        with pytest.raises(TypeError, match=r"\ba\b"):
            gm.rsvd(made_inside, 2)
    made_outside = mode.from_tensor(torch.ones(3, 4))
    assert type(gm.newton_schulz(made_outside)) is fake_tensor.FakeTensor
    with pytest.raises(TypeError, match=r"\ba\b"):
        gm.rsvd(made_outside, 2)


@pytest.mark.thread_unsafe
def test_forward_mode_tangents_are_never_silently_dropped(torch):
    from torch.autograd import forward_ad

    x = torch.from_numpy(sample((3, 4)))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(TypeError, match=r"\ba\b.*tangent"):
            gm.rsvd(dual, 2)
        assert forward_ad.unpack_dual(gm.newton_schulz(dual)).tangent is not None
        plain = forward_ad.unpack_dual(dual).primal
        torch.testing.assert_close(gm.newton_schulz(plain), gm.newton_schulz(x))


@pytest.mark.thread_unsafe
@pytest.mark.parametrize("transform", ["vmap", "jvp", "grad"])
def test_tensors_inside_a_function_transform_are_refused_without_an_operator(torch, transform):
    x = torch.from_numpy(sample((2, 3, 4)))
    norms = lambda t: gm.rsvd(t, 2).S  # noqa: E731
    calls = {
        "vmap": lambda: torch.func.vmap(norms)(x),
        "jvp": lambda: torch.func.jvp(norms, (x,), (torch.ones_like(x),)),
        "grad": lambda: torch.func.grad(lambda t: norms(t).sum())(x),
    }
    with pytest.raises(TypeError, match=r"\ba\b"):
        calls[transform]()
