"""A run is sent to MLflow after it has ended: what a server that was away lacks, or all of a run without MLflow."""

import sys
from pathlib import Path

from hyena_dist.config.file import dump_config, load_config
from hyena_dist.errors import UserError
from hyena_dist.system.locks import is_locked
from hyena_dist.tracking import MlflowTracker, Status
from hyena_dist.train import outcome
from hyena_dist.train.checkpoint.format import latest


def sync(run_dir: Path, uri: str | None = None) -> MlflowTracker:
    """Send what the MLflow run of a run's folder lacks: settings, metrics, plots, and how it ended.

    Args:
        run_dir: the run's folder.
        uri: the store; that of run.yaml if not given.

    Raises:
        UserError: no such run, one that is being trained, or a store that cannot be opened or fails.
    """
    if not (run_dir / "run.yaml").is_file():
        raise UserError(f"{run_dir} is no run's folder, since it has no run.yaml; try runs/NAME")
    if is_locked(run_dir / "lock"):
        raise UserError(f"{run_dir} is being trained and sends by itself what MLflow lacks; wait until it has ended")
    # A checkpoint has the run as it was planned; what its user wrote may say `auto`.
    planned = latest(run_dir / "checkpoints")
    config = load_config((planned or run_dir) / "run.yaml", [])
    ended = outcome.read(run_dir)
    status: Status = "KILLED"
    if ended and ended.outcome in ("finished", "failed", "fault"):
        status = "FINISHED" if ended.outcome == "finished" else "FAILED"
    tracker = MlflowTracker(
        uri or config.tracking.uri,
        config.tracking.experiment,
        config.name,
        run_dir,
        run_dir.parent,
        False,
        say=lambda text: print(text, file=sys.stderr),
    )
    tracker.log_params(config.model_dump(mode="json"))
    tracker.log_text(dump_config(config), "run.yaml")
    for path in (run_dir / "summary.json", *sorted((run_dir / "plots").glob("*"))):
        if path.is_file():
            tracker.log_artifact(path, "plots" if path.parent.name == "plots" else "")
    tracker.finish(status)
    if not tracker.complete:
        raise UserError(f"not all of {run_dir} could be sent; the same command continues")
    return tracker
