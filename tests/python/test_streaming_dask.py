"""FrequentDirections over a local dask cluster: sketches of partitions, merged as a tree."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

distributed = pytest.importorskip("distributed")

SCRIPT = Path(__file__).parents[2] / "docs" / "scripts" / "dask_sketch.py"

# Workers in this process: they start at once, and know the example without a file on their path.
CLUSTER = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": None}


@pytest.mark.thread_unsafe
def test_partitions_on_a_cluster_give_the_bounds_of_all_rows():
    from dask import delayed

    spec = importlib.util.spec_from_file_location("dask_sketch", SCRIPT)
    example = sys.modules["dask_sketch"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((900, 30)) * np.r_[9.0, 4.0, np.ones(28)]
    parts = np.array_split(rows, 5)  # one of them has nobody to merge with at first

    with (
        distributed.LocalCluster(**CLUSTER) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert len(client.scheduler_info()["workers"]) == 2
        whole = example.merged([delayed(example.sketch)(part, 8) for part in parts]).compute()
    assert whole.n_samples_seen_ == 900
    b = whole.sketch_
    gap = np.linalg.eigvalsh(rows.T @ rows - b.T @ b)
    assert gap[0] >= -1e-9 * gap[-1]
    assert gap[-1] <= whole.covariance_error_bound_
    top = np.linalg.svd(rows)[2][0]
    sine = np.linalg.norm(whole.components_[0] - top * (top @ whole.components_[0]))
    assert sine <= whole.certificate_ < 0.2
    # The cluster's tree is the tree here.
    a, c, d, e, f = (example.sketch(part, 8) for part in parts)
    here = a.merge(c).merge(d.merge(e)).merge(f)
    np.testing.assert_array_equal(here.sketch_, b)
