"""From a task file to a run that is complete: the model's architecture, and the steps that its epochs come to."""

from collections.abc import Sequence
from pathlib import Path

from hyena_dist.config.run import RunConfig


def load_task(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a task file and complete it; a run.yaml that is complete already stays as it is.

    A task file is a run file with a section `task`, in which

    - `model` may be a path, or `scratch`: it goes to `task.model`, and the section `model` has that model's
      architecture;
    - `architecture` is that of a model from scratch, as fields or as the path of a model that has it, or fields that a
      trained model is to have otherwise, such as dropout;
    - `train.curriculum` may be left out: `task.epochs` of the longest sequence make it.

    Raises:
        UserError: What `load_config` refuses, a model or data that cannot be read, or sequences that are too long.
    """
