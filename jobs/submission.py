"""The way of a job to its launcher: what is written to the run's folder, and whether it may start."""

import contextlib
import json
import shlex
import sys
import time
from pathlib import Path

from hyena_dist.config.file import dump_record
from hyena_dist.errors import TemporaryError, UserError
from hyena_dist.system.files import write_atomically
from hyena_dist.system.locks import LockedError, is_locked, lock
from hyena_dist.train import outcome
from hyena_dist.train.checkpoint.format import latest
from hyena_dist.train.continuation import check_continues
from jobs import slurm_queue
from jobs.cluster import dump_cluster
from jobs.job import Job
from jobs.launchers import launcher
from jobs.run_state import read_json, supervisor

_LOCK_S = 3.0
"""How long to wait for another submission, in seconds."""


def files_of(job: Job, name: str, templates: Path | None) -> dict[str, str]:
    """Return the text of each file that a job needs in the run's folder, by path below it.

    Raises:
        UserError: the launcher cannot start such a job, or a template is wrong.
    """
    scripts = launcher(name).render(job, templates)
    return {
        "run.yaml": dump_record(job.config),
        "job/cluster.yaml": dump_cluster(job.cluster),
        **{f"job/{file}": text for file, text in scripts.items()},
    }


def preview(job: Job, name: str, templates: Path | None) -> str:
    """Return all that `submit` would write and run, as text, and touch nothing."""
    parts = [f"==> {job.run_dir / path} <==\n{text}" for path, text in files_of(job, name, templates).items()]
    lines = "".join(f"{line}\n" for line in launcher(name).commands(job))
    also = (
        f"# {job.run_dir}/job/submission.json: job ids, command line, time, git state\n"
        f"# {job.run_dir}/logs: a folder, which must be there when a job starts\n"
    )
    return "\n".join([*parts, f"==> then <==\n{also}{lines}"])


def submit(job: Job, name: str, templates: Path | None = None, background: bool = False) -> int:
    """Write the run's folder and start the job.

    Args:
        job: what to run.
        name: the launcher's name.
        templates: a folder of the user's that is looked into first.
        background: whether a launcher that runs here returns before the end.

    Returns:
        The exit code: the run's if the launcher runs here in the foreground, else 0.

    Raises:
        UserError: the run is under way already, or was another one, its folder cannot be written, or the launcher does
            not take the job.
        TemporaryError: SLURM does not answer.
    """
    run_dir = job.run_dir
    files = files_of(job, name, templates)
    if newest := latest(run_dir / "checkpoints"):
        with contextlib.suppress(OSError):  # a damaged one, which training passes over
            check_continues(newest, job.config)  # before what is right is overwritten
    if _is_finished(job):
        steps = job.segments[-1].stages[-1].end_step
        print(f"{run_dir} is finished ({steps:,} steps); another name=... starts anew, a longer curriculum goes on")
        return 0
    _refuse_second(run_dir)  # without the lock, which a run in the foreground holds to its end
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(run_dir / "job/submit.lock", wait_s=_LOCK_S, required=False))
        except LockedError:
            raise UserError(
                f"{run_dir} is being submitted by another process; wait for it, or choose another name=..."
            ) from None
        except OSError as error:
            raise _unwritable(run_dir, error) from error
        _refuse_second(run_dir)  # what was submitted while this waited
        return _submit(job, name, files, background)


def _submit(job: Job, name: str, files: dict[str, str], background: bool) -> int:
    """Write the files of a job, by path below the run's folder, and start it; as `submit`, whose lock is held."""
    run_dir = job.run_dir
    path = run_dir / "job/submission.json"
    try:
        (run_dir / "logs").mkdir(parents=True, exist_ok=True)
        for old in (run_dir / "job").glob("segment-*.sh"):
            old.unlink()  # of an earlier submission with more segments
        for file, text in files.items():
            (run_dir / file).write_text(text)
        facts = _facts(job, name)
        _write(path, facts)
    except OSError as error:
        raise _unwritable(run_dir, error) from error
    with contextlib.suppress(FileNotFoundError):
        (run_dir / "job/cancel").unlink()
    outcome.clear(run_dir)

    def record(**more: object) -> None:
        facts.update(more)
        _write(path, facts)

    sys.stdout.flush()
    return launcher(name).submit(job, background, record)


def _unwritable(run_dir: Path, error: OSError) -> UserError:
    """Return the error for a run's folder that cannot be written to."""
    return UserError(f"cannot write to {run_dir}: {error.strerror}; choose another output_dir")


def _is_finished(job: Job) -> bool:
    """Return whether the run has come to the end of this very curriculum."""
    ended = outcome.read(job.run_dir)
    last = job.segments[-1].stages[-1]
    return ended is not None and (ended.outcome, ended.step) == ("finished", last.end_step)


def _refuse_second(run_dir: Path) -> None:
    """Refuse a run that is under way: two jobs would wait for each other, or the second would do nothing.

    Raises:
        UserError: the run waits in a queue, or runs.
        TemporaryError: SLURM does not answer.
    """
    fix = f"wait for it, or end it with `hyena-dist jobs cancel {shlex.quote(str(run_dir))}`"
    other = supervisor(run_dir)
    if other and other.alive:
        raise UserError(f"{run_dir} is run by process {other.identity.pid} on {other.identity.host}; {fix}")
    if is_locked(run_dir / "lock"):
        holder = read_json(run_dir / "lock")
        raise UserError(f"{run_dir} is trained by process {holder.get('pid')} on {holder.get('host')}; {fix}")
    known = {str(job_id) for job_id in read_json(run_dir / "job/submission.json").get("job_ids", [])}
    known |= {other.job_id} if other and other.job_id else set()
    queued = [f"{job.id} ({job.state})" for number, jobs in _queue(known).items() if number in known for job in jobs]
    if queued:
        raise UserError(f"{run_dir} is in SLURM's queue as {', '.join(queued)}; {fix}")


def _queue(known: set[str]) -> dict[str, list[slurm_queue.QueuedJob]]:
    """Return this user's SLURM jobs by number if the run has `known` ones, else none."""
    try:
        return (slurm_queue.queue() or {}) if known else {}
    except TemporaryError as error:
        raise TemporaryError(f"{error}; whether the run is queued already is unknown: try again later") from None


def _facts(job: Job, name: str) -> dict[str, object]:
    from hyena_dist.tracking.environment import environment  # not needed to preview, and slow

    return {
        "launcher": name,
        "nodes": job.nodes,
        "ranks_per_node": job.ranks_per_node,
        "segments": [{"nodes": segment.nodes, "last_stage": segment.last_stage} for segment in job.segments],
        "job_ids": [],
        "pid": None,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "directory": str(job.directory),
        **environment(),
    }


def _write(path: Path, facts: dict[str, object]) -> None:
    write_atomically(path, json.dumps(facts, indent=2) + "\n")
