"""``python -m gramian`` and ``python -m gramian demo``: every file format, every error."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys

import gramian as gm
import numpy as np
import pytest
from gramian import _matrix_files

pytestmark = pytest.mark.thread_unsafe  # each starts a process, and some write files


def run(*arguments, cwd=None):
    """Status, stdout and stderr of ``python -m gramian ...``."""
    done = subprocess.run([sys.executable, "-m", "gramian", *map(str, arguments)], text=True,
                          capture_output=True, timeout=300, check=False, cwd=cwd,
                          env=os.environ | {"PYTHONIOENCODING": "utf-8"})  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def demo(*arguments):
    """Rows of the demo's table, by matrix name."""
    status, out, err = run("demo", "--seconds", 0, *arguments)
    assert status == 0, err
    assert err == ""
    rows = {}
    for line in out.splitlines():
        found = re.fullmatch(r"(.+?) +(\d+) x (\d+) +(\S+) +(\S+) +(\S+) +(\S+) +(\S+)", line)
        if found:
            name, m, n, dtype, *figures = found.groups()
            ms, residual, error, ratio = map(float, figures)
            rows[name] = ((int(m), int(n)), dtype, ms, residual, error, ratio)
    return rows, out


def matrix(seed=0, shape=(24, 60), dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check(row, shape, dtype="float32", worst=0.1):
    assert row[0] == shape
    assert row[1] == dtype
    assert row[2] > 0
    assert 0 <= row[3] < 2.5 * worst
    assert 0 <= row[4] < worst
    assert row[5] > 0


# ---- What is installed --------------------------------------------------------------------------


def test_information_names_versions_blas_and_cuda():
    status, out, err = run()
    assert (status, err) == (0, "")
    for text in (gm.__version__, np.__version__, "Python", "BLAS", "CPU instructions", "threads",
                 "compiler", "CUDA", "torch", "CuPy"):  # fmt: skip
        assert text in out


def test_information_as_json():
    status, out, _ = run("--json")
    facts = json.loads(out)
    assert status == 0
    assert facts["gramian"] == gm.__version__
    assert facts["numpy"] == np.__version__
    assert facts["threads"] >= 1
    assert facts["instruction_set"] in ("generic", "avx2", "avx512")
    assert facts["cuda"] is None or {"devices", "error"} <= set(facts["cuda"])


def test_information_does_not_import_torch_or_cupy(run_python):
    code = (
        "import sys; from gramian.__main__ import main; main([]); "
        "print('imported', [m for m in ('torch', 'cupy') if m in sys.modules])"
    )
    assert "imported []" in run_python(code)


@pytest.mark.parametrize(
    ("cuda", "expected"),
    [
        (None, ["not built"]),
        ({"runtime": 13000, "driver": 0, "devices": [], "error": "no driver"},
         ["built, not usable: no driver"]),
        ({"runtime": 13000, "driver": 12080, "devices": [], "error": ""},
         ["runtime 13.0, driver 12.8, no device"]),
        ({"runtime": 13000, "driver": 13010, "error": "", "devices": [
            {"name": "H100", "compute_capability": (9, 0), "multiprocessors": 132,
             "memory": 80 * 2**30}]},
         ["runtime 13.0, driver 13.1",
          "0: H100, compute capability 9.0, 132 multiprocessors, 80.0 GiB"]),
    ],
    ids=["absent", "error", "no device", "one device"],
)  # fmt: skip
def test_cuda_state(cuda, expected):
    from gramian.__main__ import _cuda_lines

    assert _cuda_lines(cuda) == expected


# ---- The demo on every kind of file -------------------------------------------------------------


def test_demo_without_arguments_runs_on_the_bundled_weights():
    rows, out = demo()
    assert len(rows) == 2
    for (shape, *_), expected in zip(rows.values(), [(384, 384), (512, 384)], strict=True):
        assert shape == expected
    for row in rows.values():
        check(row, row[0])
    assert re.search(r"2 matrices: newton_schulz is .* the SVD", out)
    assert "Apache-2.0" in out


def test_bundled_weights_come_with_their_licence():
    folder = os.path.join(os.path.dirname(gm.__file__), "data")
    with open(os.path.join(folder, "LICENSE-demo-weights.txt"), encoding="utf-8") as file:
        text = file.read()
    assert "Apache License" in text
    assert "all-MiniLM-L6-v2" in text
    assert os.path.getsize(os.path.join(folder, "minilm-weights.npz")) < 700_000


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_npy(tmp_path, dtype):
    x = matrix() + 1j * matrix(1) if dtype.startswith("c") else matrix()
    np.save(tmp_path / "weights.npy", x.astype(dtype))
    rows, _ = demo(tmp_path / "weights.npy")
    check(rows["weights"], (24, 60), "float32" if dtype == "float16" else dtype)


def test_npy_in_fortran_order_and_foreign_byte_order(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(matrix()).astype(">f4"))
    check(demo(tmp_path / "a.npy")[0]["a"], (24, 60))


def test_npz_passes_over_what_is_no_matrix(tmp_path):
    others = {"bias": np.ones(3), "index": np.eye(3, dtype=int), "stack": np.ones((2, 3, 3)),
              "empty": np.ones((0, 3)), "thing": np.array([{}], dtype=object)}  # fmt: skip
    np.savez_compressed(tmp_path / "a.npz", w=matrix(), v=matrix(1, (50, 20)), **others)
    rows, out = demo(tmp_path / "a.npz")
    assert sorted(rows) == ["v", "w"]
    assert "2 matrices" in out


def write_safetensors(path, tensors):
    """The format by hand: tensors maps names to (type, shape, bytes)."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (kind, shape, content) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape,
                        "data_offsets": [offset, offset + len(content)]}  # fmt: skip
        offset += len(content)
    text = json.dumps(header).encode()
    body = b"".join(content for _, _, content in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def bfloat16(x):
    """Upper halves of float32 bits: rounded towards zero."""
    return (np.asarray(x, "<f4").view("<u4") >> 16).astype("<u2")


def test_safetensors_of_every_type(tmp_path):
    x = matrix()
    path = tmp_path / "model.safetensors"
    types = {"F16": x.astype("<f2"), "BF16": bfloat16(x), "F32": x.astype("<f4"),
             "F64": x.astype("<f8")}  # fmt: skip
    tensors = {f"w.{k}": (k, list(v.shape), v.tobytes()) for k, v in types.items()}
    tensors["bias"] = ("F32", [3], bytes(12))
    tensors["index"] = ("I64", [1, 2], bytes(16))
    tensors["tiny"] = ("F8_E4M3", [2, 2], bytes(4))
    write_safetensors(path, tensors)

    read = dict(_matrix_files.read_matrices(path))
    assert sorted(read) == ["w.BF16", "w.F16", "w.F32", "w.F64"]
    np.testing.assert_array_equal(read["w.F32"], x)
    np.testing.assert_array_equal(read["w.F64"], x.astype(float))
    np.testing.assert_array_equal(read["w.F16"], x.astype(np.float16))
    assert read["w.BF16"].dtype == np.float32
    assert np.all(np.abs(read["w.BF16"] - x) <= 2.0**-7 * np.abs(x))

    rows, _ = demo(path)
    for kind in types:
        check(rows[f"w.{kind}"], (24, 60), "float64" if kind == "F64" else "float32")


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_safetensors_as_the_library_writes_them(tmp_path, library):
    pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    x = matrix()
    if library == "torch":
        torch = pytest.importorskip("torch")
        from safetensors.torch import save_file

        save_file({"w": torch.from_numpy(x).bfloat16(), "b": torch.ones(3)}, path)
        expected = torch.from_numpy(x).bfloat16().float().numpy()
    else:
        from safetensors.numpy import save_file

        save_file({"w": x, "b": np.ones(3)}, path)
        expected = x
    read = dict(_matrix_files.read_matrices(path))
    assert list(read) == ["w"]
    np.testing.assert_array_equal(read["w"], expected)


def test_several_files_are_told_apart(tmp_path):
    np.save(tmp_path / "a.npy", matrix())
    np.savez(tmp_path / "b.npz", w=matrix(1))
    rows, _ = demo(tmp_path / "a.npy", tmp_path / "b.npz")
    assert sorted(rows) == ["a.npy: a", "b.npz: w"]


def test_more_steps_come_closer(tmp_path):
    np.save(tmp_path / "a.npy", matrix())
    errors = [demo(tmp_path / "a.npy", "--steps", steps)[0]["a"][4] for steps in (3, 12)]
    assert errors[1] < 1e-5 < errors[0]


def test_rank_deficient_and_zero_matrices(tmp_path):
    low = matrix(0, (30, 4)) @ matrix(1, (4, 40))
    np.savez(tmp_path / "a.npz", low=low, zero=np.zeros((5, 6), np.float32))
    rows, _ = demo(tmp_path / "a.npz", "--steps", 8)
    assert rows["low"][4] < 0.01  # over the four directions that it has
    assert rows["zero"][3:5] == (1.0, 0.0)


def test_a_matrix_with_nan_is_passed_over(tmp_path):
    np.savez(tmp_path / "a.npz", good=matrix(), bad=np.full((3, 3), np.nan))
    rows, out = demo(tmp_path / "a.npz")
    assert list(rows) == ["good"]
    assert "bad: passed over, it holds NaN or infinity" in out


# ---- Errors -------------------------------------------------------------------------------------


def header(text):
    return struct.pack("<Q", len(text)) + text


def entry(**changed):
    full = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changed
    return header(json.dumps({"w": full}).encode()) + bytes(16)


FILES = {
    "missing": ("none.npy", None, "does not exist"),
    "folder": ("folder.npz", "folder", "cannot be read"),
    "suffix": ("a.pt", b"", "must be .npy, .npz, .safetensors"),
    "no suffix": ("weights", b"", "must be .npy, .npz, .safetensors"),
    "npy empty": ("a.npy", b"", "not a usable .npy file"),
    "npy other": ("a.npy", b"hello, this is no array", "not a usable .npy file"),
    "npz other": ("a.npz", b"hello, this is no archive", "not a usable .npz file"),
    "safetensors short": ("a.safetensors", b"abc", "shorter than 8 bytes"),
    "safetensors length": ("a.safetensors", b"\xff" * 20, "header of"),
    "safetensors json": ("a.safetensors", header(b"{nope"), "header is malformed"),
    "safetensors list": ("a.safetensors", header(b"[1]"), "header is malformed"),
    "safetensors field": ("a.safetensors", header(b'{"w": {"dtype": "F32"}}'), "malformed"),
    "safetensors size": ("a.safetensors", entry(shape=[2, 3]), "has 16 bytes"),
    "safetensors end": ("a.safetensors", entry(data_offsets=[8, 24]), "lies beyond its end"),
    "safetensors begin": ("a.safetensors", entry(data_offsets=[-8, 8]), "lies beyond its end"),
    "safetensors shape": ("a.safetensors", entry(shape=[-2, -2]), "has 16 bytes"),
    "safetensors bare": ("a.safetensors", header(b"{}"), "holds no floating-point matrix"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files_are_named_without_a_traceback(tmp_path, case):
    name, content, message = FILES[case]
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    status, _, err = run("demo", path)
    assert status == 2
    assert err.startswith("python -m gramian demo: error: ")
    assert str(path) in err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("values", [np.ones(3), np.eye(3, dtype=int), np.ones((0, 2))])
def test_a_file_without_a_matrix(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    status, _, err = run("demo", tmp_path / "a.npy")
    assert status == 2
    assert "holds no floating-point matrix" in err


def test_a_damaged_archive_entry(tmp_path):
    np.savez(tmp_path / "a.npz", w=matrix())
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[600] ^= 0xFF  # among the values: the checksum no longer holds
    (tmp_path / "a.npz").write_bytes(content)
    status, _, err = run("demo", tmp_path / "a.npz")
    assert status == 2
    assert "its entry w.npy is damaged" in err


def test_nothing_finite(tmp_path):
    np.save(tmp_path / "a.npy", np.full((3, 3), np.inf))
    status, _, err = run("demo", tmp_path / "a.npy")
    assert status == 2
    assert "nothing to compute" in err


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{}, 1]], dtype=object))
    status, _, err = run("demo", tmp_path / "a.npy")
    assert status == 2
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--steps", "0"], "at least 1"),
        (["demo", "--steps", "x"], "invalid integer value"),
        (["demo", "--seconds", "-1"], "from 0 to 3600"),
        (["demo", "--seconds", "nan"], "from 0 to 3600"),
        (["nonsense"], "invalid choice"),
        (["--json", "demo"], "--json goes with no command"),
    ],
)
def test_bad_arguments(arguments, message):
    status, _, err = run(*arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err
