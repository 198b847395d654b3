"""The machine, and the most that it does: bytes moved by a copy, operations of a matrix product."""

import platform
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hyena_dist.bench.gpu.measuring import milliseconds
from hyena_dist.bench.gpu.plan import Case, Sizes


def cases(sizes: Sizes) -> Iterator[Case]:
    """Give the machine and both ceilings."""
    yield {"what": "machine"}, partial(machine, sizes)
    yield {"what": "copy"}, partial(_copy, sizes)
    yield {"what": "product"}, partial(_product, sizes)


def machine(sizes: Sizes) -> dict[str, Any]:
    """Return the GPU's name and memory, and the versions that figures depend on; nothing that names the machine."""
    found: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__, "commit": _commit()}
    try:
        import triton

        found["triton"] = triton.__version__
    except ImportError as error:
        found["triton"] = f"not there ({error})"
    if sizes.device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        found |= {"gpu": gpu.name, "memory_gb": gpu.total_memory / 1e9, "capability": f"sm_{gpu.major}{gpu.minor}"}
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return found


def _commit() -> str:
    root = Path(__file__).resolve().parents[4]
    if not (root / ".git").exists():
        return "unknown"
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _copy(sizes: Sizes) -> dict[str, float]:
    source = torch.empty(sizes.copied, dtype=torch.uint8, device=sizes.device).random_()
    target = torch.empty_like(source)
    ms = milliseconds(lambda: target.copy_(source), sizes)
    return {"ms": ms, "gb_per_s": 2 * sizes.copied / ms / 1e6}


def _product(sizes: Sizes) -> dict[str, float]:
    n = sizes.product
    a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=sizes.device) for _ in range(2))
    ms = milliseconds(lambda: a @ b, sizes)
    return {"ms": ms, "tflop_per_s": 2 * n**3 / ms / 1e9}
