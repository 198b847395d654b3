"""The layer normalisation before each part of a layer and before the head.

Shapes: D d_model.

Source: Ba et al., Layer Normalization (arXiv 1607.06450).
"""

import torch
from torch import Tensor

from hyena_dist.ops.records import NormInput


def layer_norm(x: Tensor, norm: NormInput) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps) * weight + bias, [..., D] as x is, over the last dimension."""
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    y = centred / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias
    return y.to(norm.dtype)
