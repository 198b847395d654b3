"""The memory that a process takes, and the words for when there is no more."""

import re
import resource
import sys
from pathlib import Path

import torch

from hyena_dist.errors import UserError

_OUT_OF_MEMORY = re.compile(
    r"out of memory|can(no|')t allocate memory|(CUFFT|CUBLAS_STATUS)_ALLOC_FAILED|std::bad_alloc", re.IGNORECASE
)
"""What torch and the libraries below it say, on CPUs and GPUs."""


def peak_bytes(device: torch.device) -> int:
    """Return the most memory that this process has had so far: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    # Linux's ru_maxrss begins with that of the process that started this one; VmHWM does not.
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def describe_out_of_memory(error: RuntimeError | MemoryError, where: str) -> UserError | None:
    """Return a sentence for an allocation that failed; None for other errors.

    Args:
        error: what torch, numpy or Python raised.
        where: the rank and what it was doing, for people.
    """
    text = " ".join(str(error).split())
    if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(text):
        return None
    asked = re.search(r"tried to allocate ([\d.]+ ?\w+)|Unable to allocate ([\d.]+ ?\w+)", text, re.IGNORECASE)
    amount = f", asking for {asked[1] or asked[2]} more" if asked else ""
    return UserError(
        f"{where} is out of memory{amount}; lower train.micro_batch_size, set parallel.activation_checkpointing=true, "
        f"or give a sequence more ranks by parallel.context_parallel_size, and start again: the run goes on from its "
        f"newest checkpoint"
    )
