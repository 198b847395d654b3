"""The `local` launcher: ranks are plain processes of this machine."""

from pathlib import Path

from hyena_dist.errors import UserError
from jobs.job import Job
from jobs.launchers.here import SCRIPT, commands, one_size, submit
from jobs.scripts import render as fill_in

__all__ = ["commands", "render", "submit"]


def render(job: Job, templates: Path | None) -> dict[str, str]:
    """Return the script, by file name."""
    one_size(job, "local")
    if job.nodes > 1:
        raise UserError(f"--nodes {job.nodes} needs another launcher: local starts ranks on this machine alone")
    return {SCRIPT: fill_in("local.sh", job, templates)}
