"""One set of processes trains a run at a time."""

import contextlib
import json
import os
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path

from hyena_dist.errors import UserError
from hyena_dist.system.launch import is_supervised
from hyena_dist.system.locks import LockedError, lock


@contextlib.contextmanager
def run_lock(run_dir: Path, wait_s: float | None = None) -> Iterator[None]:
    """Hold a run's folder, on the main process. The kernel lets go of it if the process is killed.

    Args:
        run_dir: the run's folder.
        wait_s: how long to wait for processes that are about to end; by default a minute where a supervisor has just
            ended others, which may have been on other machines, and hardly at all elsewhere.

    Raises:
        UserError: other processes train this run, or the folder cannot be written to.
    """
    if wait_s is None:
        wait_s = 60.0 if is_supervised() else 1.0
    with contextlib.ExitStack() as stack:
        note = {"host": socket.gethostname(), "pid": os.getpid(), "slurm_job": os.environ.get("SLURM_JOB_ID")}
        try:
            stack.enter_context(lock(run_dir / "lock", wait_s=wait_s, note=json.dumps(note), required=False))
        except LockedError as error:
            raise UserError(
                f"{run_dir} is trained by {_name(error.note)} at present; wait for it, or end it with "
                f"hyena-dist jobs cancel {shlex.quote(str(run_dir))}"
            ) from None
        except OSError as error:
            raise UserError(f"cannot write to {run_dir}: {error.strerror}; choose another output_dir") from error
        yield


def _name(note: str) -> str:
    try:
        holder = json.loads(note)
        job = f" of SLURM job {holder['slurm_job']}" if holder["slurm_job"] else ""
        return f"process {holder['pid']} on {holder['host']}{job}"
    except (ValueError, KeyError, TypeError):
        return "other processes"
