"""Which implementation the operators take on a device: torch's operators (`fused`), or Triton kernels (`gpu`).

A CPU has the first alone. A GPU has both, and takes the second where Triton can build a kernel for it.
"""

import functools
import importlib
import os
import warnings
from typing import Literal, get_args

import torch

Backend = Literal["torch", "triton"]

VARIABLE = "HYENA_DIST_BACKEND"
"""The environment variable that decides for all devices; unset or "auto" leaves it to `backend_of`."""


def backend_of(device: torch.device) -> Backend:
    """Return the implementation that operators take on a device.

    Raises:
        ValueError: the environment variable names none.
    """
    wanted = os.environ.get(VARIABLE, "auto")
    for name in get_args(Backend):
        if wanted == name:
            return name
    if wanted != "auto":
        raise ValueError(f"{VARIABLE}={wanted!r} is no backend; choose auto, {' or '.join(get_args(Backend))}")
    return "triton" if device.type == "cuda" and _builds(torch.cuda.get_device_name(device)) else "torch"


@functools.cache
def _builds(gpu: str) -> bool:
    """Return whether Triton builds and runs a kernel on this GPU; if not, a warning says once why."""
    try:
        importlib.import_module("hyena_dist.ops.triton.launch").try_out()
    except Exception as error:  # whatever a compiler or a driver raises
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(
            f"Triton cannot build kernels for {gpu} ({words}), so operators run on torch's, which are slower; "
            f"{VARIABLE}=torch says that this is intended",
            stacklevel=2,
        )
        return False
    return True
