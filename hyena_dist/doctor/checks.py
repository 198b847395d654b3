"""Checks that fail in one line: imports, the temporary folder, and collectives over processes of this machine."""

import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

TIMEOUT_S = 60.0  # For each check. Importing torch from a cluster's cold file system takes most of it.
# What the main job imports. One process imports all of it, since a version alone does not say that a package loads.
_MODULES = ("deepspeed", "megatron.core", "zarr", "webdataset", "mlflow")
_ELEMENTS = 4 * 2**20  # 16 MiB of float32: large enough to measure bandwidth, small enough for a laptop.


class CheckFailed(Exception):
    """A check that did not pass; the message is one line that says why and, if known, what to do."""


class CheckUnfinishedError(Exception):
    """A check that was not done in time, so that nothing is known; the message is one line that says what to do."""


def check_imports() -> str:
    """Import in a process of its own what the main job imports.

    Raises:
        CheckFailed: Something does not load.
        CheckUnfinishedError: The imports take longer than `TIMEOUT_S`.
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
        raise CheckUnfinishedError(
            f"not done after {TIMEOUT_S:.0f} s: the machine is busy or its file system slow; try again"
        ) from error
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
        CheckFailed: A value is wrong, or a process fails.
        CheckUnfinishedError: It takes longer than `TIMEOUT_S`.
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
            library = "GLOO" if backend == "gloo" else "NCCL"
            raise CheckUnfinishedError(
                f"no answer after {TIMEOUT_S:.0f} s: either the machine is busy, or `hostname` does not resolve to it; "
                f"set {library}_SOCKET_IFNAME to its network interface (on one node: lo)"
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
