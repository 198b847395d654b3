"""The run as an MLflow run: by default in a SQLite file, otherwise on any tracking server."""

import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from hyena_dist.errors import UserError
from hyena_dist.tracking import mlflow_store
from hyena_dist.tracking.base import Status

# Limits of MLflow's REST API. It takes 6,000 characters of a parameter, older servers 500; the whole configuration is
# an artifact, so nothing is lost by keeping to 500.
_PARAM_LENGTH = 500
_KEY_LENGTH = 250
_PARAMS_PER_CALL = 100
_METRICS_PER_CALL = 1000
# Metrics that wait for a server that does not answer; the oldest give way, and metrics.jsonl has them all.
_PENDING = 50_000
_FIRST_PAUSE_S = 30.0
_LONGEST_PAUSE_S = 600.0


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class MlflowTracker:
    """Writes to one MLflow run.

    A store that fails while training costs one warning: training goes on, metrics wait in memory, and later calls try
    again at a lower rate.

    Args:
        uri: Tracking URI. None takes ``MLFLOW_TRACKING_URI`` where that is set, otherwise the SQLite file
            ``artifact_root/mlflow.db`` with the artifacts in ``artifact_root/mlartifacts``.
        experiment: Name of the experiment, created if there is none.
        run_name: Name of the run, if a new one is started.
        run_id: The run to continue; one that the store does not know is replaced by a new run, with a notice.
        artifact_root: Folder of the default store; needed only for that.
        system_metrics: Sample CPU, memory, disk, network and GPU every 10 seconds (or
            ``MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL``) in a thread.
        say: Takes the notices and warnings, one line each; standard error by default.

    Attributes:
        run_id: The run that is written to.
        ui_command: The command or address that shows the run.

    Raises:
        UserError: The store cannot be opened or the server does not answer.
    """

    def __init__(
        self,
        uri: str | None,
        experiment: str,
        run_name: str,
        run_id: str | None,
        artifact_root: Path | None,
        system_metrics: bool,
        say: Callable[[str], None] = _warn,
    ) -> None:
        self._say = say
        self._pending: deque[Any] = deque(maxlen=_PENDING)
        self._failing = False
        self._retry_at = 0.0
        self._pause = _FIRST_PAUSE_S
        self._finished = False
        self._monitor: Any = None
        try:
            uri, artifacts = mlflow_store.resolve(uri, artifact_root)
        except OSError as error:
            raise UserError(mlflow_store.cannot_open(str(artifact_root), error)) from error
        self._shown_uri = mlflow_store.without_password(uri)
        self.ui_command = mlflow_store.ui_command(uri)
        mlflow_store.prepare_process()
        from mlflow.tracking import MlflowClient

        try:
            self._client = MlflowClient(uri)
            self.run_id = self._continue(run_id) or self._start(experiment, run_name, artifacts)
            if system_metrics:
                self._monitor = self._watch_system(uri)
        except Exception as error:
            raise UserError(mlflow_store.cannot_open(uri, error)) from error

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record settings under dotted names where they are nested, and cut where they are long.

        MLflow never changes a parameter, so one that a resumed run has changed is recorded as the tag
        ``changed.<name>``.
        """
        self._try(self._log_params, params)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers of one step in one round trip."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        self._pending.extend(Metric(_clean(name), float(value), now, step) for name, value in metrics.items())
        self._try(self._send_pending)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Record a copy of a file."""
        self._try(self._client.log_artifact, self.run_id, str(path), folder or None)

    def log_text(self, text: str, name: str) -> None:
        """Record a text as a file."""
        self._try(self._client.log_text, self.run_id, text, name)

    def finish(self, status: Status) -> None:
        """Send what waits, stop the system metrics and end the run."""
        if self._finished:
            return
        if self._monitor is not None:
            self._monitor.finish()
        self._retry_at = 0.0  # The last chance: try even if a pause has not passed.
        self._try(self._send_pending)
        self._try(self._client.set_terminated, self.run_id, status)
        if self._pending:
            self._say(f"MLflow at {self._shown_uri} lacks {len(self._pending)} metrics; metrics.jsonl has them")
        self._finished = True

    def _try(self, call: Callable[..., object], *arguments: object) -> None:
        """Make a call whose failure must not end training."""
        if self._finished or time.monotonic() < self._retry_at:
            return
        try:
            call(*arguments)
        except Exception as error:
            if not self._failing:
                self._say(
                    f"warning: MLflow at {self._shown_uri} failed ({mlflow_store.reason(error)}): "
                    "training goes on, metrics.jsonl has everything, and MLflow is tried again later"
                )
            self._failing = True
            self._retry_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)
        else:
            self._failing = False
            self._retry_at = 0.0
            self._pause = _FIRST_PAUSE_S

    def _send_pending(self) -> None:
        while batch := list(islice(self._pending, _METRICS_PER_CALL)):
            self._client.log_batch(self.run_id, metrics=batch)
            for _ in batch:
                self._pending.popleft()

    def _log_params(self, params: Mapping[str, object]) -> None:
        from mlflow.entities import Param, RunTag

        known = self._client.get_run(self.run_id).data.params
        flat = {_clean(name): str(value)[:_PARAM_LENGTH] for name, value in _flatten(params)}
        new = [Param(name, value) for name, value in flat.items() if name not in known]
        changed = [
            RunTag(_clean(f"changed.{name}"), value) for name, value in flat.items() if known.get(name, value) != value
        ]
        for start in range(0, len(new), _PARAMS_PER_CALL):
            self._client.log_batch(self.run_id, params=new[start : start + _PARAMS_PER_CALL])
        for start in range(0, len(changed), _PARAMS_PER_CALL):
            self._client.log_batch(self.run_id, tags=changed[start : start + _PARAMS_PER_CALL])

    def _continue(self, run_id: str | None) -> str | None:
        """Reopen a run; return None if there is none to reopen."""
        from mlflow.exceptions import MlflowException

        if run_id is None:
            return None
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            self._say(f"MLflow at {self._shown_uri} has no run {run_id}: starting a new run")
            return None
        if run.info.lifecycle_stage == "deleted":
            self._say(f"the MLflow run {run_id} at {self._shown_uri} was deleted: starting a new run")
            return None
        self._client.update_run(run_id, status="RUNNING")
        return run_id

    def _start(self, experiment: str, run_name: str, artifacts: str | None) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            raise ValueError(f"its experiment {experiment!r} was deleted, so restore it or name another")
        if found is None:
            try:
                experiment_id = self._client.create_experiment(experiment, artifact_location=artifacts)
            except MlflowException as error:
                # Another run of a sweep may have created it since we looked.
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment_id = self._client.get_experiment_by_name(experiment).experiment_id
        else:
            experiment_id = found.experiment_id
        return self._client.create_run(experiment_id, run_name=run_name).info.run_id

    def _watch_system(self, uri: str) -> Any:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(self.run_id, resume_logging=True, tracking_uri=uri)
        monitor.start()
        return monitor


def _flatten(params: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _clean(name: str) -> str:
    """Return a name that every MLflow store takes: letters, digits and ``_ - . /`` or a blank."""
    return re.sub(r"[^\w/. -]", "_", name, flags=re.ASCII)[:_KEY_LENGTH]
