"""The grid of ranks that is cut from the world: tensor x context x data.

Groups come from megatron.core.parallel_state and are passed into modules; nothing reads a global inside forward.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.errors import UserError
from hyena_dist.parallel.compat.cpu import enable_megatron_on_cpu
from hyena_dist.parallel.compat.imports import importing_megatron
from hyena_dist.parallel.world import LocalGroup, World, join_world


@dataclass(frozen=True)
class Mesh:
    """The process groups of one rank: torch.distributed's, or a LocalGroup. The default is one process.

    Modules hold it, so that it says what becomes of live groups where a module is copied or pickled: a copy talks over
    the same groups, and what a pickle brings back is one process.
    """

    world: World = field(default_factory=World)
    tensor: Any = field(default_factory=LocalGroup)
    context: Any = field(default_factory=LocalGroup)
    data: Any = field(default_factory=LocalGroup)
    data_context: Any = field(default_factory=LocalGroup)
    """Ranks that hold the same parameters: ZeRO shards over them and gradients are reduced over them."""
    sequence_parallel: bool = False
    """Whether the residual stream is spread over the tensor ranks by position (Megatron's sequence parallelism)."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Mesh":
        self._check_whole("copied")  # torch copies parameters without the hooks that sum their gradients
        return self

    def __reduce__(self) -> tuple[type["Mesh"], tuple[()]]:
        self._check_whole("pickled")
        return Mesh, ()

    def _check_whole(self, done: str) -> None:
        if self.tensor.size() > 1:
            raise UserError(
                f"a model that {self.tensor.size()} tensor ranks share cannot be {done} on one of them; build "
                f"another of the same layout and load its state_dict"
            )

    @property
    def device(self) -> torch.device:
        """The device of this rank."""
        return self.world.device

    @property
    def residual_shard(self) -> tuple[int, int]:
        """The contiguous shard of positions that this rank's residual stream holds, as (index, count)."""
        inner_index = self.tensor.rank() if self.sequence_parallel else 0
        inner_count = self.tensor.size() if self.sequence_parallel else 1
        return self.context.rank() * inner_count + inner_index, self.context.size() * inner_count


def build_mesh(world: World, config: ParallelConfig) -> Mesh:
    """Cut the ranks of the world into the grid that a layout asks for; every rank calls this.

    Neighbouring ranks are tensor ranks, then context ranks; what is left over is data-parallel. The first call in a
    process decides: megatron-core keeps its groups until `shutdown`.
    """
    with importing_megatron():
        from megatron.core import parallel_state

    enable_megatron_on_cpu()
    if not parallel_state.is_initialized():
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=config.tensor_model_parallel_size,
            context_parallel_size=config.context_parallel_size,
            distributed_timeout_minutes=world.timeout_s / 60,  # a float will do
        )
    return Mesh(
        world,
        tensor=parallel_state.get_tensor_model_parallel_group(),
        context=parallel_state.get_context_parallel_group(),
        data=parallel_state.get_data_parallel_group(),
        data_context=parallel_state.get_data_parallel_group(with_context_parallel=True),
        sequence_parallel=config.sequence_parallel and config.tensor_model_parallel_size > 1,
    )


def initialize(config: ParallelConfig, timeout_s: float = 1800.0) -> Mesh:
    """Join the process group that this process was launched into and cut the grid from it."""
    return build_mesh(join_world(timeout_s), config)
