"""The operator of `ops.fused.mlp` from GPU kernels, for all positions at once; it keeps its input alone.

What is computed, with h = layer_norm(x), made again in backward:

    a = W1 h + c1        g = gelu(a)        y = W2 g + c2  (+ x)
    da = (W2^T dy) gelu'(a)        dh = W1^T da
    dW1 = da^T h        dc1 = sum of da        dW2 = dy^T g        dc2 = sum of dy        dx, dw, db as in `triton.norm`

A narrow model in 16 bits takes one launch forward and four backward (`triton.mlp`); any other two and eight.

Shapes: M sequences x positions, D d_model, H hidden width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hyena_dist.ops.fused.mlp import Inputs
from hyena_dist.ops.gpu.products import product_over_rows
from hyena_dist.ops.records import MLPWeights
from hyena_dist.ops.triton.dot import TYPES
from hyena_dist.ops.triton.hidden import hidden_backward
from hyena_dist.ops.triton.linear import linear, norm_linear
from hyena_dist.ops.triton.mlp import MLPGradients, fits, mlp, mlp_backward
from hyena_dist.ops.triton.norm import WIDEST, norm_backward, standardise_and_cast


def takes(inputs: Inputs) -> bool:
    """Return whether the kernels can do it: not in float64, nor with a very wide model."""
    return inputs.x.dtype in TYPES and inputs.norm.dtype in TYPES and inputs.x.shape[-1] <= WIDEST


def forward(inputs: Inputs, keep: bool) -> tuple[Tensor, None]:
    """Return the MLP's value [..., D]."""
    x, norm, weights, residual = inputs
    y, _ = empty(inputs, keep)
    rows = _rows(x)
    if fits(x.shape[-1], norm.dtype):
        mlp(rows[:, 0], norm, weights, residual, _rows(y)[:, 0])
        return y, None
    g = torch.empty((len(rows), 1, len(weights.fc1_weight)), dtype=norm.dtype, device=x.device)
    norm_linear(rows, norm, weights.fc1_weight, weights.fc1_bias, g, gelu=True)
    linear(g, weights.fc2_weight, weights.fc2_bias, _rows(y), plus=rows if residual else None)
    return y, None


def empty(inputs: Inputs, keep: bool) -> tuple[Tensor, None]:
    """Return memory for the value."""
    x, norm, _, residual = inputs
    return torch.empty(x.shape, dtype=x.dtype if residual else norm.dtype, device=x.device), None


def kept(tensors: Sequence[Tensor]) -> None:
    """Return what forward kept: nothing."""
    assert not tensors


def backward(dy: Tensor, inputs: Inputs, kept: None) -> Inputs:
    """Return the gradients of the inputs."""
    x, norm, weights, _ = inputs
    found = (_backward if fits(x.shape[-1], norm.dtype) else _backward_by_parts)(dy, inputs)
    fc1_weight = product_over_rows(found.before, found.h, weights.fc1_weight.dtype)
    fc2_weight = product_over_rows(found.dy, found.hidden, weights.fc2_weight.dtype)
    return Inputs(
        x=found.x.view(x.shape),
        norm=norm._replace(weight=found.norm_weight, bias=found.norm_bias),
        weights=MLPWeights(fc1_weight, found.fc1_bias, fc2_weight, found.fc2_bias),
        residual=inputs.residual,
    )


def _backward(dy: Tensor, inputs: Inputs) -> MLPGradients:
    x, norm, weights, residual = inputs
    return mlp_backward(_rows(dy)[:, 0], _rows(x)[:, 0], norm, weights, residual)


def _backward_by_parts(dy: Tensor, inputs: Inputs) -> MLPGradients:
    x, norm, weights, residual = inputs
    rows, d_rows = _rows(x), _rows(dy)
    h, d = (t[:, 0] for t in standardise_and_cast(rows, norm, d_rows))
    g, da, fc1_bias = hidden_backward(h, d, weights)
    dh = torch.empty_like(rows, dtype=norm.dtype)
    linear(da[:, None], weights.fc1_weight.t(), None, dh)
    dx, norm_weight, norm_bias, fc2_bias = norm_backward(dh, rows, norm, d_rows, residual)
    return MLPGradients(dx, norm_weight, norm_bias, fc1_bias, fc2_bias, h, da, g, d)


def _rows(x: Tensor) -> Tensor:
    """Return x [..., D] as [M, 1, D]: all rows as the positions of one sequence."""
    return x.reshape(-1, 1, x.shape[-1])
