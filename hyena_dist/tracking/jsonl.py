"""The file metrics.jsonl: every metric of a run, one JSON object per line, exact to the last bit."""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from hyena_dist.errors import UserError
from hyena_dist.system.files import write_atomically
from hyena_dist.tracking.base import Status

# JSON has no non-finite numbers, and a diverged run must still leave a file that any JSON reader takes.
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class JsonlTracker:
    """Appends one line per `log_metrics` call: ``{"step": ..., "time": unix seconds, **metrics}``.

    Each line reaches the operating system as soon as it is written, so a SIGKILL leaves at most one torn last line,
    which reading and resuming drop. Parameters and artifacts are not written here: they are files of the run already.

    Args:
        path: The file; its folder is created.
        resume_step: The step of the checkpoint that the run continues from; rows after it are dropped, so that the
            file ends up with the steps of a run that was never interrupted. None starts a new file, and one that is
            already there is kept beside it with ``.old`` added to its name.

    Raises:
        UserError: The file cannot be written.
    """

    def __init__(self, path: Path, resume_step: int | None) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                if resume_step is None:
                    os.replace(path, path.with_name(path.name + ".old"))
                else:
                    _drop_rows_after(path, resume_step)
            self._file = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def log_params(self, params: Mapping[str, object]) -> None:
        """Do nothing: the run's folder holds its resolved configuration."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Append one row.

        Raises:
            UserError: The disk is full or gone.
        """
        if self._file.closed:
            return
        row: dict[str, object] = {"step": step, "time": time.time()}
        row |= {name: _to_json(value) for name, value in metrics.items()}
        try:
            self._file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise _cannot_write(self._path, error) from error

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Do nothing: the file is in the run's folder already."""

    def log_text(self, text: str, name: str) -> None:
        """Do nothing: the run's folder holds its texts."""

    def finish(self, status: Status) -> None:
        """Close the file."""
        # A full disk fails once more when what could not be written is flushed; log_metrics has said so.
        with contextlib.suppress(OSError):
            self._file.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the rows of a metrics.jsonl in file order, without a torn last line; NaN and infinities are floats."""
    rows = (_parse(line) for line in path.read_bytes().splitlines(keepends=True))
    return [row for row in rows if row is not None]


def rows_after(path: Path, offset: int) -> Iterator[tuple[dict[str, float], int]]:
    """Yield the whole rows of a metrics.jsonl from a place in bytes on, each with the place after it."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            offset += len(line)
            row = _parse(line)
            if row is not None:
                yield row, offset


def _parse(line: bytes) -> dict[str, float] | None:
    """Return the row that a line holds, or None for a torn one."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or "step" not in row:
        return None
    return {name: _NON_FINITE.get(value, math.nan) if isinstance(value, str) else value for name, value in row.items()}


def _drop_rows_after(path: Path, step: int) -> None:
    """Rewrite the file with the lines up to ``step``, byte for byte, in one atomic replacement."""
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        row = _parse(line)
        if row is not None and row["step"] <= step:
            kept.append(line)
    write_atomically(path, b"".join(kept))


def _to_json(value: float) -> float | str:
    """Return a number as json.dumps writes it exactly: repr of a float round-trips bit for bit."""
    if isinstance(value, int):
        return int(value)
    number = float(value)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written ({error.strerror}): free space or choose another folder, then resume")
