"""Differentiable exchanges between context ranks, which hold contiguous chunks of the sequence.

Shapes: B batch, C channels, L length, S = L / P positions of one of P context ranks, C_r channels of rank r.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def shares(channels: int, size: int, unit: int = 1) -> list[int]:
    """Spread channels over `size` ranks, as equally as multiples of `unit` allow; the first ranks get more.

    Returns:
        The number of channels of each rank.
    """
    groups, rest = divmod(channels // unit, size)
    return [(groups + (rank < rest)) * unit for rank in range(size)]


class Exchange:
    """An all-to-all that is under way, so that work can be done before its result is waited for."""

    def __init__(self, send: Tensor, receive: Tensor, send_counts: list[int], receive_counts: list[int], group: Any):
        self._send, self._receive = send, receive  # both must live until the end
        self._work = dist.all_to_all_single(receive, send, receive_counts, send_counts, group=group, async_op=True)

    def wait(self) -> Tensor:
        """Wait for the end of the exchange, and return the received tensor."""
        self._work.wait()
        return self._receive


def start_to_channels(x: Tensor, counts: Sequence[int], group: Any) -> Exchange:
    """Send [B, C, S] away; `finish_to_channels` makes [B, C_r, L] of what comes in.

    Args:
        x: [B, C, S], this rank's positions of all channels.
        counts: how many channels go to each rank, C in all.
        group: the context ranks.

    Returns:
        The exchange that `finish_to_channels` takes.
    """
    batch, _, length = x.shape
    send = x.transpose(0, 1).contiguous()  # [C, B, S]: what goes to a rank lies together; no copy for one sequence
    receive = x.new_empty(len(counts), counts[group.rank()], batch, length)
    return Exchange(send, receive, list(counts), [1] * len(counts), group)


def finish_to_channels(exchange: Exchange) -> Tensor:
    """Wait for an exchange, and return [B, C_r, L]: this rank's channels at all positions."""
    return exchange.wait().permute(2, 1, 0, 3).flatten(2)


def start_to_sequence(x: Tensor, counts: Sequence[int], group: Any) -> Exchange:
    """Send [B, C_r, L] back; `finish_to_sequence` makes [B, C, S] of what comes in.

    Args:
        x: [B, C_r, L], this rank's channels at all positions.
        counts: how many channels each rank has, C in all.
        group: the context ranks.

    Returns:
        The exchange that `finish_to_sequence` takes.
    """
    batch, size = x.shape[0], len(counts)
    send = x.unflatten(2, (size, -1)).permute(2, 1, 0, 3).contiguous()  # [P, C_r, B, S]
    receive = x.new_empty(sum(counts), batch, send.shape[3])
    return Exchange(send, receive, [1] * size, list(counts), group)


def finish_to_sequence(exchange: Exchange) -> Tensor:
    """Wait for an exchange, and return [B, C, S]: all channels at this rank's positions."""
    return exchange.wait().transpose(0, 1)


class _ToChannels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: Sequence[int], group: Any) -> Tensor:
        ctx.counts, ctx.group = counts, group
        return finish_to_channels(start_to_channels(x, counts, group))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        return finish_to_sequence(start_to_sequence(dy, ctx.counts, ctx.group)), None, None


class _ToSequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: Sequence[int], group: Any) -> Tensor:
        ctx.counts, ctx.group = counts, group
        return finish_to_sequence(start_to_sequence(x, counts, group))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        return finish_to_channels(start_to_channels(dy, ctx.counts, ctx.group)), None, None


def to_channels(x: Tensor, counts: Sequence[int], group: Any) -> Tensor:
    """Exchange each rank's positions of all channels for all positions of its channels: [B, C, S] -> [B, C_r, L].

    This sends B * S * (C - C_r) numbers.

    Args:
        x: [B, C, S], this rank's positions.
        counts: how many channels each rank gets, C in all; they need not be equal.
        group: the context ranks.
    """
    if group.size() == 1:
        return x
    y: Tensor = _ToChannels.apply(x, counts, group)
    return y


