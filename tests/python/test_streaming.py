"""What holds for every streaming estimator: batches, state, scikit-learn's conventions."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import tracemalloc

import gramian as gm
import numpy as np
import pytest

# Name, arguments beside the width.
ESTIMATORS = {
    "OjaTopEigenvector": {"rng": 0},
    "BlockOja": {"n_components": 2, "rng": 0},
    "FrequentDirections": {"sketch_size": 4},
    "RandomOrderTopEigenvector": {"rng": 0},
}
D = 9


def make(name, d=D, **changes):
    return getattr(gm, name)(d, **(ESTIMATORS[name] | changes))


def stream(n=200, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, D)) * np.linspace(4, 1, D)).astype(dtype)


def bits(estimator):
    """The state without what lies beyond the pending rows."""
    state = estimator.state_dict()["state"]
    if state is None:
        return None
    held = state["n_pending"]
    for key in ("pending", "pending_weights"):
        state[key] = state[key][:held]
    return {k: (v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for k, v in state.items()}


@pytest.fixture(params=ESTIMATORS)
def name(request):
    return request.param


BAD = {
    "NaN": (lambda x: np.where(np.arange(D) == 3, np.nan, x), ValueError, "NaN or infinity"),
    "infinity": (lambda x: np.where(np.arange(D) == 3, np.inf, x), ValueError, "NaN or infinity"),
    "narrow": (lambda x: x[:, 1:], ValueError, "n_features"),
    "one row as a vector": (lambda x: x[0], ValueError, "2 dimensions"),
    "no rows": (lambda x: x[:0], ValueError, "at least 1 row"),
    "integers": (lambda x: x.astype(int), TypeError, "int64"),
    "complex": (lambda x: x + 0j, TypeError, "complex128"),
    "another dtype": (lambda x: x.astype(np.float32), TypeError, "float32"),
    "a list": (lambda x: x.tolist(), TypeError, "list"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_batch_raises_and_changes_nothing(name, kind):
    spoil, error, message = BAD[kind]
    estimator = make(name).partial_fit(stream(75))
    before = bits(estimator)
    with pytest.raises(error, match=message):
        estimator.partial_fit(spoil(stream(30, seed=1)))
    assert bits(estimator) == before
    fresh = make(name)
    if kind != "another dtype" and not (kind == "complex" and "complex128" in fresh._dtypes):
        with pytest.raises(error, match=message):
            fresh.partial_fit(spoil(stream(30, seed=1)))
        assert bits(fresh) is None


def test_nan_in_the_last_piece_of_a_large_batch_changes_nothing(name):
    estimator = make(name).partial_fit(stream(75))
    before = bits(estimator)
    large = stream(60000)
    large[-1, -1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        estimator.partial_fit(large)
    assert bits(estimator) == before


@pytest.mark.parametrize(
    ("weights", "error"),
    [(np.ones(3), ValueError), (-np.ones(30), ValueError), (np.full(30, np.nan), ValueError),
     (np.array(["a"] * 30), TypeError)],
)  # fmt: skip
def test_bad_weights_raise_and_change_nothing(name, weights, error):
    estimator = make(name).partial_fit(stream(75))
    before = bits(estimator)
    with pytest.raises(error, match="sample_weight"):
        estimator.partial_fit(stream(30), weights)
    assert bits(estimator) == before


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_results_have_the_dtype_of_the_rows(name, dtype):
    estimator = make(name).partial_fit(stream(dtype=dtype))
    assert estimator.components_.dtype == dtype
    # Figures of half precision are float32: squares are beyond it sooner than rows.
    assert estimator.explained_variance_.dtype == np.promote_types(dtype, np.float32)
    assert estimator.components_.shape == (len(estimator.explained_variance_), D)
    assert isinstance(estimator.certificate_, float)
    assert estimator.status_ in ("ok", "no_growth")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_tensors_give_torch_tensors(name, dtype):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(stream(dtype=np.float32)).to(getattr(torch, dtype))
    estimator = make(name).partial_fit(x)
    assert type(estimator.components_) is torch.Tensor
    assert estimator.components_.dtype == x.dtype
    same = make(name).partial_fit(x.float().numpy())
    difference = np.abs(estimator.components_.float().numpy() - same.components_).max()
    assert difference <= 2.0**-8
    with pytest.raises(TypeError, match="numpy"):
        estimator.partial_fit(stream(5, np.float32))


def test_sparse_rows_are_dense_rows(name):
    sparse = pytest.importorskip("scipy.sparse")
    x = stream() * (np.random.default_rng(1).random((200, D)) < 0.3)
    dense = make(name).partial_fit(x)
    np.testing.assert_array_equal(
        make(name).partial_fit(sparse.csr_array(x)).components_, dense.components_
    )
    with pytest.raises(TypeError, match="csc"):
        dense.partial_fit(sparse.csc_array(x))


def test_any_layout_gives_the_same_bits(name):
    x = stream(dtype=np.float32)
    wanted = bits(make(name).partial_fit(x))
    wide = np.zeros((200, 2 * D), np.float32)
    wide[:, ::2] = x
    for view in (x, np.asfortranarray(x), wide[:, ::2], x[::-1].copy()[::-1]):
        view.flags.writeable = False
        assert bits(make(name).partial_fit(view)) == wanted


@pytest.mark.parametrize("values", [None, (1.0, 2.5), (0.0, 1.0, 2.5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_cut_and_any_resumption_give_the_same_bits(name, dtype, values):
    x = stream(500, dtype)
    weights = None if values is None else np.random.default_rng(2).choice(values, 500)
    wanted = bits(make(name).partial_fit(x, weights))
    for size in (1, 3, 31, 64, 170):
        estimator = make(name)
        for first in range(0, 500, size):
            part = slice(first, first + size)
            estimator.partial_fit(x[part], None if weights is None else weights[part])
            if first % 5 == 0:
                estimator = pickle.loads(pickle.dumps(estimator))
                before = bits(estimator)
                assert estimator.components_ is not None
                assert bits(estimator) == before
        assert bits(estimator) == wanted


def test_a_state_of_another_estimator_is_refused(name):
    state = make(name).partial_fit(stream()).state_dict()
    with pytest.raises(ValueError, match="n_features"):
        make(name, D + 1).load_state_dict(state)
    other = next(k for k in ESTIMATORS if k != name)
    with pytest.raises(ValueError, match=name):
        make(other).load_state_dict(state)
    for key in state:
        for spoilt in ({k: v for k, v in state.items() if k != key}, state | {key: "text"}):
            fresh = make(name).partial_fit(stream(20))
            before = bits(fresh)
            with pytest.raises((TypeError, ValueError), match="state_dict"):
                fresh.load_state_dict(spoilt)
            assert bits(fresh) == before
    inner = state["state"]
    for spoilt in (
        *({k: v for k, v in inner.items() if k != key} for key in inner),
        inner | {"": 0},
    ):
        fresh = make(name).partial_fit(stream(20))
        before = bits(fresh)
        with pytest.raises(ValueError, match="state_dict: state has"):
            fresh.load_state_dict(state | {"state": spoilt})
        assert bits(fresh) == before
    state["state"]["pending"][:] = 1e9
    fresh = make(name).load_state_dict(state)
    held = bits(fresh)
    state["state"]["pending"][:] = 0
    assert bits(fresh) == held


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_goes_its_own_way(name, copied):
    """A shallow one too: rows are taken in place."""
    estimator = make(name).partial_fit(stream(100))
    before, rest = bits(estimator), stream(80, seed=1)
    other = copied(estimator).partial_fit(rest)
    assert bits(estimator) == before
    assert bits(other) == bits(estimator.partial_fit(rest))


def test_weights_of_zero_are_rows_that_are_absent(name):
    x = stream()
    weights = np.arange(200) % 3.0
    kept = weights > 0
    assert bits(make(name).partial_fit(x, weights)) == bits(
        make(name).partial_fit(x[kept], weights[kept])
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 1e25), ("float32", 1e25)])
def test_eigenvalues_beyond_the_dtype_are_infinity(name, dtype, size):
    torch = pytest.importorskip("torch")
    x = torch.full((50, D), size, dtype=getattr(torch, dtype))
    size = float(x[0, 0])
    estimator = make(name).partial_fit(x)
    assert estimator.explained_variance_.dtype == torch.float32
    assert estimator.explained_variance_[0] == np.inf
    assert estimator.frobenius_squared_ == pytest.approx(50 * D * size**2)
    first = np.abs(estimator.components_[0].float().numpy())
    np.testing.assert_allclose(first, D**-0.5, rtol=4e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("center", [False, True])
def test_half_precision_has_figures_in_float32(name, center, dtype):
    """Entries of 300 to 60000, whose squares are beyond float16."""
    torch = pytest.importorskip("torch")
    if center and "center" not in make(name).get_params():
        pytest.skip("takes no mean off")
    options = {"center": True} if center else {}
    for size in (300, 60000):
        x = np.random.default_rng(5).uniform(0, 1, (300, D))
        x[:, 1:] = 0.5 + x[:, 1:] / 20  # so that one direction stands out, centred too
        x = torch.from_numpy(size * x).to(getattr(torch, dtype))
        wide = x.double().numpy()
        estimator = make(name, **options).partial_fit(x)
        assert estimator.components_.dtype == x.dtype
        variance = estimator.explained_variance_
        assert variance.dtype == torch.float32
        mean = wide.mean(axis=0) if center else 0
        top = np.linalg.norm(wide - mean, 2) ** 2 / (300 - center)
        np.testing.assert_allclose(variance[0], top, rtol=0.05)
        if center:
            assert estimator.mean_.dtype == torch.float32
            # As exact as float32: half precision is off by 2**-12 or 2**-9.
            np.testing.assert_allclose(estimator.mean_, mean, rtol=1e-6)


def test_rows_that_all_are_absent_are_defined(name):
    estimator = make(name).partial_fit(stream(), np.zeros(200))
    assert estimator.n_samples_seen_ == 0
    assert np.all(np.asarray(estimator.explained_variance_) == 0)
    assert estimator.certificate_ == np.inf
    np.testing.assert_allclose(np.linalg.norm(estimator.components_, axis=1), 1)
    assert bits(estimator.partial_fit(stream())) == bits(make(name).partial_fit(stream()))


def test_results_before_any_rows_raise(name):
    estimator = make(name)
    for attribute in ("components_", "certificate_", "n_samples_seen_", "status_"):
        assert not hasattr(estimator, attribute)
    with pytest.raises(ValueError, match="partial_fit"):
        estimator.components_  # noqa: B018


def test_fit_forgets(name):
    x = stream()
    estimator = make(name).partial_fit(stream(33, seed=5)).fit(x)
    assert bits(estimator) == bits(make(name).partial_fit(x))
    with pytest.raises(ValueError, match="NaN"):
        estimator.fit(x * np.nan)
    assert bits(estimator) == bits(make(name).partial_fit(x))


def test_scikit_learn_can_clone_and_configure(name):
    base = pytest.importorskip("sklearn.base")
    estimator = make(name).partial_fit(stream())
    clone = base.clone(estimator)
    assert clone.get_params() == estimator.get_params()
    assert bits(clone) is None
    last = list(clone.get_params())[-1]
    clone.set_params(**{last: 3})
    assert getattr(clone, last) == 3
    with pytest.raises(ValueError, match="n_clusters"):
        clone.set_params(n_clusters=2)
    assert repr(clone).startswith(name)


@pytest.mark.parametrize(
    "value",
    [3, 2.5, "text", True, None, float("nan"), np.array([1.0, np.nan]), np.random.default_rng(0)],
)
def test_setting_a_parameter_to_what_it_is_forgets_nothing(name, value):
    estimator = make(name).partial_fit(stream())
    before = bits(estimator)
    # Whatever the value: it is looked at when rows come.
    parameter = list(estimator.get_params())[-1]
    setattr(estimator, parameter, value)
    equal = value if isinstance(value, np.random.Generator) else copy.deepcopy(value)
    estimator.set_params(**{parameter: equal})
    assert bits(estimator) == before
    assert getattr(estimator, parameter) is equal


@pytest.mark.parametrize(
    ("value", "other"),
    [(1, True), (2, 3), (float("nan"), 1.0), (np.array([1.0, 2.0]), np.array([1.0, 3.0])),
     (np.ones(2), np.ones(3)), (np.ones(1), 1.0),
     (np.random.default_rng(0), np.random.default_rng(0))],
)  # fmt: skip
def test_setting_a_parameter_to_something_else_forgets_the_rows(name, value, other):
    for old, new in ((value, other), (other, value)):
        estimator = make(name).partial_fit(stream())
        parameter = list(estimator.get_params())[-1]
        setattr(estimator, parameter, old)
        estimator.set_params(**{parameter: new})
        assert bits(estimator) is None


def test_integer_rows_are_told_what_is_taken(name):
    accepted = getattr(gm, name)._dtypes
    with pytest.raises(TypeError, match=f"one of {', '.join(accepted)}$"):
        make(name).partial_fit(np.ones((3, D), int))
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=f"int64; it must be one of {', '.join(accepted[2:])}$"):
        make(name).partial_fit(sparse.csr_array(np.ones((3, D), int)))


def test_scikit_learn_is_not_imported():
    code = (
        "import sys, numpy as np, gramian as gm;"
        "gm.OjaTopEigenvector(3).fit(np.ones((4, 3))).components_;"
        "print([m for m in ('sklearn', 'scipy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.thread_unsafe
@pytest.mark.parametrize(("d", "batch"), [(20, 1), (2000, 3), (500, 1000)])
def test_memory_is_below_its_bound(name, d, batch):
    x = np.random.default_rng(0).standard_normal((batch, d)).astype(np.float32)
    weights = np.ones(batch) * 2
    estimator = make(name, d)
    estimator.partial_fit(x, weights).components_  # noqa: B018
    tracemalloc.start()
    try:
        estimator = make(name, d)
        for _ in range(4):
            estimator.partial_fit(x, weights).components_  # noqa: B018
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    bound = estimator.nbytes_bound(batch)
    assert peak <= bound + 2**14
    k = len(estimator.components_)
    # Of the order of d k + max_batch d, never d^2.
    assert bound <= 8 * d * (5 * batch + 200 * (k + 2)) + 2**18
