"""The report of `hyena-dist doctor`, section by section."""

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
import torch.distributed as dist

from hyena_dist.doctor.checks import (
    CheckFailed,
    CheckUnfinishedError,
    check_collectives,
    check_imports,
    check_temporary_folder,
)
from hyena_dist.ops.backend import explain
from hyena_dist.ops.precision import bf16_speed, fast_precision, precision_warning
from hyena_dist.tracking.environment import PACKAGES, cpu_model, gpus, package_version, usable_cores

_OPTIONAL = ("triton", "flash-attn")


def doctor() -> int:
    """Print the report on this machine.

    Returns:
        0 if the main job can run here, otherwise 1.
    """
    _section("versions")
    _line("python", sys.version.split()[0])
    versions = {name: package_version(name) for name in PACKAGES}
    for name, version in versions.items():
        _line(name, version or "not installed")
    missing = [name for name, version in versions.items() if version is None and name not in _OPTIONAL]

    _section("devices")
    _line("CPU", f"{cpu_model()}, {usable_cores()} usable cores")
    memory = psutil.virtual_memory()
    _line("memory", f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB available")
    for index, gpu in enumerate(gpus()):
        _line(f"GPU {index}", gpu)
    if not gpus():
        _line("GPU", "none visible")

    _section("back ends")
    back_ends = _back_ends()
    for name, found in back_ends.items():
        _line(name, found or "-")

    _section("checks")
    passed = [
        _check("imports", check_imports),
        _check("gloo, 2 processes", lambda: check_collectives("gloo", 2)),
        _check("temporary folder", check_temporary_folder),
    ]
    if torch.cuda.device_count() > 1 and dist.is_nccl_available():
        count = torch.cuda.device_count()
        passed.append(_check(f"nccl, {count} GPUs", lambda: check_collectives("nccl", count)))

    _section("what is missing for what")
    for name in missing:
        _line(name, f"not installed: the main job needs it; pip install {name}")
    wanted = _missing_extras(back_ends)
    for name, text in wanted:
        _line(name, text)
    if not missing and not wanted:
        _line("nothing", "")

    broken = False in passed or bool(missing)
    if broken:
        verdict = "The main job cannot run here: see the failed lines above."
    elif None in passed:
        verdict = "Nothing failed, but not all could be checked in time: see the lines above that are not known."
    else:
        verdict = "The main job can run here."
    print(f"\n{verdict}")
    return 1 if broken else 0


def _back_ends() -> dict[str, str | None]:
    """Return what there is of each optional back end or tool; None where there is nothing."""
    return {
        "gloo": "available" if dist.is_gloo_available() else None,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if _has_nccl() else None,
        # The extension is looked up, not imported: one that was built for another torch would end this process.
        "flash-attn": package_version("flash-attn") if importlib.util.find_spec("flash_attn") else None,
        "attention": _attention(),
        "bf16": _bf16(),
        "triton": package_version("triton"),
        "operators": _operators(),
        "C++ compiler": _compiler(),
        "nvcc": shutil.which("nvcc"),
        "srun, sbatch": ", ".join(path for tool in ("srun", "sbatch") if (path := shutil.which(tool))) or None,
        "pdsh": shutil.which("pdsh"),
    }


def _attention() -> str | None:
    """Return the kernels that take bf16 heads of 64, the one that attention layers use first."""
    try:
        from hyena_dist.models.mixers.attention import usable_backends
    except ImportError:
        return None  # the check of imports says what is missing
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return ", ".join(usable_backends(device, torch.bfloat16, 64))


def _bf16() -> str | None:
    """Return how fast bf16 products run beside fp32 ones; None where they are slow."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        return "in hardware" if fast_precision(device) == "bf16" else None
    return None if precision_warning("bf16", device) else f"products {bf16_speed():.1f} times as fast as in fp32"


def _operators() -> str:
    """Return what the operators run on here, and why."""
    try:
        return explain(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    except ValueError as error:
        return f"none: {error}"


def _missing_extras(found: dict[str, str | None]) -> list[tuple[str, str]]:
    """Return (name, sentence) of each optional part that is not here: which part of the project wants it."""
    wants = {
        "flash-attn": "attention layers on GPUs use torch's kernels instead; pip install hyena-dist[flash-attn]",
        "bf16": "products in it are slow here; leave precision at fp32",
        "triton": "operators on GPUs run on torch's instead, which is slower; it comes with torch for CUDA",
        "C++ compiler": "only DeepSpeed's CPU Adam (ZeRO-Offload) uses it; apt-get install g++ python3-dev ninja-build",
        "nvcc": "only DeepSpeed's GPU extensions use it; install the CUDA toolkit of torch's version",
        "nccl": "only training on GPUs uses it; install torch for CUDA",
        "srun, sbatch": "only SLURM jobs use them; run on a login node of the cluster",
        "pdsh": "only the deepspeed launcher over several nodes uses it; apt-get install pdsh, or use srun or torchrun",
    }
    return [(name, f"not found: {text}") for name, text in wants.items() if not found[name]]


def _has_nccl() -> bool:
    return torch.cuda.is_available() and dist.is_nccl_available()


def _compiler() -> str | None:
    """Return the C++ compiler if everything that DeepSpeed builds CPU Adam with is here."""
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    path = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    return path if path and shutil.which("ninja") and header.exists() else None


def _check(name: str, check: Callable[[], str]) -> bool | None:
    """Print what a check found, and return whether it passed; None if it was not done in time."""
    try:
        _line(name, check())
    except CheckFailed as error:
        _line(name, f"FAILED: {error}")
        return False
    except CheckUnfinishedError as error:
        _line(name, f"not known: {error}")
        return None
    return True


def _section(title: str) -> None:
    print(f"\n{title}", flush=True)


def _line(name: str, text: str) -> None:
    print(f"  {name:<18} {text}".rstrip(), flush=True)
