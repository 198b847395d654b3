"""The operator in blocks of channels against its plain reference in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.ops import Filters, fast_fft_size, hyena_operator, reference
from tests.sizes import set_sizes

# Rounding of one operation in each type, with room for the sums; the reference is exact in comparison.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def operator(projected: Tensor, *filters: Tensor) -> Tensor:
    return hyena_operator(projected, Filters(*filters))


def inputs(order: int, channels: int, batch: int, length: int, taps: int, dtype: torch.dtype) -> list[Tensor]:
    g = torch.Generator().manual_seed(order + 10 * channels + 100 * batch + 1000 * length + taps)
    rows = (order + 1) * channels
    shapes = [(rows, batch, length), (rows, taps), (rows,), (order - 1, channels, length)]
    tensors = [torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]
    wide = torch.promote_types(dtype, torch.float32)
    return [t.to(dtype if i == 0 else wide).requires_grad_() for i, t in enumerate(tensors)]


@settings(max_examples=60, deadline=None)
@given(
    order=st.integers(2, 4), channels=st.integers(1, 5), batch=st.integers(1, 3), length=st.integers(1, 40),
    taps=st.integers(1, 5), per_block=st.integers(1, 6), dtype=st.sampled_from(sorted(TOLERANCE, key=str)),
)  # fmt: skip
def test_value_and_gradients_equal_the_reference(
    order: int, channels: int, batch: int, length: int, taps: int, per_block: int, dtype: torch.dtype
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        set_sizes(patch, padded=per_block * batch * fast_fft_size(2 * length - 1))
        arguments = inputs(order, channels, batch, length, taps, dtype)
        y = operator(*arguments)
        assert (y.dtype, y.shape) == (dtype, (channels, batch, length))
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
        found = torch.autograd.grad(y, arguments, dy)
    exact = value_and_gradients([a.detach().double() for a in arguments], dy.double())
    # In 16 bits each term is rounded, so that errors are a share of the terms, which may cancel out in their sum.
    terms = value_and_gradients([a.detach().double().abs() for a in arguments], dy.double().abs())
    scales = terms if dtype == torch.bfloat16 else exact
    for actual, wanted, scale, like in zip((y, *found), exact, scales, (y, *arguments), strict=True):
        assert actual.dtype == like.dtype
        error = (actual.detach().double() - wanted).abs().max()
        assert error <= TOLERANCE[dtype] * scale.abs().max().clamp(min=1)


def value_and_gradients(arguments: list[Tensor], dy: Tensor) -> list[Tensor]:
    """Return those of the plain reference, which is a sum of products of its arguments."""
    leaves = [a.requires_grad_() for a in arguments]
    y = reference.hyena_operator(leaves[0], Filters(*leaves[1:]))
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


@pytest.mark.parametrize("shape", [(2, 1, 1, 1, 3), (2, 3, 2, 7, 3), (3, 2, 1, 12, 4)])
def test_gradcheck(shape: tuple[int, int, int, int, int]) -> None:
    assert torch.autograd.gradcheck(operator, inputs(*shape, torch.float64))


def test_keeps_its_arguments_and_what_the_last_gate_meets() -> None:
    arguments = inputs(2, 4, 1, 64, 3, torch.float32)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = operator(*arguments)
    assert [t.data_ptr() for t in kept[:4]] == [a.data_ptr() for a in arguments]
    assert [t.shape for t in kept[4:]] == [y.shape]


def test_double_backward_is_refused() -> None:
    arguments = inputs(2, 2, 1, 8, 3, torch.float64)
    [first] = torch.autograd.grad(operator(*arguments).square().sum(), arguments[0], create_graph=True)
    with pytest.raises(NotImplementedError, match="Hyena operator is differentiable once"):
        first.sum().backward()
