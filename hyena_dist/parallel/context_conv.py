"""The long convolution over a sequence that is spread over context ranks.

One all-to-all out (positions to channels) and one back; nothing else of Hyena needs the whole sequence. Channels go in
blocks: while one block is convolved, the next is on its way and the one before is going back.

Shapes: B batch, C channels, S = L / P positions of one of P context ranks, C_r channels that rank r convolves.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hyena_dist.ops import convolve, convolve_backward
from hyena_dist.ops.conv.long import long_conv
from hyena_dist.parallel.collectives import (
    Exchange,
    finish_to_channels,
    finish_to_sequence,
    shares,
    start_to_channels,
    start_to_sequence,
)

MOST_BLOCKS, SMALLEST_BLOCK = 4, 2**20
"""The largest number of blocks of channels in flight, and the smallest size of a block in bytes.

Below it, latency costs more than overlap gives. On a CPU, where nothing overlaps, blocks still make the convolution
faster, because they stay in its caches (`bench context`).
"""


def context_long_conv(u: Tensor, k: Tensor, group: Any, blocks: int | None = None) -> Tensor:
    """Convolve as `long_conv` does, along a sequence of which each context rank holds a contiguous chunk.

    Args:
        u: [B, C, S], this rank's positions.
        k: [C_r, L], the filters of this rank's channels at all positions; `shares(C, P)` gives each rank's C_r.
        group: the context ranks.
        blocks: how many blocks of channels are in flight; MOST_BLOCKS and SMALLEST_BLOCK say it if not given.

    Returns:
        [B, C, S] in the type of u. The call sends B * S * (C - C_r) + B * C_r * (L - S) numbers, and backward sends as
        many: on average over ranks 2 * B * L * C * (P - 1) / P**2.
    """
    if group.size() == 1:
        return long_conv(u, k)
    if blocks is None:
        blocks = max(1, min(MOST_BLOCKS, u.numel() * u.element_size() // SMALLEST_BLOCK))
    y: Tensor = _ContextLongConv.apply(u, k, group, blocks)
    return y


class _Block:
    """A part of every rank's channels; `counts` says how many of each rank's are in it."""

    def __init__(self, counts: list[int], index: int, number: int) -> None:
        bounds = [(n * index // number, n * (index + 1) // number) for n in counts]
        starts = [sum(counts[:rank]) for rank in range(len(counts))]
        self.counts = [end - first for first, end in bounds]
        self._local = [slice(*b) for b in bounds]
        self._global = [slice(start + first, start + end) for start, (first, end) in zip(starts, bounds, strict=True)]

    def of_all(self, x: Tensor) -> Tensor:
        """Select the block's channels of all ranks from [B, C, S]."""
        return torch.cat([x[:, part] for part in self._global], dim=1)

    def put(self, x: Tensor, into: Tensor) -> None:
        """Write the block's channels back into [B, C, S]."""
        for part, piece in zip(self._global, x.split(self.counts, dim=1), strict=True):
            into[:, part] = piece

    def of_rank(self, rank: int) -> slice:
        """Return where the block lies within a rank's own channels."""
        return self._local[rank]


def _blocks(channels: int, size: int, number: int) -> list[_Block]:
    counts = shares(channels, size)
    number = min(number, *counts)  # every rank must take part in every exchange
    return [_Block(counts, i, number) for i in range(number)]


def _received(x: Tensor, blocks: list[_Block], group: Any) -> Iterator[Tensor]:
    """Yield [B, C_r of the block, L] for each block in turn; all are sent off before the first is waited for."""
    if len(blocks) == 1:
        exchanges = [start_to_channels(x, blocks[0].counts, group)]
    else:
        exchanges = [start_to_channels(block.of_all(x), block.counts, group) for block in blocks]
    for exchange in exchanges:
        yield finish_to_channels(exchange)


def _collect(exchanges: list[Exchange], blocks: list[_Block], like: Tensor) -> Tensor:
    """Put [B, C, S] together from the blocks that come back."""
    if len(blocks) == 1:
        return finish_to_sequence(exchanges[0])
    y = torch.empty_like(like)
    for exchange, block in zip(exchanges, blocks, strict=True):
        block.put(finish_to_sequence(exchange), into=y)
    return y


class _ContextLongConv(torch.autograd.Function):
    """The convolution, which keeps what it received ([B, C_r, L]), so that backward exchanges gradients alone."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, k: Tensor, group: Any, number: int) -> Tensor:
        blocks = _blocks(u.shape[1], group.size(), number)
        back, kept = [], []
        for block, u_all in zip(blocks, _received(u, blocks, group), strict=True):
            y_all = convolve(u_all, k[block.of_rank(group.rank())])
            back.append(start_to_sequence(y_all, block.counts, group))
            kept.append(u_all)
        ctx.group, ctx.blocks = group, blocks
        ctx.save_for_backward(k, *kept)
        return _collect(back, blocks, u)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None, None]:
        k, *kept = ctx.saved_tensors
        dk = torch.empty_like(k)
        back = []
        for block, u_all, dy_all in zip(ctx.blocks, kept, _received(dy, ctx.blocks, ctx.group), strict=True):
            mine = block.of_rank(ctx.group.rank())
            du_all, dk[mine] = convolve_backward(dy_all, u_all, k[mine])
            assert du_all is not None
            back.append(start_to_sequence(du_all, block.counts, ctx.group))
        return _collect(back, ctx.blocks, dy), dk, None, None
