"""Exchanges between context ranks against what one process holds, gradients included."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.ops.conv.long import long_conv
from hyena_dist.parallel.collectives import left_halo, shares, to_channels, to_sequence
from hyena_dist.parallel.context_conv import context_long_conv
from hyena_dist.parallel.mesh import initialize
from tests.processes import run_ranks


def context_group(size: int) -> Any:
    return initialize(ParallelConfig(context_parallel_size=size), timeout_s=60).context


def random(*shape: int, seed: int = 0) -> Tensor:
    """Return random numbers that are the same on every rank."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def own_chunk(x: Tensor, group: Any) -> Tensor:
    return x.chunk(group.size(), dim=2)[group.rank()].clone()


def exchanges(size: int) -> None:
    group = context_group(size)
    for batch, channels, chunk, unit in itertools.product((1, 3), (4, 5, 12), (1, 7), (1, 2)):
        if channels % unit or channels // unit < size:
            continue
        counts = shares(channels, size, unit)
        whole = random(batch, channels, size * chunk)
        weight = random(batch, channels, size * chunk, seed=1)
        mine = slice(sum(counts[: group.rank()]), sum(counts[: group.rank() + 1]))

        x = own_chunk(whole, group).requires_grad_()
        y = to_channels(x, counts, group)
        assert torch.equal(y, whole[:, mine])
        (y * weight[:, mine]).sum().backward()
        assert torch.equal(x.grad, own_chunk(weight, group))

        y = whole[:, mine].clone().requires_grad_()
        x = to_sequence(y, counts, group)
        assert torch.equal(x, own_chunk(whole, group))
        (x * own_chunk(weight, group)).sum().backward()
        assert torch.equal(y.grad, weight[:, mine])


def halos(size: int) -> None:
    group = context_group(size)
    for batch, chunk, width in itertools.product((1, 2), (1, 2, 5), (1, 2, 3, 6, 30)):
        whole, rank = random(batch, 3, size * chunk), group.rank()
        weight = random(size, batch, 3, width, seed=1)  # of each rank's halo
        x = own_chunk(whole, group).requires_grad_()
        halo = left_halo(x, width, group)
        padded = torch.nn.functional.pad(whole, (width, 0)).requires_grad_()
        expected = [padded[..., r * chunk : r * chunk + width] for r in range(size)]
        assert halo is not None
        assert torch.equal(halo, expected[rank])
        (halo * weight[rank]).sum().backward()
        sum((e * w).sum() for e, w in zip(expected, weight, strict=True)).backward()  # type: ignore[union-attr]
        torch.testing.assert_close(x.grad, own_chunk(padded.grad[..., width:], group), rtol=1e-12, atol=1e-12)


def convolutions(size: int) -> None:
    group = context_group(size)
    shapes = itertools.product((1, 3), (5, 8), (1, 9), (1, 2, 3, 100))
    for batch, channels, chunk, blocks in shapes:
        if channels < size:
            continue
        length, counts = size * chunk, shares(channels, size)
        u, k = random(batch, channels, length).requires_grad_(), random(channels, length, seed=1).requires_grad_()
        weight = random(batch, channels, length, seed=2)
        expected = long_conv(u, k)
        (expected * weight).sum().backward()

        mine = slice(sum(counts[: group.rank()]), sum(counts[: group.rank() + 1]))
        u_own = own_chunk(u.detach(), group).requires_grad_()
        k_own = k.detach()[mine].clone().requires_grad_()
        y = context_long_conv(u_own, k_own, group, blocks)
        assert y.dtype == torch.float64
        (y * own_chunk(weight, group)).sum().backward()
        for actual, wanted in (
            (y, own_chunk(expected, group)),
            (u_own.grad, own_chunk(u.grad, group)),
            (k_own.grad, k.grad[mine]),
        ):
            torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=1e-12)
    half = random(2, 8, size * 4).bfloat16()
    y = context_long_conv(own_chunk(half, group), random(8, size * 4)[: 8 // size].float(), group)
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("what", [exchanges, halos, convolutions])
def test_equals_one_process(what: Any, size: int) -> None:
    run_ranks(size, what, size)


@pytest.mark.parametrize(("channels", "size", "unit"), [(10, 4, 1), (12, 4, 3), (9, 2, 3), (5, 5, 1)])
def test_shares_are_even_and_whole(channels: int, size: int, unit: int) -> None:
    counts = shares(channels, size, unit)
    assert sum(counts) == channels
    assert len(counts) == size
    assert all(n % unit == 0 and n > 0 for n in counts)
    assert max(counts) - min(counts) <= unit
    assert counts == sorted(counts, reverse=True)
