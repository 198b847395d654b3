"""The end of a run's processes, told by outcome.json in the run's folder to whoever starts the next ones."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from hyena_dist.errors import TemporaryError, UserError
from hyena_dist.system.files import write_atomically
from hyena_dist.system.launch import RUN_VARIABLE

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


@contextlib.contextmanager
def told_to_supervisor() -> Iterator[None]:
    """Within the block, an error before or beside training is told to the supervisor that started this process, if any.

    Without a word it would take the end for a crash, and start again what cannot work.
    """
    try:
        yield
    except (UserError, TemporaryError) as error:
        run_dir = Path(os.environ.get(RUN_VARIABLE, ""))
        if RUN_VARIABLE in os.environ and read(run_dir) is None:
            write(run_dir, Outcome("failed" if isinstance(error, UserError) else "fault", 0, 0, 0, str(error)))
        raise
