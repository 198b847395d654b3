"""The labelled data of a run: read once, its sequences as long as the task lets them be."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from hyena_dist.config.task import TaskConfig
from hyena_dist.config.task_data import TaskData
from hyena_dist.system.launch import launch_environment
from hyena_dist.tasks.checks import check_lengths
from hyena_dist.tasks.labelled import Examples, LabelledData
from hyena_dist.tasks.labelled_batches import cropped
from hyena_dist.tasks.readers import read_labelled


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
    """Return lines that tell people the sizes of the splits and how often each class is in train."""
    sizes = ", ".join(f"{len(examples):,} {name}" for name, examples in data.splits.items())
    lengths = np.concatenate([examples.lengths for examples in data.splits.values()])
    bases = f"{lengths.min():,} to {lengths.max():,}" if lengths.min() < lengths.max() else f"{lengths.max():,}"
    return [f"{data.kind}: {sizes}; sequences of {bases} bases", f"train: {_balance(data, data.splits['train'])}"]


def _balance(data: LabelledData, train: Examples) -> str:
    if data.kind == "regression":
        means, deviations = np.nanmean(train.labels, 0), np.nanstd(train.labels, 0)
        found = [f"{name} {m:.3g} ± {d:.3g}" for name, m, d in zip(data.classes, means, deviations, strict=True)]
    elif data.kind == "multi_label":
        found = _percents(data.classes, np.nanmean(train.labels, 0))
    else:
        labels = np.concatenate(train.labels) if data.kind == "per_base" else train.labels
        counts = np.bincount(labels[labels >= 0], minlength=len(data.classes))
        found = _percents(data.classes, counts / counts.sum())
    return ", ".join(found[:20]) + (f", and {len(found) - 20} more" if len(found) > 20 else "")


def _percents(names: Sequence[str], shares: Sequence[float]) -> list[str]:
    return [f"{name} {100 * share:.1f} %" for name, share in zip(names, shares, strict=True)]
