"""The `torchrun` launcher: on one node with a new port at each start, on several by a c10d rendezvous on the first."""

from pathlib import Path

from jobs.job import Job
from jobs.launchers import here
from jobs.launchers.here import SCRIPT, submit
from jobs.scripts import render as fill_in

__all__ = ["commands", "render", "submit"]

_NODE_SCRIPT = "node.sh"


def render(job: Job, templates: Path | None) -> dict[str, str]:
    """Return the script, and the one of nodes after the first, by file name."""
    here.one_size(job, "torchrun")
    if job.nodes == 1:
        return {SCRIPT: fill_in("torchrun.sh", job, templates)}
    here.need_hosts(job, "torchrun")
    names = {SCRIPT: "torchrun.sh", _NODE_SCRIPT: "torchrun-node.sh"}
    return {file: fill_in(template, job, templates) for file, template in names.items()}


def commands(job: Job) -> list[str]:
    """Return the lines to be typed, of which each says on which node."""
    others = job.cluster.hosts[1 : job.nodes]
    node = job.directory / job.run_dir / "job" / _NODE_SCRIPT
    return [*here.commands(job), *(f"# on {host}: bash {node}" for host in others)]
