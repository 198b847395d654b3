"""This process and its relatives: how many cores they may use, and that none outlives the one that needs it."""

import ctypes
import multiprocessing
import os
import signal
import sys

# Options of Linux' prctl(2), from <sys/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None)  # loaded here: between fork and exec little is allowed


def usable_cores() -> int:
    """Return how many cores this process may use, which SLURM and containers make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def signal_when_parent_dies(number: signal.Signals) -> None:
    """Ask Linux to send this process a signal when the thread that started it ends; does nothing on other systems."""
    _prctl(_PR_SET_PDEATHSIG, number)


def die_with_parent() -> None:
    """Let this process, one of `multiprocessing`, be killed when its parent is: a killed parent stops no workers.

    On systems other than Linux it lives on until it notices.
    """
    signal_when_parent_dies(signal.SIGKILL)
    parent = multiprocessing.parent_process()
    by_server = multiprocessing.get_start_method() == "forkserver"  # whose children they all are
    if parent and os.getppid() != parent.pid and not by_server:
        os._exit(1)  # the parent was killed before we asked


def adopt_orphans(adopt: bool) -> None:
    """Set whether descendants whose parent has ended become children of this process; Linux alone can do so."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(adopt))


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _libc.prctl(option, value, 0, 0, 0)
