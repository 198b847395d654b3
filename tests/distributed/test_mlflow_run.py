"""A killed and resumed run is one MLflow run, which has everything even if its server was away."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.system.locks import lock
from tests.distributed.mlflow_server import Server
from tests.distributed.test_stop_and_go import kill_at
from tests.distributed.training import curve, train_here
from tests.processes import Ranks, run_cli, run_ranks


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
    check_losses(client, run.info.run_id, config)


def check_losses(client: Any, run_id: str, config: RunConfig) -> None:
    """Check that every step has been logged once, with its loss."""
    logged = [(m.step, m.value) for m in client.get_metric_history(run_id, "train/loss")]
    assert sorted(logged) == [(row["step"], row["train/loss"]) for row in curve(config.run_dir) if "train/loss" in row]
    assert sorted(step for step, _ in logged) == list(range(1, 13))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    server.start()
    yield server
    server.stop()


def test_a_server_that_goes_and_comes(make_config: Callable[..., RunConfig], server: Server) -> None:
    mlflow = pytest.importorskip("mlflow")
    settings = {"mlflow": True, "uri": server.uri, "experiment": "outage", "system_metrics": False}
    config = make_config(tracking=settings)
    kill_at(Ranks(1, train_here, config), config.run_dir / "metrics.jsonl", 1)  # before its first checkpoint
    kill_at(Ranks(1, train_here, config), config.run_dir / "metrics.jsonl", 5)
    server.stop()
    run_ranks(1, train_here, config)  # a resume without it goes on, to the end
    early = run_cli("track", "sync", str(config.run_dir))
    assert early.returncode == 2
    assert "lacks its last metrics" in early.stderr
    assert early.stderr.splitlines()[-1].startswith("error: not all of ")

    server.start()
    sent = run_cli("track", "sync", str(config.run_dir))
    assert sent.returncode == 0, sent.stderr
    client = mlflow.MlflowClient(server.uri)
    [experiment] = [e for e in client.search_experiments() if e.name == "outage"]
    [run] = client.search_runs([experiment.experiment_id])
    assert sent.stdout == f"sent as MLflow run {run.info.run_id}: {server.uri}\n"
    assert run.info.status == "FINISHED"
    check_losses(client, run.info.run_id, config)
    assert run.data.params["train.micro_batch_size"] == "2"
    assert not any(name.startswith("changed.") for name in run.data.tags)
    assert {a.path for a in client.list_artifacts(run.info.run_id)} >= {"run.yaml", "summary.json", "plots"}
    assert run_cli("track", "sync", str(config.run_dir)).returncode == 0
    check_losses(client, run.info.run_id, config)


def test_what_cannot_be_sent(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    done = run_cli("track", "sync", str(tmp_path / "none"))
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path}/none is no run's folder, since it has no run.yaml; try runs/NAME\n"
    config = make_config()
    config.run_dir.mkdir()
    (config.run_dir / "run.yaml").write_text(dump_config(config))
    with lock(config.run_dir / "lock"):
        done = run_cli("track", "sync", str(config.run_dir))
    assert done.returncode == 2
    assert "is being trained and sends by itself what MLflow lacks; wait until it has ended" in done.stderr
