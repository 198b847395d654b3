"""The parts of windows that get a perplexity of their own: targets by the bases before them, and the last of a window.

Shapes: B batch, S positions of this context rank, R = 1 + octaves + last parts, of which the first is the whole window.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class Positions(NamedTuple):
    """The parts of windows that are pooled beside the whole; by default none, which is what training needs."""

    octaves: tuple[tuple[int, int], ...] = ()
    """Ranges of the number of bases before a target in its window, as (more than, at most)."""
    last: tuple[int, ...] = ()
    """Numbers of bases at the end of a window."""

    @classmethod
    def of(cls, length: int, last: tuple[int, ...] = ()) -> "Positions":
        """Return octaves of context that together hold every target of windows of `length` inputs: 1, 2, 3-4, 5-8."""
        ends = [0, *(1 << i for i in range((length - 1).bit_length())), length]
        return cls(tuple(pairwise(ends)), last)

    def sums(self, nll: Tensor, targets: Tensor, sizes: Tensor, first: int = 0) -> Tensor:
        """Sum losses over the parts of each window.

        Args:
            nll: negative log-likelihood of each target in nats, [B, S]; 0 where the target is ignored.
            targets: the targets, [B, S]; negative where they are ignored.
            sizes: the number of targets of each window, ignored ones included, [B].
            first: the place in its window of the first of these targets.

        Returns:
            The sum of the losses and the number of targets that count, float64 [B, R, 2] on the CPU.
        """
        both = torch.stack((nll.double(), (targets >= 0).double()), -1)
        sums = [both.sum(1)]
        sums += [both[:, max(low - first, 0) : max(high - first, 0)].sum(1) for low, high in self.octaves]
        if self.last:
            place = torch.arange(first, first + nll.shape[1], device=nll.device)
            left = sizes.to(nll.device)[:, None] - place  # 1 at the last target of a window
            sums += [both.where((left <= most)[..., None], 0).sum(1) for most in self.last]
        return torch.stack(sums, 1).cpu()

    @property
    def parts(self) -> int:
        """The number of parts, R."""
        return 1 + len(self.octaves) + len(self.last)


WHOLE = Positions()
"""The whole window alone."""
