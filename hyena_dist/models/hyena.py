"""The Hyena mixer: dense projections, a short convolution, and gates between long convolutions.

Shapes: L length, B batch, D d_model, C = D / T channels of this tensor rank, N order, K short_filter_order.
"""

import math

import torch
from torch import Tensor, nn

from hyena_dist.config import ModelConfig
from hyena_dist.models.filter import HyenaFilter
from hyena_dist.ops import long_conv, short_conv
from hyena_dist.parallel.linear import ColumnLinear, RowLinear, normal
from hyena_dist.parallel.mesh import Mesh


class ShortFilter(nn.Module):
    """Causal depthwise convolution over the N + 1 projections; a rank holds the same channels of each."""

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        blocks, taps = config.order + 1, config.short_filter_order
        bound = 1 / math.sqrt(taps)  # torch's default for a depthwise Conv1d, as published
        tensor = mesh.tensor
        weight = torch.empty(blocks, tensor.size(), config.d_model // tensor.size(), 1, taps).uniform_(-bound, bound)
        bias = torch.empty(blocks, tensor.size(), config.d_model // tensor.size()).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight[:, tensor.rank()].flatten(0, 1).clone())
        self.bias = nn.Parameter(bias[:, tensor.rank()].flatten().clone())

    def forward(self, x: Tensor) -> Tensor:
        """[B, (N + 1) C, L] -> the same shape."""
        return short_conv(x, self.weight[:, 0].to(x.dtype), self.bias.to(x.dtype))


class HyenaMixer(nn.Module):
    """y = out_proj(x0 * conv(x1 * ... conv(x_{N-1} * v))), the projections split as [x0, x1, ..., v].

    Source: Hyena (arXiv 2302.10866), HyenaDNA (arXiv 2306.15794).
    """

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        self.order = config.order
        std = config.initializer_range
        output_std = std / math.sqrt(2 * config.n_layer)
        blocks = config.order + 1
        self.in_proj = ColumnLinear(config.d_model, blocks * config.d_model, mesh=mesh, init=normal(std), blocks=blocks)
        self.short_filter = ShortFilter(config, mesh)
        self.filter_fn = HyenaFilter(config, mesh)
        self.out_proj = RowLinear(config.d_model, config.d_model, mesh=mesh, init=normal(output_std))

    def forward(self, x: Tensor) -> Tensor:
        """[L, B, D] -> [L, B, D]."""
        projected = self.in_proj(x).permute(1, 2, 0).contiguous()
        *gates, v = self.short_filter(projected).chunk(self.order + 1, dim=1)
        kernels = self.filter_fn(x.shape[0])
        for gate, k in zip(reversed(gates[1:]), kernels, strict=True):
            v = long_conv(v * gate, k)
        y: Tensor = self.out_proj((v * gates[0]).permute(2, 0, 1))
        return y
