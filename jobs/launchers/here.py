"""Functions of the launchers that start job.sh on this machine."""

import shlex
import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

from hyena_dist.errors import UserError
from jobs.job import Job
from jobs.launchers import Record

SCRIPT = "job.sh"


def command(job: Job) -> list[str]:
    """Return the command that starts the rendered script."""
    return ["bash", str(job.run_dir / "job" / SCRIPT)]


def commands(job: Job) -> list[str]:
    """Return the command that starts the rendered script as a line of shell."""
    return [shlex.join(command(job))]


def submit(job: Job, background: bool, record: Record) -> int:
    """Run the script to its end, or in the background; returns the exit code, 0 for the background."""
    if not background:
        return run(command(job))
    log = job.run_dir / "logs/job.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command(job), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    record(pid=process.pid)
    print(f"process {process.pid} runs it; what it prints goes to {log}")
    print(f"hyena-dist jobs logs {shlex.quote(str(job.run_dir))} --follow")
    process.returncode = 0  # it outlives us: nobody waits for it
    return 0


def run(command: Sequence[str], env: dict[str, str] | None = None) -> int:
    """Run a command to its end, and hand on signals that ask for one; returns the exit code."""
    with subprocess.Popen(command, env=env) as process:

        def hand_on(number: int, frame: FrameType | None) -> None:
            process.send_signal(number)

        numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
        before = {number: signal.signal(number, hand_on) for number in numbers}
        try:
            while True:
                try:
                    code = process.wait()
                    return code if code >= 0 else 128 - code
                except KeyboardInterrupt:
                    pass  # the terminal has told the command as well
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def one_size(job: Job, name: str) -> None:
    """Refuse a job that one script, which starts all segments on the same machines, cannot start.

    Raises:
        UserError: the job's segments need several numbers of nodes, or the job needs SLURM.
    """
    if len({segment.nodes for segment in job.segments}) > 1:
        raise UserError(f"--nodes with several numbers needs --launcher slurm; give {name} one number")
    if job.array:
        raise UserError(f"--array {job.array} needs --launcher slurm; leave it out with {name}")
    if job.container and job.container.runtime == "enroot":
        raise UserError(f"enroot containers are started by srun; use --launcher slurm, or apptainer with {name}")


def need_hosts(job: Job, name: str) -> Sequence[str]:
    """Return the machines that the job uses, which no scheduler names.

    Raises:
        UserError: the cluster's YAML names too few.
    """
    if job.nodes > len(job.cluster.hosts):
        raise UserError(
            f"--nodes {job.nodes} with {name} needs as many names under `hosts` in the cluster's YAML, "
            f"which has {len(job.cluster.hosts)}; add them, or use --launcher slurm"
        )
    return job.cluster.hosts[: job.nodes]
