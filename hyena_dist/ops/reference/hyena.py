"""The Hyena operator, and the mixer that has it between two dense layers.

Shapes: B batch, C channels, D d_model, L length, N order, K taps of the short filters.

Source: Hyena (arXiv 2302.10866), section 3; HyenaDNA (arXiv 2306.15794).
"""

from torch import Tensor

from hyena_dist.ops.records import Filters, NormInput, Projections
from hyena_dist.ops.reference.long_conv import long_conv
from hyena_dist.ops.reference.norm import layer_norm
from hyena_dist.ops.reference.short_conv import short_conv


def hyena_operator(projected: Tensor, filters: Filters) -> Tensor:
    """Return x0 * conv(x1 * conv(... x_{N-1} * v)), [C, B, L], of the short-filtered rows of [(N + 1) C, B, L]."""
    order = len(filters.kernels) + 1
    x = short_conv(projected.transpose(0, 1), filters.taps, filters.bias)  # [B, (N + 1) C, L]
    *gates, v = x.chunk(order + 1, dim=1)
    for gate, kernel in zip(reversed(gates[1:]), filters.kernels, strict=True):
        v = long_conv(gate * v, kernel)
    return (gates[0] * v).transpose(0, 1)


def hyena_mixer(
    x: Tensor, norm: NormInput, projections: Projections, filters: Filters, residual: bool = False
) -> Tensor:
    """Return out_proj(hyena_operator(in_proj(norm(x)))), [L, B, D] as x is, with x added to it if asked for."""
    projected = layer_norm(x, norm) @ projections.in_weight.t() + projections.in_bias  # [L, B, (N + 1) C]
    mixed = hyena_operator(projected.permute(2, 1, 0), filters).permute(2, 1, 0)
    y = mixed @ projections.out_weight.t() + projections.out_bias
    return x + y if residual else y
