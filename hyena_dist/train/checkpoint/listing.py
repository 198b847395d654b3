"""The checkpoints of a run for people: a line each, with why it stays and whether it is what was saved."""

import time
from pathlib import Path

from hyena_dist.errors import UserError
from hyena_dist.train.checkpoint.format import check, list_checkpoints, step_of
from hyena_dist.train.checkpoint.keep import is_pinned

_COLUMNS = ("STEP", "SAVED", "SIZE", "PINNED", "FILES")


def show(run_dir: Path, verify: bool) -> int:
    """Print a table of the checkpoints of a run, oldest first.

    Args:
        run_dir: the run's folder.
        verify: whether to compare the hashes of all files, and not sizes alone.

    Returns:
        The exit code: 2 if one is damaged.

    Raises:
        UserError: the folder has none, or cannot be read.
    """
    found = list_checkpoints(run_dir / "checkpoints")
    if not found:
        raise UserError(f"{run_dir / 'checkpoints'} holds no checkpoint; train first or name the folder of a run")
    rows = [_COLUMNS]
    problems = []
    for path in found:
        problem = _problem(path, verify)
        problems += [problem] if problem else []
        saved = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
        size = sum(file.stat().st_size for file in path.iterdir()) / 2**20 if not problem else 0.0
        state = "damaged" if problem else "verified" if verify else "whole"
        rows.append((f"{step_of(path):,}", saved, f"{size:,.1f} MiB", "pinned" if is_pinned(path) else "-", state))
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    for problem in problems:
        print(f"error: {problem}")
    return 2 if problems else 0


def _problem(path: Path, verify: bool) -> str | None:
    try:
        check(path, contents=verify)
    except UserError as error:
        return str(error)
    return None
