"""The `slurm` launcher: each segment of the curriculum is a SLURM job, which waits for the one before."""

import os
import re
import shlex
import subprocess
from pathlib import Path

from hyena_dist.errors import TemporaryError, UserError
from jobs import slurm_queue
from jobs.job import Job, Segment
from jobs.launchers import Record
from jobs.run_state import is_done
from jobs.scripts import render as fill_in


def render(job: Job, templates: Path | None) -> dict[str, str]:
    """Return a script for each segment, by file name."""
    if job.cluster.ranks_by == "deepspeed" and job.container and job.container.runtime == "apptainer":
        raise UserError("ranks_by deepspeed does not start apptainer containers; use ranks_by srun or torchrun")
    return {_script(segment): fill_in("slurm.sh", job, templates, segment) for segment in job.segments}


def commands(job: Job) -> list[str]:
    """Return a line of shell for each SLURM job, of which the later ones name the ones before."""
    lines: list[str] = []
    for segment in _left(job):
        *words, script = _sbatch(job, segment, f"$segment_{segment.number - 1}" if lines else None)
        lines.append(f"segment_{segment.number}=$({' '.join(words)} {shlex.quote(script)})")
    return lines


def submit(job: Job, background: bool, record: Record) -> int:
    """Queue a SLURM job for each segment; if one of them is refused, none stays. Returns 0."""
    ids: list[str] = []
    record(job_ids=ids)
    for segment in _left(job):
        try:
            ids.append(_queue(_sbatch(job, segment, ids[-1] if ids else None)))
        except (UserError, TemporaryError):
            if ids:
                slurm_queue.cancel(ids)
                record(job_ids=[])
            raise
        record(job_ids=ids)
    segments = "".join(f", then {job_id}" for job_id in ids[1:])
    print(f"SLURM job {ids[0]}{segments}: {job.run_dir}")
    print(f"hyena-dist jobs status {shlex.quote(str(job.run_dir))}")
    return 0


def _left(job: Job) -> list[Segment]:
    """Return the segments that are not done, and the last one always: it says itself if there is nothing left to do."""
    *others, last = job.segments
    return [*(segment for segment in others if not is_done(job.run_dir, segment.last_stage)), last]


def _script(segment: Segment) -> str:
    return f"segment-{segment.number}.sh"


def _sbatch(job: Job, segment: Segment, after: str | None = None) -> list[str]:
    waits = [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"] if after else []
    return ["sbatch", "--parsable", *waits, str(job.run_dir / "job" / _script(segment))]


def _queue(command: list[str]) -> str:
    """Run sbatch, and return the number that SLURM gives the job."""
    # What a job that submits was given must not shape the new one.
    env = {name: value for name, value in os.environ.items() if not re.match(r"(SLURM|SBATCH|SRUN)_", name)}
    keep = {name: value for name, value in os.environ.items() if name == "SLURM_CONF" or name.startswith("SBATCH_")}
    try:
        done = subprocess.run(command, env=env | keep, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        raise UserError("sbatch is not on this machine; submit on a login node, or see --dry-run") from None
    except subprocess.TimeoutExpired:
        raise TemporaryError("sbatch: slurmctld does not answer; try again later") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        if "contact" in said.lower() or "timed out" in said.lower():
            raise TemporaryError(f"sbatch: {said}; try again later")
        raise UserError(f"SLURM refuses {command[-1]}: {said}; mend the cluster's YAML; no job was left in the queue")
    return done.stdout.strip().split(";")[0]
