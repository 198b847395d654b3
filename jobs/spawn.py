"""`jobs spawn` starts ranks as plain processes here; `jobs relay` hands signals to ranks below a launcher."""

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from hyena_dist.errors import UserError
from hyena_dist.system.process_tree import Stopping, Tree, exit_code
from jobs.supervise import rendezvous

_LAST_LINES = 20
_LOOK_S = 0.2


def spawn(
    command: Sequence[str],
    ranks: int,
    logs: Path,
    port: int | None = None,
    patience_s: float = 10.0,
    grace_s: float = 300.0,
) -> int:
    """Run a command as `ranks` processes that find each other; what rank 0 says is also shown here.

    Args:
        command: program and arguments, the same for all.
        ranks: the number of processes.
        logs: the folder of rank-00000.log and so on, which are appended to.
        port: the TCP port where they meet; $MASTER_PORT, or a free one, if not given.
        patience_s: how long the others may live on when one has failed, in seconds.
        grace_s: how long they may take to save after a signal, in seconds.

    Returns:
        0, or the exit code of the rank that failed first.

    Raises:
        UserError: the command cannot be started, or the logs cannot be written.
    """
    env = {"OMP_NUM_THREADS": "1", **rendezvous(), **os.environ}
    env |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)} | ({"MASTER_PORT": str(port)} if port else {})
    paths = [logs / f"rank-{rank:05d}.log" for rank in range(ranks)]
    with Tree() as tree:
        try:
            logs.mkdir(parents=True, exist_ok=True)
            shown = _Tail(paths[0])
            pids = [
                tree.start(command, env | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, path)
                for rank, path in enumerate(paths)
            ]
        except OSError as error:
            raise UserError(f"cannot start {command[0]} with logs in {logs}: {error}") from error
        stopping = Stopping(tree, grace_s, _say)
        failed: int | None = None
        deadline = math.inf
        while not all(pid in tree.codes for pid in pids) and time.monotonic() < deadline:
            stopping.wait(_LOOK_S)
            shown.copy()
            if failed is None:
                failed = next((rank for rank, pid in enumerate(pids) if tree.codes.get(pid)), None)
                if failed is not None:
                    _report(failed, tree.codes[pids[failed]], paths[failed])
                    deadline = time.monotonic() + patience_s  # the others mostly notice, and may leave word of it
        tree.kill()
        shown.copy()
        return 0 if failed is None else exit_code(tree.codes[pids[failed]])


def relay(command: Sequence[str], grace_s: float = 300.0) -> int:
    """Run a launcher, and hand signals that ask for an end to the ranks below it instead of to the launcher.

    torchrun, for one, dies of SIGUSR1.

    Returns:
        The command's exit code.

    Raises:
        UserError: the command cannot be started.
    """
    with Tree() as tree:
        try:
            pid = tree.start(command, os.environ)
        except OSError as error:
            raise UserError(f"cannot start {command[0]}: {error.strerror}") from error
        stopping = Stopping(tree, grace_s, _say)
        while pid not in tree.codes:
            stopping.wait(60)
        return exit_code(tree.codes[pid])


def _report(rank: int, code: int, log: Path) -> None:
    """Say which rank ended the others, and its last words unless they have been shown."""
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    for line in log.read_text(errors="replace").splitlines()[-_LAST_LINES:] if rank else []:
        _say(f"rank {rank}: {line}")
    _say(f"rank {rank} {how}; its log is {log}")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class _Tail:
    """A reader that shows what is added to a file; who writes to the file does not depend on it."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file: BinaryIO = path.open("rb")
        self._file.seek(0, os.SEEK_END)

    def copy(self) -> None:
        """Show what has been added since the last call."""
        if text := self._file.read():
            with contextlib.suppress(OSError):  # nobody looks any more, which is no reason to end
                sys.stdout.buffer.write(text)
                sys.stdout.flush()
