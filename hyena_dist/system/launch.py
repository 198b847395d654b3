"""The place of this process among the ranks of a run, which launchers tell by environment variables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from hyena_dist.errors import UserError
from hyena_dist.system.hosts import first_host

RUN_VARIABLE = "HYENA_DIST_RUN"
"""The variable that every process of a supervised run has, with the run's folder: so supervisors find what earlier ones
left, and ranks know that somebody waits to hear how they end."""


@dataclass(frozen=True)
class Launch:
    """The place that the launcher gave this process."""

    rank: int
    local_rank: int
    world_size: int


class _Names(NamedTuple):
    """The variables of a launcher."""

    launcher: str
    rank: str
    local_rank: str
    world_size: str


_PMI = _Names("mpirun", "PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE")  # of MPICH and Intel
_SRUN = _Names("srun", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS")
# What starts ranks by srun, as mpirun does in SLURM jobs, leaves them srun's variables: those come last.
_LAUNCHERS = (
    _Names("the launcher", "RANK", "LOCAL_RANK", "WORLD_SIZE"),  # deepspeed, torchrun, `jobs spawn`
    _Names("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE"),
    _PMI,
    _SRUN,
)


def launch_environment(env: Mapping[str, str] = os.environ) -> Launch:
    """Read rank and world size as deepspeed, torchrun, mpirun or srun set them; one process if none has.

    Raises:
        UserError: they are no numbers that fit together, or there is a size without a rank.
    """
    names = _found(env)
    if names is None:
        if env.get("WORLD_SIZE", "1") != "1":
            raise UserError(
                f"WORLD_SIZE is {env['WORLD_SIZE']}, but no RANK says which of them this process is; "
                f"set RANK as well, or unset WORLD_SIZE"
            )
        return Launch(0, 0, 1)
    rank, size = _number(env, names.rank), _number(env, names.world_size)
    if not rank < size:
        raise UserError(
            f"{names.rank} is {rank}, but {names.world_size} is {size}, whose ranks are 0 to {size - 1}; mend them"
        )
    return Launch(rank, _number(env, names.local_rank) if names.local_rank in env else 0, size)


def meeting_place(env: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Return the host and port where ranks meet: what MASTER_ADDR and MASTER_PORT say, else SLURM's variables.

    Raises:
        UserError: neither says where, or the port is no number.
    """
    if "SLURM_STEP_NODELIST" in env:
        # Every rank must find the same port without talking: SLURM numbers jobs and steps for us.
        job, step = int(env.get("SLURM_JOB_ID", 0)), int(env.get("SLURM_STEP_ID", 0))
        port = str(20_000 + (job * 16 + step) % 20_000)
        env = {"MASTER_ADDR": first_host(env["SLURM_STEP_NODELIST"]), "MASTER_PORT": port} | dict(env)
    if not {"MASTER_ADDR", "MASTER_PORT"} <= env.keys():
        names = _found(env)
        raise UserError(
            f"{names.launcher if names else 'a launcher'} started {launch_environment(env).world_size} ranks, but "
            f"MASTER_ADDR and MASTER_PORT do not say where they meet; export the name of rank 0's machine and a free "
            f"port, with mpirun by -x (Open MPI) or -genv (MPICH, Intel)"
        )
    return env["MASTER_ADDR"], _number(env, "MASTER_PORT")


def is_supervised(env: Mapping[str, str] = os.environ) -> bool:
    """Return whether a supervisor of `hyena-dist jobs` waits for the end of this process."""
    return RUN_VARIABLE in env


def _found(env: Mapping[str, str]) -> _Names | None:
    """Return the variables of the launcher that started this process."""
    for names in _LAUNCHERS:
        if names.rank in env and names.world_size in env:
            if names == _PMI and env["PMI_SIZE"] == env.get(_SRUN.world_size):
                continue  # srun --mpi=pmi2 sets both, and srun's know the place on the node
            return names
    return None


def _number(env: Mapping[str, str], name: str) -> int:
    if not env[name].isdecimal():
        raise UserError(f"{name}={env[name]!r} is no number; set it as a launcher does")
    return int(env[name])
