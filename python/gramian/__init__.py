"""gramian: the spectrum of a matrix through its Gram matrix, fast and with proof.

>>> import gramian as gm
>>> import numpy as np
>>> q = gm.newton_schulz(np.eye(3) * 5.0)
>>> bool(abs(q - np.eye(3)).max() < 0.01)
True
"""

from . import _cpu, coefficients
from ._newton_schulz import NewtonSchulzInfo, newton_schulz
from ._threads import get_num_threads, set_num_threads

__version__: str = _cpu.version()

__all__ = [
    "NewtonSchulzInfo",
    "__version__",
    "coefficients",
    "get_num_threads",
    "newton_schulz",
    "set_num_threads",
]
