"""`jobs rank` keeps a rank's log under launchers that keep none, or name it otherwise at each start."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hyena_dist.errors import UserError
from hyena_dist.system.stop_signals import asking


def run_logged(command: Sequence[str], logs: Path) -> None:
    """Become a command whose output goes to logs/rank-00000.log and so on; rank 0's is shown as well.

    The launcher's signals reach the command itself: this process turns into it.

    Args:
        command: program and arguments.
        logs: the folder; files are appended to.

    Raises:
        UserError: no launcher has started this process, the folder cannot be written, or there is no such program.
    """
    rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID")
    if not command:
        raise UserError(f"nothing to run with its log in {logs}; add a command")
    if rank is None:
        raise UserError("RANK is not set: `jobs rank` is for launchers; start `hyena-dist train` alone without it")
    log = logs / f"rank-{int(rank):05d}.log"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        if int(rank) == 0:
            tee = subprocess.Popen(["tee", "-a", str(log)], stdin=subprocess.PIPE, preexec_fn=_be_last)
            assert tee.stdin is not None
            output = tee.stdin.fileno()
        else:
            output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execvp(command[0], list(command))
    except OSError as error:
        raise UserError(f"cannot start {command[0]} with its log {log}: {error.strerror}") from error


def _be_last() -> None:
    """Let tee ignore signals: a rank that is asked to stop has something to say still.

    With SIGPIPE among them, tee goes on with the log when nobody reads what is shown.
    """
    for number in (*asking(), signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
