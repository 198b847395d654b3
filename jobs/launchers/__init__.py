"""Ways to start a job, a module each: see Launcher for what it offers."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from jobs.job import Job

LAUNCHERS = ("local", "deepspeed", "torchrun", "slurm")


class Launcher(Protocol):
    """The functions that each module of this package has."""

    def render(self, job: "Job", templates: Path | None) -> dict[str, str]:
        """Return the text of the files that go to the run's folder job/, by name.

        Raises:
            UserError: this launcher cannot start the job, or a template is wrong.
        """

    def commands(self, job: "Job") -> list[str]:
        """Return what `submit` does as lines of shell, without what is done already."""

    def submit(self, job: "Job", background: bool, record: "Record") -> int:
        """Start what was rendered, and wait for its end if it runs here in the foreground; returns the exit code.

        Raises:
            UserError: the job cannot be started, and nothing of it is left running.
            TemporaryError: SLURM does not answer.
        """


class Record(Protocol):
    """A function that adds facts to submission.json."""

    def __call__(self, **facts: object) -> None:
        """Add each fact under its name."""


def launcher(name: str) -> Launcher:
    """Return the module of one of LAUNCHERS."""
    return cast(Launcher, importlib.import_module(f"jobs.launchers.{name}"))


__all__ = ["LAUNCHERS", "Launcher", "Record", "launcher"]
