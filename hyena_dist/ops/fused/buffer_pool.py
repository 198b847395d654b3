"""Memory of long sequences' activations, used again on a CPU.

A page that the system hands out anew costs several times what it takes to compute its contents. GPUs have torch's
caching allocator; on a CPU, whatever is larger than the C library keeps comes and goes. Here it is kept.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, UntypedStorage

from hyena_dist.ops.sizes import sizes_of

KEPT_FROM = 2**25
"""Bytes from which a tensor's memory is kept here. Smaller ones are left to the C library."""

_kept: list[UntypedStorage] = []


def keeps_all(numbers: int, device: torch.device) -> bool:
    """Return whether an operator on a residual stream of so many numbers keeps all that its backward needs."""
    return numbers <= sizes_of(device).recomputed_from


def new_empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """Return a tensor as like.new_empty does, in memory that an earlier large tensor no longer uses if there is any."""
    dtype = dtype or like.dtype
    size = math.prod(shape) * dtype.itemsize
    if like.device.type != "cpu" or size < KEPT_FROM or torch.compiler.is_compiling():
        return like.new_empty(shape, dtype=dtype)
    # A little more, so that tensors with gaps between their rows and without share memory; it is not touched.
    room = -(-(size + 2**20) // KEPT_FROM) * KEPT_FROM
    storage = next((s for s in _kept if s.nbytes() == room and _users(s) == 1), None)
    if storage is None:
        # Free memory of other sizes was perhaps for another stage's length, and would only be in the way.
        _kept[:] = [s for s in _kept if _users(s) > 1 or s.nbytes() == room]
        storage = UntypedStorage(room)
        _kept.append(storage)
    return torch.empty(0, dtype=dtype).set_(storage, 0, tuple(shape))  # type: ignore[call-overload]


def _users(storage: UntypedStorage) -> int:
    count: int = torch._C._storage_Use_Count(storage._cdata)
    return count
