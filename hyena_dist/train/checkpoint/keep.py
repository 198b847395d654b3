"""The checkpoints of a run that stay: the newest intact ones, every N-th, and those that a user has pinned.

A file `pinned` in a checkpoint says that it stays. What has been found damaged, or is newer than what the run goes on
from, is set aside: it gets a name that no run takes for a checkpoint, and its user decides what becomes of it.
"""

import itertools
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hyena_dist.errors import UserError
from hyena_dist.train import outcome
from hyena_dist.train.checkpoint.format import check, checkpoint_folders, list_checkpoints, step_of
from hyena_dist.train.lock import run_lock

_PINNED = "pinned"


def find_step(directory: Path, step: int) -> Path:
    """Return the checkpoint of a step, its contents unchecked.

    Raises:
        UserError: there is none, or the folder cannot be read.
    """
    found = {step_of(path): path for path in list_checkpoints(directory)}
    if step not in found:
        there = f"it has those of steps {', '.join(map(str, found))}" if found else "it has none"
        raise UserError(f"{directory} has no checkpoint of step {step}: {there}; name another step")
    return found[step]


def intact_of_step(directory: Path, step: int) -> Path:
    """Return the checkpoint of a step.

    Raises:
        UserError: there is none, it is damaged, or the folder cannot be read.
    """
    path = find_step(directory, step)
    check(path)
    return path


def pin(checkpoint: Path, pinned: bool = True) -> None:
    """Let a checkpoint stay for as long as it is pinned.

    Raises:
        UserError: it has gone meanwhile, or its folder cannot be written.
    """
    try:
        if pinned:
            (checkpoint / _PINNED).touch()
        else:
            (checkpoint / _PINNED).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write to {checkpoint} ({error.strerror}); see whether it is still there, and its rights"
        ) from error


def is_pinned(checkpoint: Path) -> bool:
    """Return whether a user has pinned a checkpoint."""
    return os.path.exists(checkpoint / _PINNED)


class Retention:
    """Removes the checkpoints of one run that are no longer kept.

    Args:
        keep_last: how many of the newest intact ones stay.
        interval: those of every so many steps stay as well; 0 for none.
        say: told of what turns out to be damaged.
    """

    def __init__(self, keep_last: int, interval: int, say: Callable[[str], None]) -> None:
        self._keep_last = keep_last
        self._interval = interval
        self._say = say
        self._intact: set[Path] = set()
        """Checkpoints that this process has written or read whole: from then on their sizes are compared alone."""

    def saved(self, newest: Path, best_step: int | None = None) -> None:
        """Remove what need not stay now that `newest` is on the disk; newer ones, which are not the run's, do stay.

        Args:
            newest: the checkpoint that was saved last.
            best_step: the step of a checkpoint that stays as well.
        """
        self._intact.add(newest)
        kept = 1
        for path in reversed(list_checkpoints(newest.parent)):
            step = step_of(path) or 0
            if step >= (step_of(newest) or 0):
                continue
            if kept < self._keep_last:
                kept += self._is_intact(path)
            elif step != best_step and not is_pinned(path) and not (self._interval and step % self._interval == 0):
                _remove(path)

    def _is_intact(self, path: Path) -> bool:
        """Return whether a checkpoint is what was saved; if not, set it aside."""
        try:
            check(path, contents=path not in self._intact)
        except UserError as error:
            self._say(f"WARNING: {error}; it is now {set_aside(path)}")
            return False
        self._intact.add(path)
        return True


def set_aside(path: Path) -> Path:
    """Give a checkpoint a name that no run takes for one: step-00000020.aside-1; return its new path.

    Where that fails it keeps its name, and the next attempt tries again.
    """
    free = (path.with_name(f"{path.name}.aside-{number}") for number in itertools.count(1))
    new = next(candidate for candidate in free if not os.path.lexists(candidate))
    try:
        os.rename(path, new)
    except OSError:
        return path
    return new


def set_aside_newer(checkpoint: Path, say: Callable[[str], None]) -> None:
    """Set aside what is newer than a checkpoint, newest first, so that the next attempt goes on from it."""
    folders = checkpoint_folders(checkpoint.parent)
    for newer in reversed(folders[folders.index(checkpoint) + 1 :]):
        say(f"set aside {newer}, which is newer than what the run goes on from, as {set_aside(newer)}")


def go_back(run_dir: Path, step: int, say: Callable[[str], None]) -> None:
    """Let a run go on from the checkpoint of a step, whoever starts it next.

    Raises:
        UserError: there is no such checkpoint, it is damaged, or the run is being trained.
    """
    checkpoint = intact_of_step(run_dir / "checkpoints", step)
    with run_lock(run_dir, wait_s=1.0):
        set_aside_newer(checkpoint, say)
        outcome.clear(run_dir)  # it may have been finished


def _remove(path: Path) -> None:
    """Remove a checkpoint, out of sight first: one that is half removed is none."""
    hidden = path.with_name(f".{path.name}.dropped")
    with suppress(OSError):  # of no harm to the new one; the next save tries again
        os.replace(path, hidden)
        if is_pinned(hidden):  # since this looked
            os.replace(hidden, path)
    shutil.rmtree(hidden, ignore_errors=True)
