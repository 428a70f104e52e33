"""Array libraries, dtypes, strides and ``out=``: what goes in, what comes back, what is refused."""

from __future__ import annotations

import gramian as gm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import HOST, OWNER_PAIRS, PAIRS, DLPackOnly
from tests.reference import gpu, matrices
from tests.reference import newton_schulz as reference

SHAPES = [(20, 30), (30, 20), (2, 3, 12, 10)]


def sample(shape=(20, 30), dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else x


def assert_exact(q, x, *, dtype, info=None, rows=None, compute=None):
    """q equals the exact polynomial of the float64 array x to the derived tolerance."""
    if compute is None:
        compute = "float32" if dtype in ("float16", "bfloat16") else dtype
    rows = rows or gm.coefficients.table("polar_express", 5)
    method = info.method if info else "gram"
    restarts = info.restarts if info else ()
    flat_q, flat_x = (a.reshape(-1, *a.shape[-2:]) for a in (q, x))
    for one, given_x in zip(flat_q, flat_x, strict=True):
        allowed = gpu.tolerance(given_x, rows, method=method, restarts=restarts, dtype=dtype,
                                compute=compute)  # fmt: skip
        assert reference.rms_distance(one, reference.exact(given_x, rows)) <= allowed


# ---- Libraries and dtypes -----------------------------------------------------------------------


@pytest.mark.concurrent
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("xp", "dtype"), PAIRS, indirect=["xp"])
def test_result_is_of_the_inputs_library_dtype_and_device(xp, dtype, shape):
    x = xp.array(sample(shape, dtype), dtype)
    before = xp.numpy(x)
    q, info = gm.newton_schulz(x, return_info=True)
    xp.check_result(q, shape, dtype)
    accumulates = "float64" if dtype in ("float64", "complex128") else "float32"
    for value in (info.residual, info.norm_bound):
        xp.check_result(value, shape[:-2], accumulates)
    compute = gpu.arithmetic(dtype) if xp.on_gpu else None
    assert_exact(xp.numpy(q), before, dtype=dtype, info=info, compute=compute)
    np.testing.assert_array_equal(xp.numpy(x), before)  # the input is never written


@pytest.mark.parametrize("xp", HOST, indirect=True)  # on a GPU: test_gpu.py
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_libraries_give_the_same_bits(xp, dtype):
    x = sample((3, 40, 30), dtype)
    host = gm.newton_schulz(x.astype(dtype))
    np.testing.assert_array_equal(xp.numpy(gm.newton_schulz(xp.array(x, dtype))), host)


def test_empty_and_vectors(xp):
    for shape in [(0, 5), (5, 0), (0, 3, 3), (1, 7), (7, 1), (1, 1), (4, 1, 1)]:
        x = xp.array(np.ones(shape), "float32")
        xp.check_result(gm.newton_schulz(x), shape, "float32")


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_integers_and_bool_are_refused(xp, dtype):
    x = xp.array(np.ones((3, 4)), dtype)
    with pytest.raises(TypeError, match=rf"x.*{dtype}.*float32"):
        gm.newton_schulz(x)


@pytest.mark.parametrize("shape", [(), (5,)])
def test_fewer_than_two_dimensions(xp, shape):
    x = xp.array(np.ones(shape), "float32")
    with pytest.raises(ValueError, match=r"x.*2"):
        gm.newton_schulz(x)


def test_ml_dtypes_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = sample((20, 30)).astype(ml_dtypes.bfloat16)
    q, info = gm.newton_schulz(x, return_info=True)
    assert type(q) is np.ndarray
    assert q.dtype == ml_dtypes.bfloat16
    assert info.residual.dtype == np.float32
    assert_exact(q.astype(np.float64), x.astype(np.float64), dtype="bfloat16", info=info)
    out = np.zeros_like(x)
    assert gm.newton_schulz(x, out=out) is out
    assert out.tobytes() == q.tobytes()


