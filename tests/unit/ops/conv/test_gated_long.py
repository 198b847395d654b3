"""Errors of the operator against float64 at lengths where the transforms are blocked: even, odd and prime.

The reference is the operator itself in float64, which test_gated.py compares with the plain one; its transforms are
replaced by torch's, so that a wrong blocked transform cannot agree with itself.
"""

import pytest
import torch
from torch import Tensor

from hyena_dist.ops import Filters, hyena_operator
from hyena_dist.ops.conv.fft import PlainTransform

FORWARD = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
GRADIENT = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
CASES = [(2, 1, 1_048_576), (2, 1, 1_000_003), (3, 2, 131_071), (4, 8, 16_381), (2, 8, 131_072), (3, 1, 4096)]


def value_and_gradients(tensors: list[Tensor], dy: Tensor) -> list[Tensor]:
    tensors = [t.detach().requires_grad_() for t in tensors]
    y = hyena_operator(tensors[0], Filters(*tensors[1:]))
    return [y.detach(), *torch.autograd.grad(y, tensors, dy.to(y.dtype))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("order", "batch", "length"), CASES)
def test_against_float64(order: int, batch: int, length: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(length)
    shapes = [((order + 1), batch, length), (order + 1, 3), (order + 1,), (order - 1, 1, length)]
    tensors = [torch.randn(shape, generator=g) for shape in shapes]
    tensors[3] *= torch.exp(-5 * torch.arange(length) / length)  # as the window does
    tensors[0] = tensors[0].to(dtype)
    dy = torch.randn(1, batch, length, generator=g).to(dtype)
    found = value_and_gradients(tensors, dy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyena_dist.ops.conv.gated.transform", lambda length, *_: PlainTransform(length))
        exact = value_and_gradients([t.double() for t in tensors], dy.double())
    for i, (actual, expected) in enumerate(zip(found, exact, strict=True)):
        bound = (GRADIENT if i else FORWARD)[dtype]
        assert (actual.double() - expected).abs().max() <= bound * expected.abs().max(), i
