"""Short filters and gates against their plain references, which autograd differentiates in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.ops import reference
from hyena_dist.ops.conv import gates

# Rounding of one operation in each type, with room for the sums; the reference is exact in comparison.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def agree(found: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == dtype
    assert found.shape == exact.shape
    assert (found.double() - exact).abs().max() <= TOLERANCE[dtype] * exact.abs().max().clamp(min=1)


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 3), batch=st.integers(1, 3), length=st.integers(1, 20), taps=st.integers(1, 5),
    dtype=st.sampled_from(sorted(TOLERANCE, key=str)),
)  # fmt: skip
def test_values_and_gradients(channels: int, batch: int, length: int, taps: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(length)
    wide = torch.promote_types(dtype, torch.float32)
    rows, weight, bias = (channels, batch, length), (channels, taps), (channels,)
    shapes = [rows, weight, bias, rows, weight, bias, rows, rows]
    x, w, b, x2, w2, b2, m, dy = (torch.randn(shape, generator=g, dtype=torch.float64).to(wide) for shape in shapes)
    x, x2, dy = x.to(dtype), x2.to(dtype), dy.to(dtype)
    exact = [t.to(torch.float64, copy=True).requires_grad_() for t in (x, w, b, m)]
    expected = reference.gate(*exact)
    agree(gates.gate(x, w, b, m), expected.detach(), wide)
    agree(gates.gate(x, w, b, m, out=torch.empty_like(x)), expected.detach(), dtype)
    pair = reference.gate_pair(*(t.double() for t in (x, w, b, x2, w2, b2)))
    agree(gates.gate_pair(x, w, b, x2, w2, b2), pair, wide)

    exact_dx, *exact_rest, exact_dm = torch.autograd.grad(expected, exact, dy.double())
    dx = torch.empty_like(x)
    d_m, *rest = gates.gate_backward(dy, x, w, b, m, dx)
    agree(dx, exact_dx, dtype)
    agree(d_m, exact_dm, wide)
    for found, wanted in zip(rest, exact_rest, strict=True):
        agree(found, wanted, wide)


@pytest.mark.parametrize("taps", [1, 3, 5])
def test_a_filter_longer_than_the_sequence(taps: int) -> None:
    """Taps that no position meets have no gradient."""
    x, w, b = torch.ones(2, 1, 2), torch.ones(2, taps), torch.zeros(2)
    assert torch.equal(gates.short_filter(x, w, b), reference.short_filter(x, w, b))
    d_weight, _ = gates.short_filter_backward(torch.ones_like(x), x, w, torch.empty_like(x))
    assert torch.equal(d_weight[:, : taps - 2], torch.zeros(2, max(0, taps - 2)))
