"""The grid of ranks: tensor x context x data.

Groups come from megatron.core.parallel_state and are passed into modules; nothing reads a global inside forward.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from hyena_dist.config.run import ParallelConfig
from hyena_dist.errors import UserError
from hyena_dist.parallel.compat.cpu import enable_megatron_on_cpu, keep_freed_memory
from hyena_dist.parallel.compat.imports import importing_megatron
from hyena_dist.system.hosts import first_host

T = TypeVar("T")

_STORE_TIMEOUT = timedelta(seconds=10)
"""How long a question to the store may take once ranks have met."""


class LocalGroup:
    """A group of this process alone, without torch.distributed: notebooks and `evaluate` need no launcher, no port."""

    def size(self) -> int:
        """Always 1."""
        return 1

    def rank(self) -> int:
        """Always 0."""
        return 0


@dataclass(frozen=True)
class Mesh:
    """The process groups of one rank: torch.distributed's, or a LocalGroup. The default is one process."""

    tensor: Any = field(default_factory=LocalGroup)
    context: Any = field(default_factory=LocalGroup)
    data: Any = field(default_factory=LocalGroup)
    data_context: Any = field(default_factory=LocalGroup)
    """Ranks that hold the same parameters: ZeRO shards over them and gradients are reduced over them."""
    sequence_parallel: bool = False
    """Whether the residual stream is spread over the tensor ranks by position (Megatron's sequence parallelism)."""
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
        return not dist.is_initialized() or dist.get_rank() == 0

    @property
    def residual_shard(self) -> tuple[int, int]:
        """(index, count) of the contiguous shard of positions that this rank's residual stream holds."""
        inner = (self.tensor.rank(), self.tensor.size()) if self.sequence_parallel else (0, 1)
        return self.context.rank() * inner[1] + inner[0], self.context.size() * inner[1]

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return dist.get_world_size() if dist.is_initialized() else 1

    def barrier(self) -> None:
        """Wait for all ranks."""
        if dist.is_initialized():
            dist.barrier()

    def all_reduce_sum(self, value: float) -> float:
        """Sum of a number over all ranks, in float64."""
        return self.all_reduce_sums(value)[0]

    def all_reduce_sums(self, *values: float) -> list[float]:
        """Sum of each number over all ranks, in float64, in one exchange."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)  # on the CPU, over gloo: no wait for the GPU
        dist.all_reduce(tensor)
        sums: list[float] = tensor.tolist()
        return sums

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; every rank gets the same answer."""
        return self.all_reduce_sum(float(flag)) > 0

    def on_main(self, action: Callable[[], T]) -> T:
        """The result of running `action` on the main process, on every rank.

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
        """The value of every rank, on every rank."""
        values: list[Any] = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """The main process's value on every rank."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]


@dataclass(frozen=True)
class Launch:
    """What the launcher told this process."""

    rank: int
    local_rank: int
    world_size: int


def launch_environment() -> Launch:
    """Read rank and world size as deepspeed and torchrun set them, else as srun does, else one process."""
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        return Launch(int(env["RANK"]), int(env.get("LOCAL_RANK", 0)), int(env["WORLD_SIZE"]))
    if "SLURM_STEP_ID" in env and "SLURM_PROCID" in env:
        return Launch(int(env["SLURM_PROCID"]), int(env["SLURM_LOCALID"]), int(env["SLURM_STEP_NUM_TASKS"]))
    return Launch(0, 0, 1)


def initialize(config: ParallelConfig, timeout_s: float = 1800.0) -> Mesh:
    """Join the process group this process was launched into and cut it into the mesh's groups."""
    return cut(join_world(timeout_s), config)


def join_world(timeout_s: float = 1800.0) -> Mesh:
    """Join the process group this process was launched into; only what concerns all ranks works on the result.

    One process needs no environment and no port. `srun` alone is enough: rank 0's host and a port derived from the job
    are taken from SLURM's variables unless MASTER_ADDR and MASTER_PORT are set.
    """
    launch = launch_environment()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", launch.local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    else:
        keep_freed_memory()
    os.environ.setdefault("LOCAL_RANK", str(launch.local_rank))  # DeepSpeed insists on it
    timeout = timedelta(seconds=timeout_s)
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        if launch.world_size == 1:
            store: Any = dist.HashStore()
        else:
            _fill_in_master()
            store, *_ = next(rendezvous("env://", launch.rank, launch.world_size, timeout=timeout))
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("groups", store),
            rank=launch.rank,
            world_size=launch.world_size,
            timeout=timeout,
        )
        if launch.world_size > 1:
            store = store.clone()
            store.set_timeout(_STORE_TIMEOUT)
    else:
        store = dist.HashStore()
    return Mesh(
        device=device, background=dist.new_group(backend="gloo", timeout=timeout), store=store, timeout_s=timeout_s
    )


def cut(world: Mesh, config: ParallelConfig) -> Mesh:
    """Cut the ranks of `join_world` into the mesh's groups."""
    with importing_megatron():
        from megatron.core import parallel_state

    enable_megatron_on_cpu()
    if not parallel_state.is_initialized():
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=config.tensor_model_parallel_size,
            context_parallel_size=config.context_parallel_size,
            distributed_timeout_minutes=world.timeout_s / 60,  # a float will do
        )
    return replace(
        world,
        tensor=parallel_state.get_tensor_model_parallel_group(),
        context=parallel_state.get_context_parallel_group(),
        data=parallel_state.get_data_parallel_group(),
        data_context=parallel_state.get_data_parallel_group(with_context_parallel=True),
        sequence_parallel=config.sequence_parallel and config.tensor_model_parallel_size > 1,
    )


def shutdown() -> None:
    """Leave the process group."""
    with importing_megatron():
        from megatron.core import parallel_state

    parallel_state.destroy_model_parallel()
    if dist.is_initialized():
        dist.destroy_process_group()


def _fill_in_master() -> None:
    env = os.environ
    if "MASTER_ADDR" not in env:
        env["MASTER_ADDR"] = first_host(env.get("SLURM_STEP_NODELIST", "127.0.0.1"))
    if "MASTER_PORT" not in env:
        # Every rank must find the same port without talking: SLURM numbers jobs and steps for us.
        job, step = int(env.get("SLURM_JOB_ID", 0)), int(env.get("SLURM_STEP_ID", 0))
        env["MASTER_PORT"] = str(20000 + (job * 16 + step) % 20000)
