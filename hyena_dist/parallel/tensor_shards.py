"""The parts of parameters and buffers that tensor ranks hold.

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
    """A cut of a tensor along `dim`, which is `blocks` equal blocks: a rank holds the same part of each of them."""

    dim: int
    blocks: int = 1

    def slice(self, whole: Tensor, rank: int, size: int) -> Tensor:
        """Return the part of one of `size` ranks, a view where that is possible."""
        dim = self.dim % whole.dim()
        return whole.unflatten(dim, (self.blocks, size, -1)).select(dim + 1, rank).flatten(dim, dim + 1)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Put the whole together from the parts in the order of their ranks."""
        dim = self.dim % parts[0].dim()
        blocks = [part.unflatten(dim, (self.blocks, -1)) for part in parts]
        return torch.cat(blocks, dim=dim + 1).flatten(dim, dim + 1)

    def whole_shape(self, part: Sequence[int], size: int) -> tuple[int, ...]:
        """Return the shape of the whole, from that of one of `size` parts."""
        shape = list(part)
        shape[self.dim] *= size
        return tuple(shape)


def partitions(model: nn.Module) -> dict[str, Partition]:
    """Return name -> partition for each tensor of the model that tensor ranks share; others are the same on each."""
    found: dict[str, Partition] = {}
    for prefix, module in model.named_modules():
        held: dict[str, Partition] = getattr(module, "partitions", {})
        found |= {f"{prefix}.{name}".lstrip("."): partition for name, partition in held.items()}
    return found


def part_of(whole: Tensor, partition: Partition | None, mesh: Mesh) -> Tensor:
    """Return what this tensor rank holds of a tensor: all of it without a partition, else a view where possible."""
    return whole if partition is None else partition.slice(whole, mesh.tensor.rank(), mesh.tensor.size())


def local_part(whole: Tensor, partition: Partition, mesh: Mesh) -> nn.Parameter:
    """Make a parameter of this tensor rank's part, and mark it as one for DeepSpeed's gradient norm."""
    parameter = nn.Parameter(part_of(whole, partition, mesh).clone())
    parameter.tensor_model_parallel = True  # type: ignore[attr-defined]  # megatron-core's name for it
    return parameter


def sum_gradient_over_tensor_ranks(parameter: nn.Parameter, mesh: Mesh) -> None:
    """Sum a replicated parameter's gradient, which covers a tensor rank's own channels or positions only.

    A hook of the parameter does it rather than a mapping in forward: a hook works for a parameter that ZeRO-3 has put
    away, and reduces a parameter that is used three times once.
    """
    if mesh.tensor.size() > 1:
        parameter.register_hook(partial(_all_reduced, group=mesh.tensor))


def _all_reduced(gradient: Tensor, group: Any) -> Tensor:
    total = gradient.contiguous().clone()  # the engine may hand the same gradient to others
    dist.all_reduce(total, group=group)
    return total
