"""The MLflow tracker against a real SQLite store, a server that is not there and one that goes away."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.errors import UserError
from hyena_dist.system.programs import program
from hyena_dist.tracking import JsonlTracker, MlflowTracker, Trackers
from hyena_dist.tracking import mlflow_store as store


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose SQLite store is created once: that takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield tmp_path_factory.mktemp("mlflow")


class Run:
    """A run's folder with both trackers, as training has them."""

    def __init__(self, root: Path, folder: Path, resume_step: int | None = None, **keywords: Any) -> None:
        self.said: list[str] = []
        self.folder = folder
        settings: dict[str, Any] = {"uri": None, "system_metrics": False} | keywords
        rows = JsonlTracker(folder / "metrics.jsonl", resume_step)
        self.mlflow = MlflowTracker(
            experiment="hyena", run_name="a run", run_dir=folder, artifact_root=root, say=self.said.append, **settings
        )
        self.all = Trackers([rows, self.mlflow])

    def log(self, *steps: int) -> None:
        for step in steps:
            self.all.log_metrics({"train/loss": 1 / step}, step)

    def read(self) -> Any:
        return self.mlflow._client.get_run(self.mlflow.run_id)

    def logged(self) -> list[tuple[int, float]]:
        history = self.mlflow._client.get_metric_history(self.mlflow.run_id, "train/loss")
        return [(point.step, point.value) for point in history]


def test_a_run_holds_what_was_logged(root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = Run(root, tmp_path / "run")
    tracker = run.mlflow
    tracker.log_params({"model": {"d_model": 128, "name (odd) %": "x"}, "long": "y" * 10_000, "lengths": [256, 1024]})
    run.all.log_metrics({"train/loss": 1.25, "valid/test/loss": 2.5, "odd (name) %": 1}, step=7)
    run.all.log_metrics({"train/loss": float("nan")}, step=8)
    (tmp_path / "plot.csv").write_text("a,b\n")
    tracker.log_artifact(tmp_path / "plot.csv", "plots")
    tracker.log_artifact(tmp_path / "plot.csv")
    tracker.log_text("text", "config.yaml")
    tracker.finish("FINISHED")
    tracker.finish("FAILED")

    found = run.read()
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "a run"
    assert found.data.params["model.d_model"] == "128"
    assert found.data.params["model.name _odd_ _"] == "x"
    assert found.data.params["lengths"] == "[256, 1024]"
    assert len(found.data.params["long"]) == 500
    assert found.data.metrics["odd _name_ _"] == 1
    assert [(step, str(value)) for step, value in run.logged()] == [(7, "1.25"), (8, "nan")]
    artifacts = root / "mlartifacts" / tracker.run_id / "artifacts"
    assert {str(path.relative_to(artifacts)) for path in artifacts.rglob("*") if path.is_file()} == {
        "plots/plot.csv",
        "plot.csv",
        "config.yaml",
    }
    assert tracker.ui_command == f"{program('mlflow')} ui --backend-store-uri sqlite:///{root / 'mlflow.db'}"
    assert tracker.complete
    assert run.said == []
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_resumed_run_continues_its_run_and_logs_no_step_twice(root: Path, tmp_path: Path) -> None:
    first = Run(root, tmp_path)
    first.mlflow.log_params({"train_iters": 10, "seed": 1})
    first.log(1, 2, 3, 4)
    first.mlflow.finish("KILLED")
    second = Run(root, tmp_path, resume_step=2)
    assert second.mlflow.run_id == first.mlflow.run_id
    assert second.read().info.status == "RUNNING"
    second.mlflow.log_params({"train_iters": 20, "seed": 1, "new": True})
    second.log(3, 4, 5)
    second.mlflow.finish("FINISHED")
    found = second.read()
    assert found.data.params == {"train_iters": "10", "seed": "1", "new": "True"}
    assert found.data.tags["changed.train_iters"] == "20"
    assert "changed.seed" not in found.data.tags
    assert second.logged() == [(step, 1 / step) for step in range(1, 6)]
    third = Run(root, tmp_path, resume_step=5)
    third.mlflow.log_params({"train_iters": 10})
    third.mlflow.finish("FINISHED")
    assert third.read().data.tags["changed.train_iters"] == "10", "what holds at last"
    assert first.said == second.said == third.said == []


def test_a_run_that_was_killed_before_its_first_checkpoint_is_the_same_run(root: Path, tmp_path: Path) -> None:
    first = Run(root, tmp_path, settings="a", anew=True)
    first.log(1, 2)  # killed: nothing ends it
    second = Run(root, tmp_path, settings="a", anew=True)
    second.log(1, 2, 3)
    assert second.mlflow.run_id == first.mlflow.run_id
    assert second.logged() == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]
    other = Run(root, tmp_path, settings="b", anew=True)
    other.log(1)
    assert other.mlflow.run_id != first.mlflow.run_id, "of other settings, it is another run"
    assert second.read().info.status == "KILLED"
    assert other.logged() == [(1, 1.0)]
    for run in (first, other):
        run.mlflow.finish("FINISHED")