def to_sequence(x: Tensor, counts: Sequence[int], group: Any) -> Tensor:
    """Undo `to_channels`: [B, C_r, L] -> [B, C, S]. This sends B * C_r * (L - S) numbers."""
    if group.size() == 1:
        return x
    y: Tensor = _ToSequence.apply(x, counts, group)
    return y


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return _summed(x, group)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        return _summed(dy, ctx.group), None


def sum_over(x: Tensor, group: Any) -> Tensor:
    """Sum a tensor over the ranks of a group; every rank gets the sum, and what each makes of it counts in gradients.

    The loss is the sum of the ranks' losses: the gradient of x is that of all of them.
    """
    if group.size() == 1:
        return x
    y: Tensor = _Sum.apply(x, group)
    return y


def _summed(x: Tensor, group: Any) -> Tensor:
    total = x.contiguous().clone()
    dist.all_reduce(total, group=group)
    return total


class _LeftHalo(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, width: int, group: Any) -> Tensor:
        ctx.shape, ctx.width, ctx.group = x.shape, width, group
        pieces = _pieces(x.shape[2], width, group)
        rank = group.rank()
        sent = {hop: x[..., x.shape[2] - n :].contiguous() for hop, n in pieces.items() if rank + hop < group.size()}
        received = {hop: x.new_empty(*x.shape[:2], n) for hop, n in pieces.items() if rank >= hop}
        _pass_on(sent, received, +1, group)
        known = [received[hop] for hop in sorted(received, reverse=True)]
        missing = width - sum(piece.shape[2] for piece in known)
        return torch.cat((x.new_zeros(*x.shape[:2], missing), *known), dim=2)

    @staticmethod
    def backward(ctx: Any, d_halo: Tensor) -> tuple[Tensor, None, None]:
        pieces = _pieces(ctx.shape[2], ctx.width, ctx.group)
        rank = ctx.group.rank()
        sent, end = {}, ctx.width
        for hop, n in pieces.items():  # the nearest neighbour's positions are the rightmost
            if rank >= hop:
                sent[hop] = d_halo[..., end - n : end].contiguous()
            end -= n
        shape = ctx.shape[:2]
        received = {h: d_halo.new_empty(*shape, n) for h, n in pieces.items() if rank + h < ctx.group.size()}
        _pass_on(sent, received, -1, ctx.group)
        dx = d_halo.new_zeros(ctx.shape)
        for piece in received.values():
            dx[..., ctx.shape[2] - piece.shape[2] :] += piece
        return dx, None, None


def left_halo(x: Tensor, width: int, group: Any) -> Tensor | None:
    """Fetch the `width` positions left of this rank's chunk; they are zeros before the start of the sequence.

    Args:
        x: [B, C, S], this rank's chunk. With S < width they come from more than one neighbour.
        width: how many positions are wanted.
        group: the context ranks, in the order of their chunks.

    Returns:
        [B, C, width], or None where there is nothing to exchange.
    """
    if group.size() == 1 or width == 0:
        return None
    halo: Tensor = _LeftHalo.apply(x, width, group)
    return halo


def _pieces(chunk: int, width: int, group: Any) -> dict[int, int]:
    """Return, for each number of hops to the right, how many of its last positions a rank gives to that neighbour."""
    hops = min(-(-width // chunk), group.size() - 1)
    return {hop: min(chunk, width - (hop - 1) * chunk) for hop in range(1, hops + 1)}


def _pass_on(sent: dict[int, Tensor], received: dict[int, Tensor], direction: int, group: Any) -> None:
    ranks, me = dist.get_process_group_ranks(group), group.rank()
    operations = []
    for hop in sorted(sent | received):
        if hop in sent:
            operations.append(dist.P2POp(dist.isend, sent[hop], ranks[me + direction * hop], group))
        if hop in received:
            operations.append(dist.P2POp(dist.irecv, received[hop], ranks[me - direction * hop], group))
    # In one batch, so that no order of sends and receives can lock two neighbours.
    for work in dist.batch_isend_irecv(operations) if operations else []:
        work.wait()
