"""Decides whether a run goes on from a checkpoint, as the run that it is or as one whose curriculum is longer now."""

from pathlib import Path

from hyena_dist.config.file import load_config
from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import CurriculumStage, TrainConfig
from hyena_dist.errors import UserError
from hyena_dist.train.checkpoint.format import check_compatible
from hyena_dist.train.lr import learning_rate
from hyena_dist.train.state import read_state


def check_continues(checkpoint: Path, config: RunConfig) -> str | None:
    """Refuse to continue a run that would not be the same run; a longer last stage, and stages after it, may come.

    The cosine of the learning rate is over all tokens: from the checkpoint on, it follows the longer curriculum.

    Returns:
        A sentence that says what a curriculum that has become longer does to the learning rate; None if it has not.

    Raises:
        UserError: another architecture, schedule, global batch, precision or seed.
    """
    try:
        saved = load_config(checkpoint / "run.yaml").train
    except UserError:  # of a version that knew other settings
        saved = config.train
    shortened = _shortened(config.train, saved)
    longer = shortened is not None and shortened != config.train
    check_compatible(checkpoint, config.model_copy(update={"train": shortened}) if longer else config)
    if not longer:
        return None
    tokens = read_state(checkpoint).tokens
    was, follows, ends = (
        learning_rate(config.optimizer, at, total)
        for at, total in (
            (tokens, saved.total_tokens),
            (tokens, config.train.total_tokens),
            (config.train.total_tokens, config.train.total_tokens),
        )
    )
    return (
        f"the curriculum is longer than it was at {checkpoint}: the learning rate follows its longer cosine from here, "
        f"from {follows:.3g} in place of {was:.3g} to {ends:.3g} at the end"
    )


def _shortened(now: TrainConfig, saved: TrainConfig) -> TrainConfig | None:
    """Return the settings with the curriculum as long as it was; None if they are not an extension of what was."""
    *before, last = saved.curriculum
    if len(now.curriculum) < len(saved.curriculum):
        return None
    mine = now.curriculum[len(before)]
    if mine.seq_length != last.seq_length or now.steps_of(mine) < saved.steps_of(last):
        return None
    budget = {"tokens": last.tokens, "train_iters": last.train_iters}
    cut: CurriculumStage = mine.model_copy(update=budget)
    return now.model_copy(update={"curriculum": (*now.curriculum[: len(before)], cut)})