def test_a_checkpoint_from_before_the_link_was_kept_names_its_run(root: Path, tmp_path: Path) -> None:
    first = Run(root, tmp_path)
    (tmp_path / "mlflow.json").unlink()
    second = Run(root, tmp_path, resume_step=1, run_id=first.mlflow.run_id)
    assert second.mlflow.run_id == first.mlflow.run_id
    second.mlflow.finish("FINISHED")


@pytest.mark.parametrize("unknown", ["0" * 32, "no such run!", "deleted"])
def test_an_unknown_run_is_replaced_by_a_new_one_that_gets_everything(root: Path, tmp_path: Path, unknown: str) -> None:
    gone = Run(root, tmp_path)
    gone.log(1, 2)
    if unknown == "deleted":
        gone.mlflow._client.delete_run(gone.mlflow.run_id)
    else:
        (tmp_path / "mlflow.json").write_text(json.dumps({"run_id": unknown}))
    run = Run(root, tmp_path, resume_step=2)
    run.log(3)
    assert run.mlflow.run_id not in (unknown, gone.mlflow.run_id)
    assert len(run.said) == 1
    assert "starting a new run" in run.said[0]
    assert [step for step, _ in run.logged()] == [1, 2, 3]
    run.mlflow.finish("FINISHED")


def test_system_metrics_are_sampled(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    run = Run(root, tmp_path, system_metrics=True)
    deadline = time.monotonic() + 20
    while not any(name.startswith("system/cpu") for name in run.read().data.metrics):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    run.mlflow.finish("FINISHED")
    assert run.mlflow._monitor._process is None


def test_a_store_that_fails_in_the_middle_warns_once_and_loses_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(root, tmp_path)
    tracker = run.mlflow
    calls = []
    send = tracker._client.log_batch

    def fail(*arguments: object, **keywords: object) -> None:
        calls.append(arguments)
        raise ConnectionError("Connection refused")

    monkeypatch.setattr(tracker._client, "log_batch", fail)
    run.log(*range(1, 50))
    assert len(calls) == 1, "a pause follows a failure"
    tracker._sending.hurry()
    run.log(50)
    assert len(calls) == 2
    assert len(run.said) == 1
    assert "training goes on" in run.said[0]

    monkeypatch.setattr(tracker._client, "log_batch", send)
    tracker.finish("FINISHED")
    assert [step for step, _ in run.logged()] == list(range(1, 51))
    assert run.read().info.status == "FINISHED"
    assert len(run.said) == 1


def test_what_a_server_took_without_an_answer_is_not_sent_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(root, tmp_path)
    send = run.mlflow._client.log_batch

    def take_and_fail(*arguments: object, **keywords: object) -> None:
        send(*arguments, **keywords)
        raise ConnectionError("timed out")

    monkeypatch.setattr(run.mlflow._client, "log_batch", take_and_fail)
    run.log(1, 2)
    monkeypatch.setattr(run.mlflow._client, "log_batch", send)
    run.mlflow.finish("FINISHED")
    assert run.logged() == [(1, 1.0), (2, 0.5)]


def test_a_long_outage_is_made_up_for_in_small_pieces(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(root, tmp_path)
    run.mlflow._sending.failed()
    run.log(*range(1, 30))
    monkeypatch.setattr("hyena_dist.tracking.mlflow._METRICS_PER_CALL", 10)
    monkeypatch.setattr("hyena_dist.tracking.mlflow._CATCH_UP_S", -1.0)
    run.mlflow._sending.hurry()
    run.log(30)
    assert [step for step, _ in run.logged()] == list(range(1, 11)), "training does not wait for all of it"
    run.log(31)
    assert len(run.logged()) == 20
    run.mlflow.finish("FINISHED")
    assert [step for step, _ in run.logged()] == list(range(1, 32))


def test_artifacts_wait_for_their_store_and_metrics_do_not_wait_for_them(root: Path, tmp_path: Path) -> None:
    run = Run(root, tmp_path)
    late = tmp_path / "plot.csv"
    run.mlflow.log_artifact(late)
    run.mlflow.log_text("later", "x.txt")
    run.log(1)
    assert run.logged() == [(1, 1.0)]
    assert len(run.said) == 1
    run.mlflow.finish("FINISHED")
    assert not run.mlflow.complete
    assert "lacks its settings and artifacts (2), which metrics.jsonl and plots have" in run.said[1]
    assert run.read().info.status == "FINISHED"

    again = Run(root, tmp_path, resume_step=1)
    again.mlflow.log_artifact(late)
    again.mlflow.log_text("later", "x.txt")
    late.write_text("a,b\n")
    again.mlflow.finish("FINISHED")
    assert again.mlflow.complete
    assert {found.path for found in again.mlflow._client.list_artifacts(again.mlflow.run_id)} == {"plot.csv", "x.txt"}


def test_a_store_that_stays_away_is_mentioned_at_the_end(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(root, tmp_path)

    def fail(*arguments: object, **keywords: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(run.mlflow._client, "log_batch", fail)
    run.log(1)
    run.mlflow.finish("FINISHED")
    assert len(run.said) == 2
    assert "lacks its last metrics" in run.said[1]
    assert f"`hyena-dist track sync {tmp_path}` sends them" in run.said[1]
    assert run.read().info.status == "RUNNING", "FINISHED would say that all is there"


def test_a_store_that_is_away_at_a_resume_is_a_warning(root: Path, tmp_path: Path) -> None:
    first = Run(root, tmp_path)
    first.log(1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        run = Run(root, tmp_path, resume_step=1, uri=f"http://127.0.0.1:{closed.getsockname()[1]}")
        run.log(2)
        assert run.mlflow.run_id == first.mlflow.run_id
        run.mlflow.finish("FINISHED")
    assert len(run.said) == 2
    assert "training goes on" in run.said[0]
    assert "track sync" in run.said[1]
    again = Run(root, tmp_path, resume_step=2)
    again.mlflow.finish("FINISHED")
    assert again.logged() == [(1, 1.0), (2, 0.5)]


def test_a_server_that_is_not_there_is_one_sentence_within_seconds(tmp_path: Path) -> None:
    with socket.socket() as closed:  # Bound but not listening: connections are refused, and nobody else takes it.
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(UserError) as raised:
            MlflowTracker(f"http://me:secret@127.0.0.1:{port}", "hyena", "a run", tmp_path, None, False)
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
        Run(tmp_path / "file" / "store", tmp_path / "run")


def test_a_file_that_is_no_database_is_one_sentence_and_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("these are my notes" * 100)
    with pytest.raises(UserError, match="file is not a database"):
        MlflowTracker(f"sqlite:///{tmp_path / 'notes.db'}", "hyena", "a run", tmp_path, None, False)
    assert (tmp_path / "notes.db").read_text() == "these are my notes" * 100


def test_the_environment_names_the_store_unless_the_configuration_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert store.resolve(None, tmp_path) == ("http://tracking:5000", None)
    assert store.resolve("http://other", tmp_path) == ("http://other", None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert store.resolve(None, tmp_path) == (f"sqlite:///{tmp_path}/mlflow.db", f"file://{tmp_path}/mlartifacts")
