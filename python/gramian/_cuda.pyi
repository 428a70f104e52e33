from collections.abc import Callable, Sequence
from typing import TypedDict

Row = tuple[float, float, float]

class Device(TypedDict):
    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    memory: int

class SystemInfo(TypedDict):
    runtime: int
    driver: int
    devices: list[Device]
    error: str

def version() -> str: ...
def system_info() -> SystemInfo: ...
def set_library_directories(directories: Sequence[str]) -> None: ...
def newton_schulz_plan(
    rows: int, cols: int, table: Sequence[Row], arithmetic: str, method: str
) -> tuple[str, tuple[int, ...]]: ...
def newton_schulz(
    x: object,
    out: object,
    dtype: str,
    table: Sequence[Row],
    normalization: str,
    bound: float,
    method: str,
    restarts: Sequence[int],
    arithmetic: str,
    check_finite: bool,
    residual: object | None,
    norm_bound: object | None,
    device: int,
    stream: int,
    allocate: Callable[[int], object],
) -> None: ...
def inverse_root(
    a: object,
    root: object | None,
    inverse: object,
    dtype: str,
    p: int,
    ridge: float,
    tol: float,
    check_finite: bool,
    wait: bool,
    residual: object | None,
    condition: object | None,
    largest: object | None,
    device: int,
    stream: int,
    allocate: Callable[[int], object],
) -> tuple[int, list[int]]: ...
def polar_by_svd(x: object, dtype: str, device: int) -> bool: ...
def polar(
    kind: str,
    x: object,
    out: object,
    hermitian: object | None,
    dtype: str,
    right: bool,
    tolerance: float,
    bound: float,
    lose_unconverged: bool,
    check_finite: bool,
    figures: object | None,
    device: int,
    stream: int,
    allocate: Callable[[int], object],
) -> None: ...
def gram_bound(
    a: object,
    out: object,
    dtype: str,
    n_iter: int,
    check_finite: bool,
    device: int,
    stream: int,
    allocate: Callable[[int], object],
) -> None: ...
def spectral_norm_bounds(
    a: object,
    dtype: str,
    rtol: float,
    method: str,
    seed: int,
    check_finite: bool,
    lower: object | None,
    upper: object | None,
    converged: object | None,
    estimate: object | None,
    stable_rank: object | None,
    device: int,
    stream: int,
    allocate: Callable[[int], object],
) -> tuple[int, str]: ...

sum_parts: int

def sketch(z: object, dtype: str, seed: int, first: int, device: int, stream: int) -> None: ...
def two_sided_read(
    a: object,
    dtype: str,
    computed: str,
    wide: str,
    z: object,
    y: object,
    w: object | None,
    means: object | None,
    sums: object | None,
    squares: object | None,
    device: int,
    stream: int,
    allocate: Callable[[int], object],
) -> None: ...
def direct_limit(device: int) -> int: ...

direct_looks: int
direct_squares: int

def direct_svd(
    a: object,
    dtype: str,
    z: object,
    y: object,
    w: object,
    figures: object,
    seed: int,
    first: int,
    last: int,
    reads: int,
    ritz: bool,
    ends: bool,
    u: object | None,
    s: object | None,
    v: object | None,
    sign_of_v: bool,
    device: int,
    stream: int,
    allocate: Callable[[int], object],
) -> None: ...

direct_values: int

def heavy_update(
    features: int,
    most: int,
    heavy: object,
    heavy_squares: object,
    vectors: object,
    figures: object,
    rows: object,
    dtype: str,
    weights: object | None,
    device: int,
    stream: int,
    allocate: Callable[[int], object],
) -> None: ...
def sketch_update(
    features: int,
    size: int,
    decay: float,
    decayed: bool,
    held: object,
    factors: object,
    totals: object,
    filled: int,
    rows: object,
    dtype: str,
    weights: object | None,
    device: int,
    stream: int,
    allocate: Callable[[int], object],
) -> int: ...
def small_cholesky(
    gram: object,
    triangle: object,
    inverse: object,
    figures: object,
    least: float,
    shift: float,
    device: int,
    stream: int,
) -> None: ...
def small_jacobi(
    triangle: object,
    values: object,
    vectors: object,
    divided: object,
    figures: object,
    tolerance: float,
    device: int,
    stream: int,
) -> None: ...
def small_values(
    grams: object, values: object, figures: object, device: int, stream: int
) -> None: ...
def stream_decay(
    weights: object | None, decayed: object, rows: int, decay: float, device: int, stream: int
) -> None: ...
def stream_finish(
    step: str,
    features: int,
    live: int,
    decay: float,
    vectors: object,
    gathered: object,
    figures: object,
    totals: object,
    position: Sequence[int],
    device: int,
    stream: int,
    allocate: Callable[[int], object],
) -> list[int]: ...
def stream_gather(
    features: int,
    columns: int,
    decay: float,
    vectors: object,
    gathered: object,
    totals: object,
    sums: object | None,
    rows: object,
    dtype: str,
    weights: object | None,
    device: int,
    stream: int,
    allocate: Callable[[int], object],
) -> None: ...
def stream_update(
    step: str,
    features: int,
    live: int,
    decay: float,
    vectors: object,
    gathered: object,
    figures: object,
    totals: object,
    position: Sequence[int],
    rows: object,
    dtype: str,
    weights: object | None,
    device: int,
    stream: int,
    allocate: Callable[[int], object],
) -> list[int]: ...
