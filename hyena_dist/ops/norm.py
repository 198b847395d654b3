"""LayerNorm as the first step of an operator that keeps the input of the norm, not its output."""

from typing import NamedTuple

import torch
from torch import Tensor


class LayerNorm(NamedTuple):
    """A norm over the last dimension, of D."""

    weight: Tensor
    """[D]."""
    bias: Tensor
    """[D]."""
    eps: float
    dtype: torch.dtype
    """Of the output."""

    def forward(self, x: Tensor) -> Tensor:
        """[M, D] -> [M, D]."""
        return torch.nn.functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps).to(self.dtype)

    def backward(self, dy: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(dx [M, D] in the type of x, d_weight, d_bias)."""
        _, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        arguments = (dy.to(x.dtype), x, x.shape[-1:], mean, rstd, self.weight, self.bias)
        dx, d_weight, d_bias = torch.ops.aten.native_layer_norm_backward(*arguments, [True, True, True])
        return dx, d_weight, d_bias
