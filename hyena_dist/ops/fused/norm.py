"""NormInput as the first step of an operator that keeps the input of the norm, not its output.

Its weight and bias are those of the dense layer that follows: weight @ (w * x + b) + bias is (weight * w) @ x plus
(weight @ b + bias), so that nothing but the standardised input is ever as long as the sequence.

Shapes: M sequences x positions, D d_model, R rows of the dense layer that follows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.fused.buffer_pool import new_empty

TILE = 2**20
"""Numbers of a stretch of positions: what lies between two matrix products stays in a CPU's caches."""


class Moments(NamedTuple):
    """Of each row."""

    mean: Tensor
    """[M, 1]."""
    rstd: Tensor
    """[M, 1], 1 / the standard deviation."""

    def of(self, tile: slice) -> "Moments":
        """Those of a stretch of rows."""
        return Moments(self.mean[tile], self.rstd[tile])


class NormInput(NamedTuple):
    """A norm over the last dimension, of D."""

    weight: Tensor
    """[D]."""
    bias: Tensor
    """[D]."""
    eps: float
    dtype: torch.dtype
    """Of the output."""

    def moments(self, x: Tensor) -> Moments:
        """Of x [M, D]."""
        found = [torch.native_layer_norm(x[tile], x.shape[1:], None, None, self.eps)[1:] for tile in tiles(x)]
        return Moments(*map(torch.cat, zip(*found, strict=True)))

    def standard(self, x: Tensor, moments: Moments) -> Tensor:
        """(x - mean) * rstd, [M, D], in the norm's type: its output but for weight and bias."""
        return (x - moments.mean).mul_(moments.rstd).to(self.dtype)

    def backward(self, d: Tensor, x: Tensor, moments: Moments, plus: Tensor | None = None) -> Tensor:
        """The gradient of x [M, D] in its type, in the memory of d if that has this type.

        Args:
            d: [M, D], of what `standard` returns.
            x: [M, D].
            moments: of x.
            plus: [M, D], added: the gradient that the residual stream has passed around the norm.
        """
        dx = d if d.dtype == x.dtype else new_empty(x, x.shape)
        for tile in tiles(x):
            arguments = (d[tile].to(x.dtype), x[tile], x.shape[1:], *moments.of(tile), None, None)
            of_tile, _, _ = torch.ops.aten.native_layer_norm_backward(*arguments, [True, False, False])
            dx[tile] = of_tile if plus is None else of_tile.add_(plus[tile])
        return dx

    def into(self, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The dense layer [R, D], [R] that does to the standardised input what `weight` and `bias` do to the output."""
        shifted = torch.mv(weight, self.bias)
        return (weight * self.weight).to(self.dtype), (shifted if bias is None else bias + shifted).to(self.dtype)

    def out_of(self, d_weight: Tensor, d_bias: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients with respect to what `into` returned -> of (weight [R, D], norm.weight [D], norm.bias [D])."""
        d_norm_weight, d_norm_bias = (d_weight * weight).sum(0), torch.mv(weight.t(), d_bias)
        return torch.addr(d_weight * self.weight, d_bias, self.bias), d_norm_weight, d_norm_bias


def tiles(rows: Tensor) -> list[slice]:
    """Stretches of [M, D]: on a CPU as long as its caches hold, on a GPU all at once."""
    size = max(1, TILE // rows.shape[1]) if rows.device.type == "cpu" else max(1, len(rows))
    return [slice(first, min(first + size, len(rows))) for first in range(0, len(rows), size)]
