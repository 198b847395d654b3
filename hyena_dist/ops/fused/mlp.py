"""Norm and MLP in one function, a stretch of positions at a time, that keeps its input alone.

The hidden layer, four times as wide as the model, is in memory for one stretch only and stays in a CPU's caches; the
activation is computed from one sigmoid, in float32, which also serves its derivative.

Shapes: M sequences x positions, D d_model, H hidden width.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops.conv.gates import real
from hyena_dist.ops.differentiable_once import differentiable_once
from hyena_dist.ops.fused.buffer_pool import keeps_all, new_empty
from hyena_dist.ops.fused.norm import NormInput

TILE = {"cpu": 2**20, "cuda": 2**26}
"""Numbers of the hidden layer that are in memory at a time, by kind of device."""

LINEAR, CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715
"""gelu(a) = a * sigmoid(LINEAR * (a + CUBIC * a**3)): the tanh form, because (1 + tanh(u)) / 2 = sigmoid(2 u)."""


class MLPWeights(NamedTuple):
    """Of fc2(gelu(fc1(x)))."""

    fc1_weight: Tensor
    """[H, D]."""
    fc1_bias: Tensor
    """[H]."""
    fc2_weight: Tensor
    """[D, H]."""
    fc2_bias: Tensor
    """[D]."""


def gelu_mlp(x: Tensor, norm: NormInput, weights: MLPWeights, residual: bool = False) -> Tensor:
    """fc2(gelu(fc1(norm(x)))) with the tanh form of gelu.

    Args:
        x: [..., D], the residual stream, in the parameters' type.
        norm: over D.
        weights: in the parameters' type; products are in that of the norm's output.
        residual: return the sum with x, in the type of x.

    Returns:
        [..., D] in the type of the norm's output. Differentiable once with respect to all tensors.
    """
    y: Tensor = _mlp(x, *norm[:2], *weights, norm.eps, norm.dtype, residual, torch.is_grad_enabled())[0]
    return y


@torch.library.custom_op("hyena_dist::mlp", mutates_args=())
def _mlp(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    fc1_weight: Tensor,
    fc1_bias: Tensor,
    fc2_weight: Tensor,
    fc2_bias: Tensor,
    eps: float,
    dtype: torch.dtype,
    residual: bool,
    keep: bool,
) -> tuple[Tensor, list[Tensor]]:
    norm = NormInput(norm_weight, norm_bias, eps, dtype)
    (weight, bias), fc2_weight, fc2_bias = norm.into(fc1_weight, fc1_bias), fc2_weight.to(dtype), fc2_bias.to(dtype)
    rows, keep = x.reshape(-1, x.shape[-1]), keep and keeps_all(x.numel())
    y, kept = new_empty(rows, rows.shape, x.dtype if residual else dtype), []
    for tile in _tiles(rows, fc1_weight):
        h = norm.standard(rows[tile], norm.moments(rows[tile]))
        a = real(torch.addmm(bias, h, weight.t()))
        if keep:
            g, slope = (t.to(dtype) for t in _gelu_and_slope(a))
            kept += [g, slope]
        else:
            g = _gelu(a).to(dtype)
        product = torch.addmm(fc2_bias, g, fc2_weight.t())
        y[tile] = product.add(rows[tile]) if residual else product
    return y.view(x.shape), kept


@_mlp.register_fake
def _(x: Tensor, *inputs: Any) -> tuple[Tensor, list[Tensor]]:
    fc1_weight, (dtype, residual, keep) = inputs[2], inputs[-3:]
    tiles = _tiles(x.reshape(-1, x.shape[-1]), fc1_weight) if keep and keeps_all(x.numel()) else []
    kept = [x.new_empty((t.stop - t.start, len(fc1_weight)), dtype=dtype) for t in tiles for _ in range(2)]
    return x.new_empty(x.shape, dtype=x.dtype if residual else dtype), kept


@torch.library.custom_op("hyena_dist::mlp_backward", mutates_args=())
def _mlp_backward(
    dy: Tensor,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    fc1_weight: Tensor,
    fc1_bias: Tensor,
    fc2_weight: Tensor,
    fc2_bias: Tensor,
    kept: list[Tensor],
    eps: float,
    dtype: torch.dtype,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    norm = NormInput(norm_weight, norm_bias, eps, dtype)
    rows, d_rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    dx, (weight, bias), fc2_weight = new_empty(rows, rows.shape), norm.into(fc1_weight, fc1_bias), fc2_weight.to(dtype)
    parameters = (fc1_weight, fc1_bias, fc2_weight, fc2_bias)
    d_folded, d_fc1_bias, d_fc2, d_fc2_bias = [torch.zeros_like(p, dtype=x.dtype) for p in parameters]
    for i, tile in enumerate(_tiles(rows, fc1_weight)):
        d = d_rows[tile].to(dtype)
        moments = norm.moments(rows[tile])
        h = norm.standard(rows[tile], moments)
        g, slope = kept[2 * i : 2 * i + 2] or _gelu_and_slope(real(torch.addmm(bias, h, weight.t())))
        _add_product(d_fc2, d.t(), g.to(dtype))
        d_fc2_bias += d_rows[tile].sum(0)
        da = (slope * torch.mm(d, fc2_weight)).to(dtype)
        d_fc1_bias += da.sum(0)
        _add_product(d_folded, da.t(), h)
        plus = d_rows[tile] if residual else None
        dx[tile] = norm.backward(torch.mm(da, weight), rows[tile], moments, plus)
    d_fc1, *d_norm = norm.out_of(d_folded, d_fc1_bias, fc1_weight)
    return dx.view(x.shape), *d_norm, d_fc1, d_fc1_bias, d_fc2, d_fc2_bias  # type: ignore[return-value]


@_mlp_backward.register_fake
def _(dy: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(map(torch.empty_like, inputs[:7]))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, list[Tensor]]) -> None:
    ctx.rest = inputs[7:10]
    ctx.save_for_backward(*inputs[:7], *output[1])


def _backward(ctx: Any, dy: Tensor, _: list[None]) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # once: under activation checkpointing a second look is an error
    return *_mlp_backward(dy, *saved[:7], [*saved[7:]], *ctx.rest), None, None, None, None


_mlp.register_autograd(_backward, setup_context=_keep)
differentiable_once(_mlp_backward, "the MLP")


def _tiles(rows: Tensor, fc1_weight: Tensor) -> list[slice]:
    size = max(1, TILE.get(rows.device.type, TILE["cuda"]) // len(fc1_weight))
    return [slice(first, min(first + size, len(rows))) for first in range(0, len(rows), size)]


def _gelu(a: Tensor) -> Tensor:
    return _line(a).mul_(a).sigmoid_().mul_(a)


def _gelu_and_slope(a: Tensor) -> tuple[Tensor, Tensor]:
    """The slope is s + g (1 - s) LINEAR (1 + 3 CUBIC a**2), s the sigmoid and g = a s the gelu."""
    line = _line(a)
    s = torch.mul(line, a).sigmoid_()
    g = a * s
    line = torch.rsub(line, -2 * LINEAR, alpha=-3)
    return g, torch.addcmul(s, torch.addcmul(g, g, s, value=-1), line, out=line)


def _line(a: Tensor) -> Tensor:
    """LINEAR * (1 + CUBIC * a**2) in new memory."""
    return torch.rsub(a * a, LINEAR, alpha=-LINEAR * CUBIC)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Total += a @ b; in float32 also where the product is in 16 bits."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += torch.mm(a, b)
