"""The default store lies beside the runs, whatever characters the name of their folder has."""

import shlex
from pathlib import Path

from sqlalchemy.engine import make_url

from hyena_dist.tracking.mlflow import MlflowTracker


def test_names_of_folders(tmp_path: Path) -> None:
    root = tmp_path / "it's #1, 100%20 %j?"
    tracker = MlflowTracker(None, "experiment", "run", None, root, system_metrics=False)
    tracker.log_metrics({"loss": 1.5}, 3)
    tracker.log_text("hello", "word.txt")
    tracker.finish("FINISHED")
    assert (root / "mlflow.db").stat().st_size > 0
    [word] = root.rglob("word.txt")
    assert root / "mlartifacts" in word.parents
    assert tracker.ui_command is not None
    *_, uri = shlex.split(tracker.ui_command)
    assert make_url(uri).database == str(root / "mlflow.db")
    again = MlflowTracker(None, "experiment", "run", tracker.run_id, root, system_metrics=False)
    assert again.run_id == tracker.run_id
    again.finish("FINISHED")
