"""`jobs logs` shows what ranks and the supervisor have printed."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from hyena_dist.errors import UserError

_BLOCK = 1 << 16
_LOOK_S = 0.3


def show(run_dir: Path, rank: int | None, lines: int, follow: bool) -> None:
    """Print the end of a log, and with `follow` what is added to it, until Ctrl-C.

    Args:
        run_dir: the run's folder.
        rank: the rank whose log is shown; None for the supervisor's.
        lines: how many lines of the end are shown.
        follow: whether to wait for what is added.

    Raises:
        UserError: there is no such log; the message names those that are there.
    """
    path = run_dir / "logs" / ("supervisor.log" if rank is None else f"rank-{rank:05d}.log")
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in (run_dir / "logs").glob("*"))) or "nothing"
        raise UserError(f"there is no {path} (yet): {run_dir / 'logs'} holds {there}; choose another --rank, or wait")
    try:
        for text in _end_of(path, lines, follow):
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more: no complaint at exit


def _end_of(path: Path, lines: int, follow: bool) -> Iterator[bytes]:
    with path.open("rb") as file:
        start = size = file.seek(0, os.SEEK_END)
        tail = b""
        while start > 0 and tail.count(b"\n") <= lines:
            start = max(0, start - _BLOCK)
            file.seek(start)
            tail = file.read(size - start)
        yield b"".join(tail.splitlines(keepends=True)[-lines:] if lines else [])
        while follow:
            file.seek(size)
            yield (added := file.read())
            size += len(added)
            if not added:
                time.sleep(_LOOK_S)
                size = min(size, path.stat().st_size)  # it may have been cut
