"""Products over all rows, for gradients of weights, by the library that the device has for them."""

import torch
from torch import Tensor


def product_over_rows(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a^T b [N, K] in a type, from a [M, N] and b [M, K] in one type; summed up in float32 over the M rows."""
    if a.dtype == torch.float32:
        return torch.mm(a.t(), b).to(dtype)
    if a.device.type == "cpu":  # has no products of 16 bits with a result in float32
        return torch.mm(a.float().t(), b.float()).to(dtype)
    return torch.mm(a.t(), b, out_dtype=torch.float32).to(dtype)
