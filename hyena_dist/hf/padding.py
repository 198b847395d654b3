"""Padding without effect: the tokens of each sequence move to its front, and what comes of them moves back.

A causal model's outputs depend on nothing to their right. So a batch whose padding lies behind the tokens gives each
sequence what it gets alone, and no operator needs to know of masks.

Shapes: B batch, L positions with padding.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hyena_dist.errors import UserError


class Packing(NamedTuple):
    """The places of a batch's tokens."""

    kept: Tensor
    """Whether a position holds a token, bool [B, L]."""
    order: Tensor
    """The position of each token, in order, and then those of the padding, int64 [B, L]."""

    def pack(self, x: Tensor) -> Tensor:
        """Move the tokens of each sequence to its front: [B, L, ...] -> [B, L, ...]."""
        return x.gather(1, self._as(self.order, x))

    def unpack(self, x: Tensor, fill: float = 0) -> Tensor:
        """Move what `pack` moved back to its place, with `fill` where there is padding: [B, L, ...] -> [B, L, ...]."""
        back = torch.zeros_like(x).scatter(1, self._as(self.order, x), x)
        return back.masked_fill(~self._as(self.kept, x), fill)

    @staticmethod
    def _as(index: Tensor, x: Tensor) -> Tensor:
        return index.view(index.shape + (1,) * (x.dim() - 2)).expand_as(x)


def packing(attention_mask: Tensor | None, shape: torch.Size) -> Packing | None:
    """Return where the tokens are, or None where all positions hold one, which neither a GPU nor a compiler is asked.

    Args:
        attention_mask: 1 or true where there is a token, [B, L]; no padding if not given.
        shape: (B, L).

    Raises:
        UserError: a mask of another shape.
    """
    if attention_mask is None:
        return None
    if attention_mask.shape != shape:
        raise UserError(
            f"attention_mask has shape {tuple(attention_mask.shape)} where the tokens have {tuple(shape)}; give 1 for "
            f"each token and 0 for padding"
        )
    kept = attention_mask.bool()
    if kept.device.type == "cpu" and not torch.compiler.is_compiling() and bool(kept.all()):
        return None
    return Packing(kept, torch.argsort(~kept, dim=1, stable=True))


def next_tokens(labels: Tensor, packed: Packing | None) -> Tensor:
    """Return what each position has to predict, the label of the token after it, or -100: [B, L] -> [B, L]."""
    if packed is not None:
        labels = packed.pack(labels.masked_fill(~packed.kept, -100))
    targets = torch.cat((labels[:, 1:], torch.full_like(labels[:, :1], -100)), dim=1)
    return targets if packed is None else packed.unpack(targets, fill=-100)
