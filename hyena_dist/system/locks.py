"""Locks on files, which the kernel lets go of when their owner ends, however it ends."""

import contextlib
import errno
import fcntl
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_POLL_S = 0.05
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LockedError(Exception):
    """Another process holds the lock."""

    def __init__(self, note: str) -> None:
        super().__init__(note)
        self.note = note
        """What the other process has written into the file about itself; perhaps empty."""


@contextlib.contextmanager
def lock(path: Path, *, wait_s: float = math.inf, note: str = "", required: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on a file, which is made if need be and stays afterwards.

    Processes that are forked meanwhile hold it as well. Whoever has the lock may remove the file and its folder, in
    which case a waiting process makes new ones.

    Args:
        path: a file that serves as the lock, and holds nothing but a note of who has it; its folder is made.
        wait_s: how long to wait for another owner, in seconds.
        note: what the file shall say while the lock is held; a full disk is no reason to fail.
        required: whether to fail on a file system that knows no locks, instead of going on without one.

    Raises:
        LockedError: another process still has the lock after `wait_s`.
        OSError: the file cannot be made, or cannot be locked.
    """
    deadline = time.monotonic() + wait_s
    while True:
        with _opened(path) as file:
            if _acquire(file, required):
                if _is_at(file, path):
                    _write(file, note)
                    yield
                    return
            elif time.monotonic() > deadline:
                file.seek(0)
                raise LockedError(file.read())
            else:
                time.sleep(_POLL_S)


def is_locked(path: Path) -> bool:
    """Return whether a process, on this machine or another that shares the folder, holds the lock of a file."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        pass
    return False


def _opened(path: Path) -> IO[str]:
    """Open a file that is made if need be with its folder, which an owner may remove at any moment."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return open(path, "a+")
        except FileNotFoundError:
            if path.is_symlink():  # to nothing
                raise


def _acquire(file: IO[str], required: bool) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if required or error.errno not in _NO_LOCKS:
            raise
    return True


def _is_at(file: IO[str], path: Path) -> bool:
    """Return whether an open file is still the one at `path`: the owner before may have removed that."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _write(file: IO[str], note: str) -> None:
    try:
        file.truncate(0)
        file.write(note)
        file.flush()
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
