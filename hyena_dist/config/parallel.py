"""The layout of a run, or of one stage of its curriculum: how it is spread over ranks."""

from pydantic import Field

from hyena_dist.config.section import Section


class ParallelConfig(Section):
    """The layout of a run: how it is spread over ranks; data_parallel_size is derived."""

    tensor_model_parallel_size: int = Field(1, gt=0)
    context_parallel_size: int = Field(1, gt=0)
    sequence_parallel: bool = Field(
        False, description="Megatron's: norms, dropout and residual stream spread over the tensor ranks by position"
    )
    zero: str = Field("zero1", description="a preset of ds_configs/ (zero0, ..., zero3_offload) or a JSON file")
    activation_checkpointing: bool = False
    device_memory_gib: float = Field(80.0, gt=0, description="of one rank; what `auto` fits into")

    @property
    def processes(self) -> tuple[int, int, bool, str]:
        """What processes cannot change once they have started: their groups and their engine."""
        return self.tensor_model_parallel_size, self.context_parallel_size, self.sequence_parallel, self.zero


class StageParallel(Section):
    """The settings of a stage of the curriculum that differ from the run's `parallel`; None where it has the run's."""

    tensor_model_parallel_size: int | None = Field(None, gt=0)
    context_parallel_size: int | None = Field(None, gt=0)
    sequence_parallel: bool | None = None
    zero: str | None = None
    activation_checkpointing: bool | None = None

    def over(self, run: ParallelConfig) -> ParallelConfig:
        """Return the run's settings with this stage's in their place."""
        return run.model_copy(update=self.model_dump(exclude_none=True))
