"""Fills in what a run leaves `auto`: for each stage the cheapest layout that fits, and the largest micro batch in it.

Cheapest first: whole sequences and whole layers on every rank; then activations made again in backward; then sequences
cut over 2, 4, ... context ranks; then channels cut over tensor ranks. More ranks than sequences in a batch are used by
cutting sequences too: what does not divide is passed over.
"""

from collections.abc import Iterator

from hyena_dist.config.parallel import ParallelConfig, StageParallel
from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import CurriculumStage
from hyena_dist.errors import UserError
from hyena_dist.plan.memory import GIB, step_memory

_USABLE = 0.9
"""The share of a device's memory that a step may take: the driver, libraries and gaps between tensors have the rest."""

_MOST_TENSOR_RANKS = 8


def fit(config: RunConfig, world_size: int) -> RunConfig:
    """Return the run with every `auto` filled in for a number of ranks; unchanged if it has none.

    What a stage or the run sets stays. The result is a function of the run and the number of ranks alone.

    Raises:
        UserError: nothing works, with the reason for the stage that it fails for.
    """
    if not config.auto:
        return config
    stages = tuple(_fit_stage(config, index, world_size) for index in range(len(config.train.curriculum)))
    train = config.train.model_copy(update={"curriculum": stages})
    return config.model_copy(update={"train": train, "auto": ()})


def _fit_stage(config: RunConfig, index: int, world_size: int) -> CurriculumStage:
    """Return the first candidate that works, with everything in it said by the stage itself."""
    stage = config.train.curriculum[index]
    device_memory_gib = config.parallel_of(stage).device_memory_gib
    budget = _USABLE * device_memory_gib * GIB
    least = float("inf")
    reasons: list[str] = []
    for parallel in _layouts(config, stage, world_size):
        for micro in _micro_batches(config, stage, parallel, world_size):
            candidate = stage.model_copy(update={"parallel": _explicit_fields(parallel), "micro_batch_size": micro})
            try:
                (plan,) = _alone(config, candidate).stages(world_size)
            except UserError as error:
                reasons.append(str(error))
                break
            needed = step_memory(config, plan._replace(number=index)).total
            if needed <= budget:
                return candidate
            least = min(least, needed)
    where = f"stage {index + 1} (seq_length {stage.seq_length}) on {world_size} ranks"
    if least < float("inf"):
        raise UserError(
            f"{where} needs {least / GIB:.1f} GiB a rank at the least, and {_USABLE:.0%} of parallel.device_memory_gib "
            f"{device_memory_gib:g} is {budget / GIB:.1f}; use more ranks, or a smaller model or length"
        )
    raise UserError(f"no layout works for {where}: {reasons[0] if reasons else 'lengths and sizes do not divide'}")


def _alone(config: RunConfig, stage: CurriculumStage) -> RunConfig:
    """Return the run with one stage only."""
    return config.model_copy(update={"train": config.train.model_copy(update={"curriculum": (stage,)})})


def _layouts(config: RunConfig, stage: CurriculumStage, world_size: int) -> Iterator[ParallelConfig]:
    """Yield the layouts that the model, the length and the ranks allow, the cheapest first."""
    given = config.parallel_of(stage)

    def choices(field: str, values: list[int]) -> list[int]:
        free = f"parallel.{field}" in config.auto and getattr(stage.parallel, field) is None
        return values if free else [getattr(given, field)]

    free = "parallel.activation_checkpointing" in config.auto and stage.parallel.activation_checkpointing is None
    checkpointing = [False, True] if free else [given.activation_checkpointing]
    tensor_sizes = choices("tensor_model_parallel_size", _powers_of_two(_MOST_TENSOR_RANKS))
    context_sizes = choices("context_parallel_size", _powers_of_two(world_size))
    for t, p in sorted(((t, p) for t in tensor_sizes for p in context_sizes), key=lambda sizes: (sizes[0], sizes[1])):
        for again in checkpointing:
            parallel = given.model_copy(
                update={
                    "tensor_model_parallel_size": t,
                    "context_parallel_size": p,
                    "activation_checkpointing": again,
                }
            )
            layout = config.layout_with(parallel, [(0, stage.seq_length)])
            if world_size % (t * p) == 0 and layout.problem() is None:
                yield parallel


def _micro_batches(
    config: RunConfig, stage: CurriculumStage, parallel: ParallelConfig, world_size: int
) -> Iterator[int | None]:
    """Yield the sizes that divide a rank's share of the global batch, the largest first; None leaves it to the run."""
    fixed = stage.micro_batch_size or config.train.micro_batch_size
    if "train.micro_batch_size" not in config.auto or stage.micro_batch_size:
        yield fixed
        return
    total = config.train.batch_of(stage)
    share = total // (world_size // (parallel.tensor_model_parallel_size * parallel.context_parallel_size))
    yield from (size for size in range(share, 0, -1) if share % size == 0)
    if share == 0:
        yield 1  # for the sentence that says what does not divide


def _explicit_fields(parallel: ParallelConfig) -> StageParallel:
    return StageParallel(**{name: getattr(parallel, name) for name in StageParallel.model_fields})


def _powers_of_two(most: int) -> list[int]:
    return [2**n for n in range(most.bit_length()) if 2**n <= most]
