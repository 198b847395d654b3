"""Matrix products into memory that is there: nothing is written that is only copied or added afterwards."""

import torch
from torch import Tensor


def dense(x: Tensor, weight: Tensor, bias: Tensor, out: Tensor, plus: Tensor | None = None) -> None:
    """Write x weight^T + bias (+ plus) into `out`.

    Args:
        x: [M, D], in the type of the product.
        weight: [R, D], in the type of the product.
        bias: [R], in any floating type.
        out: [M, R], in the type of the product or in float32.
        plus: what is added, [M, R], in the type of `out`.
    """
    if plus is None:
        out.copy_(bias)
    else:
        torch.add(plus, bias, out=out)
    add_product(out, x, weight.t())


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a @ b to the total, in float32 also where the product is in 16 bits."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += torch.mm(a, b)
