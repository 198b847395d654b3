"""The interface that the training loop writes to, and its fan-out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(Protocol):
    """A place that records a run. Rank 0 alone holds one."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record settings, which may be nested and do not change during a run."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers of one optimizer step; names may hold letters, digits and ``/ _ - .`` only."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Record a copy of a file, in a folder of the run's artifacts."""

    def log_text(self, text: str, name: str) -> None:
        """Record a text as an artifact file called ``name``."""

    def finish(self, status: Status) -> None:
        """Record how the run ended and let go of every resource; later calls do nothing."""


class Trackers(list[Tracker]):
    """Several trackers that are used as one; an empty list records nothing."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record settings with every tracker; see `Tracker.log_params`."""
        for tracker in self:
            tracker.log_params(params)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers of one step with every tracker; see `Tracker.log_metrics`."""
        for tracker in self:
            tracker.log_metrics(metrics, step)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Record a copy of a file with every tracker; see `Tracker.log_artifact`."""
        for tracker in self:
            tracker.log_artifact(path, folder)

    def log_text(self, text: str, name: str) -> None:
        """Record a text with every tracker; see `Tracker.log_text`."""
        for tracker in self:
            tracker.log_text(text, name)

    def finish(self, status: Status) -> None:
        """Let every tracker record how the run ended; see `Tracker.finish`."""
        for tracker in self:
            tracker.finish(status)
