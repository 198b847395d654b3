"""Norm and MLP in one operator, a stretch of positions at a time, that keeps its input alone (a short one keeps all).

What is computed. With h the standardised rows of x and W1', c1' the first layer with the norm folded in (`norm`),

    a = h W1'^T + c1'
    g = gelu(a) = a s        s = sigmoid(p (a + q a^3)),  p = 2 sqrt(2 / pi),  q = 0.044715
    y = g W2^T + c2  (+ x)

The sigmoid is gelu's tanh form, because (1 + tanh(u)) / 2 = sigmoid(2 u), and serves its derivative too.

Backward, from dy:

    dW2 = dy^T g        dc2 = sum of dy
    da = (dy W2) g'(a)        g'(a) = s + g (1 - s) p (1 + 3 q a^2)
    dW1' = da^T h        dc1' = sum of da
    dh = da W1'        dx as in `norm`  (+ dy)

The hidden layer, four times as wide as the model, is in memory for one stretch only and stays in a CPU's caches; a, s
and g are in float32. Plain reference: `hyena_dist.ops.reference.mlp`.

Shapes: M sequences x positions, T of them in a stretch, D d_model, H hidden width.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.conv.gates import real
from hyena_dist.ops.fused.buffer_pool import keeps_all, new_empty
from hyena_dist.ops.fused.norm import (
    fold,
    standardise,
    standardise_backward,
    stretches,
    unfold_gradients,
)
from hyena_dist.ops.fused.products import add_product, dense
from hyena_dist.ops.record_op import RecordOp
from hyena_dist.ops.records import MLPWeights, NormInput
from hyena_dist.ops.sizes import sizes_of

LINEAR = 2 * math.sqrt(2 / math.pi)
"""The p of gelu(a) = a * sigmoid(p * (a + q * a**3))."""

CUBIC = 0.044715
"""The q of gelu(a) = a * sigmoid(p * (a + q * a**3))."""


def gelu_mlp(x: Tensor, norm: NormInput, weights: MLPWeights, residual: bool = False) -> Tensor:
    """Return fc2(gelu(fc1(norm(x)))) with the tanh form of gelu.

    Args:
        x: [..., D], the residual stream, in the parameters' type.
        norm: the norm before the MLP, over D.
        weights: the two dense layers, in the parameters' type; products are in that of the norm's output.
        residual: return the sum with x, in the type of x.

    Returns:
        [..., D] in the type of the norm's output. Differentiable once with respect to all tensors.

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units (arXiv 1606.08415), the tanh form.
    """
    return OPERATOR(Inputs(x, norm, weights, residual))


class Inputs(NamedTuple):
    """The arguments of `gelu_mlp`, and their gradients."""

    x: Tensor
    norm: NormInput
    weights: MLPWeights
    residual: bool


class Activation(NamedTuple):
    """Value and slope of the hidden layer in one stretch of T positions, [T, H] each."""

    value: Tensor
    """The gelu g, in the type of the products where it is kept."""
    slope: Tensor
    """The derivative g'(a) of the gelu, in the type of its value."""


def _forward(inputs: Inputs, keep: bool) -> tuple[Tensor, list[Activation]]:
    x, norm, weights, residual = inputs
    rows = x.reshape(-1, x.shape[-1])
    fc1 = fold(norm, weights.fc1_weight, weights.fc1_bias)
    fc2_weight = weights.fc2_weight.to(norm.dtype)
    keep = keep and keeps_all(x.numel(), x.device)
    y = new_empty(rows, rows.shape, x.dtype if residual else norm.dtype)
    kept = []
    for tile in _tiles(rows, weights):
        h, _ = standardise(rows[tile], norm)
        a = real(torch.addmm(fc1.bias, h, fc1.weight.t()))
        if keep:
            kept.append(Activation(*(t.to(norm.dtype) for t in _gelu_and_slope(a))))
            g = kept[-1].value
        else:
            g = _gelu(a).to(norm.dtype)
        dense(g, fc2_weight, weights.fc2_bias, y[tile], rows[tile] if residual else None)
    return y.view(x.shape), kept


