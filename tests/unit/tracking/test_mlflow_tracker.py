"""The MLflow tracker against a real SQLite store, a server that is not there and one that goes away."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.errors import UserError
from hyena_dist.system.programs import program
from hyena_dist.tracking import MlflowTracker
from hyena_dist.tracking import mlflow_store as store


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose SQLite store is created once: that takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield tmp_path_factory.mktemp("mlflow")


def start(root: Path, said: list[str], **keywords: Any) -> MlflowTracker:
    settings: dict[str, Any] = {"run_id": None, "system_metrics": False} | keywords
    return MlflowTracker(None, "hyena", "a run", artifact_root=root, say=said.append, **settings)


def read(tracker: MlflowTracker) -> Any:
    return tracker._client.get_run(tracker.run_id)


def test_a_run_holds_what_was_logged(root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    tracker = start(root, said)
    tracker.log_params({"model": {"d_model": 128, "name (odd) %": "x"}, "long": "y" * 10_000, "lengths": [256, 1024]})
    tracker.log_metrics({"train/loss": 1.25, "valid/test/loss": 2.5, "odd (name) %": 1}, step=7)
    tracker.log_metrics({"train/loss": float("nan")}, step=8)
    (tmp_path / "plot.csv").write_text("a,b\n")
    tracker.log_artifact(tmp_path / "plot.csv", "plots")
    tracker.log_artifact(tmp_path / "plot.csv")
    tracker.log_text("text", "config.yaml")
    tracker.finish("FINISHED")
    tracker.finish("FAILED")

    run = read(tracker)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "a run"
    assert run.data.params["model.d_model"] == "128"
    assert run.data.params["model.name _odd_ _"] == "x"
    assert run.data.params["lengths"] == "[256, 1024]"
    assert len(run.data.params["long"]) == 500
    assert run.data.metrics["odd _name_ _"] == 1
    history = tracker._client.get_metric_history(tracker.run_id, "train/loss")
    assert [(point.step, str(point.value)) for point in history] == [(7, "1.25"), (8, "nan")]
    artifacts = root / "mlartifacts" / tracker.run_id / "artifacts"
    assert {str(path.relative_to(artifacts)) for path in artifacts.rglob("*") if path.is_file()} == {
        "plots/plot.csv",
        "plot.csv",
        "config.yaml",
    }
    assert tracker.ui_command == f"{program('mlflow')} ui --backend-store-uri sqlite:///{root / 'mlflow.db'}"
    assert said == []
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_resumed_run_continues_its_run(root: Path) -> None:
    said: list[str] = []
    first = start(root, said)
    first.log_params({"train_iters": 10, "seed": 1})
    first.log_metrics({"train/loss": 1.0}, 1)
    first.finish("KILLED")
    second = start(root, said, run_id=first.run_id)
    assert second.run_id == first.run_id
    assert read(second).info.status == "RUNNING"
    second.log_params({"train_iters": 20, "seed": 1, "new": True})
    second.log_metrics({"train/loss": 0.5}, 2)
    second.finish("FINISHED")
    run = read(second)
    assert run.data.params == {"train_iters": "10", "seed": "1", "new": "True"}
    assert run.data.tags["changed.train_iters"] == "20"
    assert "changed.seed" not in run.data.tags
    assert [point.step for point in second._client.get_metric_history(second.run_id, "train/loss")] == [1, 2]
    assert said == []


@pytest.mark.parametrize("unknown", ["0" * 32, "no such run!", "deleted"])
def test_an_unknown_run_is_replaced_by_a_new_one_with_a_notice(root: Path, unknown: str) -> None:
    said: list[str] = []
    if unknown == "deleted":
        gone = start(root, said)
        gone._client.delete_run(gone.run_id)
        unknown = gone.run_id
    tracker = start(root, said, run_id=unknown)
    assert tracker.run_id != unknown
    assert len(said) == 1
    assert "starting a new run" in said[0]
    tracker.finish("FINISHED")


def test_system_metrics_are_sampled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    tracker = start(root, [], system_metrics=True)
    deadline = time.monotonic() + 20
    while not any(name.startswith("system/cpu") for name in read(tracker).data.metrics):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    tracker.finish("FINISHED")


def test_a_store_that_fails_in_the_middle_warns_once_and_loses_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    tracker = start(root, said)
    calls = []
    send = tracker._client.log_batch

    def fail(*arguments: object, **keywords: object) -> None:
        calls.append(arguments)
        raise ConnectionError("Connection refused")

    monkeypatch.setattr(tracker._client, "log_batch", fail)
    for step in range(1, 50):
        tracker.log_metrics({"train/loss": 1 / step}, step)
    assert len(calls) == 1, "a pause follows a failure"
    tracker._retry_at = time.monotonic() - 1
    tracker.log_metrics({"train/loss": 1 / 50}, 50)
    assert len(calls) == 2
    assert len(said) == 1
    assert "training goes on" in said[0]

    monkeypatch.setattr(tracker._client, "log_batch", send)
    tracker.finish("FINISHED")
    assert len(tracker._client.get_metric_history(tracker.run_id, "train/loss")) == 50
    assert read(tracker).info.status == "FINISHED"
    assert len(said) == 1


def test_a_store_that_stays_away_is_mentioned_at_the_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    tracker = start(root, said)

    def fail(*arguments: object, **keywords: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(tracker._client, "log_batch", fail)
    tracker.log_metrics({"train/loss": 1.0}, 1)
    tracker.finish("FINISHED")
    assert len(said) == 2
    assert "lacks 1 metrics" in said[1]


def test_a_server_that_is_not_there_is_one_sentence_within_seconds() -> None:
    with socket.socket() as closed:  # Bound but not listening: connections are refused, and nobody else takes it.
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(UserError) as raised:
            MlflowTracker(f"http://me:secret@127.0.0.1:{port}", "hyena", "a run", None, None, False)
    assert time.monotonic() - began < 10
    message = str(raised.value)
    assert message == (
        f"the MLflow store http://***@127.0.0.1:{port} cannot be opened (connection refused): start it with "
        f"`mlflow server --host 127.0.0.1 --port {port}`, or train without MLflow with tracking.mlflow=false"
    )


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be opened .*tracking\.mlflow=false"):
        start(tmp_path / "file" / "store", [])


def test_a_file_that_is_no_database_is_one_sentence_and_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("these are my notes" * 100)
    with pytest.raises(UserError, match="file is not a database"):
        MlflowTracker(f"sqlite:///{tmp_path / 'notes.db'}", "hyena", "a run", None, None, False)
    assert (tmp_path / "notes.db").read_text() == "these are my notes" * 100


def test_the_environment_names_the_store_unless_the_configuration_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert store.resolve(None, tmp_path) == ("http://tracking:5000", None)
    assert store.resolve("http://other", tmp_path) == ("http://other", None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert store.resolve(None, tmp_path) == (f"sqlite:///{tmp_path}/mlflow.db", f"file://{tmp_path}/mlartifacts")
