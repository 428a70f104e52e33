"""gramian: the spectrum of a matrix through its Gram matrix, fast and with proof.

>>> import gramian as gm
>>> import numpy as np
>>> q = gm.newton_schulz(np.eye(3) * 5.0)
>>> bool(abs(q - np.eye(3)).max() < 0.01)
True
"""

from . import _cpu, coefficients, compat
from ._block_oja import BlockOja
from ._bounds import Bounds, gram_bound, spectral_norm, spectral_norm_bounds, stable_rank
from ._conv_bounds import conv_spectral_norm_bounds
from ._frequent_directions import FrequentDirections
from ._inverse_root import InverseRootInfo, inverse_root, sqrt_psd
from ._matrix_sign import matrix_sign
from ._newton_schulz import NewtonSchulzInfo, newton_schulz
from ._nystrom import nystrom_eigh
from ._oja import OjaTopEigenvector
from ._operator_bounds import operator_norm_bounds
from ._polar import PolarInfo, polar
from ._random_order import RandomOrderTopEigenvector
from ._rsvd import range_finder, rsvd
from ._rsvd_partial import rsvd_finish, rsvd_partial
from ._rsvd_results import ConvergenceError, SVDInfo, SVDResult
from ._rsvd_shards import Partial
from ._spectral_clip import SpectralClipInfo, spectral_clip
from ._threads import get_num_threads, set_num_threads

__version__: str = _cpu.version()

__all__ = [
    "BlockOja",
    "Bounds",
    "ConvergenceError",
    "FrequentDirections",
    "InverseRootInfo",
    "NewtonSchulzInfo",
    "OjaTopEigenvector",
    "Partial",
    "PolarInfo",
    "RandomOrderTopEigenvector",
    "SVDInfo",
    "SVDResult",
    "SpectralClipInfo",
    "__version__",
    "coefficients",
    "compat",
    "conv_spectral_norm_bounds",
    "get_num_threads",
    "gram_bound",
    "inverse_root",
    "matrix_sign",
    "newton_schulz",
    "nystrom_eigh",
    "operator_norm_bounds",
    "polar",
    "range_finder",
    "rsvd",
    "rsvd_finish",
    "rsvd_partial",
    "set_num_threads",
    "spectral_clip",
    "spectral_norm",
    "spectral_norm_bounds",
    "sqrt_psd",
    "stable_rank",
]
