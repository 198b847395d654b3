"""Questions to SLURM about our jobs, and requests to it."""

import contextlib
import re
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hyena_dist.errors import TemporaryError

_AWAY = re.compile(r"unable to contact|timed out|refused|communication|try again|temporar", re.IGNORECASE)
"""Words of SLURM's commands when slurmctld does not answer."""


class QueuedJob(NamedTuple):
    """A job, or a task of an array, that is not over."""

    id: str
    """The job's number as scancel takes it: 17, 17_2, or 17_[2-5%1] for tasks that wait."""
    state: str
    """SLURM's word for the job's state: PENDING, RUNNING, COMPLETING and others."""
    reason: str
    """SLURM's word for why the job waits; "None" if it does not."""
    time_left: str
    """The time until the job's limit, as SLURM prints it."""

    @property
    def waits(self) -> bool:
        """Whether the job has not started, or not started again."""
        return self.state not in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED")


def queue() -> dict[str, list[QueuedJob]] | None:
    """Return this user's jobs by the number that sbatch gave; None where there is no SLURM.

    Raises:
        TemporaryError: slurmctld does not answer.
    """
    if shutil.which("squeue") is None:
        return None
    output = _run("squeue", "--me", "--noheader", "--format=%F|%i|%T|%r|%L")
    jobs: dict[str, list[QueuedJob]] = defaultdict(list)
    for line in output.splitlines():
        number, *fields = line.split("|")
        jobs[number].append(QueuedJob(*fields))
    return dict(jobs)


def requeue(job_id: str, say: Callable[[str], None], patience_s: float = 600, pause_s: float = 5) -> bool:
    """Put the job that this process runs in back into the queue; returns whether SLURM agreed.

    Args:
        job_id: the job's number.
        say: receives a line for each refusal.
        patience_s: how long to go on asking a slurmctld that does not answer, in seconds.
        pause_s: seconds between two attempts.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            _run("scontrol", "requeue", job_id)
            return True
        except TemporaryError as error:
            say(str(error))
            if not _AWAY.search(str(error)) or time.monotonic() > deadline:
                return False
        time.sleep(pause_s)


def state(job_id: str) -> tuple[str, str]:
    """Return state and reason of a job, also of one that is over; both are empty if SLURM does not say."""
    try:
        shown = _run("scontrol", "--oneliner", "show", "job", job_id)
    except TemporaryError:
        return "", ""
    fields = dict(word.split("=", 1) for word in shown.split() if "=" in word)
    return fields.get("JobState", ""), fields.get("Reason", "")


def cancel(job_ids: Sequence[str]) -> None:
    """Take jobs out of the queue, or end them.

    Raises:
        TemporaryError: slurmctld does not answer.
    """
    _run("scancel", *job_ids)


def ask_to_stop(job_id: str) -> None:
    """Send SIGUSR1 to a job's batch script, which is its supervisor.

    Raises:
        TemporaryError: slurmctld does not answer, or the job is over.
    """
    _run("scancel", "--batch", "--signal=USR1", job_id)


def kill_steps(job_id: str, name: str) -> None:
    """End what a killed srun may have left on other nodes: steps of a job that have a name; all else in it goes on.

    Steps are named one by one: `scancel --signal=KILL JOB` would cancel a job that was queued again meanwhile.
    """
    with contextlib.suppress(TemporaryError):  # ranks that are left will notice that others are gone
        lines = _run("squeue", "--noheader", "--steps", f"--jobs={job_id}", "--format=%i|%j").splitlines()
        if steps := [line.partition("|")[0] for line in lines if line.partition("|")[2] == name]:
            _run("scancel", "--signal=KILL", *steps)


def _run(*command: str) -> str:
    """Run a command of SLURM, and return what it prints.

    Raises:
        TemporaryError: the command failed, or did not end.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise TemporaryError(f"{command[0]}: timed out") from None
    except FileNotFoundError:
        raise TemporaryError(f"{command[0]} is not installed on this machine") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise TemporaryError(f"{command[0]}: {said[-1].removeprefix(f'{command[0]}: ')}")
    return done.stdout
