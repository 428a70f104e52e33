"""Drop-ins: their origins' own tests, what those document, and nobody's global generator."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys

import gramian as gm
import numpy as np
import pytest
from gramian import compat

from tests.docstrings import check_numpydoc
from tests.reference import matrices

# ---- scikit-learn's own tests -------------------------------------------------------------------

# Run by pytest in a process of its own: the tests of the installed scikit-learn, with our functions
# in place of the names that they import. Calls are counted, so that a test that no longer goes
# through these names does not count as passed.
ORIGINAL_TESTS = """
import atexit, functools
import sklearn.utils.tests.test_extmath as origin
from gramian import compat

CALLS = {}

def counted(function):
    CALLS[function.__name__] = 0
    @functools.wraps(function)
    def call(*args, **kwargs):
        CALLS[function.__name__] += 1
        return function(*args, **kwargs)
    return call

for name in ("randomized_svd", "randomized_range_finder"):
    assert hasattr(origin, name)
    setattr(origin, name, counted(getattr(compat, name)))
for name in dir(origin):
    if name.startswith("test_randomized_svd"):
        globals()[name] = getattr(origin, name)

@atexit.register
def report():
    print("calls", CALLS["randomized_svd"])
"""


def test_passes_the_tests_of_scikit_learn(tmp_path):
    sklearn = pytest.importorskip("sklearn", minversion="1.5")
    pytest.importorskip("sklearn.utils.tests.test_extmath")
    path = tmp_path / "test_of_scikit_learn.py"
    path.write_text(ORIGINAL_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", path]
    # Without SCIPY_ARRAY_API its tests of array_api_strict are skipped: our results are NumPy's.
    environment = {k: v for k, v in os.environ.items() if k != "SCIPY_ARRAY_API"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    calls = int(re.search(r"calls (\d+)", done.stdout)[1])
    # 135 of them are test_randomized_svd_lapack_driver.
    assert passed >= 140, f"scikit-learn {sklearn.__version__}: {done.stdout}"
    assert calls >= 300


# ---- randomized_svd, randomized_range_finder ----------------------------------------------------


def test_signatures_are_the_originals():
    extmath = pytest.importorskip("sklearn.utils.extmath")
    for name in ("randomized_svd", "randomized_range_finder"):
        ours, theirs = (
            [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
            for f in (getattr(compat, name), getattr(extmath, name))
        )
        assert ours == theirs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", matrices.HARD)
def test_never_less_accurate_than_scikit_learn(name, dtype):
    extmath = pytest.importorskip("sklearn.utils.extmath")
    a = matrices.build(name, 0, dtype)
    k = min(10, *a.shape)
    noise = 100 * np.finfo(dtype).eps * np.linalg.norm(a.astype(float))
    for options in ({}, {"n_iter": 2}, {"n_iter": 1, "n_oversamples": 20}):

        def error(function, seed, options=options):
            u, s, vh = (x.astype(np.float64) for x in function(a, k, random_state=seed, **options))
            return np.linalg.norm(a - (u * s) @ vh)

        # Fewer powers leave more to chance: compared in the mean.
        ours, theirs = (
            np.mean([error(f, seed) for seed in range(5)])
            for f in (compat.randomized_svd, extmath.randomized_svd)
        )
        assert ours <= 1.05 * theirs + noise


def test_random_states():
    a = np.random.default_rng(0).standard_normal((60, 40))

    def values(state):
        return compat.randomized_svd(a, 3, n_iter=0, random_state=state)[1]

    np.testing.assert_array_equal(values(None), values(0))
    assert np.any(values(0) != values(1))
    for make in (np.random.RandomState, np.random.default_rng):
        np.testing.assert_array_equal(values(make(7)), values(make(7)))
        state = make(7)
        assert np.any(values(state) != values(state))  # another sketch at each call
    with pytest.raises(TypeError, match="random_state is 'x'"):
        values("x")


@pytest.mark.thread_unsafe
def test_global_generators_are_left_alone():
    torch = pytest.importorskip("torch")
    a = np.random.default_rng(0).standard_normal((60, 40))
    numpys = np.random.get_state()[1].copy()  # noqa: NPY002
    torchs = torch.get_rng_state()
    for normalizer in ("auto", "none"):
        compat.randomized_svd(a, 3, power_iteration_normalizer=normalizer)
    compat.randomized_range_finder(a, size=3, n_iter=2)
    compat.svd_lowrank(torch.from_numpy(a))
    gm.rsvd(a, 3)
    gm.range_finder([a], 3)
    np.testing.assert_array_equal(numpys, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torchs, torch.get_rng_state())


def test_without_normalization_is_what_scikit_learn_computes():
    extmath = pytest.importorskip("sklearn.utils.extmath")
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    for shape in ((60, 40), (40, 60)):
        a = matrices.power_law(rng, -0.5, *shape)
        options = {"n_iter": 3, "power_iteration_normalizer": "none", "random_state": 5}
        theirs = extmath.randomized_svd(a, 6, **options)
        for given in (a, a.tolist(), sparse.csr_array(a)):
            for x, y in zip(compat.randomized_svd(given, 6, **options), theirs, strict=True):
                np.testing.assert_allclose(x, y, atol=1e-9)


def test_range_finder():
    rng = np.random.default_rng(0)
    sparse = pytest.importorskip("scipy.sparse")
    for shape in ((80, 50), (50, 80)):
        a = matrices.power_law(rng, -1, *shape)
        best = np.linalg.norm(np.linalg.svd(a, compute_uv=False)[12:])
        for given in (a, a.tolist(), sparse.csc_array(a)):
            q = compat.randomized_range_finder(given, size=12, n_iter=4, random_state=0)
            np.testing.assert_allclose(q.T @ q, np.eye(12), atol=1e-14)
            assert np.linalg.norm(a - q @ (q.T @ a)) <= 1.05 * best
    with pytest.raises(ValueError, match=r"^A contains NaN or infinity$"):
        compat.randomized_range_finder(a * np.nan, size=2, n_iter=1)
    assert compat.randomized_range_finder(np.eye(4, 3), size=9, n_iter=0).shape == (4, 3)


def test_more_components_than_there_are():
    u, s, vh = compat.randomized_svd(np.eye(4, 3), 9)
    assert (u.shape, s.shape, vh.shape) == ((4, 3), (3,), (3, 3))


@pytest.mark.parametrize("normalizer", ["auto", "none"])
def test_numbers_of_the_other_byte_order(normalizer):
    """np.asarray gives them from files; scikit-learn and scipy take them."""
    a = np.random.default_rng(0).standard_normal((30, 20))
    swapped = a.astype(a.dtype.newbyteorder())
    found = compat.randomized_svd(swapped, 3, power_iteration_normalizer=normalizer)
    wanted = compat.randomized_svd(a, 3, power_iteration_normalizer=normalizer)
    for x, y in zip(found, wanted, strict=True):
        assert x.dtype.isnative
        np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(compat.polar(swapped)[0], compat.polar(a)[0])


def test_torch_tensors_stay_torch_tensors():
    torch = pytest.importorskip("torch")
    a = torch.from_numpy(np.random.default_rng(0).standard_normal((30, 20))).float()
    for normalizer in ("auto", "none"):
        found = compat.randomized_svd(a, 3, power_iteration_normalizer=normalizer)
        assert all(type(x) is torch.Tensor and x.dtype == torch.float32 for x in found)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"n_components": 0}, ValueError, "n_components is 0"),
        ({"n_components": 1.0}, TypeError, "n_components is 1.0"),
        ({"n_oversamples": -1}, ValueError, "n_oversamples is -1"),
        ({"n_iter": -1}, ValueError, "n_iter is -1"),
        ({"n_iter": "many"}, TypeError, "n_iter is 'many'"),
        ({"power_iteration_normalizer": "GS"}, ValueError, "power_iteration_normalizer is 'GS'"),
        ({"svd_lapack_driver": "x"}, ValueError, "svd_lapack_driver is 'x'"),
        ({"transpose": "x"}, ValueError, "transpose is 'x'"),
        ({"random_state": -1}, ValueError, "random_state is -1"),
        ({"M": np.ones((2, 3, 4))}, ValueError, r"M has shape \(2, 3, 4\)"),
        ({"M": np.ones(3)}, ValueError, r"M has shape \(3,\)"),
        ({"M": [["a"]]}, TypeError, "M has dtype"),
        ({"M": np.full((3, 3), np.nan)}, ValueError, "^M contains NaN or infinity$"),
        (
            {"M": np.full((3, 3), np.nan), "power_iteration_normalizer": "none"},
            ValueError,
            "^M contains NaN",
        ),
    ],
)
def test_errors_name_the_argument(options, error, match):
    with pytest.raises(error, match=match):
        compat.randomized_svd(**({"M": np.eye(5), "n_components": 2} | options))


# ---- svd_lowrank --------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def low_rank(torch, rank, shape, dtype):
    generator = torch.Generator().manual_seed(rank + sum(shape))
    *batch, m, n = shape
    wide = torch.complex128 if dtype.is_complex else torch.float64

    def draw(*size):
        return torch.randn(*size, dtype=wide, generator=generator)

    return (draw(*batch, m, rank) @ draw(*batch, rank, n)).to(dtype)


@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (25, 25), (3, 30, 12), (2, 3, 12, 30)])
@pytest.mark.parametrize("name", ["float32", "float64", "complex64", "complex128"])
def test_svd_lowrank_finds_all_of_a_low_rank_tensor(torch, name, shape):
    """As documented: A is U diag(S) V^H for q at least the rank, S are its singular values."""
    dtype = getattr(torch, name)
    for rank in (1, 4, 9):
        a = low_rank(torch, rank, shape, dtype)
        u, s, v = compat.svd_lowrank(a, q=min(rank + 2, *shape[-2:]), niter=2)
        q = s.shape[-1]
        assert u.shape == (*shape[:-1], q)
        assert v.shape == (*shape[:-2], shape[-1], q)
        assert (u.dtype, s.dtype, v.dtype) == (dtype, a.real.dtype, dtype)
        size = float(torch.linalg.matrix_norm(a, ord=2).max())
        eps = torch.finfo(dtype).eps
        assert float((u * s.unsqueeze(-2) @ v.mH - a).abs().max()) <= 60 * eps * size
        exact = torch.linalg.svdvals(a)[..., :q]
        assert float((exact - s).abs().max()) <= 60 * eps * size
        for x in (u, v):
            assert float((x.mH @ x - torch.eye(q)).abs().max()) <= 40 * eps


def test_svd_lowrank_is_as_accurate_as_the_original(torch):
    a = torch.from_numpy(matrices.power_law(np.random.default_rng(0), -0.5, 200, 120))
    for niter in (0, 1, 2, 4):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            theirs = [torch.svd_lowrank(a, q=10, niter=niter) for _ in range(5)]
        ours = compat.svd_lowrank(a, q=10, niter=niter)

        def error(usv):
            u, s, v = usv
            return float(torch.linalg.norm(a - u * s @ v.mH))

        assert error(ours) <= 1.05 * np.mean([error(usv) for usv in theirs])


@pytest.mark.parametrize("layout", ["to_sparse_coo", "to_sparse_csr", "to_sparse_csc"])
@pytest.mark.filterwarnings("ignore:Sparse CS")
def test_svd_lowrank_of_sparse_tensors(torch, layout):
    pytest.importorskip("scipy")
    a = low_rank(torch, 6, (40, 25), torch.float64)
    a[a.abs() < 1] = 0
    sparse = getattr(a, layout)()
    u, s, v = compat.svd_lowrank(sparse, q=25, niter=3)
    assert all(type(x) is torch.Tensor and x.layout == torch.strided for x in (u, s, v))
    assert torch.allclose(u * s @ v.mH, a, atol=1e-12)
    mean = a.mean(0, keepdim=True)
    centered = compat.svd_lowrank(sparse, q=25, niter=3, M=mean)
    assert torch.allclose(centered[1], torch.linalg.svdvals(a - mean), atol=1e-12)


def test_svd_lowrank_subtracts_what_is_broadcast(torch):
    a = low_rank(torch, 5, (3, 30, 12), torch.float64)
    mean = a.mean(-2, keepdim=True)
    one, other = compat.svd_lowrank(a, q=6, M=mean), compat.svd_lowrank(a - mean, q=6)
    for x, y in zip(one, other, strict=True):
        assert torch.equal(x, y)


def test_svd_lowrank_arguments(torch):
    a = low_rank(torch, 5, (10, 8), torch.float32)
    assert compat.svd_lowrank(a)[1].shape == (6,)
    assert compat.svd_lowrank(a, q=None, niter=None)[1].shape == (6,)
    assert [x.shape for x in compat.svd_lowrank(a, q=0)] == [(10, 0), (0,), (8, 0)]
    for shape in ((0, 5), (5, 0), (3, 0, 0), (0, 5, 4)):
        for empty in (torch.zeros(shape), torch.zeros(shape, dtype=torch.complex128)):
            theirs, ours = torch.svd_lowrank(empty, q=0), compat.svd_lowrank(empty, q=0)
            assert [(x.shape, x.dtype) for x in ours] == [(x.shape, x.dtype) for x in theirs]
    assert compat.svd_lowrank(torch.zeros(0, 5).to_sparse(), q=0)[2].shape == (5, 0)
    assert compat.svd_lowrank(torch.arange(20).reshape(5, 4), q=2)[0].dtype == torch.float32
    for options, match in (
        ({"q": 9}, r"q is 9; it must be from 0 to min\(m, n\) = 8"),
        ({"q": -1}, "q is -1"),
        ({"niter": -1}, "niter is -1"),
    ):
        with pytest.raises(ValueError, match=match):
            compat.svd_lowrank(a, **options)
    with pytest.raises(TypeError, match="requires grad"):
        compat.svd_lowrank(a.clone().requires_grad_())
    with pytest.raises(TypeError, match="M is a ndarray, A is a Tensor"):
        compat.svd_lowrank(a, q=2, M=a.numpy())
    with pytest.raises(ValueError, match=r"^A contains NaN or infinity$"):
        compat.svd_lowrank(a * torch.nan, q=2)
    u, s, v = compat.svd_lowrank(a.numpy(), q=5)
    assert type(u) is np.ndarray
    np.testing.assert_allclose((u * s) @ v.T, a.numpy(), atol=1e-5)


# ---- zeropower_via_newtonschulz5 ----------------------------------------------------------------


def test_zeropower_orthogonalizes_in_bfloat16(torch):
    """By its description: bfloat16, U S' V^H with S' between about 0.68 and 1.14, any shape."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((64, 128), (128, 64), (64, 64), (3, 32, 48)):
        g = 1e-3 * torch.randn(*shape, generator=generator)
        for given in (g, g.double(), g.bfloat16()):
            found = compat.zeropower_via_newtonschulz5(given, steps=5)
            assert found.dtype == torch.bfloat16
            assert found.shape == shape
            s = torch.linalg.svdvals(found.float())
            assert float(s.max()) < 1.3
            if shape[-1] != shape[-2]:  # no singular value is small
                assert float(s.min()) > 0.6
            truth = torch.linalg.svd(given.double(), full_matrices=False)
            polar = truth.U @ truth.Vh
            cosine = (polar * found.double()).sum() / (polar.norm() * found.double().norm())
            assert float(cosine) > 0.95
    with pytest.raises(TypeError, match="G is a ndarray; it must be a torch tensor"):
        compat.zeropower_via_newtonschulz5(np.eye(3), steps=5)


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_zeropower_is_the_formula_on_the_rounded_matrix(torch, steps):
    """G in bfloat16, over its Frobenius norm, then X <- aX + (bA + cA^2)X, to bfloat16 once."""
    generator = torch.Generator().manual_seed(steps)
    for shape in ((48, 96), (96, 48), (40, 40), (1, 7), (2, 3, 24, 40)):
        g = torch.randn(*shape, generator=generator)
        for given in (g, g.double(), g.bfloat16(), g.half(), g.mT.contiguous().mT):
            x = given.bfloat16().double()
            x = x / torch.linalg.matrix_norm(x, keepdim=True)
            for _ in range(steps):
                a = x @ x.mT
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
            found = compat.zeropower_via_newtonschulz5(given, steps)
            assert found.dtype == torch.bfloat16
            assert found.shape == shape
            # Half a place of bfloat16, and rounding of float32, amplified 3.5-fold a step at most.
            spread = 2.0**-8 * x.abs() + 1e-7 * 3.5**steps
            assert bool(((found.double() - x).abs() <= spread).all())