@pytest.mark.parametrize("legacy", [False, True])
def test_bfloat16_known_by_its_capsule_alone_is_refused(torch, legacy):
    """NumPy cannot import it; the message says so and what to pass instead."""
    x = DLPackOnly(torch.ones(3, 4, dtype=torch.bfloat16), legacy=legacy)
    with pytest.raises(TypeError, match=r"\bx\b(?s:.*)bfloat16"):
        gm.newton_schulz(x)


@pytest.mark.parametrize("compute_dtype", [None, "float32", "float64"])
def test_half_is_rounded_once_from_float32(owner, compute_dtype):
    """The half-precision result is the float32 result of the same values, rounded to nearest."""
    for dtype in owner.halves:
        x = owner.array(sample((24, 40)), dtype)
        wide = owner.array(owner.numpy(x), "float32")
        if owner.on_gpu and compute_dtype is None:
            compute_dtype = "float32"  # by default tensor cores compute the half case
        q = owner.numpy(gm.newton_schulz(x, compute_dtype=compute_dtype))
        full = gm.newton_schulz(wide, compute_dtype=compute_dtype)
        expected = owner.rounded(owner.numpy(full), dtype)
        np.testing.assert_array_equal(q, expected)


# ---- Strides ------------------------------------------------------------------------------------


def strided(kind, x):
    """An array equal to x (the broadcast kinds: of x's first row or column) laid out as told."""
    *batch, m, n = x.shape
    if kind == "column-major":
        return np.ascontiguousarray(np.swapaxes(x, -1, -2)).swapaxes(-1, -2)
    if kind == "sliced":
        wide = np.full((*batch, 2 * m + 1, 3 * n + 2), np.nan, x.dtype)
        view = wide[..., 1::2, 2::3]
        view[...] = x
        return view
    if kind == "padded rows":
        wide = np.full((*batch, m, n + 5), np.nan, x.dtype)
        wide[..., :n] = x
        return wide[..., :n]
    if kind == "padded columns":
        return np.swapaxes(strided("padded rows", np.swapaxes(x, -1, -2).copy()), -1, -2)
    if kind == "negative rows":
        return np.ascontiguousarray(x[..., ::-1, :])[..., ::-1, :]
    if kind == "negative columns":
        return np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    if kind == "negative both":
        return np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]
    if kind == "broadcast rows":
        return np.broadcast_to(x[..., :1, :], x.shape)
    if kind == "broadcast columns":
        return np.broadcast_to(x[..., :1], x.shape)
    if kind == "broadcast all":
        return np.broadcast_to(x[..., :1, :1], x.shape)
    if kind == "offset":
        raw = np.empty(x.nbytes + 3 * x.itemsize, np.uint8)
        view = raw[x.itemsize : x.itemsize + x.nbytes].view(x.dtype).reshape(x.shape)
        view[...] = x
        return view
    if kind == "read-only":
        x = x.copy()
        x.flags.writeable = False
        return x
    assert kind == "row-major"
    return x.copy()


STRIDES = ["row-major", "column-major", "sliced", "padded rows", "padded columns", "negative rows",
           "negative columns", "negative both", "broadcast rows", "broadcast columns",
           "broadcast all", "offset", "read-only"]  # fmt: skip


