"""The `deepspeed` launcher: one node, or several by pdsh; in SLURM jobs, `ranks_by: deepspeed` calls it."""

import os
from collections.abc import Sequence
from pathlib import Path

from hyena_dist.errors import UserError
from hyena_dist.system.hosts import free_port
from hyena_dist.system.launch import RUN_VARIABLE
from hyena_dist.system.programs import program
from jobs.job import CPU_ENVIRONMENT, Job
from jobs.launchers import here
from jobs.launchers.here import SCRIPT, commands, submit
from jobs.scripts import render as fill_in

__all__ = ["command", "commands", "render", "run", "submit"]


def render(job: Job, templates: Path | None) -> dict[str, str]:
    """Return the script, and for several nodes the hostfile and the variables to export there, by file name."""
    here.one_size(job, "deepspeed")
    hosts = here.need_hosts(job, "deepspeed") if job.nodes > 1 else []
    if hosts and job.container:
        raise UserError("deepspeed starts no containers on several nodes; use --launcher slurm or torchrun")
    files = {SCRIPT: fill_in("deepspeed.sh", job, templates)}
    if hosts:
        files["hostfile"] = "".join(f"{host} slots={job.ranks_per_node}\n" for host in hosts)
        # Ranks are started by ssh: these variables alone reach them, and tell a later supervisor whose they are.
        run = {RUN_VARIABLE: str((job.directory / job.run_dir).resolve())}
        variables = {"PATH": f"{job.programs}:$PATH", **run, **job.environment}
        files["deepspeed_env"] = "".join(f"{name}={value}\n" for name, value in variables.items())
    return files


def command(arguments: Sequence[str], *, ranks: int) -> list[str]:
    """Return the command that runs `hyena-dist ARGUMENTS` once, on `ranks` processes of this machine."""
    launcher = [program("deepspeed"), "-q", "--num_accelerators", str(ranks), "--master_port", str(free_port())]
    return [*launcher, "--module", "hyena_dist", *arguments]


def run(command: Sequence[str], gpus: int) -> int:
    """Run what `command` returned to its end, also after Ctrl-C, which reaches the ranks too; returns the exit code."""
    return here.run(command, {"OMP_NUM_THREADS": "1", **({} if gpus else CPU_ENVIRONMENT), **os.environ})
