"""Tensors on their way to a rank's device."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; to a GPU it goes by pinned memory, so that the host does not wait for it.

    Pinning is for the process that trains, as it needs the GPU's context, which workers that read data must not make.
    Torch keeps the pinned memory until the copy is done.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
