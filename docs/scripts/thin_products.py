"""The arithmetic of the thin products on the GPU, in NumPy: errors for several inputs.

Tensor cores are modelled pessimistically: of the eight products of a step and the sum so far, each
is cut off at the 24th bit of the largest, and so is their sum. Beside them, what sums of float32
fused multiply-adds err by, in order. Errors are in units of 2⁻²⁴ Σ|a||z|.
docs/notes/thin_products_gpu.md.
"""

import numpy as np

UNIT = 2.0**-24
DEPTH = 32
KINDS = ("normal", "signs", "positive", "graded", "graded upwards", "cancelling", "one large")


def cut(x: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """x, cut off at 2^(exponent - 23)."""
    step = np.ldexp(1.0, exponent - 23)
    return np.trunc(x / step) * step


def exponent_of(x: np.ndarray) -> np.ndarray:
    return np.frexp(np.maximum(np.abs(x), 2.0**-900))[1] - 1


def step(total: np.ndarray, a: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Adds a z, eight products to an entry."""
    terms = np.concatenate([total[None], a.T[:, :, None] * z[:, None, :]])
    top = exponent_of(np.abs(terms).max(axis=0))
    total = cut(terms, top).sum(axis=0)
    return cut(total, exponent_of(total))


def split(x: np.ndarray, rounded: bool) -> tuple[np.ndarray, np.ndarray]:
    """Two tf32 numbers; the second one rounded, or cut off as the hardware does."""

    def bits(v: np.ndarray, half: int) -> np.ndarray:
        return ((v.view(np.uint32) + np.uint32(half)) & np.uint32(0xFFFFE000)).view(np.float32)

    high = bits(x, 0x1000)
    low = bits(x - high, 0x1000 if rounded else 0)
    return high.astype(float), low.astype(float)


def thin_product(a: np.ndarray, z: np.ndarray) -> np.ndarray:
    """A Z as the kernel computes it, in one part."""
    total = np.zeros((a.shape[0], z.shape[1]), np.float32)
    for first in range(0, a.shape[1], DEPTH):
        a_high, a_low = split(np.ascontiguousarray(a[:, first : first + DEPTH]), False)
        z_high, z_low = split(np.ascontiguousarray(z[first : first + DEPTH]), True)
        d = np.zeros(total.shape)
        for left, right in ((a_low, z_high), (a_high, z_low), (a_high, z_high)):
            for k in range(0, left.shape[1], 8):
                d = step(d, left[:, k : k + 8], right[k : k + 8])
        total += d.astype(np.float32)
    return total


def fused_sums(a: np.ndarray, z: np.ndarray) -> np.ndarray:
    """A Z by float32 fused multiply-adds, one after the other."""
    total = np.zeros((a.shape[0], z.shape[1]), np.float32)
    for k in range(a.shape[1]):
        # Exact in float64 but for a rounding far below float32's.
        total = (a[:, k : k + 1].astype(float) * z[k].astype(float) + total).astype(np.float32)
    return total


def inputs(kind: str, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    a = rng.standard_normal((64, n))
    z = rng.standard_normal((n, 16))
    if kind == "positive":
        a, z = np.abs(a) + 0.5, np.abs(z) + 0.5
    elif kind == "signs":
        z = np.sign(z)
    elif kind == "graded":
        a *= 10.0 ** -np.linspace(0, 12, n)
    elif kind == "graded upwards":
        a *= 10.0 ** np.linspace(-12, 0, n)
    elif kind == "cancelling":
        a[:, n // 2 :] = a[:, : n // 2]
        z[n // 2 :] = -z[: n // 2] * (1 + 1e-6 * rng.standard_normal((n // 2, 16)))
    elif kind == "one large":
        a[:, ::37] *= 1e4
    return a.astype(np.float32), z.astype(np.float32)


def main() -> None:
    rng = np.random.default_rng(0)
    print("| inputs, n | here: largest | mean | bias | in order: largest | mean |")
    print("|---|--:|--:|--:|--:|--:|")
    for n in (64, 4096):
        for kind in KINDS:
            a, z = inputs(kind, n, rng)
            exact = a.astype(float) @ z.astype(float)
            unit = UNIT * (np.abs(a).astype(float) @ np.abs(z).astype(float))
            here = (thin_product(a, z) - exact) / unit
            fused = (fused_sums(a, z) - exact) / unit
            bias = np.mean(here * np.sign(exact))
            print(
                f"| {kind}, {n} | {np.abs(here).max():.2f} | {np.abs(here).mean():.2f} "
                f"| {bias:.2f} | {np.abs(fused).max():.2f} | {np.abs(fused).mean():.2f} |"
            )


if __name__ == "__main__":
    main()
