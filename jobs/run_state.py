"""The state of a run, as the files in its folder tell. Any of them may be missing."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hyena_dist.errors import UserError
from hyena_dist.system.locks import LockedError, is_locked, lock
from hyena_dist.system.process_tree import Identity
from hyena_dist.train import outcome
from hyena_dist.train.checkpoint.format import latest, step_of


class Standing(NamedTuple):
    """The point of a run at which its newest checkpoint was saved."""

    step: int
    stage: int
    """How many stages are done."""
    stages: int
    """How many there are in all."""
    time: float
    """When it was saved, in seconds since 1970; 0 without a checkpoint."""


def standing(run_dir: Path) -> Standing:
    """Return where the newest whole checkpoint was saved; its contents are not checked."""
    with contextlib.suppress(UserError, OSError):
        if folder := latest(run_dir / "checkpoints"):
            saved = (folder / "files.json").stat().st_mtime
            state = read_json(folder / "state.json")
            return Standing(step_of(folder) or 0, int(state.get("stage", 0)), int(state.get("stages", 0)), saved)
    return Standing(0, 0, 0, 0.0)


def is_done(run_dir: Path, last_stage: int | None = None) -> bool:
    """Return whether the run has finished, or has done stages up to `last_stage` (counted from 1)."""
    ended = outcome.read(run_dir)
    if ended is not None and ended.outcome == "finished":
        return True
    # The last stage is followed by the final evaluation and the report: only `finished` says that they are done.
    saved = standing(run_dir)
    last = last_stage is None or last_stage >= max(saved.stages, ended.stages if ended else 0)
    return not last and saved.stage >= (last_stage or 0)


def cancelled(run_dir: Path) -> bool:
    """Return whether `jobs cancel` has asked for the run to end."""
    return (run_dir / "job/cancel").exists()


class Supervisor(NamedTuple):
    """The process that looks after a run, or the last one that did."""

    identity: Identity
    job_id: str | None
    """The number of the run's own SLURM job, if it has one; jobs that merely host the process are none of its."""
    alive: bool


def supervisor(run_dir: Path) -> Supervisor | None:
    """Return who looks after a run, or who did last; None if nobody ever has."""
    path = run_dir / "job/supervisor.json"
    record = read_json(path)
    try:
        identity = Identity(record["host"], record["pid"], record["started"])
    except KeyError:
        return None
    return Supervisor(identity, record.get("job_id"), identity.alive if identity.here else is_locked(path))


@contextlib.contextmanager
def claim(run_dir: Path, command: list[str], job_id: str | None = None, patience_s: float = 10) -> Iterator[None]:
    """Be the run's only supervisor, and leave word of it in job/supervisor.json.

    Args:
        run_dir: the run's folder.
        command: what is supervised, for the record.
        job_id: the number of the run's own SLURM job, if this is one.
        patience_s: how long to wait for another supervisor that is about to end.

    Raises:
        UserError: another process supervises the run, or the folder cannot be written.
    """
    path = run_dir / "job/supervisor.json"
    mine = Identity.of(os.getpid())._asdict()
    note = json.dumps({**mine, "job_id": job_id, "command": command, "time": time.time()}) + "\n"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(path, wait_s=patience_s, note=note, required=False))
        except LockedError:
            other = supervisor(run_dir)
            who = f"process {other.identity.pid} on {other.identity.host}" if other else "another process"
            raise UserError(
                f"{run_dir} is supervised by {who}; wait for it, or end it with `hyena-dist jobs cancel {run_dir}`"
            ) from None
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; give the folder of a run of yours") from error
        yield


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one if the file is missing or holds something else."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
