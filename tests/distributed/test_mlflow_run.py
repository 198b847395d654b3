"""A killed and resumed run is one MLflow run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hyena_dist.config.run import RunConfig
from tests.distributed.test_stop_and_go import kill_at
from tests.distributed.training import curve, train_here
from tests.processes import Ranks, run_ranks


def test_one_run(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    config = make_config(tracking={"mlflow": True, "experiment": "kill", "system_metrics": False})
    kill_at(Ranks(2, train_here, config), config.run_dir / "metrics.jsonl", 5)
    run_ranks(2, train_here, config, True)

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    [experiment] = [e for e in client.search_experiments() if e.name == "kill"]
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params["model.d_model"] == "16"
    assert run.data.params["world_size"] == "2"
    assert {a.path for a in client.list_artifacts(run.info.run_id)} >= {
        "run.yaml",
        "deepspeed.json",
        "environment.json",
        "summary.json",
        "plots",
    }
    logged = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "train/loss")}
    assert logged == {row["step"]: row["train/loss"] for row in curve(config.run_dir) if "train/loss" in row}
    assert sorted(logged) == list(range(1, 13))
