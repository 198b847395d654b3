"""The Hyena mixer: dense projections, a short convolution, and gates between long convolutions.

Shapes: B batch, D d_model, C = D / T channels of this tensor rank, S positions of this context rank, R positions of
its residual stream (S, or S / T with sequence parallelism), N order, K short_filter_order.
"""

import math

import torch
from torch import Tensor, nn

from hyena_dist.config.model import ModelConfig
from hyena_dist.models.mixers.base import MixerModule
from hyena_dist.models.mixers.filter import HyenaFilter
from hyena_dist.ops import Filters, Projections, hyena_mixer, hyena_operator
from hyena_dist.ops.conv.short import short_conv
from hyena_dist.parallel.collectives import left_halo
from hyena_dist.parallel.context_conv import context_long_conv
from hyena_dist.parallel.linear import ColumnLinear, Norm, RowLinear, normal
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.plain import is_plain
from hyena_dist.parallel.tensor_shards import Partition, local_part


class ShortFilter(nn.Module):
    """The causal depthwise filter of the N + 1 projections; a rank holds the same channels of each."""

    weight: Tensor
    bias: Tensor

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()
        blocks = config.order + 1
        taps = config.short_filter_order
        bound = 1 / math.sqrt(taps)  # torch's default for a depthwise Conv1d, as published
        self.partitions = {"weight": Partition(0, blocks), "bias": Partition(0, blocks)}
        for name, shape in (("weight", (blocks * config.d_model, 1, taps)), ("bias", (blocks * config.d_model,))):
            whole = torch.empty(shape).uniform_(-bound, bound)
            setattr(self, name, local_part(whole, self.partitions[name], mesh))

    def operands(self) -> tuple[Tensor, Tensor]:
        """Return taps [(N + 1) C, K] and bias [(N + 1) C]."""
        return self.weight.squeeze(1), self.bias


class HyenaMixer(MixerModule):
    """The mixer y = out_proj(x0 * conv(x1 * ... conv(x_{N-1} * v))), the projections split as [x0, x1, ..., v].

    Source: Hyena (arXiv 2302.10866), HyenaDNA (arXiv 2306.15794).
    """

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__(config, mesh)
        self.config = config
        self.order = config.order
        self.mesh = mesh
        std = config.initializer_range
        output_std = std / math.sqrt(2 * config.n_layer)
        blocks = config.order + 1
        self.in_proj = ColumnLinear(config.d_model, blocks * config.d_model, mesh=mesh, init=normal(std), blocks=blocks)
        self.short_filter = ShortFilter(config, mesh)
        self.filter_fn = HyenaFilter(config, mesh)
        self.out_proj = RowLinear(config.d_model, config.d_model, mesh=mesh, init=normal(output_std))

    @property
    def adds_residual(self) -> bool:
        """Whether `forward` can return the sum with the residual stream."""
        return self.mesh.tensor.size() == self.mesh.context.size() == 1 and is_plain(self.in_proj, self.out_proj)

    def forward(self, x: Tensor, norm: Norm | None = None, residual: bool = False) -> Tensor:
        """Return the mixer of norm(x): [R, B, D] -> [R, B, D] in the compute type; without a norm, x is taken as it is.

        In one process, one operator does it, and can add x as well.
        """
        if norm is not None and is_plain(norm) and self.adds_residual:
            filters = self._filters(len(x))
            projections = Projections(self.in_proj.weight, self.in_proj.bias, self.out_proj.weight, self.out_proj.bias)
            return hyena_mixer(x, norm.as_op_input(), projections, filters, residual)
        projected = self._project(x if norm is None else norm(x))
        filters = self._filters(projected.shape[-1])
        mix = hyena_operator if self.mesh.context.size() == 1 else self._mix_over_ranks
        y: Tensor = self.out_proj(mix(projected, filters).permute(2, 1, 0))
        return y

    def _project(self, x: Tensor) -> Tensor:
        """Return the projections with channels first, [R, B, D] -> [(N + 1) C, B, S]."""
        if isinstance(self.in_proj, ColumnLinear) and is_plain(self.in_proj):
            return self.in_proj.channels_first(x)
        return self.in_proj(x).permute(2, 1, 0).contiguous()

    def rehearse(self, length: int, batch: int, dtype: torch.dtype) -> None:
        """Run the operator on as many channels as this rank has of whole sequences, forward and backward."""
        config, mesh = self.config, self.mesh
        device = self.filter_fn.bias.device
        channels = config.d_model // (mesh.tensor.size() * mesh.context.size())
        generator = torch.Generator(device).manual_seed(0)  # torch's own is left as it is

        def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.rand(shape, generator=generator, dtype=dtype, device=device, requires_grad=True)

        rows = (config.order + 1) * channels
        projected = random(rows, batch, length, dtype=dtype)
        filters = Filters(
            random(rows, config.short_filter_order), random(rows), random(config.order - 1, channels, length)
        )
        with torch.enable_grad():
            y = hyena_operator(projected, filters)
        torch.autograd.grad(y, (projected, *filters), torch.ones_like(y))

    def _filters(self, length: int) -> Filters:
        taps, bias = self.short_filter.operands()
        return Filters(taps, bias, self.filter_fn(length))

    def _mix_over_ranks(self, projected: Tensor, filters: Filters) -> Tensor:
        """Apply `hyena_operator` where each rank holds other positions: [(N + 1) C, B, S] -> [C, B, S]."""
        context = self.mesh.context
        taps, bias, kernels = filters
        x = projected.transpose(0, 1).contiguous()
        halo = left_halo(x, taps.shape[1] - 1, context)
        *gates, v = short_conv(x, taps.to(x.dtype), bias.to(x.dtype), halo).chunk(self.order + 1, dim=1)
        # Gates stay where the positions are; only the convolution itself needs the whole sequence.
        for gate, k in zip(reversed(gates[1:]), kernels, strict=True):
            v = context_long_conv(v * gate, k, context)
        return (v * gates[0]).transpose(0, 1)
