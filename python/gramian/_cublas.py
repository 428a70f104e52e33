"""What proofs that rest on cuBLAS's products ask of it."""

from __future__ import annotations

import os


def require_own_double(what: str) -> None:
    """Raises RuntimeError where cuBLAS is told to imitate float64 by narrower formats.

    `what` needs that it is not, as the message says.
    """
    if _WISHED or _imitation_wished():
        raise RuntimeError(
            f"{what} cuBLAS's own float64; start the process without "
            "CUBLAS_EMULATE_DOUBLE_PRECISION"
        )


def _imitation_wished() -> bool:
    return os.environ.get("CUBLAS_EMULATE_DOUBLE_PRECISION", "0") not in ("", "0")


# At import: cuBLAS may have been loaded meanwhile, and remembers.
_WISHED = _imitation_wished()
