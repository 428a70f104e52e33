"""Input matrices of the race, their polar factors, and how far a result is from them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

# gaussian: independent entries. momentum: sigma_i = i^-1/2, about what an optimizer's momentum has.
# rank1: one direction a hundred times stronger than the noise around it, where a norm's looseness
# costs nothing and every step is needed. spiked: eight strong directions over noise.
KINDS = ("gaussian", "momentum", "rank1", "spiked")
# A product's time depends on its values only through the power they draw, so two kinds are timed:
# entries that all differ, and entries that nearly repeat. Each other kind has the time of one.
TIMED_AS = {"gaussian": "gaussian", "momentum": "gaussian", "rank1": "rank1", "spiked": "rank1"}

Shape = tuple[int, ...]
ROWS: dict[str, tuple[Shape, ...]] = {
    "large": ((4096, 4096), (4096, 14336), (14336, 4096), (8, 2048, 8192)),
    "mid": ((1024, 1024), (2048, 2048), (1024, 4096), (2048, 8192), (16, 1024, 1024)),
    "small": ((64, 256, 256), (256, 128, 128), (512, 64, 64)),
    "smoke": ((48, 48), (32, 80), (80, 32), (3, 24, 24)),
}


def name_of(shape: Shape) -> str:
    return "x".join(map(str, shape))


def judged(shape: Shape) -> int:
    """How many matrices of a batch have their errors measured (the first ones)."""
    return 1 if len(shape) == 2 else min(shape[0], 16 if min(shape[-2:]) <= 256 else 2)


def build(shape: Shape, kind: str, device: str) -> Tensor:
    """The bfloat16 matrices of that shape and kind, the same ones every time on a device."""
    *batch, m, n = shape
    if m > n:
        return build((*batch, n, m), kind, device).mT.contiguous()
    generator = torch.Generator(device)
    generator.manual_seed(zlib.crc32(f"{name_of(shape)} {kind}".encode()))

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, device=device)

    def with_singular_values(sigma: Tensor) -> Tensor:
        u = torch.linalg.qr(normal(*batch, m, len(sigma))).Q
        v = torch.linalg.qr(normal(*batch, n, len(sigma))).Q
        return (u * sigma) @ v.mT

    # A Gaussian matrix has spectral norm close to sqrt(m) + sqrt(n).
    if kind == "gaussian":
        x = normal(*shape)
    elif kind == "momentum":
        x = with_singular_values(torch.arange(1, m + 1, device=device) ** -0.5)
    elif kind == "rank1":
        x = with_singular_values(torch.ones(1, device=device))
        x += normal(*shape) * (0.01 / (m**0.5 + n**0.5))
    elif kind == "spiked":
        x = with_singular_values(torch.linspace(10, 2, min(8, m), device=device))
        x += normal(*shape) / (m**0.5 + n**0.5)
    else:
        raise ValueError(f"kind is {kind!r}; it must be one of {KINDS}")
    return x.bfloat16()


def polar_factor(x: Tensor) -> Tensor:
    """U V^T of x = U S V^T in float64, without an SVD, which takes minutes at these sizes.

    A QR factorization makes x square, then Higham's scaled Newton iteration X <- (g X + X^-T/g)/2
    runs to convergence. It is backward stable (Nakatsukasa & Higham, SIAM J. Matrix Anal. Appl. 33,
    2012), so the factor is off by about 1e-16 times the condition number: the eigendecomposition
    of the Gram matrix would lose the square of that. `race.py` compares it with an SVD at 512.
    """
    a = x.double()
    if a.shape[-2] > a.shape[-1]:
        return polar_factor(a.mT).mT
    if a.shape[-2] < a.shape[-1]:
        q, r = torch.linalg.qr(a.mT)
        return _newton(r.mT) @ q.mT
    return _newton(a)


def _newton(a: Tensor, most: int = 40) -> Tensor:
    norm, scaled = torch.linalg.matrix_norm, True
    for _ in range(most):
        inverse = torch.linalg.inv(a)
        gamma = torch.ones((*a.shape[:-2], 1, 1), dtype=a.dtype, device=a.device)
        if scaled:
            above = norm(inverse, 1, keepdim=True) * norm(inverse, torch.inf, keepdim=True)
            below = norm(a, 1, keepdim=True) * norm(a, torch.inf, keepdim=True)
            gamma = (above / below) ** 0.25
        step = (gamma * a + inverse.mT / gamma) / 2
        change = float((norm(step - a) / norm(step)).max())
        a = step
        # Scaling only helps far from convergence. Near it the error is squared by each step, so
        # after a change of 1e-8 what is left is rounding.
        scaled = scaled and change > 1e-2
        if change < 1e-8:
            return a
    raise ArithmeticError("the polar factor has not converged: the input is singular")


@dataclass(frozen=True)
class Judgement:
    error: float  # ||Q - U V^T||_F / ||U V^T||_F over the judged matrices
    low: float  # least and greatest singular value of the results
    high: float


def judge(q: Tensor, truth: Tensor) -> Judgement:
    """How good q is. `truth` holds the polar factors of the first matrices alone."""
    q = q.reshape(-1, *q.shape[-2:])[: len(truth)].double()
    error = float((q - truth).norm() / truth.norm())
    if not torch.isfinite(q).all():
        return Judgement(float("nan"), float("nan"), float("nan"))
    gram = q @ q.mT if q.shape[-2] <= q.shape[-1] else q.mT @ q
    if gram.shape[-1] <= 1024:
        eigenvalues = torch.linalg.eigvalsh(gram)
        low, high = float(eigenvalues.min()), float(eigenvalues.max())
    else:
        ends = [_extreme_eigenvalues(g) for g in gram]
        low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    return Judgement(error, max(low, 0.0) ** 0.5, max(high, 0.0) ** 0.5)


def _extreme_eigenvalues(gram: Tensor) -> tuple[float, float]:
    """Both ends of the spectrum: a full eigensolver takes a second at 4096, for every result."""
    factor, info = torch.linalg.cholesky_ex(gram)
    if int(info) != 0:
        eigenvalues = torch.linalg.eigvalsh(gram)
        return float(eigenvalues[0]), float(eigenvalues[-1])
    return 1 / _lanczos(torch.cholesky_inverse(factor)), _lanczos(gram)


def _lanczos(a: Tensor, steps: int = 48) -> float:
    """Greatest eigenvalue of a positive definite matrix, low by about the spectrum over steps^2."""
    generator = torch.Generator(a.device)
    generator.manual_seed(0)
    v = torch.randn(len(a), dtype=a.dtype, device=a.device, generator=generator)
    basis = [v / v.norm()]
    for _ in range(steps - 1):
        w = a @ basis[-1]
        previous = torch.stack(basis)
        for _ in range(2):  # twice is enough to keep the basis orthogonal
            w = w - previous.mT @ (previous @ w)
        basis.append(w / w.norm())
    q = torch.stack(basis)
    return float(torch.linalg.eigvalsh(q @ a @ q.mT)[-1])
