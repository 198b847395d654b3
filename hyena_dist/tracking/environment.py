"""A record of the machine and the software that a run used, without secrets."""

import importlib.metadata
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from hyena_dist.system.processes import usable_cores

PACKAGES = (
    "hyena-dist",
    "torch",
    "deepspeed",
    "megatron-core",
    "zarr",
    "webdataset",
    "mlflow",
    "numpy",
    "triton",
    "flash-attn",
)
# Variables that change what a run does. Nothing else is recorded, and of these nothing that looks like a secret.
_RELEVANT = re.compile(
    r"^(SLURM_|NCCL_|GLOO_|TORCH_|PYTORCH_|DS_|OMP_|MKL_|CUDA_|NVTE_|MLFLOW_|MASTER_|(LOCAL_|NODE_|GROUP_)?RANK$|"
    r"(LOCAL_)?WORLD_SIZE$)"
)
_SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|JWT|AUTH|KEY|USERNAME|CERT", re.IGNORECASE)
# `key=value` or `--key value` arguments that carry a secret, and user:password@ in an address.
_SECRET_ARGUMENT = re.compile(r"((?:password|secret|api[_-]?key|token)[= ])\S+", re.IGNORECASE)
_SECRET_ADDRESS = re.compile(r"://[^/@\s]*@")


def environment() -> dict[str, object]:
    """Return where and with what this process runs, ready for JSON.

    GPUs are listed only if torch has been imported, since this module must not import it.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hostname": socket.gethostname(),
        "command": _without_secrets(shlex.join(sys.orig_argv)),
        "cpu": cpu_model(),
        "cpu_cores": usable_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus(),
        "packages": {name: version for name in PACKAGES if (version := package_version(name))},
        "git": git_state(),
        "variables": {
            name: _without_secrets(value)
            for name, value in sorted(os.environ.items())
            if _RELEVANT.search(name) and not _SECRET.search(name)
        },
    }


def package_version(name: str) -> str | None:
    """Return the version of an installed distribution, without importing it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    """Return the CPU's name as the kernel gives it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def gpus() -> list[str]:
    """Return one line per visible GPU if torch is imported: name, memory and compute capability."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    properties = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return [f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, sm_{gpu.major}{gpu.minor}" for gpu in properties]


def git_state() -> dict[str, object] | None:
    """Return the commit of the checkout that this package lies in and whether it has changes; None without one."""
    root = Path(__file__).resolve().parents[2]
    # A package in site-packages may lie below somebody else's repository, so the checkout must start right here.
    if not (root / ".git").exists():
        return None
    try:
        commit, status = (
            subprocess.run(
                ["git", "--no-optional-locks", "-C", str(root), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(status)}


def _without_secrets(text: str) -> str:
    return _SECRET_ARGUMENT.sub(r"\1***", _SECRET_ADDRESS.sub("://***@", text))
