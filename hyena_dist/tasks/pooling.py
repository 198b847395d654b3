"""One vector for each sequence, from its hidden states: their weighted sum, whatever ranks hold the positions.

Shapes: B batch, D d_model, S positions of this context rank, P context ranks.
"""

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from hyena_dist.data.batches import is_base
from hyena_dist.parallel.collectives import sum_over
from hyena_dist.parallel.mesh import Mesh

Pooling = Literal["mean", "last", "first", "max"]


def pooled(hidden: Tensor, tokens: Tensor, lengths: Tensor, pooling: Pooling, mesh: Mesh) -> Tensor:
    """Return one vector for each sequence, the same on every context rank: [S, B, D] -> [B, D].

    Mean and max are over the positions that hold A, C, G or T, zeros where none does; of equal maxima each has the same
    share of the gradient. `last` is the last position before the padding.

    Args:
        hidden: this context rank's chunk, on every tensor rank.
        tokens: uint8 [B, S], padded to the right.
        lengths: positions of each whole sequence that are no padding, int64 [B].
        pooling: which positions count.
        mesh: this rank's groups.
    """
    weights = _weights(hidden, tokens, lengths, pooling, mesh)
    return sum_over((hidden * weights).sum(0), mesh.context)


@torch.no_grad()
def _weights(hidden: Tensor, tokens: Tensor, lengths: Tensor, pooling: Pooling, mesh: Mesh) -> Tensor:
    """Return the weight of each position, [S, B, 1], or of each of its channels, [S, B, D]."""
    if pooling in ("first", "last"):
        size = tokens.shape[1]
        positions = torch.arange(size, device=tokens.device)[:, None] + mesh.context.rank() * size
        wanted = lengths - 1 if pooling == "last" else torch.zeros_like(lengths)
        return (positions == wanted)[..., None].to(hidden.dtype)
    counted = is_base(tokens).t()[..., None]
    if pooling == "max":
        highest = hidden.masked_fill(~counted, -torch.inf).amax(0)
        if mesh.context.size() > 1:
            dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=mesh.context)
        counted = counted & (hidden == highest)
    weights = counted.to(hidden.dtype)
    return weights / sum_over(weights.sum(0), mesh.context).clamp(min=1)
