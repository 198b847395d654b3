"""How a job is started: a module each, with `render` and `submit`."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from jobs.job import Job

LAUNCHERS = ("local", "deepspeed", "torchrun", "slurm")


class Launcher(Protocol):
    """What a module of this package offers."""

    def render(self, job: "Job", templates: Path | None) -> dict[str, str]:
        """The files that go to the run's folder job/, by name.

        Raises:
            UserError: the job cannot be started so, or a template is wrong.
        """

    def commands(self, job: "Job") -> list[str]:
        """What `submit` does, as lines of shell; what is done already is left out."""

    def submit(self, job: "Job", background: bool, record: "Record") -> int:
        """Start what was rendered, and wait for its end if it runs here in the foreground; returns the exit code.

        Raises:
            UserError: it cannot be started; nothing is left running.
            TemporaryError: SLURM does not answer.
        """


class Record(Protocol):
    """Adds facts to submission.json."""

    def __call__(self, **facts: object) -> None:
        """Each by its name."""


def launcher(name: str) -> Launcher:
    """The module of one of LAUNCHERS."""
    return cast(Launcher, importlib.import_module(f"jobs.launchers.{name}"))


__all__ = ["LAUNCHERS", "Launcher", "Record", "launcher"]
