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

from hyena_dist.ops.records import NormInput
from hyena_dist.ops.sizes import sizes_of


class Moments(NamedTuple):
    """Mean and scale of each row of x."""

    mean: Tensor
    """Mean over D, [M, 1]."""
    rstd: Tensor
    """Scale 1 / sqrt(variance + eps), [M, 1]."""


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


def standardise(x: Tensor, norm: NormInput) -> tuple[Tensor, Moments]:
    """Return the standardised rows h [M, D] of x [M, D], in the norm's type, and the moments of x."""
    h, mean, rstd = torch.native_layer_norm(x, x.shape[1:], None, None, norm.eps)
    return h.to(norm.dtype), Moments(mean, rstd)


def standardise_backward(dh: Tensor, x: Tensor, moments: Moments, dx: Tensor, plus: Tensor | None = None) -> None:
    """Write the gradient of x [M, D] into dx, which has the type of x and may be dh.

    Args:
        dh: gradient of the standardised rows, [M, D].
        x: the rows before they were standardised, [M, D].
        moments: mean and scale of the rows of x.
        dx: where the gradient is written, [M, D].
        plus: what is added, [M, D]: the gradient that the residual stream has passed around the norm.
    """
    arguments = (dh.to(x.dtype), x, x.shape[1:], *moments, None, None)
    of_x, _, _ = torch.ops.aten.native_layer_norm_backward(*arguments, [True, False, False])
    if plus is None:
        dx.copy_(of_x)
    else:
        torch.add(of_x, plus, out=dx)


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
