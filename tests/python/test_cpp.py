"""The C++ tests: built out of the tree and run by CTest, find_package consumer included."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command, cwd):
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cpp")
    beside = Path(sys.executable).parent
    cmake = shutil.which("cmake", path=str(beside)) or shutil.which("cmake")
    assert cmake, "the test extra brings cmake: pip install '.[test]'"
    ninja = shutil.which("ninja", path=str(beside)) or shutil.which("ninja")
    generator = ["-G", "Ninja"] if ninja else []
    run(
        cmake,
        "-S",
        str(ROOT),
        "-B",
        str(folder),
        *generator,
        "-DGRAMIAN_TESTS=ON",
        "-DGRAMIAN_CUDA=OFF",
        "-DGRAMIAN_WARNINGS_AS_ERRORS=ON",
        f"-DPython_EXECUTABLE={sys.executable}",
        cwd=ROOT,
    )
    run(cmake, "--build", str(folder), "--parallel", cwd=ROOT)
    return folder, cmake


def test_ctest_passes(build):
    folder, cmake = build
    ctest = shutil.which("ctest", path=str(Path(cmake).parent)) or "ctest"
    output = run(ctest, "--output-on-failure", "--no-tests=error", cwd=folder)
    print(output)
    assert "consumer" in output
