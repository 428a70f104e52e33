"""Small problems of the randomized SVD on a GPU: their reference here, the kernels with --gpu."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.reference import direct_svd

SIZES = [1, 2, 5, 16, 17, 33, 42, 74, 90, 138, 144]


def gram_of(rng, size, spread):
    """Of columns over so many powers of ten."""
    mixed = np.eye(size) + np.triu(rng.standard_normal((size, size)), 1) / size**0.5
    y = rng.standard_normal((3 * size, size)) @ mixed
    y = y / np.linalg.norm(y, axis=0) * 10.0 ** (-spread * np.arange(size) / size)
    return y.T @ y


def least_of(size):
    return 1e3 * size * direct_svd.U64


def check_triangle(gram, triangle, inverse):
    size = len(gram)
    lengths = np.sqrt(np.diag(gram))
    scaled = gram / lengths[:, None] / lengths
    rounding = (size + 4) * direct_svd.U64
    assert np.array_equal(triangle, np.triu(triangle))
    assert np.array_equal(inverse, np.triu(inverse))
    assert np.all(np.diag(triangle) > 0)
    found = triangle.T @ triangle / lengths[:, None] / lengths
    r, x = triangle / lengths, inverse * lengths[:, None]
    # Panels are multiplied by inverses of their diagonal blocks, of conditions up to the whole's.
    size_of_both = np.linalg.norm(r) * np.linalg.norm(x)
    assert np.abs(found - scaled).max() <= rounding * max(4, size_of_both)
    assert np.linalg.norm(r @ x - np.eye(size)) <= 4 * rounding * size_of_both


def check_eigenvectors(gram, values, vectors, tolerance):
    size = len(gram)
    assert np.all(np.diff(values) <= 0)
    assert np.abs(vectors.T @ vectors - np.eye(size)).max() <= 1.1 * tolerance + 1e-14 * size
    expected = np.linalg.eigvalsh(gram)[::-1]
    slack = 1e-14 * size * expected[0]
    # Rows that are orthogonal up to the tolerance: Gershgorin, of what is scaled to ones.
    assert np.all(abs(values - expected) <= size * tolerance * expected + slack)
    left = gram @ vectors - vectors * values
    assert np.abs(left).max() <= 2 * size * tolerance * expected[0] + slack


@pytest.mark.parametrize("spread", [0, 3, 8])
@pytest.mark.parametrize("size", SIZES)
def test_reference_of_factor_and_eigenvectors(size, spread):
    gram = gram_of(np.random.default_rng(size), size, spread)
    figures = np.zeros(3)
    triangle, inverse = direct_svd.cholesky(gram, least_of(size), 0, figures)
    assert not figures.any()
    check_triangle(gram, triangle, inverse)
    if size > 80:
        return  # NumPy's rounds take their time
    values, vectors = direct_svd.jacobi(triangle, 1e-9, figures)
    assert figures[0] == 0
    assert 1 <= figures[2] <= 12
    check_eigenvectors(gram, values, vectors, 1e-9)


def test_every_row_meets_every_other_once():
    for size in (1, 2, 5, 8):
        pairs = np.hstack(list(direct_svd.seats(size)))
        met = {tuple(sorted(pair)) for pair in pairs.T.tolist()}
        assert len(met) == pairs.shape[1] == size * (size - 1) // 2


def check_values(gram, values):
    assert np.all(np.diff(values) <= 0)
    expected = np.linalg.eigvalsh(gram)[::-1]
    assert np.abs(values - expected).max() <= 2.0**-31 * expected[0]


def special_grams(size):
    """Where bisection meets its numbers, rows are apart, and values are equal or zero."""
    block = np.kron(np.eye((size + 1) // 2), [[2.0, 1], [1, 2]])[:size, :size]
    column = np.arange(1, size + 1.0)
    return {
        "identity": np.eye(size),
        "diagonal": np.diag(2.0 ** -np.arange(size)),
        "steep": np.diag(10.0 ** (-2.0 * np.arange(size))),
        "in pairs": block,
        "singular": singular(size),
        "rank 1": np.outer(column, column),
        "ones": np.ones((size, size)),
        "tridiagonal": 2 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1),
        "small": 1e-200 * np.eye(size),
        "large": 1e200 * block,
    }


@pytest.mark.parametrize("size", SIZES)
def test_reference_of_eigenvalues(size):
    rng = np.random.default_rng(size)
    for spread in (0, 3, 8):
        gram = gram_of(rng, size, spread)
        check_values(gram, direct_svd.eigenvalues(gram))
    for gram in special_grams(size).values():
        check_values(gram, direct_svd.eigenvalues(gram))
    assert not direct_svd.eigenvalues(np.zeros((size, size))).any()


def singular(size):
    """Each column twice."""
    return np.tile(np.eye((size + 1) // 2), (2, 2))[:size, :size]


def test_reference_shifts_what_is_singular():
    for size in (2, 9, 40):
        figures = np.zeros(3)
        direct_svd.cholesky(singular(size), least_of(size), 0, figures)
        assert figures.tolist() == [1, 0, 0]
        figures[:] = 0
        triangle, inverse = direct_svd.cholesky(
            singular(size), least_of(size), 4 * least_of(size), figures
        )
        assert figures.tolist() == [0, 1, 0]
        assert np.abs(triangle.T @ triangle - singular(size)).max() <= 8 * least_of(size)
        assert np.abs(triangle @ inverse - np.eye(size)).max() <= 1e-8


@pytest.fixture(scope="module")
def kernels(cuda_torch):
    from gramian import _backend

    return cuda_torch, _backend.for_device(("cuda", 0))


def factor(kernels, gram, least, shift):
    torch, cuda = kernels
    size = len(gram)
    g = torch.from_numpy(np.ascontiguousarray(gram)).cuda()
    triangle, inverse = (torch.full((size, size), torch.nan).double().cuda() for _ in range(2))
    figures = torch.zeros(3, dtype=torch.float64, device="cuda")
    capsules = (torch.utils.dlpack.to_dlpack(x) for x in (g, triangle, inverse, figures))
    stream = torch.cuda.current_stream().cuda_stream
    cuda.small_cholesky(*capsules, least, shift, 0, stream)
    return triangle, inverse, figures


@pytest.mark.gpu
@pytest.mark.parametrize("spread", [0, 3, 8])
@pytest.mark.parametrize("size", SIZES)
def test_factor_and_eigenvectors_of_the_kernels(kernels, size, spread):
    torch, cuda = kernels
    gram = gram_of(np.random.default_rng(size), size, spread)
    triangle, inverse, figures = factor(kernels, gram, least_of(size), 0)
    assert not figures.any()
    check_triangle(gram, triangle.cpu().numpy(), inverse.cpu().numpy())
    values = torch.full((size,), torch.nan).double().cuda()
    vectors, divided = (torch.full((size, size), torch.nan).double().cuda() for _ in range(2))
    stream = torch.cuda.current_stream().cuda_stream
    found = []
    for _ in range(2):
        capsules = [
            torch.utils.dlpack.to_dlpack(x) for x in (triangle, values, vectors, divided, figures)
        ]
        cuda.small_jacobi(*capsules, 1e-9, 0, stream)
        found.append((values.cpu().numpy(), vectors.cpu().numpy(), divided.cpu().numpy()))
    assert figures[0] == 0
    assert 1 <= figures[2] <= 14
    assert all(np.array_equal(x, y) for x, y in zip(*found, strict=True))
    check_eigenvectors(gram, found[0][0], found[0][1], 1e-9)
    np.testing.assert_allclose(found[0][2], found[0][1] / np.sqrt(found[0][0]), rtol=1e-14)


@pytest.mark.gpu
@pytest.mark.parametrize("size", SIZES)
def test_eigenvalues_of_the_kernel(kernels, size):
    torch, cuda = kernels
    rng = np.random.default_rng(size)
    grams = [gram_of(rng, size, spread) for spread in (0, 3, 8)]
    grams += [*special_grams(size).values(), np.zeros((size, size)), np.full((size, size), np.nan)]
    given = torch.from_numpy(np.array(grams)).cuda()
    found = []
    for _ in range(2):
        values = torch.full((len(grams), size), torch.nan).double().cuda()
        figures = torch.zeros(3, dtype=torch.float64, device="cuda")
        capsules = [torch.utils.dlpack.to_dlpack(x) for x in (given, values, figures)]
        cuda.small_values(*capsules, 0, torch.cuda.current_stream().cuda_stream)
        found.append(values.cpu().numpy())
    assert np.array_equal(*found)
    assert not found[0][-2:].any()
    for gram, values in zip(grams[:-2], found[0], strict=False):
        check_values(gram, values)


@pytest.mark.gpu
@pytest.mark.thread_unsafe
@pytest.mark.parametrize("tool", ["racecheck", "memcheck"])
def test_no_races(cuda_torch, tool):
    """Sizes of every kernel that leave some lanes without a pair, and odd ones."""
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(sanitizer).exists():
        pytest.skip("no compute-sanitizer")
    wanted = " or ".join(f"[{size}-3] or kernel[{size}]" for size in (5, 42, 74, 90, 138))
    checked = [sanitizer, "--tool", tool, "--error-exitcode", "86", sys.executable]
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--gpu", __file__, "-k"]
    chosen = f"(kernels or eigenvalues_of_the_kernel) and ({wanted})"
    run = subprocess.run([*checked, *tests, chosen], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert "10 passed" in run.stdout


@pytest.mark.gpu
def test_what_is_singular_or_not_finite_on_the_device(kernels):
    for size in (2, 9, 40, 144):
        assert factor(kernels, singular(size), least_of(size), 0)[2].tolist() == [1, 0, 0]
        triangle, inverse, figures = factor(
            kernels, singular(size), least_of(size), 4 * least_of(size)
        )
        assert figures.tolist() == [0, 1, 0]
        r, x = triangle.cpu().numpy(), inverse.cpu().numpy()
        assert np.abs(r.T @ r - singular(size)).max() <= 8 * least_of(size)
        assert np.abs(r @ x - np.eye(size)).max() <= 1e-8
        for broken in (np.nan, np.inf):
            gram = np.eye(size)
            gram[-1, -1] = broken
            assert factor(kernels, gram, least_of(size), 1e-10)[2][0] == 1
        gram = np.eye(size)
        gram[0, 0] = 0
        assert factor(kernels, gram, least_of(size), 1e-10)[2][0] == 1
