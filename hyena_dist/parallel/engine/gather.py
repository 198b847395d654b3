"""Whole tensors on the ranks that write them, out of the fragments that all ranks hold.

All of it may run beside training: it talks over `mesh.world.background` alone and touches no engine.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hyena_dist.parallel.engine.fragments import Fragment
from hyena_dist.parallel.mesh import Mesh

T = TypeVar("T")


def together(action: Callable[[], T], mesh: Mesh) -> list[T]:
    """Call a function on every rank, and return on each what it returned on all of them, by rank.

    Args:
        action: called once on each rank.
        mesh: this rank's groups, of which `mesh.world.background` is used.

    Raises:
        OSError: `action` raised one on some rank; every rank raises the first of them.
    """
    result: T | None = None
    reason = None
    try:
        result = action()
    except OSError as error:
        reason = error.strerror or str(error)
    answers: list[Any] = exchange((result, reason), mesh)
    for _, other in answers:
        if other is not None:
            raise OSError(other)
    return [value for value, _ in answers]


def exchange(value: Any, mesh: Mesh) -> list[Any]:
    """Return the values that all ranks pass, by rank; over `mesh.world.background`."""
    values = [value] * mesh.world.background.size()
    if len(values) > 1:
        dist.all_gather_object(values, value, group=mesh.world.background)
    return values


class _Held(NamedTuple):
    """The facts about a rank that the others must know to take its fragments."""

    tensor_rank: int
    spans: list[tuple[int, int]]
    """Start and number of elements of each fragment."""


def assemble(fragments: Sequence[Fragment], queues: Sequence[Sequence[int]], mesh: Mesh) -> Iterator[Tensor]:
    """Yield the whole tensors of which this rank is the writer, in the order of its queue.

    Every rank must exhaust it, with or without a queue of its own: each round brings one tensor to every writer that
    still waits for one, so a writer needs memory for one tensor at a time.

    Args:
        fragments: this rank's fragments, of the same tensors in the same order on every rank.
        queues: the indices of the tensors that each rank gets, by rank; every rank passes the same queues.
        mesh: this rank's groups.
    """
    spans = [(f.start, f.values.numel()) for f in fragments]
    held = [_Held(*each) for each in exchange((mesh.tensor.rank(), spans), mesh)]
    rank = mesh.world.background.rank()
    for wanted in zip_longest(*queues):
        to_send = [torch.empty(0, dtype=torch.uint8) if i is None else _bytes(fragments[i].values) for i in wanted]
        mine = wanted[rank]
        sizes = [0] * len(held)
        if mine is not None:
            sizes = [other.spans[mine][1] * fragments[mine].values.element_size() for other in held]
        received = _deliver(to_send, sizes, mesh)
        if mine is not None:
            yield _whole(fragments[mine], [(h.tensor_rank, *h.spans[mine]) for h in held], received, mesh)


def _bytes(values: Tensor) -> Tensor:
    if values.stride() != (1,):  # zeros that take no memory
        values = values.clone(memory_format=torch.contiguous_format)
    return values.view(torch.uint8).cpu()  # every bit arrives, whatever the type


def _deliver(to_send: list[Tensor], sizes: list[int], mesh: Mesh) -> Tensor:
    """Send bytes to each rank, and return the `sizes` bytes from each rank, one after the other."""
    if len(to_send) == 1:
        return to_send[0]
    received = torch.empty(sum(sizes), dtype=torch.uint8)
    outgoing = [t.numel() for t in to_send]
    dist.all_to_all_single(received, torch.cat(to_send), sizes, outgoing, group=mesh.world.background)
    return received


def _whole(fragment: Fragment, pieces: list[tuple[int, int, int]], received: Tensor, mesh: Mesh) -> Tensor:
    """Put a tensor together.

    Args:
        fragment: this rank's fragment, which says what the tensor is.
        pieces: tensor rank, start and number of elements of each rank's fragment.
        received: bytes of all fragments, one after the other.
        mesh: this rank's groups.
    """
    count = 1 if fragment.partition is None else mesh.tensor.size()
    parts = torch.empty(count, fragment.shape.numel(), dtype=fragment.values.dtype)
    values = received.view(fragment.values.dtype)
    assert values.numel() == parts.numel(), f"{fragment.name}: the ranks' fragments are not the whole"
    if len(pieces) == 1:
        return values.view(fragment.shape)
    for piece, (tensor_rank, start, size) in zip(values.split([n for *_, n in pieces]), pieces, strict=True):
        if size:
            parts[tensor_rank, start : start + size].copy_(piece)  # lets other threads run meanwhile
    if fragment.partition is None:
        return parts[0].view(fragment.shape)
    return fragment.partition.join([part.view(fragment.shape) for part in parts])
