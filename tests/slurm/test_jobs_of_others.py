"""Runs inside of SLURM jobs that were made for something else: those jobs, and what else runs in them, are left alone.

The runs are local ones of tiny ranks that do not train (tests/unit/jobs/conftest.py): what matters is the supervisor.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hyena_dist.system.launch import RUN_VARIABLE
from hyena_dist.system.process_tree import kill, with_variable
from jobs.run_state import supervisor
from tests.slurm.conftest import PROGRAM, Cluster
from tests.unit.jobs.conftest import RANK

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

GO_ON = "touch after-{name}; sleep 300"
"""What a job has to do beside and after a run."""


class Host:
    """A SLURM job in which local runs are started, and which has other things to do."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.ids: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        (folder / "rank.py").write_text(RANK)

    def command(self, name: str, actions: str) -> str:
        """Return the line of shell that is a local run."""
        run = self.folder / name
        (run / "job").mkdir(parents=True)
        words = [PROGRAM, "jobs", "supervise", run, "--", sys.executable, self.folder / "rank.py", run, actions]
        return " ".join(map(str, words))

    def sbatch(self, script: str, *options: str) -> str:
        file = self.folder / f"script-{len(self.ids)}.sh"
        file.write_text(f"#!/bin/bash\n#SBATCH --output={self.folder}/host.log --requeue --time=10\n{script}\n")
        words = ["sbatch", "--parsable", f"--chdir={self.folder}", *options, str(file)]
        self.ids.append(self.cluster.run(*words).strip())
        return self.ids[-1]

    def srun(self, script: str) -> "subprocess.Popen[bytes]":
        words = ["timeout", "200", "srun", "-N1", "-n1", "bash", "-c", script]
        process = subprocess.Popen(words, env=self.cluster.env, cwd=self.folder, start_new_session=True)
        self.processes.append(process)
        return process

    def wait_for(self, what: Callable[[], object], timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not what():
            assert time.monotonic() < deadline, "\n".join(p.read_text() for p in self.folder.rglob("*.log"))
            time.sleep(0.05)

    def running(self, name: str) -> None:
        """Wait until a run's rank is under way, in this attempt."""
        self.wait_for((self.folder / name / "running").exists)

    def supervisor(self, name: str) -> psutil.Process:
        """Return the supervisor: nodes of the sandbox have pids of their own, so it is found by what it runs."""
        found = [
            p
            for p in psutil.process_iter(["cmdline"])
            if "supervise" in (words := p.info["cmdline"] or []) and str(self.folder / name) in words
        ]
        assert len(found) == 1, found
        return found[0]

    def log(self, name: str) -> str:
        return (self.folder / name / "logs/supervisor.log").read_text()

    def jobs(self, *words: str) -> str:
        done = subprocess.run(
            [PROGRAM, "jobs", *words], cwd=self.folder, env=self.cluster.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def host(cluster: Cluster, tmp_path: Path) -> Iterator[Host]:
    it = Host(cluster, tmp_path)
    yield it
    if it.ids:
        subprocess.run(["scancel", *it.ids], env=cluster.env, capture_output=True)
    for process in it.processes:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for folder in tmp_path.iterdir():
        kill(with_variable(RUN_VARIABLE, str(folder)))


def kill_rank(host: Host, name: str) -> None:
    [rank] = with_variable(RUN_VARIABLE, str(host.folder / name))
    (host.folder / name / "running").unlink()
    rank.kill()


def test_inside_srun(host: Host) -> None:
    """A killed rank restarts, and neither the user's shell nor the supervisor is ended for it."""
    shell = host.srun(f"{host.command('run', 'run')}; echo $? > ended; {GO_ON.format(name='run')}")
    host.running("run")
    kill_rank(host, "run")
    host.running("run")
    assert "starting again in 1 s" in host.log("run")
    assert shell.poll() is None
    assert re.match(r"asked the supervisor, process \d+ on node\d, to let", host.jobs("cancel", "run"))
    host.wait_for((host.folder / "after-run").exists)
    assert (host.folder / "ended").read_text() == "0\n"
    assert "cancelled: asking the ranks to save and stop" in host.log("run")
    assert shell.poll() is None


def test_inside_sbatch(host: Host) -> None:
    """Beside it, an srun of somebody else's lives on; SIGTERM to one supervisor does not queue the job again."""
    one, other = host.command("one", "run"), host.command("other", "run")
    script = f"srun --overlap -n1 sleep 300 &\n{one} &\n{other}\n{GO_ON.format(name='other')}"
    job = host.sbatch(script, "--ntasks=2")
    for name in ("one", "other"):
        host.running(name)
    kill_rank(host, "one")
    host.running("one")
    assert f"{job}.0" in host.cluster.run("squeue", "--noheader", "--steps", "--format=%i").split()

    host.supervisor("other").send_signal(signal.SIGTERM)
    host.wait_for((host.folder / "after-other").exists)
    assert "stopped, exit code 0" in host.log("other")
    assert host.cluster.job(job)["JobState"] == "RUNNING"
    assert host.cluster.job(job)["Restarts"] == "0"
    assert "queued again" not in host.log("other")

    assert "neither runs nor waits" in host.jobs("cancel", "other")
    assert host.cluster.job(job)["JobState"] == "RUNNING"
    assert f"{job}.0" in host.cluster.run("squeue", "--noheader", "--steps", "--format=%i").split()


def test_in_an_array(host: Host) -> None:
    """A sweep: each task has a run of its own, which nobody takes over."""
    lines = [f"[ $SLURM_ARRAY_TASK_ID = {i} ] && {host.command(f'run-{i}', 'run')}" for i in (1, 2)]
    host.sbatch("\n".join(lines) + "\necho $? > ended-$SLURM_ARRAY_TASK_ID", "--array=1-2")
    for i in (1, 2):
        host.running(f"run-{i}")
    host.supervisor("run-1").send_signal(signal.SIGUSR1)
    host.wait_for((host.folder / "ended-1").exists)
    assert "the next task" not in host.log("run-1")
    assert host.supervisor("run-2").is_running()


def test_after_the_job(host: Host) -> None:
    """A run that a SLURM job has hosted is none of a later job's affair, even one with leftovers in its environment."""
    first = host.sbatch(host.command("run", "stopped"))
    host.wait_for(lambda: host.cluster.job(first)["JobState"] == "COMPLETED")
    found = supervisor(host.folder / "run")
    assert found is not None
    assert found.job_id is None
    assert not found.alive
    assert "neither runs nor waits" in host.jobs("cancel", "run")

    leftovers = {"SLURM_JOB_ID": first, "SLURM_JOB_NODELIST": "gpu[007-012]", "SLURM_NTASKS": "8"}
    words = host.command("later", "crash,run").split()
    with subprocess.Popen(words, env=host.cluster.env | leftovers, cwd=host.folder) as process:
        host.running("later")
        assert "asked the supervisor" in host.jobs("cancel", "later")
        assert process.wait(30) == 0
    assert "crashed, exit code 7" in host.log("later")
