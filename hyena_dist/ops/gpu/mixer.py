"""The whole Hyena mixer in Triton kernels, from the residual stream to the output projection.

What is computed, as in `ops.fused.mixer`, with h the norm's output:

    p = W h^T + c        y = operator(p)        out = y^T W_o^T + c_o  (+ x)

Backward, from d_out:

    dW_o = d_out^T y^T        dc_o = sum of d_out        dy = W_o^T d_out^T
    dp, dtaps, dbias, dkernels = operator's gradients from dy
    dW = dp h        dc = sum of dp        dh = dp^T W        dx = norm's gradient from dh  (+ d_out)

Projections are channels first, [(N + 1) C, B, S], and the residual stream is positions first, [S, B, D]: kernels take
any strides, so nothing is transposed. Kept are the inputs and z, what the last gate meets; of a stream that is short
for the GPU's memory, the projections as well.

Shapes: S positions, B batch, D d_model, C channels, N order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.fused.mixer import Inputs
from hyena_dist.ops.gpu.operator import write_gradients, write_value
from hyena_dist.ops.gpu.products import product_over_rows
from hyena_dist.ops.records import Filters, NormInput, Projections
from hyena_dist.ops.sizes import sizes_of
from hyena_dist.ops.triton.dot import TYPES
from hyena_dist.ops.triton.linear import linear, norm_linear
from hyena_dist.ops.triton.norm import WIDEST, norm_backward, standardise_and_cast


class Kept(NamedTuple):
    """The tensors that a forward pass leaves for its backward pass."""

    z: Tensor
    """What the last gate meets, [C, B, S]."""
    projected: Tensor | None
    """The projections, [(N + 1) C, B, S]; None where backward makes them again."""


def takes(inputs: Inputs) -> bool:
    """Return whether the kernels can do it: not in float64, nor with a very wide model."""
    return inputs.x.dtype in TYPES and inputs.norm.dtype in TYPES and inputs.x.shape[-1] <= WIDEST


def forward(inputs: Inputs, keep: bool) -> tuple[Tensor, Kept | None]:
    """Return the mixer's value [S, B, D], in memory as x is, and what backward needs."""
    x, norm, projections, filters, residual = inputs
    out, kept = empty(inputs, keep)
    projected = kept.projected if kept else None
    if projected is None:
        projected = _new_rows(x, len(projections.in_weight), norm.dtype)
    norm_linear(x, norm, projections.in_weight, projections.in_bias, _positions_first(projected))
    y = _new_rows(x, filters.kernels.shape[1], norm.dtype)
    write_value(projected, filters, y, kept.z if kept else None)
    linear(_positions_first(y), projections.out_weight, projections.out_bias, out, plus=x if residual else None)
    return out, kept


def empty(inputs: Inputs, keep: bool) -> tuple[Tensor, Kept | None]:
    """Return what `forward` does, without values."""
    x, norm, projections, filters, residual = inputs
    out = torch.empty_like(x, dtype=x.dtype if residual else norm.dtype)
    if not keep:
        return out, None
    short = x.numel() <= sizes_of(x.device).recomputed_from
    projected = _new_rows(x, len(projections.in_weight), norm.dtype) if short else None
    return out, Kept(_new_rows(x, filters.kernels.shape[1], norm.dtype), projected)


def kept(tensors: Sequence[Tensor]) -> Kept:
    """Return the record of what `forward` kept."""
    z, *projected = tensors
    return Kept(z, projected[0] if projected else None)


def backward(d_out: Tensor, inputs: Inputs, kept: Kept) -> Inputs:
    """Return the gradients of all inputs."""
    x, norm, projections, filters, residual = inputs
    h, d = standardise_and_cast(x, norm, d_out, batch_first=True)
    projected = kept.projected
    if projected is None:
        projected = _new_rows(x, len(projections.in_weight), norm.dtype)
        linear(h, projections.in_weight, projections.in_bias, _positions_first(projected))
    dy, y, d_projected = (torch.empty_like(t) for t in (kept.z, kept.z, projected))
    linear(d, projections.out_weight.t(), None, _positions_first(dy))
    d_kernels = torch.empty_like(filters.kernels)
    sums = write_gradients(dy, projected, filters, kept.z, d_projected, d_kernels, y)
    out_weight = product_over_rows(_rows(d), y.flatten(1).t(), projections.out_weight.dtype)
    in_weight = product_over_rows(d_projected.flatten(1).t(), _rows(h), projections.in_weight.dtype)
    dh = linear(_positions_first(d_projected), projections.in_weight.t(), None, h)
    of_norm = norm_backward(dh, x, norm, d_out, residual)
    return Inputs(
        x=of_norm.x,
        norm=NormInput(of_norm.weight, of_norm.bias, norm.eps, norm.dtype),
        projections=Projections(in_weight, sums.rows, out_weight, of_norm.dy_sum),
        filters=Filters(sums.taps, sums.bias, d_kernels),
        residual=residual,
    )


def _new_rows(x: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Return memory for `count` rows of the positions of x [S, B, D], channels first: [count, B, S]."""
    return torch.empty((count, x.shape[1], x.shape[0]), dtype=dtype, device=x.device)


def _positions_first(rows: Tensor) -> Tensor:
    """Return rows [C, B, S] as a view [S, B, C]."""
    return rows.permute(2, 1, 0)


def _rows(x: Tensor) -> Tensor:
    """Return x [S, B, D], a view of contiguous [B, S, D], as [B S, D]."""
    return x.transpose(0, 1).flatten(0, 1)
