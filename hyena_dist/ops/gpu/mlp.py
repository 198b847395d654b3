"""The operator of `ops.fused.mlp` from GPU kernels, for all positions at once; it keeps its input alone.

What is computed, in two launches: g = gelu(W1 layer_norm(x) + c1) and y = W2 g + c2 (+ x).

Backward, from dy, in eight. With h = layer_norm(x), which is made again, and da from `triton.hidden`:

    dW2 = dy^T g        dW1 = da^T h        dc1 = sum of da
    dh = da W1        dx, norm and dc2 = sum of dy from `triton.norm`

Shapes: M sequences x positions, D d_model, H hidden width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hyena_dist.ops.fused.mlp import Inputs
from hyena_dist.ops.gpu.products import product_over_rows
from hyena_dist.ops.records import MLPWeights, NormInput
from hyena_dist.ops.triton.dot import TYPES
from hyena_dist.ops.triton.hidden import hidden_backward
from hyena_dist.ops.triton.linear import linear, norm_linear
from hyena_dist.ops.triton.norm import WIDEST, norm_backward, standardise_and_cast


def takes(inputs: Inputs) -> bool:
    """Return whether the kernels can do it: not in float64, nor with a very wide model."""
    return inputs.x.dtype in TYPES and inputs.norm.dtype in TYPES and inputs.x.shape[-1] <= WIDEST


def forward(inputs: Inputs, keep: bool) -> tuple[Tensor, None]:
    """Return the MLP's value [..., D]."""
    x, norm, weights, residual = inputs
    y, _ = empty(inputs, keep)
    rows = _rows(x)
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
    x, norm, weights, residual = inputs
    rows, d_rows = _rows(x), _rows(dy)
    h, d = (t[:, 0] for t in standardise_and_cast(rows, norm, d_rows))
    hidden = hidden_backward(h, d, weights)
    fc2_weight = product_over_rows(d, hidden.value, weights.fc2_weight.dtype)
    fc1_weight = product_over_rows(hidden.before, h, weights.fc1_weight.dtype)
    dh = linear(hidden.before[:, None], weights.fc1_weight.t(), None, h[:, None])
    of_norm = norm_backward(dh, rows, norm, d_rows, residual)
    return Inputs(
        x=of_norm.x.view(x.shape),
        norm=NormInput(of_norm.weight, of_norm.bias, norm.eps, norm.dtype),
        weights=MLPWeights(fc1_weight, hidden.bias, fc2_weight, of_norm.dy_sum),
        residual=residual,
    )


def _rows(x: Tensor) -> Tensor:
    """Return x [..., D] as [M, 1, D]: all rows as the positions of one sequence."""
    return x.reshape(-1, 1, x.shape[-1])
