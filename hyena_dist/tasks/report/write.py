"""write_task_report, which leaves a folder that tells all of a task: HTML, Markdown, JSON, pictures and their CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.leaks import Leaks
from hyena_dist.tasks.predictions import Predictions


@dataclass(frozen=True)
class Published:
    """A figure that a paper gives for the task."""

    metric: str
    """The metric's name in `metrics`, such as accuracy."""
    value: float
    source: str


def write_task_report(
    folder: Path,
    name: str,
    data: LabelledData,
    predictions: Mapping[str, Predictions],
    floors: Mapping[str, Predictions],
    leaks: Leaks,
    history: Sequence[Mapping[str, float]] = (),
    published: Published | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Write report.html, report.md, task.json and plots/ (PNG with CSV) into `folder`.

    Args:
        folder: the run's folder, or any other that exists.
        name: the task's name.
        data: what the model was trained on.
        predictions: of the model, by split: test, and valid where there is one.
        floors: predictions of simple methods for test, by name, of `run_floors`.
        leaks: of `find_leaks`; the metric is given with and without the examples that leak.
        history: rows of metrics.jsonl: train/loss and valid/METRIC by step.
        published: the paper's figure.
        notes: sentences that explain what was done, such as the model's file.

    Returns:
        The content of task.json; its `metrics` hold task/NAME/METRIC, as MLflow takes them.
    """
    raise NotImplementedError
