"""Tests of the dense layers' kernels share their operands, and what counts as equal."""

import torch
from torch import Tensor

from hyena_dist.ops import NormInput
from tests.interpreter import DEVICE

VALUES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
"""Allowed differences of values, as a part of the largest."""
GRADIENTS = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-3}
"""Allowed differences of gradients, as a part of the largest."""
EPS = 1e-5


class Operands:
    """Random tensors on the device, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def random(self, *shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(*shape, generator=self._generator, dtype=torch.float64)).to(DEVICE, dtype)

    def norm(self, d: int, dtype: torch.dtype) -> NormInput:
        return NormInput(1 + self.random(d, scale=0.3), self.random(d), EPS, dtype)

    def weight(self, n: int, k: int) -> Tensor:
        return self.random(n, k, scale=k**-0.5)


def exactly(norm: NormInput) -> NormInput:
    """Return the norm in float64."""
    return NormInput(norm.weight.double(), norm.bias.double(), norm.eps, torch.float64)


def near(found: Tensor, exact: Tensor, allowed: float) -> None:
    """`found` is near the float64 values in proportion to the largest of them."""
    assert found.shape == exact.shape
    assert (found.double() - exact).abs().max() <= allowed * exact.abs().max()
