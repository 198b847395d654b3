"""The point at which these processes take a run up, and how far they bring it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hyena_dist.config.file import dump_record
from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan
from hyena_dist.errors import UserError
from hyena_dist.parallel.world import World
from hyena_dist.train.checkpoint.format import checkpoint_folders, newest_intact
from hyena_dist.train.checkpoint.keep import intact_of_step, set_aside_newer
from hyena_dist.train.continuation import check_continues
from hyena_dist.train.init import first_state
from hyena_dist.train.state import TrainState, read_state

Resume = Literal["auto", "never"] | int
"""The checkpoint to continue: the newest intact one, none at all, or that of a step."""


@dataclass(frozen=True)
class ResumePoint:
    """The curriculum, the part of it that the layout of these processes suits, and the checkpoint that they continue.

    It is settled before the first step and does not change: what does is the loop's TrainState.
    """

    stages: tuple[StagePlan, ...]
    """The whole curriculum, for this number of ranks."""
    segment: tuple[StagePlan, ...]
    """The stages of the curriculum that these processes are made for."""
    end_step: int
    """The step at which these processes end: with the run, the segment, or the last stage that was asked for."""
    checkpoint: Path | None
    """The checkpoint that these processes continue; None at the start of a run."""
    state: TrainState
    """The progress of the run that the checkpoint records."""

    @property
    def parallel(self) -> ParallelConfig:
        """The layout of these processes."""
        return self.segment[0].parallel

    @property
    def last_step(self) -> int:
        """The step that ends the whole run."""
        return self.stages[-1].end_step

    @property
    def finished(self) -> bool:
        """Whether the whole curriculum is done already, or the objective has ended the run."""
        return self.state.ended or self.state.step >= self.last_step

    @property
    def in_last_segment(self) -> bool:
        """Whether these processes are those that the run ends with."""
        return self.segment[-1] is self.stages[-1]

    def stages_done(self, step: int) -> int:
        """Count the stages that end at or before a step."""
        return sum(stage.end_step <= step for stage in self.stages)

    def stage_after(self, step: int) -> StagePlan:
        """Return the stage that the step after `step` belongs to; the last one at the end."""
        return next((stage for stage in self.stages if step < stage.end_step), self.stages[-1])

    def tokens_at(self, step: int) -> int:
        """Count the tokens seen after `step` optimizer steps of the run."""
        return self.stage_after(step).tokens_at(step)


def find_resume_point(
    config: RunConfig, asked: RunConfig, data: Any, world: World, resume: Resume, last_stage: int | None = None
) -> ResumePoint:
    """Find out where to continue; every rank calls this.

    Args:
        config: the run as planned for these ranks.
        asked: the run as its user wrote it, which run.yaml keeps.
        data: the fingerprint of the data at hand, which must be the checkpoint's.
        world: all ranks.
        resume: "auto" continues the newest intact checkpoint, "never" refuses a folder that has one, a number continues
            the checkpoint of that step.
        last_stage: the stage, counted from 1, after which these processes end; the last if not given.

    Raises:
        UserError: a checkpoint that cannot be continued, as in `find_checkpoint`, or batches and layouts that these
            ranks cannot have.
    """
    segments = config.segments(world.size)
    stages = tuple(stage for segment in segments for stage in segment)
    checkpoint = world.on_main(lambda: find_checkpoint(config, asked, data, resume))
    state = read_state(checkpoint) if checkpoint else first_state(config)
    segment = next((segment for segment in segments if state.step < segment[-1].end_step), segments[-1])
    end_step = min(segment[-1].end_step, stages[(last_stage or len(stages)) - 1].end_step)
    return ResumePoint(stages, segment, end_step, checkpoint, state)


def find_checkpoint(config: RunConfig, asked: RunConfig, data: Any, resume: Resume) -> Path | None:
    """Return the checkpoint that the run continues, if there is one, and write run.yaml; on the main process.

    Newer ones, which are damaged or were left by going back, are set aside: the next attempt must not take them up.

    Raises:
        UserError: a checkpoint of another run or other data, one at all with resume "never", none of the step that was
            asked for, some of which none is intact, or no right to write.
    """
    checkpoints = config.run_dir / "checkpoints"
    if resume == "never" and checkpoint_folders(checkpoints):
        raise UserError(f"{config.run_dir} has checkpoints; pass --resume auto to continue or choose another name=...")
    if isinstance(resume, int):
        found: Path | None = intact_of_step(checkpoints, resume)
    else:
        found = newest_intact(checkpoints, _say)
    if found:
        if longer := check_continues(found, config):
            _say(longer)
        if read_state(found).data != data:
            raise UserError(
                f"{found} was trained on other data than {config.data.path}, or samples windows of its intervals as an "
                f"older version did; set data.path back, or finish the run with that version"
            )
    try:
        (config.run_dir / "run.yaml").write_text(dump_record(asked))
    except OSError as error:
        raise UserError(f"cannot write to {config.run_dir}: {error.strerror}; choose another output_dir") from error
    if found:
        set_aside_newer(found, _say)
    return found


def _say(text: str) -> None:
    print(text, flush=True)
