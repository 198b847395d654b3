"""The weights of a Hyena model's layers as a decoder multiplies with them.

Shapes: D d_model, N order, K taps of the short filters, G projections of all layers, C channels of all long
convolutions.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from hyena_dist.config.mixers.hyena import HYENA
from hyena_dist.errors import UserError
from hyena_dist.models.block import Block
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.hyena import HyenaMixer
from hyena_dist.ops import Features, NormInput, implicit_filter
from hyena_dist.parallel.linear import ColumnLinear, RowLinear

POSITIONS = 2**10
"""Lags at which filters are evaluated at once."""


class Dense(NamedTuple):
    """A dense layer, bias + x @ weight."""

    bias: Tensor
    """The bias, [out_features]."""
    weight: Tensor
    """The transposed weight, [in_features, out_features], a view."""


class LayerWeights(NamedTuple):
    """A layer's weights but for its convolutions."""

    norm1: NormInput
    in_proj: Dense
    out_proj: Dense
    norm2: NormInput
    fc1: Dense
    fc2: Dense


def hyena_layers(model: HyenaDNA) -> list[tuple[Block, HyenaMixer]]:
    """Return the layers of a model and their mixers.

    Raises:
        UserError: layers with other mixers, or a model that several processes share.
    """
    others = sorted(set(model.config.mixers) - {HYENA.letter})
    if others:
        raise UserError(
            f"layer_pattern {model.config.mixers} has layers of kind {', '.join(others)}, and only Hyena layers "
            f"({HYENA.letter}) take one token at a time; generate with a model of Hyena layers alone"
        )
    if model.mesh.tensor.size() > 1 or model.mesh.context.size() > 1:
        raise UserError("the model is spread over processes, and one process generates; load it in one")
    layers = [layer for layer in model.backbone.layers if isinstance(layer, Block)]
    return [(layer, layer.mixer) for layer in layers if isinstance(layer.mixer, HyenaMixer)]


def layer_weights(model: HyenaDNA) -> list[LayerWeights]:
    """Return the weights of each layer, which are the model's own where those have the compute type, else copies."""

    def dense(linear: ColumnLinear | RowLinear) -> Dense:
        return Dense(linear.bias.to(model.compute_dtype), linear.weight.to(model.compute_dtype).t())

    return [
        LayerWeights(
            norm1=layer.norm1.as_op_input(),
            in_proj=dense(mixer.in_proj),
            out_proj=dense(mixer.out_proj),
            norm2=layer.norm2.as_op_input(),
            fc1=dense(layer.mlp.fc1),
            fc2=dense(layer.mlp.fc2),
        )
        for layer, mixer in hyena_layers(model)
    ]


def short_filters(model: HyenaDNA, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the short filters of all layers side by side: taps [K, G], the last for the present, and bias [G]."""
    operands = [mixer.short_filter.operands() for _, mixer in hyena_layers(model)]
    taps = torch.cat([taps for taps, _ in operands]).to(dtype)
    return taps.t().contiguous(), torch.cat([bias for _, bias in operands]).to(dtype)


def long_filter(mixer: HyenaMixer, length: int, dtype: torch.dtype) -> Tensor:
    """Return the long filters of a layer at lags below `length`, [N - 1, D, length].

    They are evaluated once for many tokens, so in fp64: in fp32 their sines can be the largest error of all.
    """
    exact = copy.deepcopy(mixer.filter_fn).double()
    network, window = exact.implicit_filter.as_op_input(), exact.modulation.as_op_input()
    values = exact.bias.new_empty(len(exact.bias), length, dtype=dtype)
    z, t = exact.pos_emb(0, length, torch.float64, values.device)
    for first in range(0, length, POSITIONS):
        part = slice(first, first + POSITIONS)
        skip = None if first else exact.bias
        values[:, part] = implicit_filter(Features(z[part], t[part]), network, window, skip)
    return values.view(exact.kernels, -1, length)


def long_filters(model: HyenaDNA, length: int, dtype: torch.dtype) -> Tensor:
    """Return the long filters of all layers side by side at lags below `length`, [length, C]."""
    layers = hyena_layers(model)
    rows = (model.config.order - 1) * model.config.d_model
    kernels = torch.empty(length, len(layers) * rows, dtype=dtype, device=model.backbone.ln_f.weight.device)
    for part, (_, mixer) in zip(kernels.split(rows, dim=1), layers, strict=True):
        part.copy_(long_filter(mixer, length, dtype).flatten(0, 1).t())
    return kernels
