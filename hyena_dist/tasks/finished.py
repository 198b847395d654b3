"""The end of a fine-tuning run: it leaves summary.json, and the report of the task beside its predictions."""

import json
from pathlib import Path
from typing import Any

from hyena_dist.config.task import TaskConfig
from hyena_dist.system.files import write_atomically
from hyena_dist.tasks.best import Best, Goal
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.leaks import Leaks
from hyena_dist.tasks.predictions import Predictions
from hyena_dist.tracking import read_metrics
from hyena_dist.train.checkpoint.keep import find_step
from hyena_dist.train.objective import RunRecord


def predictions_file(run_dir: Path, split: str) -> Path:
    """Return where a run leaves its predictions of a split."""
    return run_dir / f"predictions-{split}.parquet"


def write_finished(run: RunRecord, task: TaskConfig, data: LabelledData, leaks: Leaks, goal: Goal) -> dict[str, Any]:
    """Write summary.json and, unless the task wants none, the report of a run, and tell people the result.

    Returns:
        The content of summary.json: metric (by which weights were chosen), best_step, steps, metrics of valid and test
        of the best weights, checkpoint, predictions by split, mlflow.
    """
    record = dict(run.state.evaluation or {})
    best = Best(**record.pop("best"))
    assert best.step is not None
    checkpoint = find_step(run.folder / "checkpoints", best.step)
    predictions = {split: predictions_file(run.folder, split) for split in record}
    summary = {
        "name": run.config.name,
        "metric": goal.metric,
        "best_step": best.step,
        "steps": run.state.step,
        **record,
        "checkpoint": str(checkpoint),
        "predictions": {split: str(path) for split, path in predictions.items()},
        "mlflow": run.ui_command,
    }
    write_atomically(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    for path in (run.folder / "summary.json", *predictions.values()):
        run.trackers.log_artifact(path)
    for split, metrics in record.items():
        run.note(f"{split}: {goal.metric} {metrics[goal.metric]:.4f}, loss {metrics['loss']:.4f}")
    run.note(f"best weights: {checkpoint}")
    if task.report:
        _write_report(run, task, data, leaks, {split: Predictions.load(path) for split, path in predictions.items()})
    return summary


def _write_report(
    run: RunRecord, task: TaskConfig, data: LabelledData, leaks: Leaks, predictions: dict[str, Predictions]
) -> None:
    """Write the report, beside simple methods on the same data, and tell people its verdict."""
    from hyena_dist.tasks.floors.run import run_floors  # scikit-learn and matplotlib, which no step needs
    from hyena_dist.tasks.report.write import Published, write_task_report

    figure = task.published
    found = write_task_report(
        run.folder,
        run.config.name,
        data,
        predictions,
        run_floors(data, task.floors, run.config.output_dir / "floors", say=run.note),
        leaks,
        read_metrics(run.folder / "metrics.jsonl"),
        None if figure is None else Published(figure.metric, figure.value, figure.source),
        [f"Model: {task.model}, {_way(task)}, seed {run.config.seed}."],
    )
    run.trackers.log_metrics(found["metrics"], run.state.step)
    plots = sorted((run.folder / "plots").iterdir())
    for path in (run.folder / "report.html", run.folder / "report.md", run.folder / "task.json", *plots):
        run.trackers.log_artifact(path, "plots" if path in plots else "")
    for sentence in found["verdict"]:
        run.note(sentence)
    run.note(f"report: {run.folder / 'report.html'}")


def _way(task: TaskConfig) -> str:
    """Return what of the model is tuned, and how it answers."""
    settings = task.in_context
    if settings is None:
        return f"tune {task.tune}, pooling {task.pooling}"
    return f"{settings.method} with {settings.soft_tokens} soft tokens and {settings.shots} demonstrations"
