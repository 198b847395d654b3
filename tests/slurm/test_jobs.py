"""Runs of two stages with different layouts on a real SLURM: whatever happens, the losses are those of a calm run."""

import json
from collections.abc import Callable

import pytest

from hyena_dist.train import outcome
from jobs.run_state import standing
from tests.slurm.conftest import STEPS, Cluster, Job

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
Make = Callable[[str], Job]
Curve = list[dict[str, float]]


def test_time_limit_beside_another_run(make_job: Make, cluster: Cluster, undisturbed: Curve) -> None:
    """SIGUSR1 before the limit: saved, queued again, finished. A second run on the same nodes goes its own way."""
    short, calm = make_job("short").submit(), make_job("calm").submit()
    assert len(short.ids) == len(calm.ids) == 2
    waits = json.loads(short.jobs("status", "short", "--json"))[0]
    assert [job["reason"] for job in waits["jobs"]][1] == "Dependency"

    for script in (short.run / "job").glob("*.sh"):
        cluster.run("sbatch", "--test-only", str(script))

    short.freeze(4)
    assert calm.finish() == undisturbed
    for step, job in ((1, calm), (4, short)):
        assert f"{step:9,}" in job.jobs("logs", job.run.name, "--lines", "100")
    assert calm.jobs("status", "calm").splitlines()[1].split()[:3] == ["calm", "finished", f"{2 * STEPS}/{2 * STEPS}"]
    running = short.jobs("status", "short").splitlines()[1]
    assert running.split()[:2] == ["short", "running"]
    assert f"slurm {short.ids[0]} RUNNING" in running

    cluster.run("scontrol", "update", f"JobId={short.ids[0]}", "EndTime=now+75")
    short.thaw_when_asked_to_stop()
    assert short.finish() == undisturbed
    assert f"job {short.ids[0]} is queued again" in short.log
    assert short.log.count("stopped, exit code 0") == 1
    assert short.log.count("starting:") - short.log.count("starting again") == 3


def test_scontrol_requeue_and_a_restarted_slurmctld(make_job: Make, cluster: Cluster, undisturbed: Curve) -> None:
    job = make_job("requeued").submit()
    job.freeze(5)
    cluster.run("scontrol", "requeue", job.ids[0])
    job.wait_for_state(job.ids[0], "PENDING")
    job.wait_for(lambda: job.log.count("starting:") == 2)
    for job_id, step in zip(job.ids, (8, STEPS + 2), strict=True):
        job.freeze(step)
        cluster.restart_slurmctld(job_id)
        job.thaw()
    assert job.finish() == undisturbed


def test_crashed_node(make_job: Make, cluster: Cluster, undisturbed: Curve) -> None:
    """The second node loses its power: SLURM queues the job again, and it goes on when the node is back."""
    job = make_job("crashed").submit()
    job.freeze(STEPS + 5)
    cluster.sandbox("crash-node", "node2")
    job.wait_for_state(job.ids[1], "PENDING")
    assert job.jobs("status", "crashed").splitlines()[1].split()[1] == "queued"
    cluster.sandbox("start-node", "node2")
    assert job.finish() == undisturbed


def test_preempted(make_job: Make, cluster: Cluster, undisturbed: Curve) -> None:
    """The partition's grace time begins with SIGCONT and SIGTERM to the ranks, which save; the job is queued again."""
    job = make_job("preempted").submit(cluster="partition: low\n")
    job.freeze(4)
    urgent = ["--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "true"]
    preemptor = cluster.run("sbatch", "--parsable", *urgent).strip()
    job.wait_for_state(preemptor, "COMPLETED")
    assert job.finish() == undisturbed
    assert "stopped, exit code 0: stopped and saved at step" in job.log
    assert f"job {job.ids[0]} is queued again" in job.log


def test_cancelled_and_submitted_again(make_job: Make, cluster: Cluster, undisturbed: Curve) -> None:
    """A run is cancelled once by `jobs cancel`, which saves, and once by scancel, which does not."""
    job = make_job("cancelled").submit()
    job.freeze(4)
    said = job.jobs("cancel", "cancelled")
    assert f"cancelled SLURM job {job.ids[1]}" in said
    assert f"asked SLURM job {job.ids[0]} to save and stop" in said
    job.thaw_when_asked_to_stop()
    job.wait_until_gone(job.ids[0])
    assert cluster.job(job.ids[0])["JobState"] == "COMPLETED"
    assert cluster.job(job.ids[1])["JobState"] == "CANCELLED"
    ended = outcome.read(job.run)
    assert ended
    assert ended.outcome == "stopped"
    assert ended.step == standing(job.run).step >= 4

    job.submit()
    job.freeze(STEPS + 4)
    cluster.run("scancel", job.ids[1])
    job.wait_until_gone(job.ids[1])
    job.submit()
    assert len(job.ids) == 1  # the first segment is done
    assert job.finish() == undisturbed


def test_tasks_that_take_turns(make_job: Make, cluster: Cluster, undisturbed: Curve) -> None:
    """The tasks of an array go on for each other where jobs may not be requeued; torchrun's ranks hear of it too."""
    job = make_job("turns").submit("--array", "2", cluster="ranks_by: torchrun\n")
    job.freeze(4)
    cluster.run("scancel", "--batch", "--signal=USR1", f"{job.ids[0]}_1")
    job.thaw_when_asked_to_stop()
    job.wait_for(lambda: "the next task of the array goes on" in job.log)
    job.wait_for(lambda: job.log.count("starting:") == 2)
    job.freeze(8)
    job.ranks[1].kill()
    job.thaw()
    job.wait_for(lambda: "starting again in 1 s" in job.log)
    assert job.finish() == undisturbed
