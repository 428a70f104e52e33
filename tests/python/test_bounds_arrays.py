"""Bounds on dense matrices: libraries, dtypes, strides, ``out=``, batches and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import gramian as gm
import numpy as np
import pytest

from tests.conftest import PAIRS


@pytest.mark.thread_unsafe
@pytest.mark.parametrize(("xp", "dtype"), [p for p in PAIRS if not p.marks], indirect=["xp"])
def test_figures_are_of_the_inputs_library(xp, dtype):
    x = np.random.default_rng(0).standard_normal((2, 3, 20, 12))
    if dtype.startswith("complex"):
        x = x + 1j * np.random.default_rng(1).standard_normal(x.shape)
    a = xp.array(x, dtype)
    held = xp.rounded(x, dtype)
    truth = np.linalg.svd(held, compute_uv=False)[..., 0]
    figures = "float64" if dtype in ("float64", "complex128") else "float32"
    b = gm.spectral_norm_bounds(a)
    for result in (b.lower, b.upper, gm.gram_bound(a), gm.spectral_norm(a), gm.stable_rank(a)):
        xp.check_result(result, (2, 3), figures)
    assert np.all(xp.numpy(b.lower) <= truth * (1 + 1e-14))
    assert np.all(truth <= xp.numpy(b.upper) * (1 + 1e-14))
    assert bool(b.converged.all())
    assert "bool" in str(b.converged.dtype)
    assert np.allclose(xp.numpy(gm.spectral_norm(a)), truth, rtol=1e-6)
    frobenius = np.linalg.norm(held, axis=(-2, -1))
    assert np.allclose(xp.numpy(gm.stable_rank(a)), (frobenius / truth) ** 2, rtol=4e-6)


def test_strides_do_not_matter_and_input_may_be_read_only():
    rng = np.random.default_rng(2)
    big = rng.standard_normal((4, 40, 60))
    views = [big.transpose(0, 2, 1), big[:, ::-1], big[:, ::2, ::3], big[::-1, 5:, 7:9],
             np.asfortranarray(big[0]), np.broadcast_to(big[0, :, :1], (40, 9)),
             np.broadcast_to(big[0], (3, 40, 60))]  # fmt: skip
    for view in views:
        view.flags.writeable = False
        copy = view.copy(order="C")
        truth = np.linalg.norm(view, 2, axis=(-2, -1))
        b = gm.spectral_norm_bounds(view)
        assert np.all(b.lower <= truth * (1 + 1e-14))
        assert np.all(b.upper >= truth * (1 - 1e-14))
        for steps in (0, 1, 5):
            assert np.allclose(gm.gram_bound(view, steps), gm.gram_bound(copy, steps), rtol=1e-13)


@pytest.mark.parametrize("f", [gm.gram_bound, gm.spectral_norm, gm.stable_rank])
def test_out_is_filled_whatever_its_strides(f):
    x = np.random.default_rng(0).standard_normal((3, 4, 20, 30))
    wanted = f(x)
    for out in (np.empty((3, 4)), np.empty((4, 3)).T, np.empty((6, 8))[::2, ::-2]):
        assert f(x, out=out) is out
        assert (out == wanted).all()
    inside = x.copy()
    f(x, out=inside[:, :, 3, 4])
    assert (inside[:, :, 3, 4] == wanted).all()
    y = x.copy()
    f(y, out=y[:, :, 3, 4])  # the input itself: read whole before anything is written
    assert (y[:, :, 3, 4] == wanted).all()


def test_each_matrix_of_a_batch_on_its_own():
    rng = np.random.default_rng(4)
    for shape in ((6, 5, 5), (5, 33, 70), (2, 300, 270)):
        x = rng.standard_normal(shape) * 10.0 ** rng.integers(-200, 200, (shape[0], 1, 1))
        b = gm.spectral_norm_bounds(x, rtol=1e-9)
        for i in range(len(x)):
            one = gm.spectral_norm_bounds(x[i], rtol=1e-9)
            assert one.lower == b.lower[i]
            assert one.upper == b.upper[i]


@pytest.mark.concurrent
@pytest.mark.parametrize("shape", [(40, 50), (700, 12, 12), (300, 30, 30), (330, 300)])
def test_repeated_calls_give_the_same_bits(shape):
    """Also what many threads at once run, under --parallel-threads."""
    x = np.random.default_rng(0).standard_normal(shape)
    first = gm.spectral_norm_bounds(x)
    for _ in range(5):
        again = gm.spectral_norm_bounds(x)
        assert again.lower.tobytes() == first.lower.tobytes()
        assert again.upper.tobytes() == first.upper.tobytes()
        assert gm.gram_bound(x).tobytes() == gm.gram_bound(x).tobytes()


@pytest.mark.thread_unsafe
def test_pool_of_eight_gives_the_bits_of_serial_calls():
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(s).astype(t) for s in [(300, 280), (64, 64), (30, 20, 40), (90, 8, 9)]
          for t in ("f4", "f8", "c8")]  # fmt: skip

    def bits(x):
        b = gm.spectral_norm_bounds(x)
        return b.lower.tobytes() + b.upper.tobytes() + gm.gram_bound(x).tobytes()

    serial = [bits(x) for x in xs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(bits, xs)) == serial


@pytest.mark.thread_unsafe
def test_bits_do_not_depend_on_threads():
    rng = np.random.default_rng(4)
    before = gm.get_num_threads()
    try:
        for shape in ((500, 400), (40, 30, 30), (3, 280, 300)):
            x = rng.standard_normal(shape).astype(np.float32)
            found = []
            for threads in (1, 2, 3):
                gm.set_num_threads(threads)
                b = gm.spectral_norm_bounds(x)
                found.append([v.tobytes() for v in (b.lower, b.upper, gm.gram_bound(x))])
            assert found[0] == found[1] == found[2]
    finally:
        gm.set_num_threads(before)
