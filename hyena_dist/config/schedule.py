"""The length warm-up: stages as they are asked for, and with every size worked out."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from hyena_dist.config.parallel import ParallelConfig, StageParallel
from hyena_dist.config.section import Section
from hyena_dist.errors import UserError


class CurriculumStage(Section):
    """One stage of the length warm-up; its budget is given in tokens or in train_iters."""

    seq_length: int = Field(gt=0)
    tokens: int | None = Field(None, gt=0)
    train_iters: int | None = Field(None, gt=0)
    micro_batch_size: int | None = Field(None, gt=0)
    parallel: StageParallel = Field(StageParallel(), description="what is otherwise than in the run's `parallel`")

    @model_validator(mode="after")
    def _one_budget(self) -> "CurriculumStage":
        if (self.tokens is None) == (self.train_iters is None):
            raise ValueError(f"the stage of seq_length {self.seq_length} needs either tokens or train_iters, not both")
        return self


class StagePlan(NamedTuple):
    """A curriculum stage with every size worked out for a number of ranks."""

    number: int
    seq_length: int
    global_batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    data_parallel_size: int
    first_step: int
    """Number of optimizer steps taken before this stage."""
    end_step: int
    first_token: int
    """Number of tokens (targets, padding included) seen before this stage."""
    parallel: ParallelConfig

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step over all ranks."""
        return self.global_batch_size * self.seq_length

    def describe(self) -> str:
        """Return a line that tells people the sizes of the stage."""
        return (
            f"stage {self.number + 1}: length {self.seq_length:,}, steps {self.first_step:,} to {self.end_step:,}, "
            f"batch {self.global_batch_size} = {self.micro_batch_size} x {self.gradient_accumulation_steps} "
            f"accumulated x {self.data_parallel_size} data-parallel, "
            f"{self.tokens_at(self.end_step) - self.first_token:,} tokens"
        )

    def tokens_at(self, step: int) -> int:
        """Return the tokens seen after `step` optimizer steps of the run, for a step within this stage."""
        return self.first_token + (step - self.first_step) * self.tokens_per_step