@pytest.mark.parametrize("wrap", [np.asarray, DLPackOnly], ids=["numpy", "dlpack"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("shape", [(14, 20), (20, 14), (2, 3, 9, 7), (150, 140)])
@pytest.mark.parametrize("kind", STRIDES)
def test_strides(kind, shape, dtype, wrap):
    x = strided(kind, sample(shape, dtype).astype(dtype))
    dense = np.array(x, order="C")
    q = gm.newton_schulz(wrap(x))
    assert q.flags.c_contiguous
    # A column-major matrix may be computed as its transpose: equal to rounding, not to the bit.
    # Rounding in five steps grows by less than 1e4 (amplification_standard of these inputs).
    compute = "float32" if dtype == "float16" else dtype
    allowed = 1e4 * reference.UNIT_ROUNDOFF[compute] + 2 * reference.UNIT_ROUNDOFF[dtype]
    truth = reference.to_double(gm.newton_schulz(dense))
    for index in np.ndindex(*shape[:-2]):
        assert reference.rms_distance(q[index], truth[index]) <= allowed
    np.testing.assert_array_equal(x, dense)


@pytest.mark.parametrize("shape", [(3, 9, 7), (3, 7, 9)])
def test_batch_strides(shape):
    x = sample(shape)
    truth = gm.newton_schulz(x)
    views = {
        "reversed": (np.ascontiguousarray(x[::-1])[::-1], truth),
        "strided": (np.repeat(x, 2, axis=0)[::2], truth),
        "matrix axes first": (np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0),
                              truth),
        "broadcast": (np.broadcast_to(x[:1], x.shape), np.broadcast_to(truth[:1], x.shape)),
        "two axes": (np.broadcast_to(x[:, None], (3, 2, *x.shape[1:])),
                     np.broadcast_to(truth[:, None], (3, 2, *x.shape[1:]))),
    }  # fmt: skip
    for name, (view, expected) in views.items():
        np.testing.assert_allclose(gm.newton_schulz(view), expected, atol=1e-12, err_msg=name)


# Memory whose entries lie at odd addresses, or a fraction of an element apart: (array, its base).
def packed_record(shape):
    record = np.zeros(shape, [("a", "u1"), ("b", "f4")])
    return record["b"], record


def aligned_record(shape):
    """Each entry is aligned, yet 12 bytes from the next one of 8."""
    record = np.zeros(shape, [("a", "f4"), ("b", "c8")])
    return record["b"], record


def odd_address(shape):
    memory = np.zeros(4 * np.prod(shape) + 1, np.uint8)
    return memory[1:].view("f4").reshape(shape), memory


def odd_batch_step(shape):
    count, m, n = shape
    step = 4 * m * n + 1
    memory = np.zeros(count * step, np.uint8)
    return np.ndarray(shape, "f4", memory, strides=(step, 4 * n, 4)), memory


ODD = [(packed_record, (4, 4)), (packed_record, (2, 3, 5)), (aligned_record, (4, 4)),
       (aligned_record, (2, 3, 5)), (odd_address, (4, 4)), (odd_address, (2, 3, 5)),
       (odd_batch_step, (3, 4, 4))]  # fmt: skip


@pytest.mark.parametrize(("build", "shape"), ODD)
def test_memory_that_counts_no_whole_elements_may_be_read(build, shape):
    x, _ = build(shape)
    x[...] = sample(shape, x.dtype.name)
    before = x.copy()
    np.testing.assert_array_equal(gm.newton_schulz(x), gm.newton_schulz(before))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(("build", "shape"), ODD)
def test_memory_that_counts_no_whole_elements_is_no_out(build, shape):
    """The kernels could only fill a copy of it, and the caller would never see the result."""
    out, base = build(shape)
    out[...] = 7.25
    before = base.tobytes()
    x = sample(shape, out.dtype.name).astype(out.dtype)
    with pytest.raises(ValueError, match=r"\bout\b"):
        gm.newton_schulz(x, out=out)
    assert base.tobytes() == before


@given(data=st.data())
def test_any_slice_of_any_order(data):
    base = sample((6, 17, 19), seed=1).astype(np.float32)
    base = base.transpose(data.draw(st.permutations(range(3))))
    index = tuple(
        slice(data.draw(st.integers(0, n - 1)), data.draw(st.integers(n - 3, n)),
              data.draw(st.integers(1, 3)))
        for n in base.shape
    )  # fmt: skip
    x = base[index]
    flips = data.draw(st.tuples(*[st.sampled_from([1, -1])] * 3))
    x = x[tuple(slice(None, None, f) for f in flips)]
    q = gm.newton_schulz(x)
    np.testing.assert_allclose(q, gm.newton_schulz(x.copy()), atol=2e-3)
    assert q.shape == x.shape


def test_memory_map_opened_for_reading(tmp_path):
    x = sample().astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    q = gm.newton_schulz(np.load(tmp_path / "x.npy", mmap_mode="r"))
    np.testing.assert_array_equal(q, gm.newton_schulz(x))
    q += 1  # the result is ordinary memory


# ---- torch --------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.thread_unsafe
def test_requires_grad_is_never_silently_detached(torch):
    x = torch.randn(4, 6, requires_grad=True)
    for differentiable in (x, torch.nn.Parameter(torch.randn(4, 6)), x * 2):
        assert gm.newton_schulz(differentiable).requires_grad
        with pytest.raises(TypeError, match=r"a.*(?s:.*)(detach|no_grad)"):
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


def test_conjugate_and_negative_views_of_torch(torch):
    z = torch.from_numpy(sample((6, 9), "complex128"))
    cases = {"conj": z.conj(), "mH": z.mH, "conj of conj": z.conj().resolve_conj().conj(),
             "negative": z.conj().imag, "imag": z.imag, "real": z.real}  # fmt: skip
    assert cases["conj"].is_conj()
    assert cases["negative"].is_neg()
    for name, view in cases.items():
        dense = view.resolve_conj().resolve_neg().contiguous()
        np.testing.assert_allclose(gm.newton_schulz(view).numpy(), gm.newton_schulz(dense).numpy(),
                                   atol=1e-11, err_msg=name)  # fmt: skip


def test_strides_of_torch(torch):
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


def test_torch_tensors_that_are_no_strided_memory(torch):
    for bad in (
        torch.eye(3).to_sparse(),
        torch.eye(3).to_sparse_csr(),
        torch.eye(3, device="meta"),
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
        with pytest.raises(TypeError, match=r"\bx\b"):
            gm.newton_schulz(dual)
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


def test_zero_copy_results_outlive_their_input(torch):
    """No result shares memory with the input, and it stays good after the input is gone."""
    for x in (sample(), torch.from_numpy(sample())):
        q = gm.newton_schulz(x)
        kept = np.asarray(q).copy()
        x[...] = 7
        del x
        np.testing.assert_array_equal(np.asarray(q), kept)


# ---- out= ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("owner", "dtype"), OWNER_PAIRS, indirect=["owner"])
@pytest.mark.parametrize("shape", SHAPES)
def test_out_is_filled_and_returned(owner, dtype, shape):
    x = owner.array(sample(shape, dtype), dtype)
    out = owner.array(np.full(shape, 7.0), dtype)
    q = gm.newton_schulz(x, out=out)
    assert q is out
    np.testing.assert_array_equal(owner.numpy(q), owner.numpy(gm.newton_schulz(x)))
    again, info = gm.newton_schulz(x, out=out, return_info=True)
    assert again is out
    assert info.steps == 5


@pytest.mark.parametrize(
    "kind", [k for k in STRIDES if "broadcast" not in k and k not in ("row-major", "read-only")]
)
@pytest.mark.parametrize("shape", [(14, 20), (20, 14), (2, 3, 9, 7), (150, 140)])
def test_out_of_any_strides(kind, shape):
    x = sample(shape)
    out = strided(kind, np.full(shape, 7.0))
    base = out
    while base.base is not None:
        base = base.base
    touched = np.zeros(base.shape, bool)
    q = gm.newton_schulz(x, out=out)
    assert q is out
    np.testing.assert_allclose(out, gm.newton_schulz(x), atol=1e-12)
    if kind in ("sliced", "padded rows", "padded columns"):  # what lies between stays as it was
        assert np.isnan(base).sum() == touched.size - x.size


def poisoned(shape=(5, 8), dtype=np.float64):
    return np.full(shape, 7.25, dtype)


def self_overlapping(shape, strides):
    base = poisoned((64,))
    return np.lib.stride_tricks.as_strided(base, shape, strides), base


BAD_OUT = {
    "shape": lambda: (poisoned((8, 5)), ValueError),
    "broadcastable": lambda: (poisoned((1, 5, 8)), ValueError),
    "larger": lambda: (poisoned((6, 8)), ValueError),
    "dtype": lambda: (poisoned(dtype=np.float32), ValueError),
    "wider dtype": lambda: (poisoned(dtype=np.complex128), ValueError),
    "zero stride": lambda: (self_overlapping((5, 8), (0, 8))[0], ValueError),
    "rows over rows": lambda: (self_overlapping((5, 8), (8, 8))[0], ValueError),
    "partial overlap": lambda: (self_overlapping((5, 8), (16, 8))[0], ValueError),
    "masked": lambda: (np.ma.masked_array(poisoned(), False), TypeError),
}


@pytest.mark.parametrize("case", BAD_OUT)
def test_bad_out_is_refused_and_left_alone(case):
    out, error = BAD_OUT[case]()
    before = np.array(out)
    with pytest.raises(error, match="out"):
        gm.newton_schulz(sample((5, 8)), out=out)
    np.testing.assert_array_equal(np.array(out), before)


def test_read_only_out():
    out = poisoned()
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"(?i)out.*(writ|read-only|readonly)"):
        gm.newton_schulz(sample((5, 8)), out=out)
    assert (out == 7.25).all()


def test_two_libraries_in_one_call(torch):
    x, out = sample((5, 8)), torch.full((5, 8), 7.25, dtype=torch.float64)
    with pytest.raises(TypeError, match="out"):
        gm.newton_schulz(x, out=out)
    assert bool((out == 7.25).all())
    other = poisoned()
    with pytest.raises(TypeError, match="out"):
        gm.newton_schulz(torch.from_numpy(x), out=other)
    assert (other == 7.25).all()


def test_bad_torch_out(torch):
    x = torch.from_numpy(sample((5, 8), "complex128"))
    base = torch.full((8,), 7.25, dtype=torch.complex128)
    with pytest.raises(ValueError, match="out"):
        gm.newton_schulz(x, out=base.expand(5, 8))
    assert bool((base == 7.25).all())
    for wrong in (torch.zeros(8, 5, dtype=x.dtype), torch.zeros(5, 8)):
        with pytest.raises(ValueError, match="out"):
            gm.newton_schulz(x, out=wrong)
    with pytest.raises(TypeError, match=r"\bout\b"):
        gm.newton_schulz(x, out=torch.zeros(5, 8, dtype=x.dtype, requires_grad=True))
    with pytest.raises(TypeError, match=r"\bout\b"):
        gm.newton_schulz(x, out=torch.zeros(5, 8, dtype=x.dtype, device="meta"))


def test_torch_out_with_the_conjugate_bit(torch):
    """Such a tensor's memory is not its values."""
    x = torch.from_numpy(sample((5, 8), "complex128"))
    base = torch.full((5, 8), 7.25 + 1j, dtype=x.dtype)
    before = base.clone()
    assert base.conj().is_conj()
    with pytest.raises(ValueError, match=r"\bout\b"):
        gm.newton_schulz(x, out=base.conj())
    assert torch.equal(base, before)


def test_torch_out_with_the_negative_bit(torch):
    x = torch.from_numpy(sample((5, 8)))
    base = torch.full((5, 8), 7.25 + 1j, dtype=torch.complex128)
    before = base.clone()
    out = base.conj().imag
    assert out.is_neg()
    with pytest.raises(ValueError, match=r"\bout\b"):
        gm.newton_schulz(x, out=out)
    assert torch.equal(base, before)


def test_autograd_sees_that_a_torch_out_was_written(torch):
    """A tensor saved for the backward pass and then overwritten must not give a wrong gradient."""
    x = torch.from_numpy(sample((3, 3)).astype(np.float32))
    out = torch.ones(3, 3)
    weight = torch.ones(3, 3, requires_grad=True)
    loss = (weight * out).sum()
    gm.newton_schulz(x, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_torch_out_made_in_inference_mode(torch):
    """It counts no versions."""
    x = torch.from_numpy(sample((3, 5)))
    with torch.inference_mode():
        out = torch.zeros_like(x)
        assert gm.newton_schulz(x, out=out) is out
    assert torch.equal(out, gm.newton_schulz(x))


OVERLAPS = {
    "same": lambda b: (b[:12, :12], b[:12, :12]),
    "transposed": lambda b: (b[:12, :12], b[:12, :12].T),
    "shifted down": lambda b: (b[:12, :10], b[1:13, :10]),
    "shifted up": lambda b: (b[1:13, :10], b[:12, :10]),
    "shifted right": lambda b: (b[:12, :9], b[:12, 1:10]),
    "rows reversed": lambda b: (b[:12, :9], b[:12, :9][::-1]),
    "columns reversed": lambda b: (b[:9, :12], b[:9, :12][:, ::-1]),
    "interleaved": lambda b: (b[:, :40:2], b[:, 1:40:2]),
    "corner": lambda b: (b[:12, :12], b[6:18, 6:18]),
}


@pytest.mark.parametrize("method", ["auto", "standard", "gram"])
@pytest.mark.parametrize("case", OVERLAPS)
def test_out_may_overlap_the_input(case, method):
    base = sample((20, 40))
    x, out = OVERLAPS[case](base)
    truth = gm.newton_schulz(x.copy(), method=method)
    assert gm.newton_schulz(x, method=method, out=out) is out
    np.testing.assert_allclose(out, truth, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 9, 12), (4, 130, 140)])
