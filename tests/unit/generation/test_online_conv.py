"""The online convolution gives what the whole convolution gives, however inputs are split and blocks are chosen."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.generation import online_conv
from hyena_dist.generation.online_conv import OnlineConv
from hyena_dist.ops import reference
from tests.tensor_memory import peak_of_tensors


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs(conv: OnlineConv, inputs: Tensor) -> Tensor:
    """Return what the convolution gives for [K, B, C] inputs that come one by one, [K, B, C]."""
    found = []
    for u in inputs:
        found.append(conv.pending + conv.kernels[0] * u)
        conv.push(u)
    return torch.stack(found)


@settings(max_examples=60, deadline=None)
@given(
    prompt=st.integers(0, 40),
    steps=st.integers(1, 150),
    batch=st.integers(1, 3),
    base=st.sampled_from([1, 2, 8, 32, 256]),
    cached=st.sampled_from([1, 16, 512]),
    numbers=st.sampled_from([1, 200, 2**17]),
)
def test_equals_the_whole_convolution(
    prompt: int, steps: int, batch: int, base: int, cached: int, numbers: int
) -> None:
    channels = 3
    u, kernels = random(batch, channels, prompt + steps), random(channels, prompt + steps, seed=1)
    expected = reference.long_conv(u, kernels)[..., prompt:].permute(2, 0, 1)
    before = torch.cat((u[..., :prompt], torch.zeros_like(u[..., prompt:])), dim=-1)
    sums = reference.long_conv(before, kernels)[..., prompt:].permute(2, 0, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online_conv, "CACHED", cached)
        patch.setattr(online_conv, "SQUARE_NUMBERS", numbers)
        conv = OnlineConv(kernels[:, :steps].t(), batch, sums, base)
        found = outputs(conv, u[..., prompt:].permute(2, 0, 1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


def test_rows_that_change_places_go_on_as_those_they_were() -> None:
    kernels, u = random(90, 2), random(90, 3, 2, seed=1)
    index = torch.tensor([2, 0, 0])
    conv = OnlineConv(kernels, 3)
    outputs(conv, u[:50])
    conv.reorder(index)
    as_they_were = torch.cat((u[:50, index], u[50:]))
    assert torch.equal(outputs(conv, u[50:]), outputs(OnlineConv(kernels, 3), as_they_were)[50:])


def test_one_prompt_is_shared_by_the_batch() -> None:
    kernels, sums = random(40, 2), random(40, 1, 2, seed=1)
    u = random(40, 3, 2, seed=2)
    shared = outputs(OnlineConv(kernels, 3, sums), u)
    assert torch.equal(shared, outputs(OnlineConv(kernels, 3, sums.repeat(1, 3, 1)), u))


@pytest.mark.parametrize(("steps", "batch"), [(1000, 1), (4096, 1), (4097, 2), (512, 8), (1000, 16)])
def test_memory_is_that_of_the_formula(steps: int, batch: int) -> None:
    channels = 256
    u = torch.zeros(batch, channels)

    def run() -> OnlineConv:
        conv = OnlineConv(torch.zeros(steps, channels), batch)
        for _ in range(steps):
            conv.push(u)
        return conv

    stated = 4 * online_conv.online_numbers(channels, batch, steps)
    assert peak_of_tensors(run) == pytest.approx(stated, rel=0.01)
