"""The short convolution against its plain reference, and its halo."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.ops import reference, short_conv


def inputs(batch: int, channels: int, length: int, taps: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(length)
    shapes = ((batch, channels, length), (channels, taps), (channels,))
    x, weight, bias = (torch.randn(*shape, generator=g, dtype=torch.float64) for shape in shapes)
    return x, weight, bias


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 20), st.integers(1, 5))
def test_equals_the_reference(batch: int, channels: int, length: int, taps: int) -> None:
    x, weight, bias = inputs(batch, channels, length, taps)
    expected = reference.short_conv(x, weight, bias)
    torch.testing.assert_close(short_conv(x, weight, bias), expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 5))
def test_chunks_with_halos_equal_the_whole(data: st.DataObject, taps: int) -> None:
    length = data.draw(st.integers(max(2, taps), 24))
    cut = data.draw(st.integers(max(1, taps - 1), length - 1))
    x, weight, bias = (t.requires_grad_() for t in inputs(2, 3, length, taps))
    whole = short_conv(x, weight, bias)
    left, right = x[..., :cut], x[..., cut:]
    halo = left[..., cut - (taps - 1) :]
    parts = torch.cat((short_conv(left, weight, bias), short_conv(right, weight, bias, halo)), dim=-1)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    dy = torch.arange(whole.numel(), dtype=torch.float64).view_as(whole)
    for a, b in zip(
        torch.autograd.grad(parts, (x, weight, bias), dy),
        torch.autograd.grad(whole, (x, weight, bias), dy),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_the_type(dtype: torch.dtype) -> None:
    x, weight, bias = (t.to(dtype) for t in inputs(2, 3, 9, 3))
    y = short_conv(x, weight, bias)
    assert y.dtype == dtype
    exact = reference.short_conv(x.double(), weight.double(), bias.double())
    assert (y.double() - exact).abs().max() < 4 * torch.finfo(dtype).eps * exact.abs().max()
