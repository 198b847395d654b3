"""`jobs cancel` ends a run that is queued or runs: it saves and stops, or is killed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from hyena_dist.errors import TemporaryError, UserError
from hyena_dist.system.launch import RUN_VARIABLE
from hyena_dist.system.locks import is_locked
from hyena_dist.system.process_tree import Identity, kill, with_variable
from jobs import slurm_queue
from jobs.run_state import read_json, supervisor
from jobs.status import is_run, job_ids

Say = Callable[[str], None]


def cancel(run_dir: Path, now: bool, say: Say) -> None:
    """End a run, and say what was done.

    Args:
        run_dir: the run's folder.
        now: kill it instead of letting it save.
        say: receives a line for each thing that was done.

    Raises:
        UserError: the folder is no run's or not to be written to, or the run is on another machine or someone else's.
        TemporaryError: slurmctld does not answer.
    """
    if not is_run(run_dir):
        raise UserError(f"{run_dir} is no run's folder: it has neither run.yaml nor job/; try runs/NAME")
    # From here on nothing starts again by itself, whatever the rest comes to.
    marker = run_dir / "job/cancel"
    try:
        marker.parent.mkdir(exist_ok=True)
        marker.touch()
    except OSError as error:
        raise UserError(
            f"cannot write to {marker.parent}: {error.strerror}; the run goes on, and {_owner(run_dir)} can cancel it"
        ) from error
    ended = _end_slurm_jobs(run_dir, now, say) or (_kill_here if now else _ask_here)(run_dir, say)
    if not ended:
        marker.unlink()
        say(f"{run_dir.name} neither runs nor waits in a queue: nothing to do")
    elif not now:
        say("it stops as soon as it has saved; `hyena-dist jobs status` tells when")


def _end_slurm_jobs(run_dir: Path, now: bool, say: Say) -> int:
    """Take the run's SLURM jobs out of the queue or ask them to stop; returns how many there were."""
    if not (numbers := job_ids(run_dir)):
        return 0
    try:
        queue = slurm_queue.queue() or {}
    except TemporaryError as error:
        raise TemporaryError(
            f"{error}; the run will not be queued again, but what runs goes on: repeat the command when SLURM answers"
        ) from error
    jobs = [job for number in numbers for job in queue.get(number, ()) if job.state != "COMPLETING"]
    waiting = [job.id for job in jobs if now or job.waits]
    if waiting:
        slurm_queue.cancel(waiting)
        say(f"cancelled SLURM job {', '.join(waiting)}")
    for job in jobs:
        if job.id not in waiting:
            slurm_queue.ask_to_stop(job.id)
            say(f"asked SLURM job {job.id} to save and stop")
    return len(jobs)


def _ask_here(run_dir: Path, say: Say) -> int:
    """Ask a run outside of SLURM to stop: its supervisor, or the process that trains; returns how many were asked."""
    who = supervisor(run_dir)
    if who and who.alive and not who.job_id:
        where = "" if who.identity.here else f" on {who.identity.host}"
        if who.identity.here:  # elsewhere it finds the marker within seconds
            _signal(who.identity, run_dir)
        say(f"asked the supervisor, process {who.identity.pid}{where}, to let the ranks save and stop")
        return 1
    if (not who or not who.alive) and (trainer := _trainer(run_dir)):
        _signal(trainer, run_dir)
        say(f"asked process {trainer.pid} to save and stop")
        return 1
    return 0


def _kill_here(run_dir: Path, say: Say) -> int:
    """Kill the supervisor first, so that it starts nothing, and then all of the run's processes; returns how many."""
    killed = 0
    who = supervisor(run_dir)
    for identity in (who.identity if who and who.alive and not who.job_id else None, _trainer(run_dir)):
        if identity and identity.here:
            kill([psutil.Process(identity.pid)])
            killed += 1
        elif identity and not job_ids(run_dir):
            raise _elsewhere(identity, run_dir)
    left = with_variable(RUN_VARIABLE, str(run_dir.resolve()))
    kill(left)
    if killed + len(left):
        say(f"killed {killed + len(left)} processes")
    return killed + len(left)


def _trainer(run_dir: Path) -> Identity | None:
    """The process of rank 0 that holds the run's lock; None if nobody does."""
    path = run_dir / "lock"
    holder = read_json(path)
    if not is_locked(path):
        return None
    identity = Identity(str(holder.get("host")), int(holder.get("pid", 0)), 0)
    return Identity.of(identity.pid) if identity.here else identity


def _signal(identity: Identity, run_dir: Path) -> None:
    if not identity.here:
        raise _elsewhere(identity, run_dir)
    try:
        os.kill(identity.pid, signal.SIGUSR1)
    except PermissionError:
        raise UserError(
            f"process {identity.pid}, which runs {run_dir.name}, is not yours; ask {_owner(run_dir)} to cancel it"
        ) from None


def _owner(run_dir: Path) -> str:
    try:
        return f"its owner {run_dir.owner()}"
    except (KeyError, OSError):
        return "its owner"


def _elsewhere(identity: Identity, run_dir: Path) -> UserError:
    return UserError(f"{run_dir.name} runs on {identity.host} (process {identity.pid}); give the command there")
