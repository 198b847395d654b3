"""The run as an MLflow run: by default in a SQLite file, otherwise on any tracking server."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hyena_dist.errors import UserError
from hyena_dist.tracking import mlflow_store
from hyena_dist.tracking.base import Status
from hyena_dist.tracking.jsonl import rows_after
from hyena_dist.tracking.mlflow_link import Link, read_link, write_link
from hyena_dist.tracking.mlflow_params import clean, log_params
from hyena_dist.tracking.retry import Retry

METRICS = "metrics.jsonl"
"""Name of the file in a run's folder that metrics are sent from."""
_METRICS_PER_CALL = 1000
_CATCH_UP_S = 5.0
"""How long a step of training may wait for metrics of an outage to be sent; the next step sends more."""


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class MlflowTracker:
    """Writes to one MLflow run, whose id stays in the run's folder.

    Metrics are sent from metrics.jsonl in that folder, which another tracker writes first. What the store has already
    is not sent again, neither after an outage nor by a run that repeats steps after its last checkpoint. A store that
    fails while training, or when a run is resumed, costs one warning: training goes on, and later calls try again at a
    lower rate; artifacts wait too.

    Args:
        uri: Tracking URI. None takes ``MLFLOW_TRACKING_URI`` where that is set, otherwise the SQLite file
            ``artifact_root/mlflow.db`` with the artifacts in ``artifact_root/mlartifacts``.
        experiment: Name of the experiment, created if there is none.
        run_name: Name of the run, if a new one is started.
        run_dir: Folder of metrics.jsonl, and of mlflow.json, which says which MLflow run is continued.
        artifact_root: Folder of the default store; needed only for that.
        system_metrics: Sample CPU, memory, disk, network and GPU every 10 seconds (or
            ``MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL``) in a thread.
        run_id: The run to continue where mlflow.json names none. One that the store does not know is replaced by a new
            run, with a notice.
        settings: A hash of the settings, for the next processes.
        anew: Whether training begins at its first step. It then continues the MLflow run of processes that were killed
            before their first checkpoint, but for one of other settings, which is ended.
        say: Takes the notices and warnings, one line each; standard error by default.

    Attributes:
        run_id: The run that is written to; None as long as there is none.
        ui_command: The command or address that shows the run.
        complete: Whether, once finished, the store has all of the run.

    Raises:
        UserError: There is no run to continue, and the store cannot be opened or the server does not answer.
    """

    def __init__(
        self,
        uri: str | None,
        experiment: str,
        run_name: str,
        run_dir: Path,
        artifact_root: Path | None,
        system_metrics: bool,
        *,
        run_id: str | None = None,
        settings: str | None = None,
        anew: bool = False,
        say: Callable[[str], None] = _warn,
    ) -> None:
        self._say = say
        self._experiment = experiment
        self._run_name = run_name
        self._run_dir = run_dir
        self._system_metrics = system_metrics
        self._monitor: Any = None
        self._client: Any = None
        self._connected = False
        self._latest: dict[str, int] = {}  # of each metric, the last step that the store has
        self._offset = 0  # how far metrics.jsonl is sent, in bytes
        self._owed: list[Callable[[], object]] = []  # artifacts and settings that wait
        self._sending, self._paying = Retry(), Retry()
        self._finished = False
        self.complete = False
        link = read_link(run_dir) or (Link(run_id, settings) if run_id else None)
        self._replaced: str | None = None
        if link and anew and link.settings != settings:
            self._replaced, link = link.run_id, None
        self.run_id = link.run_id if link else None
        self._settings = settings or (link.settings if link else None)
        try:
            self._uri, self._artifacts = mlflow_store.resolve(uri, artifact_root)
        except OSError as error:
            raise UserError(mlflow_store.cannot_open(str(artifact_root), error)) from error
        self._shown_uri = mlflow_store.without_password(self._uri)
        self.ui_command = mlflow_store.ui_command(self._uri)
        mlflow_store.prepare_process()
        try:
            self._connect()
        except Exception as error:
            if self.run_id is None:
                raise UserError(mlflow_store.cannot_open(self._uri, error)) from error
            self._warn_of(error, self._sending)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record settings, which later processes of the run may have changed; see `mlflow_params`."""
        self._owe(lambda: log_params(self._client, self._run(), params))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Send what metrics.jsonl has and the store has not, these metrics among it, in one round trip."""
        self._attempt(self._sending, self._send_rows, time.monotonic() + _CATCH_UP_S)
        self._pay()

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Record a copy of a file."""
        self._owe(lambda: self._client.log_artifact(self._run(), str(path), folder or None))

    def log_text(self, text: str, name: str) -> None:
        """Record a text as a file."""
        self._owe(lambda: self._client.log_text(self._run(), text, name))

    def finish(self, status: Status) -> None:
        """Send what waits, stop the system metrics and end the run, or say what the store lacks of it."""
        if self._finished:
            return
        if self._monitor is not None:
            self._monitor.finish()
            self._system_metrics = False
        # The last chance: try even if a pause has not passed.
        self._sending.hurry()
        self._paying.hurry()
        sent = self._attempt(self._sending, self._send_rows, None)
        if sent:
            self._pay()
            sent = self._attempt(self._sending, self._end, status)
        self._finished = True
        self.complete = sent and not self._owed
        if self.complete:
            return
        lacks = f"its settings and artifacts ({len(self._owed)})" if sent else "its last metrics"
        self._say(
            f"MLflow at {self._shown_uri} lacks {lacks}, which metrics.jsonl and plots have; "
            f"`hyena-dist track sync {self._run_dir}` sends them"
        )

    def _run(self) -> str:
        assert self.run_id is not None
        return self.run_id

    def _end(self, status: Status) -> None:
        self._client.set_terminated(self._run(), status)

    def _owe(self, call: Callable[[], object]) -> None:
        self._owed.append(call)
        self._pay()

    def _pay(self) -> None:
        """Log the artifacts and settings that wait, oldest first."""
        while self._owed and self._attempt(self._paying, self._owed[0]):
            self._owed.pop(0)

    def _attempt(self, retry: Retry, call: Callable[..., object], *arguments: object) -> bool:
        """Make a call whose failure must not end training, unless a pause after a failure is not over."""
        if self._finished or not retry.due():
            return False
        try:
            self._connect()
            call(*arguments)
        except Exception as error:
            self._warn_of(error, retry)
            return False
        retry.worked()
        return True

    def _warn_of(self, error: Exception, retry: Retry) -> None:
        if not self._sending.failing and not self._paying.failing:
            self._say(
                f"warning: MLflow at {self._shown_uri} failed ({mlflow_store.reason(error)}): "
                "training goes on, metrics.jsonl has everything, and MLflow is tried again later"
            )
        retry.failed()
        self._connected = False

    def _connect(self) -> None:
        """Open the store and the run, again after a failure, and ask what the run has."""
        if self._connected:
            return
        if self._client is None:
            from mlflow.tracking import MlflowClient

            with mlflow_store.creating(self._uri):
                self._client = MlflowClient(self._uri)
        run = self._continue()
        if run is None:
            run = self._start()
            self.run_id = run.info.run_id
            self._offset = 0
        write_link(self._run_dir, Link(self._run(), self._settings))
        self._latest = {metric.key: metric.step for metric in run.data._metric_objs}
        if self._replaced:
            self._client.set_terminated(self._replaced, "KILLED")
            self._replaced = None
        if self._system_metrics:
            self._watch_system()
        self._connected = True

    def _send_rows(self, deadline: float | None) -> None:
        """Send the rest of metrics.jsonl, or as much as the deadline allows."""
        from mlflow.entities import Metric

        path = self._run_dir / METRICS
        if not path.exists():
            return
        batch: list[Any] = []
        end = self._offset
        for row, end in rows_after(path, self._offset):
            step = int(row["step"])
            at = int(1000 * row["time"])
            for name, value in row.items():
                key = clean(name)
                if name not in ("step", "time") and step > self._latest.get(key, -1):
                    batch.append(Metric(key, value, at, step))
            if len(batch) >= _METRICS_PER_CALL:
                self._send(batch, end)
                batch = []
                if deadline is not None and time.monotonic() > deadline:
                    return
        self._send(batch, end)

    def _send(self, batch: list[Any], end: int) -> None:
        for start in range(0, len(batch), _METRICS_PER_CALL):
            self._client.log_batch(self._run(), metrics=batch[start : start + _METRICS_PER_CALL])
        self._latest |= {metric.key: metric.step for metric in batch}
        self._offset = end

    def _continue(self) -> Any:
        """Reopen the run; return None if there is none to reopen."""
        from mlflow.exceptions import MlflowException

        if self.run_id is None:
            return None
        try:
            run = self._client.get_run(self.run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            self._say(f"MLflow at {self._shown_uri} has no run {self.run_id}: starting a new run")
            return None
        if run.info.lifecycle_stage == "deleted":
            self._say(f"the MLflow run {self.run_id} at {self._shown_uri} was deleted: starting a new run")
            return None
        self._client.update_run(self.run_id, status="RUNNING")
        return run

    def _start(self) -> Any:
        from mlflow.exceptions import MlflowException

        experiment = self._experiment
        found = self._client.get_experiment_by_name(experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            raise ValueError(f"its experiment {experiment!r} was deleted, so restore it or name another")
        if found is None:
            try:
                experiment_id = self._client.create_experiment(experiment, artifact_location=self._artifacts)
            except MlflowException as error:
                # Another run of a sweep may have created it since we looked.
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment_id = self._client.get_experiment_by_name(experiment).experiment_id
        else:
            experiment_id = found.experiment_id
        return self._client.create_run(experiment_id, run_name=self._run_name)

    def _watch_system(self) -> None:
        """Start the thread that samples the system, again if it has ended, as it does when the store fails."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        thread = self._monitor and self._monitor._process
        if thread is None or not thread.is_alive():
            self._monitor = SystemMetricsMonitor(self.run_id, resume_logging=True, tracking_uri=self._uri)
            self._monitor.start()