def test_zeropower_has_a_gradient_as_the_original_has(torch):
    g = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours, theirs = g.clone().requires_grad_(), g.clone().requires_grad_()
    weights = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (compat.zeropower_via_newtonschulz5(ours, 5).double() * weights).sum().backward()
    x = theirs / theirs.norm()
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    (x * weights).sum().backward()
    assert float((ours.grad - theirs.grad).norm() / theirs.grad.norm()) < 0.1


def test_zeropower_takes_what_the_original_takes(torch):
    """By position or name, integers too, zero to zero; the argument is not written."""
    g = torch.arange(12).reshape(3, 4)
    kept = g.clone()
    by_name = compat.zeropower_via_newtonschulz5(G=g, steps=5)
    assert torch.equal(by_name, compat.zeropower_via_newtonschulz5(g.float(), 5))
    assert torch.equal(g, kept)
    assert not compat.zeropower_via_newtonschulz5(torch.zeros(3, 4), 5).any()
    with pytest.raises(ValueError, match="steps=0 is not allowed"):
        compat.zeropower_via_newtonschulz5(g, 0)
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        compat.zeropower_via_newtonschulz5(torch.ones(3), 5)
    with pytest.raises(TypeError, match="G is a ndarray; it must be a torch tensor"):
        compat.zeropower_via_newtonschulz5(np.eye(3), steps=5)


# ---- The module ---------------------------------------------------------------------------------


def test_torch_and_scikit_learn_are_not_imported(run_python):
    code = (
        "import sys, numpy as np; from gramian import compat\n"
        "compat.randomized_svd(np.eye(4), 2); compat.svd_lowrank(np.eye(4), 2)\n"
        "print({'torch', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    assert run_python(code).strip() == "set()"


@pytest.mark.parametrize("name", compat.__all__)
def test_docstrings_are_numpydoc(name):
    check_numpydoc(getattr(compat, name))


def test_examples_of_docstrings_run():
    found = doctest.testmod(importlib.import_module("gramian.compat"))
    assert found.attempted > 3
    assert found.failed == 0
