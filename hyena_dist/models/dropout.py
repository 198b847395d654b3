"""Dropout whose mask belongs to a sample and a position, not to the rank that happens to hold them.

A run therefore drops the same values whatever its layout, and recomputed activations need no random state.

Shapes: B batch, D d_model, R positions of a rank's residual stream.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyena_dist.parallel.mesh import Mesh

BLOCK = 1024
"""The number of positions that one random stream covers: a rank draws the blocks that its chunk touches."""


class Dropout(nn.Module):
    """Zeroes values with probability p while training and scales the others by 1 / (1 - p).

    Args:
        p: probability with which a value is zeroed.
        site: a number that no other dropout of the model has.
        mesh: says which positions this rank holds.
    """

    def __init__(self, p: float, site: int, mesh: Mesh) -> None:
        super().__init__()
        self.p = p
        self.site = site
        self.mesh = mesh

    @property
    def active(self) -> bool:
        """Whether anything is dropped."""
        return self.training and self.p > 0

    def forward(self, x: Tensor, seeds: Sequence[int] | None) -> Tensor:
        """Return x with values dropped, [R, B, D] -> [R, B, D].

        Args:
            x: this rank's positions.
            seeds: one per sample of the batch; None draws from torch's global random state, which is enough for one
                process.
        """
        if not self.active:
            return x
        if seeds is None:
            return F.dropout(x, self.p)
        kept = torch.stack([self._kept(seed, x) for seed in seeds], dim=1)
        return x * kept.mul_(1 / (1 - self.p))

    def _kept(self, seed: int, x: Tensor) -> Tensor:
        """Return the mask of one sample, [R, D]: 1 where values stay, else 0."""
        length, features = x.shape[0], x.shape[2]
        first = self.mesh.residual_shard[0] * length
        blocks = []
        for block in range(first // BLOCK, -(-(first + length) // BLOCK)):
            stream = np.random.SeedSequence((seed, self.site, block)).generate_state(1, np.uint64)[0]
            generator = torch.Generator(x.device).manual_seed(int(stream) >> 1)  # torch takes 63 bits
            blocks.append(x.new_empty(BLOCK, features).bernoulli_(1 - self.p, generator=generator))
        start = first % BLOCK
        return torch.cat(blocks)[start : start + length]
