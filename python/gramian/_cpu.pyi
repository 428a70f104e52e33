from collections.abc import Sequence

Row = tuple[float, float, float]

def version() -> str: ...
def instruction_set() -> str: ...
def blas_description() -> str: ...
def compiler() -> str: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> bool: ...
def coefficients_names() -> list[str]: ...
def coefficients_table(name: str, steps: int, normalization: str = ...) -> list[Row]: ...
def coefficients_lower(steps: int, normalization: str = ...) -> float: ...
def polar_express(lower: float, steps: int, cushion: float, safety: float) -> list[Row]: ...

coefficients_safety: float

def lint_table(
    table: Sequence[Row], lower: float
) -> tuple[float, float, list[tuple[float, float]], float, list[int]]: ...
def best_restarts(table: Sequence[Row], delta: float, count: int) -> list[int]: ...
def gram_condition(table: Sequence[Row], restarts: Sequence[int], delta: float) -> float: ...
def gram_error(table: Sequence[Row], restarts: Sequence[int], delta: float) -> float: ...
def newton_schulz_plan(
    rows: int, cols: int, table: Sequence[Row], double_precision: bool, method: str
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
    double_precision: bool,
    check_finite: bool,
    residual: object | None = ...,
    norm_bound: object | None = ...,
) -> None: ...
def newton_schulz_derivative(
    x: object,
    direction: object,
    out: object,
    dtype: str,
    table: Sequence[Row],
    normalization: str,
    bound: float,
    method: str,
    restarts: Sequence[int],
    double_precision: bool,
    adjoint: bool,
) -> None: ...
def polar_tolerance(dtype: str, rows: int, cols: int) -> float: ...
def polar(
    x: object,
    u: object,
    p: object | None,
    dtype: str,
    right: bool,
    tolerance: float,
    always_svd: bool,
    check_finite: bool,
) -> list[tuple[str, int, int, float, bool]]: ...
def matrix_sign(
    a: object, out: object, dtype: str, tolerance: float, check_finite: bool
) -> list[tuple[str, int, int, float, bool]]: ...
def spectral_clip(
    x: object,
    out: object,
    dtype: str,
    bound: float,
    hard: bool,
    tolerance: float,
    check_finite: bool,
) -> list[tuple[str, float, bool]]: ...
def gram_bound(
    a: object,
    out: object,
    dtype: str,
    n_iter: int,
    check_finite: bool,
    gradient: object | None = ...,
) -> None: ...
def spectral_norm_bounds(
    a: object,
    dtype: str,
    rtol: float,
    method: str,
    seed: int,
    check_finite: bool,
    lower: object | None = ...,
    upper: object | None = ...,
    converged: object | None = ...,
    estimate: object | None = ...,
    stable_rank: object | None = ...,
) -> tuple[int, str]: ...
def inverse_root(
    a: object,
    out: object,
    dtype: str,
    p: int,
    ridge: float,
    tol: float,
    check_finite: bool,
    residual: object | None = ...,
    condition: object | None = ...,
    largest: object | None = ...,
) -> tuple[int, int, int, int, int, str, float, float]: ...
def sqrt_psd(
    a: object, root: object, inverse: object, dtype: str, tol: float, check_finite: bool
) -> tuple[int, int, int, int, int, str, float, float]: ...
def inverse_root_rows(p: int, lower: float) -> list[Row]: ...

class Rsvd:
    def rank(self) -> int: ...
    def figures(
        self,
    ) -> list[tuple[int, int, float, bool, bool, float, str, int, int]]: ...
    def write(self, u: object, s: object, vh: object, dtype: str) -> None: ...

def rsvd(
    a: object,
    dtype: str,
    rank: int,
    oversample: int,
    passes: int,
    tolerance: float,
    method: str,
    center: bool,
    seed: int,
    check_finite: bool,
    start: object | None = ...,
) -> Rsvd: ...
def range_finder(
    a: object,
    q: object,
    dtype: str,
    size: int,
    passes: int,
    seed: int,
    check_finite: bool,
) -> list[tuple[int, int, float, bool, bool, float, str, int, int]]: ...
def nystrom_eigh(
    a: object,
    w: object,
    v: object,
    dtype: str,
    oversample: int,
    seed: int,
    check_finite: bool,
) -> None: ...
def sketch_entry(seed: int, i: int, j: int) -> int: ...
def oja_layout() -> tuple[int, int, int, int, int]: ...
def oja_update(
    vectors: object,
    figures: object,
    totals: object,
    features: int,
    grid: bool,
    rows: object,
    dtype: str,
    weights: object | None = ...,
    limit: float = ...,
) -> bool: ...
def oja_result(
    vectors: object,
    figures: object,
    totals: object,
    features: int,
    grid: bool,
    is_complex: bool,
    vector: object,
) -> tuple[float, float, bool, int]: ...
def block_oja_layout() -> tuple[int, int, int, int]: ...
def block_oja_update(
    vectors: object,
    figures: object,
    totals: object,
    features: int,
    components: int,
    step: str,
    center: bool,
    decay: float,
    rows: object,
    dtype: str,
    weights: object | None = ...,
) -> None: ...
def block_oja_result(
    vectors: object,
    figures: object,
    totals: object,
    features: int,
    components: int,
    step: str,
    center: bool,
    decay: float,
    is_complex: bool,
    out: object,
    values: object,
) -> float: ...

SKETCH_FIGURES: int

def sketch_capacity(size: int) -> int: ...

class Sketch:
    def __init__(
        self, rows: object, stamps: object, figures: object, mean: object | None, dtype: str
    ) -> None: ...
    def update(self, decay: float, rows: object, dtype: str, weights: object | None) -> None: ...
    def merge(self, decay: float, other: Sketch) -> None: ...
    def settle(self, decay: float) -> None: ...
    def shrink(self, decay: float) -> None: ...
    def error(self) -> float: ...
    def spectrum(self, values: object, vectors: object) -> None: ...
    def certificate(self, vector: object) -> float: ...

RANDOM_ORDER_FIGURES: int

class HeavyAndLight:
    def __init__(
        self, heavy: object, heavy_squares: object, vectors: object, figures: object, dtype: str
    ) -> None: ...
    def start(self, sketch: Sketch, seed: int, most: int) -> None: ...
    def update(self, sketch: Sketch, rows: object, dtype: str, weights: object | None) -> None: ...
    def answer(self, sketch: Sketch, vector: object) -> float: ...
