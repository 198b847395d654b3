"""Dropout whose mask belongs to a sample and a position, not to the rank that happens to hold them.

A run therefore drops the same values whatever its layout and device, recomputed activations need no random state, and
backward makes the mask again instead of keeping it. ops/triton/dropout.py has the formula; here, numpy computes it.

Shapes: B batch, D d_model, R positions of a rank's residual stream.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyena_dist.ops.backend import backend_of
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.transfer import to_device

TILE = 2**17
"""Numbers of a sample that are drawn and used at a time, which fit a CPU's cache."""


class Mask(NamedTuple):
    """The numbers that decide which values are dropped."""

    p: float
    """The probability with which a value is, to 16 bits."""
    site: int
    """The number of the dropout in the model."""
    first: int
    """The number of the first position."""
    seeds: Sequence[int] | Tensor
    """One seed per sample, [B]; for the kernel an int64 tensor on its GPU."""

    def apply(self, x: Tensor, dtype: torch.dtype, residual: Tensor | None = None) -> Tensor:
        """Return x [R, B, D] with values dropped and the others scaled, plus the residual, in a type."""
        if backend_of(x.device) == "triton":
            kernels: Any = import_module("hyena_dist.ops.triton.dropout")
            y: Tensor = kernels.dropout(x, self.seeds, self.site, self.first, self.p, dtype, residual)
            return y
        y = self._by_numpy(x)
        return y.to(dtype) if residual is None else residual + y

    def _by_numpy(self, x: Tensor) -> Tensor:
        length, _, features = x.shape
        counters = -(-features // 16)  # of a position, each of sixteen 16-bit numbers
        step = max(1, TILE // features)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        for sample, seed in enumerate(self.seeds):
            random = np.random.Philox(counter=self.first * counters, key=[int(seed), self.site])
            for t in range(0, length, step):
                here = slice(t, min(t + step, length))
                numbers = random.random_raw((here.stop - t) * counters * 4).view(np.uint16)
                kept = numbers.reshape(-1, 16 * counters)[:, :features] >= round(self.p * 2**16)
                torch.mul(x[here, sample], torch.from_numpy(kept).to(x.device), out=y[here, sample])
                y[here, sample] *= 1 / (1 - self.p)
        return y


class _Masked(torch.autograd.Function):
    """Differentiates `Mask.apply` by itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, mask: Mask, dtype: torch.dtype) -> Tensor:
        ctx.mask, ctx.dtype = mask, x.dtype
        return mask.apply(x, dtype, residual)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        (dy,) = gradients
        dx: Tensor = _Masked.apply(dy, None, ctx.mask, ctx.dtype)
        return dx, dy if ctx.needs_input_grad[1] else None, None, None


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

    def forward(self, x: Tensor, seeds: Sequence[int] | Tensor | None, residual: Tensor | None = None) -> Tensor:
        """Return x with values dropped, plus a residual if there is one: [R, B, D] -> [R, B, D].

        Args:
            x: this rank's positions.
            seeds: one per sample of the batch, from 0 to 2^63 - 1, perhaps as a tensor that is on a GPU already; None
                draws from torch's global random state, which is enough for one process.
            residual: [R, B, D] of the type of x or a wider one, which the sum has.
        """
        if self.active and seeds is not None:
            if backend_of(x.device) == "triton" and not isinstance(seeds, Tensor):
                seeds = to_device(torch.tensor(seeds, dtype=torch.int64), x.device)
            mask = Mask(self.p, self.site, self.mesh.residual_shard[0] * len(x), seeds)
            dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
            y: Tensor = _Masked.apply(x, residual, mask, dtype)
            return y
        if self.active:
            x = F.dropout(x, self.p)
        return x if residual is None else residual + x
