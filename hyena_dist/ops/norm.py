"""LayerNorm as the first step of an operator that keeps the input of the norm, not its output."""

from typing import NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.memory import new_empty

TILE = 2**20
"""Numbers of a stretch of positions: what lies between two matrix products stays in a CPU's caches."""


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

    def backward(self, dy: Tensor, x: Tensor, plus: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(dx [M, D] in the type of x, d_weight, d_bias), in the memory of dy if that has the type of x.

        Args:
            dy: [M, D].
            x: [M, D].
            plus: [M, D], added to dx: the gradient that the residual stream has passed around the norm.
        """
        dx = dy if dy.dtype == x.dtype else new_empty(x, x.shape)
        d_weight, d_bias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        for tile in tiles(x):
            _, mean, rstd = torch.native_layer_norm(x[tile], x.shape[-1:], self.weight, self.bias, self.eps)
            arguments = (dy[tile].to(x.dtype), x[tile], x.shape[-1:], mean, rstd, self.weight, self.bias)
            d, *of_tile = torch.ops.aten.native_layer_norm_backward(*arguments, [True, True, True])
            dx[tile] = d if plus is None else d.add_(plus[tile])
            d_weight += of_tile[0]
            d_bias += of_tile[1]
        return dx, d_weight, d_bias


def tiles(rows: Tensor) -> list[slice]:
    """Stretches of [M, D]: on a CPU as long as its caches hold, on a GPU all at once."""
    size = max(1, TILE // rows.shape[1]) if rows.device.type == "cpu" else max(1, len(rows))
    return [slice(first, min(first + size, len(rows))) for first in range(0, len(rows), size)]
