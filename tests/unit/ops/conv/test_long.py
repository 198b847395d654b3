"""The FFT convolution against its plain reference, the sum that defines it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.ops import fast_fft_size, reference
from hyena_dist.ops.conv.long import long_conv

sizes = {"batch": st.integers(1, 3), "channels": st.integers(1, 4), "length": st.integers(1, 70)}
# Rounding of one operation in each type, with room for the sums; the reference is exact in comparison.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-5, torch.bfloat16: 1.5e-2}


def random_inputs(batch: int, channels: int, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(batch + 10 * channels + 100 * length)
    u, dy = (torch.randn(batch, channels, length, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
    k = torch.randn(channels, length, generator=g, dtype=torch.float64)
    return u.requires_grad_(), k.to(torch.promote_types(dtype, torch.float32)).requires_grad_(), dy


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert (actual.double() - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1)


@settings(max_examples=60, deadline=None)
@given(**sizes, dtype=st.sampled_from(sorted(TOLERANCE, key=str)))
def test_value_and_gradients_equal_the_reference(batch: int, channels: int, length: int, dtype: torch.dtype) -> None:
    u, k, dy = random_inputs(batch, channels, length, dtype)
    y = long_conv(u, k)
    du, dk = torch.autograd.grad(y, (u, k), dy)
    exact_u, exact_k = (x.detach().double().requires_grad_() for x in (u, k))
    exact = reference.long_conv(exact_u, exact_k)
    exact_du, exact_dk = torch.autograd.grad(exact, (exact_u, exact_k), dy.double())
    assert (y.dtype, du.dtype, dk.dtype) == (dtype, dtype, k.dtype)
    for actual, expected in ((y, exact), (du, exact_du), (dk, exact_dk)):
        assert actual.shape == expected.shape
        # In the type it is returned in: the filter and its gradient are never rounded to bfloat16.
        assert_close(actual.detach(), expected.detach(), TOLERANCE[actual.dtype])


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 7), (3, 2, 12)])
def test_gradcheck(shape: tuple[int, int, int]) -> None:
    u, k, _ = random_inputs(*shape, torch.float64)
    assert torch.autograd.gradcheck(long_conv, (u, k))


@pytest.mark.parametrize("wanted", ["u", "k"])
def test_one_gradient_alone(wanted: str) -> None:
    u, k, dy = random_inputs(2, 3, 21, torch.float64)
    both = dict(zip("uk", torch.autograd.grad(long_conv(u, k), (u, k), dy), strict=True))
    alone = {"u": (u, k.detach()), "k": (u.detach(), k)}[wanted]
    (gradient,) = torch.autograd.grad(long_conv(*alone), {"u": u, "k": k}[wanted], dy)
    assert torch.equal(gradient, both[wanted])


def test_a_strided_gradient_and_inputs_stay_as_they_were() -> None:
    u, k, dy = random_inputs(2, 3, 20, torch.float64)
    before = [x.detach().clone() for x in (u, k, dy)]
    strided = dy.mT.contiguous().mT
    expected = torch.autograd.grad(reference.long_conv(u, k), (u, k), dy)
    for actual, exact in zip(torch.autograd.grad(long_conv(u, k), (u, k), strided), expected, strict=True):
        assert_close(actual, exact, 1e-12)
    for now, then in zip((u, k, dy), before, strict=True):
        assert torch.equal(now.detach(), then)


def test_second_derivatives_are_refused() -> None:
    u, k, _ = random_inputs(1, 1, 5, torch.float64)
    (du,) = torch.autograd.grad(long_conv(u, k).square().sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        du.sum().backward()


def test_keeps_only_its_inputs_for_backward() -> None:
    u, k, _ = random_inputs(2, 3, 50, torch.float32)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        long_conv(u, k)
    assert sorted(t.data_ptr() for t in saved) == sorted(t.data_ptr() for t in (u, k))


@given(st.integers(1, 2**22))
def test_fft_size_is_the_smallest_of_its_form(n: int) -> None:
    size = fast_fft_size(n)
    assert size >= n
    assert size & (size - 1) == 0 or any(size % m == 0 and (q := size // m) & (q - 1) == 0 for m in (3, 5, 9, 15))
    smaller = [m * 2**j for m in (1, 3, 5, 9, 15) for j in range(24) if m * 2**j < size]
    assert all(s < n for s in smaller)


def test_fft_size_of_usual_lengths() -> None:
    assert [fast_fft_size(n) for n in (1, 7, 2 * 1026 - 1, 2 * 2**20 - 1)] == [1, 8, 2304, 2**21]
