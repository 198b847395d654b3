"""The labelled data of a run: read once, its sequences as long as the task lets them be."""

import sys
from dataclasses import replace
from functools import lru_cache

from hyena_dist.config.task import TaskConfig
from hyena_dist.config.task_data import TaskData
from hyena_dist.system.launch import launch_environment
from hyena_dist.tasks.balance import describe_balance
from hyena_dist.tasks.checks import check_lengths
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.labelled_batches import cropped
from hyena_dist.tasks.readers import read_labelled

_WIDEST = 300
"""Letters of a line about a split."""


def labelled_data(task: TaskConfig, most: int | None = None) -> LabelledData:
    """Return the data of a task, its longer sequences cut to `task.max_length`.

    Args:
        task: names the data.
        most: the positions that the model has; not looked at if not given.

    Raises:
        UserError: What `read_labelled` refuses, or a sequence that is longer than the model's positions.
    """
    data = _read(task.data)
    if task.max_length is not None:
        cut = {name: cropped(examples, data.kind, task.max_length) for name, examples in data.splits.items()}
        data = replace(data, splits=cut)
    if most is not None:
        check_lengths(data, most)
    return data


@lru_cache(maxsize=1)
def _read(settings: TaskData) -> LabelledData:
    """Read the data; kept, because both the verb and the objective need it."""
    return read_labelled(settings, _say)


def _say(line: str) -> None:
    """Tell people, once and not where --dry-run writes YAML."""
    if launch_environment().rank == 0:
        print(line, file=sys.stderr, flush=True)


def describe_data(data: LabelledData) -> list[str]:
    """Return a line for each split: its size and the share of each class, cut where the classes are many."""
    return [line if len(line) <= _WIDEST else f"{line[:_WIDEST]} ..." for line in describe_balance(data)]
