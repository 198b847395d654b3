"""Causal depthwise convolution with a few taps, for context parallelism: torch's own, with a neighbour's values.

Plain reference, whose formula is in `short_conv`: `hyena_dist.ops.reference.short_conv`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def short_conv(x: Tensor, weight: Tensor, bias: Tensor, halo: Tensor | None = None) -> Tensor:
    """Return y[b, c, t] = bias[c] + sum over j of weight[c, j] * x[b, c, t - (K - 1) + j].

    Args:
        x: [B, C, L], channels first and contiguous: a depthwise convolution of a transposed tensor is far slower.
        weight: [C, K]; the last tap meets the present position.
        bias: [C].
        halo: [B, C, K - 1], the values left of x; zeros if None. A context-parallel rank passes its neighbour's tail.

    Returns:
        [B, C, L].
    """
    taps = weight.shape[1]
    x = F.pad(x, (taps - 1, 0)) if halo is None else torch.cat((halo, x), dim=-1)
    return F.conv1d(x, weight[:, None], bias, groups=x.shape[1])
