"""One set of processes trains a run at a time."""

import errno
import fcntl
import json
import os
import socket
import time
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType

from hyena_dist.errors import UserError

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_POLL_S = 0.2


class RunLock:
    """Holds a run's folder; a context manager for the main process. The kernel lets go of it if the process is killed.

    Args:
        run_dir: the run's folder.
        wait_s: how long to wait for processes that are about to end, as after a restart.

    Raises:
        UserError: other processes train this run, or the folder cannot be written to.
    """

    def __init__(self, run_dir: Path, wait_s: float = 60.0) -> None:
        self.run_dir, self.wait_s = run_dir, wait_s
        self._file: TextIOWrapper | None = None

    def __enter__(self) -> "RunLock":
        path = self.run_dir / "lock"
        try:
            self._file = open(path, "a+")
        except OSError as error:
            raise UserError(f"cannot write to {self.run_dir}: {error.strerror}; choose another output_dir") from error
        try:
            self._wait_for(self._file)
            self._file.truncate(0)
            self._file.write(json.dumps(_who()))
            self._file.flush()
        except OSError as error:
            if error.errno not in _NO_LOCKS | {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise
        except UserError:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _wait_for(self, file: TextIOWrapper) -> None:
        deadline = time.monotonic() + self.wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise UserError(
                        f"{self.run_dir} is trained by {_name(file.read())} at present; wait for it, or end it with "
                        f"hyena-dist jobs cancel {self.run_dir}"
                    ) from None
                time.sleep(_POLL_S)


def _who() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "slurm_job": os.environ.get("SLURM_JOB_ID")}


def _name(text: str) -> str:
    try:
        holder = json.loads(text)
        job = f" of SLURM job {holder['slurm_job']}" if holder["slurm_job"] else ""
        return f"process {holder['pid']} on {holder['host']}{job}"
    except (ValueError, KeyError, TypeError):
        return "other processes"
