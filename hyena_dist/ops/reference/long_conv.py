"""The causal convolution with a filter as long as the sequence, as the product with a Toeplitz matrix.

Shapes: B batch, C channels, L length.

Source: Hyena (arXiv 2302.10866), section 3.
"""

import torch
from torch import Tensor


def long_conv(u: Tensor, k: Tensor) -> Tensor:
    """Return y[b, c, t] = sum over s <= t of k[c, t - s] * u[b, c, s], for u and y [B, C, L] and k [C, L]."""
    positions = torch.arange(u.shape[-1], device=u.device)
    lag = positions[:, None] - positions  # t - s
    toeplitz = torch.where(lag >= 0, k[:, lag.clamp(min=0)], 0.0)  # [C, L, L]
    return torch.einsum("cts,bcs->bct", toeplitz, u)
