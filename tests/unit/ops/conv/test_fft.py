"""Transforms against direct sums and each other: any order of the spectrum will do, if products mean the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.op_sizes import fast_fft_size
from hyena_dist.ops.conv.fft import BlockedTransform, PlainTransform, Transform, transform

CPU = torch.device("cpu")


def make(kind: str, length: int, dtype: torch.dtype = torch.float64) -> Transform:
    return PlainTransform(length) if kind == "plain" else BlockedTransform(length, dtype, CPU)


def direct(u: Tensor, k: Tensor) -> Tensor:
    lag = torch.arange(u.shape[-1])[:, None] - torch.arange(u.shape[-1])
    return torch.einsum("cts,cs->ct", k[:, lag.clamp(min=0)] * (lag >= 0), u)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(["plain", "blocked"]), length=st.integers(17, 300), channels=st.integers(1, 3))
def test_convolution_and_correlation(kind: str, length: int, channels: int) -> None:
    if kind == "blocked" and fast_fft_size(2 * length - 1) % 32:
        return  # made for long sequences, whose sizes are
    g = torch.Generator().manual_seed(length)
    u, k, d = (torch.randn(channels, length, generator=g, dtype=torch.float64) for _ in range(3))
    fft = make(kind, length)
    y = fft.inverse(fft.forward(u) * fft.forward(k))
    torch.testing.assert_close(y, direct(u, k), rtol=1e-11, atol=1e-11)
    # <d, u * k> = <correlation(d, k), u>
    du = fft.inverse(fft.forward(d) * fft.forward(k).conj())
    torch.testing.assert_close((du * u).sum(), (d * y).sum(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("length", [131_072, 131_073, 140_001, 1_048_576])
def test_long_sequences_take_the_blocked_transform(length: int) -> None:
    fft = transform(length, torch.float32, CPU)
    assert isinstance(fft, BlockedTransform)
    g = torch.Generator().manual_seed(0)
    u, k = (torch.randn(1, length, generator=g) for _ in range(2))
    plain = PlainTransform(length)
    exact = plain.inverse(plain.forward(u.double()) * plain.forward(k.double()))
    found = fft.inverse(fft.forward(u) * fft.forward(k))
    assert (found - exact).abs().max() <= 1e-6 * exact.abs().max()
