"""The implicit filter against its plain reference, which autograd differentiates in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.ops import DecayWindow, Features, SineNetwork, implicit_filter, reference
from tests.sizes import set_sizes


def features(length: int, dtype: torch.dtype) -> Features:
    """Return features like HyenaDNA's: t and two bands, one of which hardly moves, rounded to float32 for all types."""
    n = torch.arange(length, dtype=torch.float64)[:, None] / length
    angle = 2 * math.pi * n * torch.tensor([1e-4, 1.0])
    z, n = torch.cat((n, angle.cos(), -angle.sin()), dim=1), n[:, 0]
    return Features(z.float().to(dtype), n.float().to(dtype))


def check(length: int, width: int, depth: int, channels: int, dtype: torch.dtype, tolerance: float) -> None:
    g = torch.Generator().manual_seed(length)
    shapes = [(width, 5), *[(width, width)] * (depth - 1), *[(width,)] * depth, (1, width), (channels, width)]
    tensors = [torch.randn(shape, generator=g) / math.sqrt(shape[-1]) for shape in [*shapes, (channels,)]]
    rates = torch.linspace(1, 30, channels)
    dy = torch.randn(channels, length, generator=g)

    def found(dtype: torch.dtype, ours: bool) -> list[Tensor]:
        leaves = [t.to(dtype).requires_grad_() for t in tensors]
        network = SineNetwork(tuple(leaves[:depth]), tuple(leaves[depth : 2 * depth]), *leaves[-3:-1])
        window, skip = DecayWindow(rates.to(dtype), 0.05), leaves[-1]
        function = implicit_filter if ours else reference.implicit_filter
        y = function(features(length, dtype), network, window, skip)
        return [y.detach(), *torch.autograd.grad(y, leaves, dy.to(dtype))]

    for actual, expected in zip(found(dtype, True), found(torch.float64, False), strict=True):
        assert (actual.double() - expected).abs().max() <= tolerance * expected.abs().max()


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 50), width=st.integers(1, 6), depth=st.integers(1, 3), channels=st.integers(1, 5),
    tile=st.integers(1, 60), keep=st.booleans(),
)  # fmt: skip
def test_value_and_gradients(length: int, width: int, depth: int, channels: int, tile: int, keep: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        set_sizes(patch, filter_positions=tile, recomputed_from=keep * 2**20)
        check(length, width, depth, channels, torch.float64, 1e-10)


def test_sums_over_many_positions_do_not_drift() -> None:
    """A product of float32 with a handful of columns loses a digit here, and three in a model of 131,072."""
    check(131_072, 64, 3, 16, torch.float32, 2e-6)