class TrainConfig(Section):
    """Batches, the curriculum and how often things happen (intervals in optimizer steps)."""

    curriculum: tuple[CurriculumStage, ...] = Field(min_length=1)
    global_batch_size: int | None = Field(None, gt=0, description="sequences per step, the same in every stage")
    global_batch_tokens: int | None = Field(None, gt=0, description="or tokens per step, the same in every stage")
    micro_batch_size: int | None = Field(None, gt=0, description="sequences per rank and pass; derived if not given")
    micro_batch_tokens: int = Field(131_072, gt=0, description="bound for a derived micro_batch_size")
    log_interval: int = Field(10, gt=0, description="steps in a row of metrics, whose loss is the mean over them")
    eval_interval: int = Field(0, ge=0, description="0: only at the end")
    save_interval: int = Field(500, ge=0, description="0: only at the end")
    save_retain_interval: int = Field(
        0, ge=0, description="checkpoints of every so many steps stay for good, a multiple of save_interval; 0: none do"
    )
    keep_last: int = Field(2, gt=0, description="newest checkpoints to keep, beside those that stay and pinned ones")
    async_save: bool = Field(True, description="write checkpoints while training goes on")
    on_nan: Literal["stop", "skip", "rollback"] = Field(
        "stop",
        description="what follows a loss or gradient that is not finite, or spikes: stop; skip: the step updates "
        "nothing; rollback: start again from the checkpoint before, without the samples that led there",
    )
    spike_sigma: float | None = Field(
        None, gt=0, description="a spike: so many standard deviations above the mean of the last 128 steps; off if none"
    )
    timeout_s: float = Field(1800.0, gt=0, description="a step that takes longer ends the run, naming the stuck rank")

    @model_validator(mode="after")
    def _one_batch(self) -> "TrainConfig":
        if (self.global_batch_size is None) == (self.global_batch_tokens is None):
            raise ValueError("train needs either global_batch_size or global_batch_tokens, not both")
        return self

    @model_validator(mode="after")
    def _retained_are_saved(self) -> "TrainConfig":
        retain, save = self.save_retain_interval, self.save_interval
        if retain and not save:
            raise ValueError(f"save_retain_interval {retain} keeps nothing while save_interval is 0; set both")
        if retain and retain % save:
            fits = -(-retain // save) * save
            raise ValueError(f"save_retain_interval {retain} is not a multiple of save_interval {save}; try {fits}")
        return self

    def stages(self, layouts: Sequence[tuple[ParallelConfig, int]]) -> tuple[StagePlan, ...]:
        """Work out the curriculum, of which each stage is spread as `layouts` says: (layout, data-parallel size).

        Raises:
            UserError: batch sizes that do not divide, with the arithmetic and the nearest size that does.
        """
        plans: list[StagePlan] = []
        units = [math.prod(self._factors(s, dp).values()) for s, (_, dp) in zip(self.curriculum, layouts, strict=True)]
        step = token = 0
        for index, (stage, (parallel, dp)) in enumerate(zip(self.curriculum, layouts, strict=True)):
            batch, micro = self._batches(stage, dp, math.lcm(*units))
            per_step = batch * stage.seq_length
            iters = self.steps_of(stage)
            accumulation = batch // (micro * dp)
            plan = StagePlan(
                index, stage.seq_length, batch, micro, accumulation, dp, step, step + iters, token, parallel
            )
            plans.append(plan)
            step += iters
            token += iters * per_step
        return tuple(plans)

    def batch_of(self, stage: CurriculumStage) -> int:
        """Return the sequences of one optimizer step in a stage, over all ranks, however many there are."""
        if self.global_batch_size is not None:
            return self.global_batch_size
        return (self.global_batch_tokens or 0) // stage.seq_length

    def steps_of(self, stage: CurriculumStage) -> int:
        """Return the optimizer steps of a stage, however many ranks there are."""
        if stage.train_iters is not None:
            return stage.train_iters
        per_step = max(1, self.batch_of(stage) * stage.seq_length)  # 0: such a run is refused before it starts
        return -(-(stage.tokens or 0) // per_step)

    @property
    def total_tokens(self) -> int:
        """The tokens of the whole curriculum, padding included, however many ranks there are."""
        return self.tokens_at(sum(self.steps_of(stage) for stage in self.curriculum))

    def tokens_at(self, step: int) -> int:
        """Return the tokens seen after `step` optimizer steps of the run, padding included."""
        tokens = 0
        for stage in self.curriculum:
            steps = min(step, self.steps_of(stage))
            tokens += steps * self.batch_of(stage) * stage.seq_length
            step -= steps
        return tokens

    def _batches(self, stage: CurriculumStage, dp: int, fits_all: int) -> tuple[int, int]:
        """Return the sequences per step, and per rank and pass; multiples of `fits_all` suit every stage."""
        factors = self._factors(stage, dp)
        in_tokens = self.global_batch_size is None
        name = "global_batch_tokens" if in_tokens else "global_batch_size"
        total = (self.global_batch_tokens if in_tokens else self.global_batch_size) or 0
        unit = math.prod(factors.values())
        if total % unit:
            product = " x ".join(f"{what} {size}" for what, size in factors.items())
            product += f" = {unit}" if len(factors) > 1 else ""
            raise UserError(f"{name} {total} is not a multiple of {product}; try {-(-total // fits_all) * fits_all}")
        batch = self.batch_of(stage)
        if "micro_batch_size" in factors:
            return batch, factors["micro_batch_size"]
        fits = max(1, self.micro_batch_tokens // stage.seq_length)
        return batch, max(m for m in range(1, batch // dp + 1) if (batch // dp) % m == 0 and m <= fits)

    def _factors(self, stage: CurriculumStage, dp: int) -> dict[str, int]:
        """Return the numbers, by name, whose product the global batch must be a multiple of."""
        micro = stage.micro_batch_size or self.micro_batch_size
        factors = {"seq_length": stage.seq_length} if self.global_batch_size is None else {}
        factors |= {"micro_batch_size": micro} if micro else {}
        return factors | {"data_parallel_size": dp}
