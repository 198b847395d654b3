"""The functions of `ops.conv.long` from GPU kernels, for context parallelism, between two exchanges.

Shapes: B batch, C channels, L length.
"""

from functools import partial
from types import ModuleType

import torch
from torch import Tensor

from hyena_dist.ops.gpu.operator import CONVOLUTIONS, fastest
from hyena_dist.ops.triton.long_conv import precision_for
from hyena_dist.ops.triton.rows import Product, Rows


def takes(u: Tensor) -> bool:
    """Return whether the kernels compute in the type of u: all but float64."""
    return u.dtype != torch.float64


def convolve(u: Tensor, k: Tensor) -> Tensor:
    """Return the causal convolution of u [B, C, L] with k [C, L], in the type of u."""
    return _convolve(u, k, _conv_for(u, k))


def convolve_backward(dy: Tensor, u: Tensor, k: Tensor, want_du: bool = True) -> tuple[Tensor | None, Tensor]:
    """Return the gradients (du, dk) of y = convolve(u, k); du is None if it is not wanted."""
    conv = _conv_for(u, k)
    precision = precision_for(u.dtype)
    du, dk = torch.empty(u.shape, dtype=u.dtype, device=u.device), torch.empty_like(k)
    spectrum = conv.spectrum(k, precision)
    conv.convolve_backward(_rows(dy), _rows(u), spectrum, du.transpose(0, 1), dk, precision=precision)
    return du if want_du else None, dk


def _convolve(u: Tensor, k: Tensor, conv: ModuleType) -> Tensor:
    precision = precision_for(u.dtype)
    y = torch.empty(u.shape, dtype=u.dtype, device=u.device)
    conv.convolve(_rows(u), conv.spectrum(k, precision), y.transpose(0, 1), precision=precision)
    return y


def _conv_for(u: Tensor, k: Tensor) -> ModuleType:
    candidates = {name: partial(_convolve, u, k, conv) for name, conv in CONVOLUTIONS.items()}
    return fastest(u, u.shape[0] * u.shape[1], candidates)


def _rows(x: Tensor) -> Product:
    """Return x [B, C, L] as kernels take it."""
    return Rows(x.transpose(0, 1)), None
