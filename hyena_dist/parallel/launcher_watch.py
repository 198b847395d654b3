"""Ranks end with the launcher that started them: one that is killed, or dies of a signal, tells nobody."""

import contextlib
import os
import signal
import sys
import threading
import time

import psutil

_LOOK_S = 1.0
_GRACE_S = 300.0
"""How long a rank may take to save, in seconds."""

_DEEPSPEED = {"deepspeed", "deepspeed.launcher.launch"}


def end_with_launcher() -> None:
    """Watch, in a thread, the launcher of this process if it is a rank of one, and end this process when it is gone.

    SIGTERM lets training save and stop, and ends what does not train yet.
    """
    if {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys() and (found := launchers()):
        threading.Thread(target=_watch, args=(found,), daemon=True).start()


def launchers() -> list[psutil.Process]:
    """Return the processes that this rank needs above it: deepspeed is two, which do not tell each other all."""
    found: list[psutil.Process] = []
    for process in psutil.Process().parents():
        environ, words = _facts(process)
        if not found and environ.get("RANK") == os.environ["RANK"]:
            continue  # a shell, numactl or the like between launcher and rank
        if found and not _DEEPSPEED & words:
            break
        found.append(process)
    return found


def _facts(process: psutil.Process) -> tuple[dict[str, str], set[str]]:
    """Return the environment of a process, and the names of what it runs."""
    environ: dict[str, str] = {}
    words: list[str] = []
    with contextlib.suppress(psutil.Error, OSError):
        words = process.cmdline()[:4]
        environ = process.environ()
    return environ, {os.path.basename(word) for word in words}


def _watch(needed: list[psutil.Process]) -> None:
    while not (gone := [process.pid for process in needed if not _lives(process)]):
        time.sleep(_LOOK_S)
    # Each rank says it for itself: the first to look may have stopped all others before they look.
    with contextlib.suppress(OSError):
        line = f"rank {os.environ['RANK']}: the launcher, process {gone[0]}, is gone: this rank stops\n"
        sys.stderr.write(line)
        sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
