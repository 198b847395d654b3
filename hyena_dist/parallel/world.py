"""The ranks that a launcher gave a run, before any grid is cut from them, and what concerns all of them.

`join_world` is called once per process; parallel/mesh.py cuts the grid of tensor, context and data ranks from it.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from hyena_dist.errors import UserError
from hyena_dist.ops import backend
from hyena_dist.parallel.compat.cpu import keep_freed_memory
from hyena_dist.parallel.rendezvous import all_stay, meet
from hyena_dist.system.launch import launch_environment

T = TypeVar("T")

_STORE_TIMEOUT = timedelta(seconds=10)
"""How long a question to the store may take once ranks have met."""


class LocalGroup:
    """A group of this process alone, without torch.distributed: notebooks and `evaluate` need no launcher, no port."""

    def size(self) -> int:
        """Return the number of ranks, which is 1."""
        return 1

    def rank(self) -> int:
        """Return this process's rank in the group, which is 0."""
        return 0


@dataclass(frozen=True)
class World:
    """All ranks of a run as one of them sees them; the default is one process without torch.distributed."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    background: Any = field(default_factory=LocalGroup)
    """All ranks over gloo, for a thread that writes checkpoints while training uses the other groups."""
    store: Any = field(default_factory=dist.HashStore)
    """Keys and values that all ranks see, by a connection of its own, for the watchdog."""
    timeout_s: float = 1800.0
    """How long a collective waits for a rank; longer than the watchdog does, which knows whom it waits for."""

    @property
    def is_main(self) -> bool:
        """Whether this process logs and prints."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()

    def all_reduce_sum(self, value: float) -> float:
        """Sum a number over all ranks, in float64."""
        return self.all_reduce_sums(value)[0]

    def all_reduce_sums(self, *values: float) -> list[float]:
        """Sum each number over all ranks, in float64, in one exchange."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)  # on the CPU, over gloo: no wait for the GPU
        dist.all_reduce(tensor)
        sums: list[float] = tensor.tolist()
        return sums

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank; every rank gets the same answer."""
        return self.all_reduce_sum(float(flag)) > 0

    def on_main(self, action: Callable[[], T]) -> T:
        """Run `action` on the main process and return its result on every rank.

        Raises:
            UserError, OSError, RuntimeError: what `action` raised, on every rank (other types and subclasses as the
                nearest of these), so that none is left waiting for the others.
        """
        result: Any = None
        error: Exception | None = None
        if self.is_main:
            try:
                result = action()
            except Exception as caught:
                error = caught
        known: list[type[Exception]] = [UserError, OSError]
        kind = next((k for k in known if isinstance(error, k)), RuntimeError)
        failure, result = self.broadcast_object(((kind, str(error)) if error else None, result))
        if error is not None:
            raise error
        if failure is not None:
            kind, message = failure
            raise kind(message)
        return result

    def gather_objects(self, value: T) -> list[T]:
        """Return the value of every rank, on every rank."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """Return the main process's value on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]


def local_gpu(local_rank: int, visible: int) -> int:
    """Return the index of a rank's GPU among those that its process sees.

    A process that sees one GPU has that one, as under `srun --gpus-per-task=1`, whatever its place on the node.

    Args:
        local_rank: number of the process on its node.
        visible: number of GPUs that the process sees, at least 1.

    Raises:
        UserError: more processes on the node than GPUs.
    """
    if visible == 1:
        return 0
    if local_rank >= visible:
        raise UserError(
            f"process {local_rank} of this node (counted from 0) has no GPU, since it sees {visible}; start one "
            f"process for each GPU, or let each see its own alone"
        )
    return local_rank


def check_backend(device: torch.device) -> None:
    """Refuse an implementation of the operators that this device does not have.

    Raises:
        UserError: the environment variable names none, or Triton's kernels where there is no GPU.
    """
    try:
        found = backend.backend_of(device)
    except ValueError as error:
        raise UserError(str(error)) from error
    if found == "triton" and device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise UserError(f"{backend.VARIABLE}=triton needs a GPU, and this process has none; unset it")


def join_world(timeout_s: float = 1800.0) -> World:
    """Join the process group that this process was launched into.

    One process needs no environment and no port. `srun` alone is enough: rank 0's host and a port derived from the job
    are taken from SLURM's variables unless MASTER_ADDR and MASTER_PORT are set.

    Raises:
        UserError: this process has no GPU where others of its node have one, or as in `check_backend`, or
            `launch_environment`.
        TemporaryError: the ranks do not meet, as in `meet`.
    """
    launch = launch_environment()
    cuda = torch.cuda.is_available()
    place = launch.local_rank
    if cuda:
        place = local_gpu(place, torch.cuda.device_count())
        torch.cuda.set_device(place)
        os.environ["LOCAL_RANK"] = str(place)  # DeepSpeed takes the GPU of this number
    else:
        keep_freed_memory()
        os.environ.setdefault("LOCAL_RANK", str(place))  # DeepSpeed insists on it
    device = torch.device("cuda", place) if cuda else torch.device("cpu")
    check_backend(device)
    timeout = timedelta(seconds=timeout_s)
    store: Any = dist.HashStore()
    with all_stay(launch.world_size):
        if not dist.is_initialized():
            if launch.world_size > 1:
                store = meet(launch, timeout_s)
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if cuda else "gloo",
                store=dist.PrefixStore("groups", store),
                rank=launch.rank,
                world_size=launch.world_size,
                timeout=timeout,
            )
            if launch.world_size > 1:
                store = store.clone()
                store.set_timeout(_STORE_TIMEOUT)
        background = dist.new_group(backend="gloo", timeout=timeout)
    return World(
        rank=dist.get_rank(),
        size=dist.get_world_size(),
        device=device,
        background=background,
        store=store,
        timeout_s=timeout_s,
    )


def shutdown() -> None:
    """Leave the process group and forget the grid that was cut from it."""
    parallel_state: Any = sys.modules.get("megatron.core.parallel_state")
    if parallel_state is not None:
        parallel_state.destroy_model_parallel()
    if dist.is_initialized():
        dist.destroy_process_group()
