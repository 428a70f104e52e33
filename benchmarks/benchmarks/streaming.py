"""Streams side by side: time, memory and error. `asv run --bench Streaming` picks them.

`OjaTopEigenvector` against one product of the rows with a vector, which reads what it must read;
`BlockOja` against scikit-learn's IncrementalPCA; errors are sines of the angle to the top
eigenvector. `FrequentDirections` against IncrementalPCA as subspaces of 32 directions; the error is
the part of their energy that a method's first 32 directions do not have. A sketch of l rows knows
less than l components of incremental PCA, so compare its times at an error as small: 40 rows with
batches of 64 and of 512, 44 rows with 2048.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ROWS, COLUMNS, COMPONENTS, BATCH = 10240, 1024, 8, 1024
SKETCH = 32  # directions


def build() -> tuple[np.ndarray, np.ndarray]:
    """Rows with eight directions above a flat rest, and the top eigenvector."""
    rng = np.random.default_rng(0)
    scales = np.r_[40 * 0.7 ** np.arange(COMPONENTS), np.ones(COLUMNS - COMPONENTS)]
    x = (rng.standard_normal((ROWS, COLUMNS)) * scales).astype(np.float32)
    wide = x.astype(np.float64)
    return x, np.linalg.eigh(wide.T @ wide)[1][:, -1]


def batches(x: np.ndarray, size: int = BATCH):
    return (x[i : i + size] for i in range(0, len(x), size))


def gramian(name: str, *arguments: object, **options: object):
    def prepare(x: np.ndarray) -> Callable[[], np.ndarray]:
        import gramian as gm

        def fit() -> np.ndarray:
            estimator = getattr(gm, name)(COLUMNS, *arguments, **options)
            for batch in batches(x):
                estimator.partial_fit(batch)
            return np.asarray(estimator.components_[0])

        return fit

    return prepare


def one_product(x: np.ndarray) -> Callable[[], np.ndarray]:
    v = np.ones(COLUMNS, x.dtype)
    return lambda: x @ v


def incremental_pca(x: np.ndarray) -> Callable[[], np.ndarray]:
    try:
        from sklearn.decomposition import IncrementalPCA
    except ImportError as error:
        raise NotImplementedError("scikit-learn is not installed") from error

    def fit() -> np.ndarray:
        pca = IncrementalPCA(COMPONENTS)
        for batch in batches(x):
            pca.partial_fit(batch)
        return np.asarray(pca.components_[0])

    return fit


PEERS = {
    "gramian-oja": gramian("OjaTopEigenvector", rng=0),
    "gramian-random-order": gramian("RandomOrderTopEigenvector", rng=0),
    "gramian-block-oja": gramian("BlockOja", COMPONENTS, center=True, rng=0),
    "gramian-block-oja-history": gramian(
        "BlockOja", COMPONENTS, step="history", center=True, rng=0
    ),
    "gramian-frequent-directions": gramian("FrequentDirections", 2 * COMPONENTS, center=True),
    "one-product": one_product,
    "sklearn-incremental-pca": incremental_pca,
}


class StreamingTopEigenvector:
    params = tuple(PEERS)
    param_names = ("implementation",)
    timeout = 120

    def setup(self, implementation: str) -> None:
        self.x, self.top = build()
        self.fit = PEERS[implementation](self.x)

    def time_stream(self, implementation: str) -> None:
        self.fit()

    time_stream.pretty_name = "top eigenvector of a stream: time"

    def peakmem_stream(self, implementation: str) -> None:
        self.fit()

    peakmem_stream.pretty_name = "top eigenvector of a stream: memory"

    def track_sine(self, implementation: str) -> float:
        if implementation == "one-product":
            return float("nan")
        v = self.fit().astype(np.float64)
        v /= np.linalg.norm(v)
        return float(np.linalg.norm(v - self.top * (self.top @ v)))

    track_sine.pretty_name = "top eigenvector of a stream: sine"
    track_sine.unit = "sine"


def decaying(dtype: type = np.float32) -> tuple[np.ndarray, float]:
    """Rows of 512 with singular values like i^-1/2, and the energy of the best 32 directions."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4096, 512)) * np.arange(1, 513) ** -0.5
    best = float((np.linalg.svd(x, compute_uv=False)[:SKETCH] ** 2).sum())
    return x.astype(dtype), best


def sketch_of(rows: int):
    def prepare(x: np.ndarray, batch: int) -> Callable[[], np.ndarray]:
        import gramian as gm

        def fit() -> np.ndarray:
            sketch = gm.FrequentDirections(x.shape[1], rows)
            for part in batches(x, batch):
                sketch.partial_fit(part)
            return np.asarray(sketch.components_[:SKETCH])

        return fit

    return prepare


def subspace_by_pca(x: np.ndarray, batch: int) -> Callable[[], np.ndarray]:
    try:
        from sklearn.decomposition import IncrementalPCA
    except ImportError as error:
        raise NotImplementedError("scikit-learn is not installed") from error

    def fit() -> np.ndarray:
        pca = IncrementalPCA(SKETCH)
        for part in batches(x, batch):
            pca.partial_fit(part)
        return np.asarray(pca.components_)

    return fit


SKETCHES = {
    "gramian-32-rows": sketch_of(32),
    "gramian-40-rows": sketch_of(40),
    "gramian-44-rows": sketch_of(44),
    "sklearn-incremental-pca": subspace_by_pca,
}


class StreamingSketch:
    params = (tuple(SKETCHES), (64, 512, 2048))
    param_names = ("implementation", "batch")
    timeout = 120

    def setup(self, implementation: str, batch: int) -> None:
        self.x, self.best = decaying()
        self.fit = SKETCHES[implementation](self.x, batch)

    def time_sketch(self, implementation: str, batch: int) -> None:
        self.fit()

    time_sketch.pretty_name = "subspace of a stream: time"

    def peakmem_sketch(self, implementation: str, batch: int) -> None:
        self.fit()

    peakmem_sketch.pretty_name = "subspace of a stream: peak memory"

    def track_energy_missed(self, implementation: str, batch: int) -> float:
        basis = np.linalg.qr(self.fit().astype(np.float64).T)[0]
        return 1 - float(np.linalg.norm(self.x.astype(np.float64) @ basis) ** 2) / self.best

    track_energy_missed.pretty_name = "subspace of a stream: energy missed"
    track_energy_missed.unit = "share of the energy"