def _empty(inputs: Inputs, keep: bool) -> tuple[Tensor, list[Activation]]:
    x, norm, weights, residual = inputs
    tiles = _tiles(x.reshape(-1, x.shape[-1]), weights) if keep and keeps_all(x.numel(), x.device) else []
    hidden = [(tile.stop - tile.start, len(weights.fc1_weight)) for tile in tiles]
    kept = [Activation(*(x.new_empty(shape, dtype=norm.dtype) for _ in Activation._fields)) for shape in hidden]
    return x.new_empty(x.shape, dtype=x.dtype if residual else norm.dtype), kept


def _kept(tensors: Sequence[Tensor]) -> list[Activation]:
    return [Activation(*pair) for pair in zip(tensors[::2], tensors[1::2], strict=True)]


def _backward(dy: Tensor, inputs: Inputs, kept: list[Activation]) -> Inputs:
    x, norm, weights, residual = inputs
    rows = x.reshape(-1, x.shape[-1])
    d_rows = dy.reshape(-1, dy.shape[-1])
    dx = new_empty(rows, rows.shape)
    fc1 = fold(norm, weights.fc1_weight, weights.fc1_bias)
    fc2_weight = weights.fc2_weight.to(norm.dtype)
    # Until the end the gradient of fc1_weight is that of the folded weight.
    gradients = MLPWeights(*(torch.zeros_like(t, dtype=x.dtype) for t in weights))
    for i, tile in enumerate(_tiles(rows, weights)):
        d = d_rows[tile].to(norm.dtype)
        h, moments = standardise(rows[tile], norm)
        g, slope = kept[i] if kept else _gelu_and_slope(real(torch.addmm(fc1.bias, h, fc1.weight.t())))
        add_product(gradients.fc2_weight, d.t(), g.to(norm.dtype))
        gradients.fc2_bias.add_(d_rows[tile].sum(0))
        da = torch.mm(d, fc2_weight).mul_(slope)
        gradients.fc1_bias.add_(da.sum(0))
        add_product(gradients.fc1_weight, da.t(), h)
        plus = d_rows[tile] if residual else None
        standardise_backward(torch.mm(da, fc1.weight), rows[tile], moments, dx[tile], plus)
    unfolded = unfold_gradients(gradients.fc1_weight, gradients.fc1_bias, norm, weights.fc1_weight)
    return Inputs(
        x=dx.view(x.shape),
        norm=norm._replace(weight=unfolded.norm_weight, bias=unfolded.norm_bias),
        weights=gradients._replace(fc1_weight=unfolded.weight),
        residual=residual,
    )


OPERATOR = RecordOp(
    "mlp", "the MLP", Inputs, forward=_forward, empty=_empty, kept=_kept, backward=_backward,
    triton="hyena_dist.ops.gpu.mlp",
)  # fmt: skip


def _tiles(rows: Tensor, weights: MLPWeights) -> list[slice]:
    return stretches(len(rows), sizes_of(rows.device).hidden // len(weights.fc1_weight))


def _gelu(a: Tensor) -> Tensor:
    return _line(a).mul_(a).sigmoid_().mul_(a)


def _gelu_and_slope(a: Tensor) -> Activation:
    line = _line(a)
    s = torch.mul(line, a).sigmoid_()
    g = a * s
    line = torch.rsub(line, -2 * LINEAR, alpha=-3)  # p (1 + 3 q a^2)
    return Activation(g, torch.addcmul(s, torch.addcmul(g, g, s, value=-1), line, out=line))


def _line(a: Tensor) -> Tensor:
    """Return the factor p (1 + q a^2) in new memory."""
    return torch.rsub(a * a, LINEAR, alpha=-LINEAR * CUBIC)
