"""`jobs status` shows where runs stand, a line each, from their folders and from SLURM's queue."""

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hyena_dist.config.file import load_config
from hyena_dist.errors import TemporaryError, UserError
from hyena_dist.system.locks import is_locked
from hyena_dist.train import outcome
from jobs import slurm_queue
from jobs.run_state import read_json, standing, supervisor
from jobs.slurm_queue import QueuedJob

_TAIL_BYTES = 1 << 16
_COLUMNS = ("RUN", "STATE", "STEP", "STAGE", "LENGTH", "LOSS", "TOKENS/S", "LEFT", "SAVED", "WHERE")


@dataclass(frozen=True)
class Status:
    """The status of a run; a field is None where nothing is known (yet)."""

    run: str
    folder: str
    state: str
    """One of new, queued, running, or how the run ended: finished, stopped, stage, failed, fault, crashed."""
    message: str | None
    """The sentence that the run's processes ended with."""
    launcher: str | None
    jobs: tuple[QueuedJob, ...]
    """The run's SLURM jobs that are not over."""
    process: str | None
    """The living process that looks after the run, as "PID on HOST"."""
    step: int
    steps: int | None
    stage: int | None
    """The number of the stage at work, counted from 1."""
    stages: int | None
    seq_length: int | None
    loss: float | None
    tokens_per_second: float | None
    time_left_s: float | None
    saved_s_ago: float | None


def show(folders: Sequence[Path], as_json: bool) -> None:
    """Print the status of runs; of all below runs/ if none are named.

    Args:
        folders: the runs' folders.
        as_json: whether to print a list of JSON objects instead of a table.

    Raises:
        UserError: a folder is no run's.
    """
    for folder in folders:
        if not is_run(folder):
            raise UserError(f"{folder} is no run's folder: it has neither run.yaml nor job/; try runs/NAME")
    found = [status(folder, {}) for folder in folders or sorted(f for f in Path("runs").glob("*") if is_run(f))]
    # Not asked for local runs; one question for all others.
    queue: Mapping[str, Sequence[QueuedJob]] = {}
    if any(job_ids(Path(each.folder)) for each in found):
        try:
            queue = slurm_queue.queue() or {}
        except TemporaryError as error:
            print(f"{error}; what SLURM jobs do is not known", file=sys.stderr)
        found = [status(Path(each.folder), queue) for each in found]
    if as_json:
        jobs = [[job._asdict() for job in each.jobs] for each in found]
        print(json.dumps([asdict(each) | {"jobs": mine} for each, mine in zip(found, jobs, strict=True)], indent=2))
    elif not found:
        print("no runs below runs/; name a run's folder")
    else:
        rows = [_COLUMNS, *(_row(each) for each in found)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
        for row in rows:
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def status(run_dir: Path, queue: Mapping[str, Sequence[QueuedJob]]) -> Status:
    """Return where a run stands; its folder may be half there.

    Args:
        run_dir: the run's folder.
        queue: this user's jobs in SLURM's queue, by their numbers.
    """
    last, saved, ended, who = _last_metrics(run_dir), standing(run_dir), outcome.read(run_dir), supervisor(run_dir)
    step = int(last.get("step", saved.step))
    steps, tokens, ends = _budget(run_dir)
    jobs = tuple(job for number in job_ids(run_dir) for job in queue.get(number, ()))
    process = None
    if who and who.alive:
        process = f"{who.identity.pid} on {who.identity.host}"
    elif is_locked(run_dir / "lock"):
        holder = read_json(run_dir / "lock")
        process = f"{holder.get('pid', '?')} on {holder.get('host', '?')}"
    if process or any(not job.waits for job in jobs):
        state = "running"
    elif jobs:
        state = "queued"
    elif ended:
        state = ended.outcome
    elif (run_dir / "summary.json").is_file() and step >= (steps or 0):  # not from before the curriculum grew
        state = "finished"
    else:
        state = "crashed" if last or saved.time else "new"
    rate = last.get("throughput/tokens_per_second")
    left = (tokens - last["train/tokens"]) / rate if tokens and rate and step < (steps or 0) else None
    return Status(
        run=run_dir.resolve().name,
        folder=str(run_dir),
        state=state,
        message=ended.message if ended else None,
        launcher=read_json(run_dir / "job/submission.json").get("launcher"),
        jobs=jobs,
        process=process,
        step=step,
        steps=steps,
        stage=min(1 + sum(end <= step for end in ends), len(ends)) if ends else None,
        stages=len(ends) or None,
        seq_length=last.get("train/seq_length"),
        loss=last.get("train/loss"),
        tokens_per_second=rate,
        time_left_s=left,
        saved_s_ago=max(0.0, time.time() - saved.time) if saved.time else None,
    )


def is_run(folder: Path) -> bool:
    """Return whether a folder belongs to a run."""
    return (folder / "run.yaml").is_file() or (folder / "job").is_dir()


def job_ids(run_dir: Path) -> list[str]:
    """Return the numbers of the SLURM jobs that were submitted for a run, or that it has run in."""
    numbers = [str(number) for number in read_json(run_dir / "job/submission.json").get("job_ids") or ()]
    who = supervisor(run_dir)
    return numbers + ([who.job_id] if who and who.job_id and who.job_id not in numbers else [])


def _last_metrics(run_dir: Path) -> dict[str, Any]:
    """Return the last row of metrics.jsonl that tells of a training step; an empty one if there is none."""
    with contextlib.suppress(OSError), (run_dir / "metrics.jsonl").open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
        for line in reversed(file.read().split(b"\n")):
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and "train/loss" in row:
                    return row
    return {}


def _budget(run_dir: Path) -> tuple[int | None, int | None, list[int]]:
    """Return steps and tokens of the whole run, and the step after which each stage ends."""
    try:
        train = load_config(run_dir / "run.yaml", []).train
    except UserError:
        return None, None, []
    steps = [train.steps_of(stage) for stage in train.curriculum]
    sizes = [train.batch_of(stage) * stage.seq_length for stage in train.curriculum]
    tokens = sum(n * size for n, size in zip(steps, sizes, strict=True))
    return sum(steps), tokens, list(itertools.accumulate(steps))


def _row(each: Status) -> tuple[str, ...]:
    jobs = [f"{j.id} {j.state} " + (f"({j.reason})" if j.waits else f"{j.time_left} left") for j in each.jobs]
    where = ", ".join(jobs) or (f"process {each.process}" if each.process else "")
    return (
        each.run,
        each.state,
        f"{each.step:,}" + (f"/{each.steps:,}" if each.steps else ""),
        f"{each.stage}/{each.stages}" if each.stages else "-",
        f"{each.seq_length:,}" if each.seq_length else "-",
        f"{each.loss:.4f}" if isinstance(each.loss, float) else str(each.loss or "-"),
        f"{each.tokens_per_second:,.0f}" if each.tokens_per_second else "-",
        _duration(each.time_left_s),
        "-" if each.saved_s_ago is None else f"{_duration(each.saved_s_ago)} ago",
        " ".join(text for text in (each.launcher, where) if text) or "-",
    )


def _duration(seconds: float | None) -> str:
    """Format a duration in its two largest units: 3d04h, 2h05m, 7m10s, 12s."""
    if seconds is None:
        return "-"
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d{h:02}h"
    return f"{h}h{m:02}m" if h else f"{m}m{s:02}s" if m else f"{s}s"
