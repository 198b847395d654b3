"""Position-wise work on long sequences, a stretch of positions at a time, recomputed in backward.

What lies between input and output is then never in memory for more than one stretch, and stays in the caches.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """function(*arguments), of which autograd keeps the arguments alone. The function must not draw random numbers."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    y: Tensor = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return y


def over_positions(function: Callable[..., Tensor], rows: int, *tensors: Tensor) -> Tensor:
    """A position-wise function of tensors [S, B, ...], for at most `rows` sequences x positions at a time."""
    length, batch = tensors[0].shape[:2]
    tile = max(1, rows // batch)
    if length <= tile:
        return function(*tensors)
    return torch.cat([recomputed(function, *parts) for parts in zip(*(t.split(tile) for t in tensors), strict=True)])
