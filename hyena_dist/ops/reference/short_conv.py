"""The short causal filter of each channel.

Shapes: B batch, C channels, L length, K taps.

Source: Hyena (arXiv 2302.10866), section 3.
"""

import torch
from torch import Tensor


def short_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return y[b, c, t] = bias[c] + sum over j of weight[c, j] * x[b, c, t - (K - 1) + j].

    x, which is 0 before the sequence, is [B, C, L], weight [C, K], bias [C]; the result is [B, C, L].
    """
    length = x.shape[-1]
    taps = weight.shape[1]
    terms = []
    for j in range(taps):
        shift = min(taps - 1 - j, length)
        zeros = torch.zeros_like(x[..., :shift])
        terms.append(weight[:, j, None] * torch.cat((zeros, x[..., : length - shift]), dim=-1))
    return bias[:, None] + sum(terms)
