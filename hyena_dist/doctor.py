"""`hyena-dist doctor`: what this machine has, whether processes can talk, and what is missing for what."""

import importlib.util
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import torch
import torch.distributed as dist

from hyena_dist.system.processes import usable_cores
from hyena_dist.tracking.environment import PACKAGES, cpu_model, gpus, package_version

TIMEOUT_S = 60.0  # For each check. Importing torch from a cluster's cold file system takes most of it.
_OPTIONAL = ("triton", "flash-attn")
# What the main job imports. One process imports all of it, since a version alone does not say that a package loads.
_MODULES = ("deepspeed", "megatron.core", "zarr", "webdataset", "mlflow")
_ELEMENTS = 4 * 2**20  # 16 MiB of float32: large enough to measure bandwidth, small enough for a laptop.


class CheckFailed(Exception):
    """A check that did not pass; the message is one line that says why and, if known, what to do."""


def doctor() -> int:
    """Print the report.

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

    healthy = all(passed) and not missing
    print(
        f"\n{'The main job can run here.' if healthy else 'The main job cannot run here: see the failed lines above.'}"
    )
    return 0 if healthy else 1


def check_imports() -> str:
    """Import in a process of its own what the main job imports.

    Raises:
        CheckFailed: Something does not load, or not in time.
    """
    start = time.perf_counter()
    try:
        subprocess.run(
            [sys.executable, "-c", f"import {', '.join(_MODULES)}"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(f"not done after {TIMEOUT_S:.0f} s: is the file system slow?") from error
    except subprocess.CalledProcessError as error:
        raise CheckFailed((error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]) from error
    return f"{', '.join(_MODULES)} in {time.perf_counter() - start:.1f} s"


def check_temporary_folder() -> str:
    """Write, read back and rename a file where temporary files go.

    Raises:
        CheckFailed: The folder cannot be written or returns something else.
    """
    content = os.urandom(2**20)
    try:
        with tempfile.TemporaryDirectory() as folder:
            first, second = Path(folder, "a"), Path(folder, "b")
            first.write_bytes(content)
            os.replace(first, second)
            if second.read_bytes() != content:
                raise CheckFailed(f"{folder} returns other bytes than were written")
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise CheckFailed(f"{error}; set TMPDIR to a folder that can be written") from error
    return f"{tempfile.gettempdir()}, {free / 2**30:.1f} GiB free"


def check_collectives(backend: str, world_size: int) -> str:
    """Run an all-reduce and an all-to-all over new processes of this machine, and check the values.

    Args:
        backend: "gloo" on the CPU or "nccl" on one GPU per process.
        world_size: Number of processes.

    Raises:
        CheckFailed: A value is wrong, a process fails, or it is not done after `TIMEOUT_S`.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        # daemon: if this process is ended, the new ones end with it.
        processes = [
            context.Process(target=_collectives, args=(backend, rank, world_size, folder), daemon=True)
            for rank in range(world_size)
        ]
        deadline = time.monotonic() + TIMEOUT_S
        try:
            for process in processes:
                process.start()
            for process in processes:
                process.join(max(0.0, deadline - time.monotonic()))
            late = any(process.is_alive() for process in processes)
        finally:
            for process in processes:
                if process.is_alive():
                    process.kill()
                    process.join()
        # The first error is the cause; the others only lost their partner.
        errors = sorted(Path(folder).glob("error-*"), key=lambda path: path.stat().st_mtime_ns)
        if errors:
            raise CheckFailed(errors[0].read_text())
        if late:
            raise CheckFailed(
                f"no answer after {TIMEOUT_S:.0f} s: does `hostname` resolve to this machine? If not, set "
                f"{'GLOO' if backend == 'gloo' else 'NCCL'}_SOCKET_IFNAME to its network interface (on one node: lo)"
            )
        codes = [process.exitcode for process in processes]
        if any(codes):
            raise CheckFailed(f"the processes ended with exit codes {codes}")
        seconds = json.loads(Path(folder, "seconds.json").read_text())
    size = _ELEMENTS * 4
    return ", ".join(
        f"{name} ok ({1e3 * s:.1f} ms for 16 MiB, {size / s / 1e9:.2f} GB/s)" for name, s in seconds.items()
    )


def _collectives(backend: str, rank: int, world_size: int, folder: str) -> None:
    """Body of one process of `check_collectives`; it leaves its result or its error as a file in the folder."""
    try:
        device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
        if backend == "nccl":
            torch.cuda.set_device(device)
        # A file as meeting point needs no free port.
        dist.init_process_group(
            backend,
            init_method=f"file://{folder}/store",
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=TIMEOUT_S),
        )
        seconds = {
            "all-reduce": _all_reduce(rank, world_size, device),
            "all-to-all": _all_to_all(rank, world_size, device),
        }
        if rank == 0:
            Path(folder, "seconds.json").write_text(json.dumps(seconds))
        dist.barrier()
        dist.destroy_process_group()
    except Exception as error:
        reason = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
        Path(folder, f"error-{rank}").write_text(f"rank {rank}: {reason}")
        sys.exit(1)


def _all_reduce(rank: int, world_size: int, device: torch.device) -> float:
    """Return the seconds of an all-reduce whose sum is known."""
    tensor = torch.full((_ELEMENTS,), float(rank + 1), device=device)
    dist.all_reduce(tensor)
    if not bool((tensor == world_size * (world_size + 1) / 2).all()):
        raise CheckFailed("all-reduce returned wrong values")
    return _time(lambda: dist.all_reduce(tensor), device)


def _all_to_all(rank: int, world_size: int, device: torch.device) -> float:
    """Return the seconds of an all-to-all; the part from rank s to rank r holds s * world_size + r."""
    part = _ELEMENTS // world_size
    ranks = torch.arange(world_size, dtype=torch.float32, device=device)
    sent = (rank * world_size + ranks).repeat_interleave(part)
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent)
    if not torch.equal(received, (ranks * world_size + rank).repeat_interleave(part)):
        raise CheckFailed("all-to-all returned wrong values")
    return _time(lambda: dist.all_to_all_single(received, sent), device)


def _time(call: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds of five calls."""
    seconds = []
    for _ in range(5):
        dist.barrier()
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _back_ends() -> dict[str, str | None]:
    """Return what there is of each optional back end or tool; None where there is nothing."""
    return {
        "gloo": "available" if dist.is_gloo_available() else None,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if _has_nccl() else None,
        # The extension is looked up, not imported: one that was built for another torch would end this process.
        "flash-attn": package_version("flash-attn") if importlib.util.find_spec("flash_attn") else None,
        "attention": _attention(),
        "triton": package_version("triton"),
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


def _missing_extras(found: dict[str, str | None]) -> list[tuple[str, str]]:
    """Return what is not here and the part of the project that wants it."""
    wants = {
        "flash-attn": "attention layers on GPUs use torch's kernels instead; pip install hyena-dist[flash-attn]",
        "triton": "nothing uses it yet, GPU kernels will; it comes with torch for CUDA",
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


def _check(name: str, check: Callable[[], str]) -> bool:
    try:
        _line(name, check())
    except CheckFailed as error:
        _line(name, f"FAILED: {error}")
        return False
    return True


def _section(title: str) -> None:
    print(f"\n{title}", flush=True)


def _line(name: str, text: str) -> None:
    print(f"  {name:<18} {text}".rstrip(), flush=True)
