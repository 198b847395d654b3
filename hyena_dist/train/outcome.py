"""How a run's processes ended: outcome.json in the run's folder, for whoever starts the next ones."""

import contextlib
import json
from pathlib import Path
from typing import Literal, NamedTuple

from hyena_dist.system.files import write_atomically

Ending = Literal["finished", "stage", "stopped", "failed", "fault"]


class Outcome(NamedTuple):
    """Where a run's processes left it."""

    outcome: Ending
    """finished: the curriculum is done; stage: what comes next needs other processes; stopped: by a signal; failed: a
    mistake of the user; fault: something that another attempt may overcome."""
    step: int
    """Optimizer steps done and saved; of an error, when it happened."""
    stage: int
    """Stages done."""
    stages: int
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
    """How the last processes ended; None if they were killed, still run or never ran."""
    try:
        return Outcome(**json.loads((run_dir / "outcome.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
