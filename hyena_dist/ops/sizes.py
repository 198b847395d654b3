"""The sizes of the pieces that operators work on, by device; `system.op_sizes` has the numbers and the reasons."""

import functools

import torch

from hyena_dist.system import op_sizes
from hyena_dist.system.op_sizes import Sizes

ASSUMED_MEMORY = 80 * 10**9
"""Bytes of the GPU that tensors on the meta device stand for: an A100 or H100."""


def sizes_of(device: torch.device) -> Sizes:
    """Return the sizes for a device: a CPU's, or those that a GPU's memory allows."""
    return op_sizes.CPU if device.type == "cpu" else _of_gpu(device)


@functools.cache
def _of_gpu(device: torch.device) -> Sizes:
    on_gpu = device.type == "cuda"
    return op_sizes.of_gpu(torch.cuda.get_device_properties(device).total_memory if on_gpu else ASSUMED_MEMORY)
