"""Which part of a parameter or buffer a tensor rank holds.

A module that holds a part says so in `partitions`, by the tensor's name in the module. Checkpoints and published
weights are whole; this is all that is needed to cut them for a rank and to put them together again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hyena_dist.parallel.mesh import Mesh


@dataclass(frozen=True)
class Partition:
    """Dimension `dim` is `blocks` equal blocks, and a rank holds the same part of each of them."""

    dim: int
    blocks: int = 1

    def slice(self, whole: Tensor, rank: int, size: int) -> Tensor:
        """The part of `rank` of `size`, a view where that is possible."""
        dim = self.dim % whole.dim()
        return whole.unflatten(dim, (self.blocks, size, -1)).select(dim + 1, rank).flatten(dim, dim + 1)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The whole, from the parts in the order of their ranks."""
        dim = self.dim % parts[0].dim()
        blocks = [part.unflatten(dim, (self.blocks, -1)) for part in parts]
        return torch.cat(blocks, dim=dim + 1).flatten(dim, dim + 1)

    def whole_shape(self, part: Sequence[int], size: int) -> tuple[int, ...]:
        """The shape of the whole, from that of one of `size` parts."""
        shape = list(part)
        shape[self.dim] *= size
        return tuple(shape)


def partitions(model: nn.Module) -> dict[str, Partition]:
    """Full name -> partition, of every tensor of the model that tensor ranks share; others are the same on each."""
    found: dict[str, Partition] = {}
    for prefix, module in model.named_modules():
        held: dict[str, Partition] = getattr(module, "partitions", {})
        found |= {f"{prefix}.{name}".lstrip("."): partition for name, partition in held.items()}
    return found


def part_of(whole: Tensor, partition: Partition | None, mesh: Mesh) -> Tensor:
    """What this tensor rank holds of a tensor: all of it where there is no partition. A view where that is possible."""
    return whole if partition is None else partition.slice(whole, mesh.tensor.rank(), mesh.tensor.size())


def whole_of(part: Tensor, partition: Partition | None, mesh: Mesh) -> Tensor:
    """The tensor that the tensor ranks hold parts of, on each of them; all of them call this together."""
    if partition is None or mesh.tensor.size() == 1:
        return part
    parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(mesh.tensor.size())]
    dist.all_gather(parts, part.contiguous(), group=mesh.tensor)
    return partition.join(parts)


def local_part(whole: Tensor, partition: Partition, mesh: Mesh) -> nn.Parameter:
    """A parameter with this tensor rank's part, marked as such for DeepSpeed's gradient norm."""
    parameter = nn.Parameter(part_of(whole, partition, mesh).clone())
    parameter.tensor_model_parallel = True  # type: ignore[attr-defined]  # megatron-core's name for it
    return parameter


def sum_gradient_over_tensor_ranks(parameter: nn.Parameter, mesh: Mesh) -> None:
    """For a replicated parameter whose gradient on a tensor rank counts that rank's channels or positions only.

    A hook of the parameter rather than a mapping in forward: it works for a parameter that ZeRO-3 has put away, and
    a parameter that is used three times is reduced once.
    """
    if mesh.tensor.size() > 1:
        parameter.register_hook(partial(_all_reduced, group=mesh.tensor))


def _all_reduced(gradient: Tensor, group: Any) -> Tensor:
    total = gradient.contiguous().clone()  # the engine may hand the same gradient to others
    dist.all_reduce(total, group=group)
    return total
