"""What a finished fine-tuning run leaves: summary.json, and the report of the task beside its predictions."""

import json
from pathlib import Path
from typing import Any

from hyena_dist.system.files import write_atomically
from hyena_dist.tasks.best import Best, Goal
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.train.checkpoint.keep import find_step
from hyena_dist.train.objective import RunRecord


def predictions_file(run_dir: Path, split: str) -> Path:
    """Return where a run leaves its predictions of a split."""
    return run_dir / f"predictions-{split}.parquet"


def write_finished(run: RunRecord, data: LabelledData, goal: Goal) -> dict[str, Any]:
    """Write summary.json and the task's report into a run's folder, and tell people the result.

    Returns:
        The content of summary.json: metric (by which weights were chosen), best_step, steps, metrics of valid and test
        of the best weights, checkpoint, predictions by split, mlflow.
    """
    record = dict(run.state.evaluation or {})
    best = Best(**record.pop("best", {}))
    checkpoint = find_step(run.folder / "checkpoints", best.step or run.state.step)
    summary = {
        "metric": goal.metric,
        "best_step": best.step,
        "steps": run.state.step,
        **record,
        "checkpoint": str(checkpoint),
        "predictions": {split: str(predictions_file(run.folder, split)) for split in record},
        "mlflow": run.ui_command,
    }
    write_atomically(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    run.trackers.log_artifact(run.folder / "summary.json")
    for split, metrics in record.items():
        run.note(f"{split}: {goal.metric} {metrics[goal.metric]:.4f}, loss {metrics['loss']:.4f}")
    run.note(f"best weights: {checkpoint}")
    return summary
