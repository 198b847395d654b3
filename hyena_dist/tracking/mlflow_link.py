"""The MLflow run that belongs to a run's folder, by mlflow.json in it: known before the first checkpoint."""

import contextlib
import json
from pathlib import Path
from typing import NamedTuple

from hyena_dist.system.files import write_atomically

NAME = "mlflow.json"
"""Name of the file."""


class Link(NamedTuple):
    """The MLflow run that the next processes continue."""

    run_id: str
    """The id that the store gave the run."""
    settings: str | None = None
    """A hash of the settings with which it was started; None where that was never noted."""


def read_link(run_dir: Path) -> Link | None:
    """Return the link of a run's folder; None if it has none that can be read."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Link(**json.loads((run_dir / NAME).read_text()))
    return None


def write_link(run_dir: Path, link: Link) -> None:
    """Keep the link; a full disk is passed over, for other files of the run say so."""
    with contextlib.suppress(OSError):
        run_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(run_dir / NAME, json.dumps(link._asdict()) + "\n")
