"""The implementation that operators take on a device: torch's operators (`fused`), or Triton kernels (`gpu`).

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
    return "torch" if device.type != "cuda" or _failure(torch.cuda.get_device_name(device)) else "triton"


def explain(device: torch.device) -> str:
    """Return in a few words, for people, which implementation operators take on a device, and why.

    Raises:
        ValueError: the environment variable names none.
    """
    words = {"torch": "torch's operators", "triton": "Triton's kernels"}[backend_of(device)]
    if os.environ.get(VARIABLE, "auto") != "auto":
        return f"{words}, as {VARIABLE} says"
    if device.type != "cuda":
        return f"{words}, as there is no GPU"
    gpu = torch.cuda.get_device_name(device)
    failure = _failure(gpu)
    return f"{words}, as Triton cannot build kernels for {gpu} ({failure})" if failure else f"{words}, built for {gpu}"


@functools.cache
def _failure(gpu: str) -> str | None:
    """Return why Triton cannot build and run a kernel on this GPU, which a warning says once; None if it can."""
    try:
        importlib.import_module("hyena_dist.ops.triton.launch").try_out()
    except Exception as error:  # whatever a compiler or a driver raises
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(
            f"Triton cannot build kernels for {gpu} ({words}), so operators run on torch's, which are slower; "
            f"{VARIABLE}=torch says that this is intended",
            stacklevel=2,
        )
        return words
    return None
