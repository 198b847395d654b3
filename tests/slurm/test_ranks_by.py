"""Ranks of a SLURM job that the deepspeed launcher starts: they hear of a time limit, and train the same."""

from collections.abc import Callable

import pytest

from tests.slurm.conftest import Cluster, Job

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


def test_deepspeed(make_job: Callable[[str], Job], cluster: Cluster, undisturbed: list[dict[str, float]]) -> None:
    job = make_job("by-deepspeed").submit(cluster="ranks_by: deepspeed\n")
    job.wait_for_step(4)
    cluster.run("scancel", "--batch", "--signal=USR1", job.ids[0])
    job.wait_for(lambda: f"job {job.ids[0]} is queued again" in job.log)
    assert job.finish() == undisturbed
    assert "stopped, exit code 0" in job.log
