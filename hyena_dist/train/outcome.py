"""The end of a run's processes, told by outcome.json in the run's folder to whoever starts the next ones."""

import contextlib
import json
from pathlib import Path
from typing import Literal, NamedTuple

from hyena_dist.system.files import write_atomically

Ending = Literal["finished", "stage", "stopped", "failed", "fault"]


class Outcome(NamedTuple):
    """The state in which a run's processes left it."""

    outcome: Ending
    """One of finished (the curriculum is done), stage (what comes next needs other processes), stopped (by a signal),
    failed (by a mistake of the user) and fault (something that another attempt may overcome)."""
    step: int
    """The number of optimizer steps done and saved; after an error, the step at which it happened."""
    stage: int
    """The number of stages that are done."""
    stages: int
    """The number of stages of the whole curriculum."""
    message: str
    """One sentence for people."""


def clear(run_dir: Path) -> None:
    """Forget how the last processes ended; without the file, later ones were killed."""
    with contextlib.suppress(FileNotFoundError):
        (run_dir / "outcome.json").unlink()


def write(run_dir: Path, outcome: Outcome) -> None:
    """Say how the processes ended, in one atomic step; a full disk is passed over, for the exit code says it too."""
    with contextlib.suppress(OSError):
        write_atomically(run_dir / "outcome.json", json.dumps(outcome._asdict(), indent=2) + "\n")


def read(run_dir: Path) -> Outcome | None:
    """Read how the last processes ended; None if they were killed, still run or never ran."""
    try:
        return Outcome(**json.loads((run_dir / "outcome.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
