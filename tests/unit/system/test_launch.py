"""Launchers tell a process its place, each by variables of its own: deepspeed, torchrun, mpirun and srun."""

import re

import pytest

from hyena_dist.errors import UserError
from hyena_dist.system.launch import launch_environment, meeting_place

OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"}
MPICH = {"PMI_RANK": "3", "MPI_LOCALRANKID": "1", "PMI_SIZE": "4"}
SRUN = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "8"}
ORTED = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "2"}
"""Variables of the srun by which mpirun starts its daemons in a SLURM job, which ranks inherit."""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 0, 1)),
        ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}, (3, 1, 4)),
        (SRUN, (5, 1, 8)),
        (SRUN | {"WORLD_SIZE": "8"}, (5, 1, 8)),
        ({"SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}, (0, 0, 1)),  # a batch script, outside of srun
        (OPEN_MPI, (3, 1, 4)),
        (MPICH, (3, 1, 4)),
        (OPEN_MPI | ORTED, (3, 1, 4)),
        (MPICH | ORTED, (3, 1, 4)),
        (SRUN | {"PMI_RANK": "5", "PMI_SIZE": "8"}, (5, 1, 8)),  # srun --mpi=pmi2
    ],
)
def test_places(environment: dict[str, str], expected: tuple[int, int, int]) -> None:
    launch = launch_environment(environment)
    assert (launch.rank, launch.local_rank, launch.world_size) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but no RANK says which of them this process is; set RANK as well, or"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK is 4, but WORLD_SIZE is 4, whose ranks are 0 to 3"),
        ({"RANK": "first", "WORLD_SIZE": "4"}, "RANK='first' is no number"),
        ({"RANK": "-1", "WORLD_SIZE": "4"}, "RANK='-1' is no number"),
    ],
)
def test_variables_that_do_not_fit(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        launch_environment(environment)


def test_where_ranks_meet() -> None:
    said = {"MASTER_ADDR": "gpu1", "MASTER_PORT": "1234"}
    step = SRUN | {"SLURM_STEP_NODELIST": "gpu[007-012]", "SLURM_JOB_ID": "3", "SLURM_STEP_ID": "2"}
    assert meeting_place(said) == ("gpu1", 1234)
    assert meeting_place(step) == ("gpu007", 20_050)
    assert meeting_place(step | said) == ("gpu1", 1234)
    assert meeting_place(step | {"MASTER_PORT": "1234"}) == ("gpu007", 1234)
    leftover = {"RANK": "0", "WORLD_SIZE": "2", "SLURM_JOB_ID": "999", "SLURM_JOB_NODELIST": "gpu[007-012]"}
    assert meeting_place(MPICH | said) == ("gpu1", 1234)
    for environment, launcher in ((OPEN_MPI, "mpirun"), (MPICH, "mpirun"), (leftover, "the launcher")):
        message = rf"^{launcher} started \d ranks, but MASTER_ADDR and MASTER_PORT do not say where they meet"
        with pytest.raises(UserError, match=message):
            meeting_place(environment)
    with pytest.raises(UserError, match="MASTER_PORT='http' is no number"):
        meeting_place(said | {"MASTER_PORT": "http"})
