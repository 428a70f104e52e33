"""gramian's functions as operators of torch, with gradients.

For ``torch.compile(fullgraph=True)``, ``torch.export``, ``torch.func.vmap`` (onto the batch) and
autograd. Tensors that none of these follows go straight to the function, which costs less. With
this module imported `gramian`'s own functions come here by themselves.

>>> import torch
>>> import gramian.torch as gt
>>> weight = torch.eye(3).requires_grad_()
>>> gt.spectral_norm(2 * weight).backward()
>>> round(float(torch.linalg.matrix_norm(weight.grad)), 4)
2.0
"""

from torch.compiler import is_compiling as _is_compiling

from .. import _watched
from ._clip import spectral_clip
from ._conv import conv_spectral_norm_bounds
from ._functions import matrix_sign, polar
from ._gram_bound import gram_bound
from ._newton_schulz import newton_schulz
from ._norms import NormBounds, spectral_norm, spectral_norm_bounds, stable_rank
from ._roots import inverse_root, sqrt_psd
from ._rsvd import Factors, rsvd

__all__ = [
    "Factors",
    "NormBounds",
    "conv_spectral_norm_bounds",
    "gram_bound",
    "inverse_root",
    "matrix_sign",
    "newton_schulz",
    "polar",
    "rsvd",
    "spectral_clip",
    "spectral_norm",
    "spectral_norm_bounds",
    "sqrt_psd",
    "stable_rank",
]

_watched.is_compiling = _is_compiling
