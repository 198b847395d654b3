"""A LayerNorm as the first step of an operator that keeps the input of the norm, not its output.

What is computed. With h the standardised rows of x,

    h = (x - mean) rstd        mean and variance over D,  rstd = 1 / sqrt(variance + eps)
    W (w h + b) + c  =  W' h + c'      W' = W diag(w),  c' = W b + c

the norm's weight w and bias b move into the dense layer W, c that follows: nothing but h is as long as the sequence.

Backward. Given dh and the gradients dW', dc' of the folded layer,

    dx = rstd (dh - mean_D(dh) - h mean_D(dh h))
    dW = dW' diag(w) + dc' b^T        dc = dc'
    dw = sum over the rows of (dW' W)        db = W^T dc'

Source: Ba et al., Layer Normalization (arXiv 1607.06450). Plain reference: `hyena_dist.ops.reference.norm`.

Shapes: M sequences x positions, D d_model, R rows of the dense layer that follows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.fused.buffer_pool import new_empty
from hyena_dist.ops.records import NormInput
from hyena_dist.ops.sizes import sizes_of


class Moments(NamedTuple):
    """Mean and scale of each row of x."""

    mean: Tensor
    """Mean over D, [M, 1]."""
    rstd: Tensor
    """Scale 1 / sqrt(variance + eps), [M, 1]."""

    def of(self, tile: slice) -> "Moments":
        """Return the moments of a stretch of rows."""
        return Moments(self.mean[tile], self.rstd[tile])


class Folded(NamedTuple):
    """The dense layer that does to standardised rows what another one does to the norm's output; in the norm's type."""

    weight: Tensor
    """The folded weight W', [R, D]."""
    bias: Tensor
    """The folded bias c', [R]."""


class UnfoldedGradients(NamedTuple):
    """The gradients of the tensors that `fold` puts together; that of the layer's bias c is dc' itself."""

    weight: Tensor
    """The gradient dW of the dense layer's weight, [R, D]."""
    norm_weight: Tensor
    """The gradient dw of the norm's weight, [D]."""
    norm_bias: Tensor
    """The gradient db of the norm's bias, [D]."""


def moments_of(x: Tensor, norm: NormInput) -> Moments:
    """Return the moments of the rows of x [M, D]."""
    found = [torch.native_layer_norm(x[tile], x.shape[1:], None, None, norm.eps)[1:] for tile in tiles(x)]
    return Moments(*map(torch.cat, zip(*found, strict=True)))


def standardise(x: Tensor, moments: Moments, norm: NormInput) -> Tensor:
    """Return the standardised rows h [M, D] of x [M, D], in the norm's type."""
    return (x - moments.mean).mul_(moments.rstd).to(norm.dtype)


def standardise_backward(dh: Tensor, x: Tensor, moments: Moments, plus: Tensor | None = None) -> Tensor:
    """Return the gradient of x [M, D] in its type, in the memory of dh if that has this type.

    Args:
        dh: gradient of the standardised rows, [M, D].
        x: the rows before they were standardised, [M, D].
        moments: mean and scale of the rows of x.
        plus: what is added, [M, D]: the gradient that the residual stream has passed around the norm.
    """
    dx = dh if dh.dtype == x.dtype else new_empty(x, x.shape)
    for tile in tiles(x):
        arguments = (dh[tile].to(x.dtype), x[tile], x.shape[1:], *moments.of(tile), None, None)
        of_tile, _, _ = torch.ops.aten.native_layer_norm_backward(*arguments, [True, False, False])
        dx[tile] = of_tile if plus is None else of_tile.add_(plus[tile])
    return dx


def fold(norm: NormInput, weight: Tensor, bias: Tensor | None = None) -> Folded:
    """Move the norm's weight and bias into the dense layer with weight [R, D] and bias [R] (0 if not given)."""
    shifted = torch.mv(weight, norm.bias)
    return Folded((weight * norm.weight).to(norm.dtype), (shifted if bias is None else bias + shifted).to(norm.dtype))


def unfold_gradients(d_weight: Tensor, d_bias: Tensor, norm: NormInput, weight: Tensor) -> UnfoldedGradients:
    """Return the gradients of fold's arguments, from dW' [R, D] and dc' [R] of fold(norm, weight)."""
    return UnfoldedGradients(
        weight=torch.addr(d_weight * norm.weight, d_bias, norm.bias),
        norm_weight=(d_weight * weight).sum(0),
        norm_bias=torch.mv(weight.t(), d_bias),
    )


def tiles(rows: Tensor) -> list[slice]:
    """Return stretches of rows [M, D] between which nothing but the rows has to be in memory."""
    return stretches(len(rows), sizes_of(rows.device).norm // rows.shape[1])


def stretches(count: int, size: int) -> list[slice]:
    """Return slices of `count` rows, of `size` rows each but the last; at least one row each."""
    size = max(1, size)
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]
