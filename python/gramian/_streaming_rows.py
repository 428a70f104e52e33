"""What the estimators share whose kernels take rows one by one, with a sketch of them."""

from __future__ import annotations

from typing import Any

from ._streaming_base import StreamingEstimator
from ._streaming_batch import COMPLEX, REAL


class RowByRowEstimator(StreamingEstimator):
    """Rows go on at once, and results are the fields of what `_finish` returns."""

    _dtypes = REAL + COMPLEX
    _wide = True

    def _block_rows(self) -> int:
        # No row waits outside the state.
        return 1

    @property
    def components_(self) -> Any:
        """Right singular vectors as rows v^H."""
        return self._finished().components

    @property
    def explained_variance_(self) -> Any:
        """Estimates of the eigenvalues of A^H A over the number of rows."""
        return self._finished().explained_variance

    @property
    def certificate_(self) -> float:
        """Bound on the sine of the angle to the top eigenvector of the rows seen; inf: none."""
        return float(self._finished().certificate)

    @property
    def frobenius_squared_(self) -> float:
        """Sum of the squares of all rows."""
        return float(self._finished().frobenius_squared)

    @property
    def status_(self) -> str:
        """Always "ok": there is no growth to check."""
        self._finished()
        return "ok"