@pytest.mark.parametrize("case", ["same", "reversed", "shifted", "shifted back", "transposed"])
def test_out_may_overlap_the_input_across_a_batch(case, shape):
    n, rows, cols = shape
    base = sample((n + 1, rows, cols))
    x = base[:n]
    out = {"same": x, "reversed": x[::-1], "shifted": base[1:], "shifted back": x,
           "transposed": x}[case]  # fmt: skip
    if case == "shifted back":
        x = base[1:]
    if case == "transposed":
        x, out = x[:, :rows, :rows], x[:, :rows, :rows].swapaxes(-1, -2)
    truth = gm.newton_schulz(x.copy())
    assert gm.newton_schulz(x, out=out) is out
    np.testing.assert_allclose(out, truth, atol=1e-12)


def test_torch_out_may_be_the_input(torch):
    x = torch.from_numpy(sample((9, 12)))
    truth = gm.newton_schulz(x.clone())
    assert gm.newton_schulz(x, out=x) is x
    torch.testing.assert_close(x, truth, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kwargs", [
    {"steps": 0}, {"steps": 2.5}, {"method": "svd"}, {"coefficients": "moun"},
    {"coefficients": [(1, 2)]}, {"normalization": -1.0}, {"normalization": "l2"},
    {"compute_dtype": "float16"}, {"check_finite": True}, {"check_finite": None},
])  # fmt: skip
@pytest.mark.parametrize("shape", [(6, 5, 8), (2, 130, 140), (2, 300, 260)])
def test_nothing_is_written_when_an_error_is_raised(kwargs, shape):
    x = sample(shape)
    x[-1, -1, -1] = np.nan  # in the last matrix, so that the others are already good
    out = poisoned(shape)
    with pytest.raises(TypeError if kwargs == {"steps": 2.5} else ValueError):
        gm.newton_schulz(x, out=out, **kwargs)
    assert (out == 7.25).all()


def test_failed_call_in_place_leaves_the_input():
    x = sample((3, 6, 9))
    x[2, 0, 0] = np.inf
    before = x.copy()
    with pytest.raises(ValueError, match="x"):
        gm.newton_schulz(x, out=x)
    np.testing.assert_array_equal(x, before)


def test_empty_out():
    out = np.empty((0, 3, 4))
    assert gm.newton_schulz(np.empty((0, 3, 4)), out=out) is out


def test_matrix_builders_are_reproducible():
    for name in {**matrices.HARD, **matrices.BATCHES}:
        np.testing.assert_array_equal(matrices.build(name, 3), matrices.build(name, 3))
