"""A real SLURM cluster of two nodes, and runs that are submitted to it."""

import contextlib
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

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.system.launch import RUN_VARIABLE
from hyena_dist.system.process_tree import kill, with_variable
from hyena_dist.tracking.jsonl import read_metrics
from hyena_dist.train import outcome
from tests.distributed.training import curve, train_here
from tests.outside import outside
from tests.processes import run_ranks

_UNDER_WAY = ("PENDING", "REQUEUED", "CONFIGURING", "RUNNING", "COMPLETING")

PROGRAM = Path(sys.executable).parent / "hyena-dist"
STEPS = 20
STAGES = [
    {"seq_length": 48, "train_iters": STEPS},
    {"seq_length": 64, "train_iters": STEPS, "parallel": {"context_parallel_size": 2}},
]
TRAIN = {"global_batch_size": 4, "micro_batch_size": 2, "log_interval": 1, "save_interval": 3}
EVALUATION = {"max_tokens": 512, "lengths": [64]}
CLUSTER = "time: '20'\ngpus_per_node: 0\nsignal_s: 60\n"


class Cluster:
    """The commands of the cluster, and the environment in which they work."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder = program, folder
        self.env = os.environ | {"SLURM_SANDBOX_DIR": str(folder)}

    def up(self) -> str | None:
        """Start the cluster, and return why not if it does not start."""
        if os.geteuid() != 0:
            return "it is started as root"
        options = ["--nodes", "2", "--cpus", "4", "--grace", "60"]
        up = subprocess.run([self.program, "up", *options], env=self.env, capture_output=True, text=True)
        if up.returncode:
            return up.stderr.strip().splitlines()[-1]
        exports = self.sandbox("env")
        shell = subprocess.run(["bash", "-c", f"{exports}\nenv -0"], env=self.env, capture_output=True, text=True)
        self.env = dict(line.split("=", 1) for line in shell.stdout.split("\0") if "=" in line)
        return None

    def sandbox(self, *words: str) -> str:
        return self.run(str(self.program), *words)

    def run(self, *words: str) -> str:
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def restart_slurmctld(self, job_id: str) -> None:
        """Kill the controller with SIGKILL, and start a new one.

        It writes down what it has started within 5 s. One that is killed before that starts a job a second time, and
        takes the node that refuses it out of service.
        """
        state, begin = self.folder / "spool/ctld/job_state", time.time()
        self.run("scontrol", "update", f"JobId={job_id}", f"Comment={begin}")  # so that there is something to write
        written = 0.0
        while written < begin:
            assert time.time() < begin + 60, f"{state} was not written"
            time.sleep(0.05)
            with contextlib.suppress(FileNotFoundError):  # slurmctld puts a new file in the old one's place
                written = state.stat().st_mtime
        self.sandbox("restart-ctld")

    def job(self, job_id: str) -> dict[str, str]:
        """Return what scontrol shows of a job."""
        shown = self.run("scontrol", "--oneliner", "show", "job", job_id)
        return dict(word.split("=", 1) for word in shown.split() if "=" in word)


class Job:
    """A run in the cluster."""

    def __init__(self, cluster: Cluster, config: RunConfig, folder: Path) -> None:
        self.cluster, self.folder, self.run = cluster, folder, folder / config.name
        self.file = folder / f"{config.name}.yaml"
        self.file.write_text(dump_config(config.model_copy(update={"output_dir": "."})))
        self.ids: list[str] = []

    def submit(self, *options: str, cluster: str = "") -> "Job":
        """Submit the run, with further facts of the cluster; `ids` are SLURM's numbers of the chain."""
        (self.folder / "cluster.yaml").write_text(CLUSTER + cluster)
        words = ["submit", str(self.file), "--launcher", "slurm", "--nodes", "2", "--ranks-per-node", "1"]
        said = self.jobs(*words, "--cluster", "cluster.yaml", *options)
        self.ids = re.findall(r"\d+", said.splitlines()[0].removesuffix(str(self.run.name)))
        return self

    def jobs(self, *words: str) -> str:
        """`hyena-dist jobs WORDS`."""
        done = subprocess.run(
            [PROGRAM, "jobs", *words],
            cwd=self.folder,
            env=self.cluster.env,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def log(self) -> str:
        path = self.run / "logs/supervisor.log"
        return path.read_text() if path.exists() else ""

    def wait_for(self, what: Callable[[], object], timeout_s: float = 400) -> None:
        deadline = time.monotonic() + timeout_s
        while not what():
            assert time.monotonic() < deadline, f"{self.log}\n{self.everything()}"
            time.sleep(0.02)

    def wait_for_step(self, step: int) -> None:
        """Wait for a step of this attempt: rows of earlier ones stay a while; the supervisor logs when each starts."""
        metrics, log = self.run / "metrics.jsonl", self.run / "logs/supervisor.log"

        def there() -> bool:
            began = log.stat().st_mtime if log.exists() else 0.0
            rows = read_metrics(metrics) if metrics.exists() else []
            return any(row["step"] >= step and row["time"] > began for row in rows)

        self.wait_for(there)

    def wait_for_state(self, job_id: str, *states: str) -> None:
        self.wait_for(lambda: self.cluster.job(job_id)["JobState"] in states)

    def wait_until_gone(self, job_id: str) -> None:
        """Wait until a job has left the queue: even one that completes still holds its nodes."""
        self.wait_for(lambda: job_id not in self.cluster.run("squeue", "--noheader", "--format=%A").split())

    def everything(self) -> str:
        """Return all logs, and the queue, for people to read."""
        logs = [f"--- {path}\n{path.read_text()[-3000:]}" for path in sorted((self.run / "logs").glob("*.log"))]
        return "\n".join([*logs, self.cluster.run("squeue"), self.cluster.run("sinfo", "-N")])

    @property
    def ranks(self) -> list[psutil.Process]:
        """The ranks of both nodes, which are processes of this machine."""
        marked = with_variable(RUN_VARIABLE, str(self.run))
        return [p for p in marked if p.is_running() and p.cmdline()[1:4] == ["-m", "hyena_dist", "train"]]

    def freeze(self, step: int) -> None:
        """Hold the ranks at a step, so that it does not matter how long it takes until something happens to them."""
        self.wait_for_step(step)
        self.signal(signal.SIGSTOP)
        assert len(self.ranks) == 2, self.everything()

    def thaw(self) -> None:
        """Let go of those that are left."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        for rank in self.ranks:
            rank.send_signal(number)

    def thaw_when_asked_to_stop(self, times: int = 1) -> None:
        """Let go of the ranks once their supervisor has passed a signal on."""
        self.wait_for(lambda: self.log.count("SIGUSR1: asking the ranks") == times)
        self.thaw()

    def finish(self) -> list[dict[str, float]]:
        """Wait until all jobs of the chain are over and the run has finished; its curve."""
        for job_id in self.ids:
            self.wait_for(lambda job_id=job_id: self.cluster.job(job_id)["JobState"] not in _UNDER_WAY)
            assert self.cluster.job(job_id)["JobState"] == "COMPLETED", self.everything()
        ended = outcome.read(self.run)
        assert ended, self.everything()
        assert ended[:4] == ("finished", 2 * STEPS, 2, 2), self.everything()
        return curve(self.run)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    program = outside("HYENA_DIST_SLURM_SANDBOX", "the program slurm-sandbox")
    it = Cluster(program, tmp_path_factory.mktemp("slurm"))
    if reason := it.up():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no SLURM here: {reason}")
    try:
        yield it
    finally:
        subprocess.run([program, "down", "--purge"], env=it.env, capture_output=True)


@pytest.fixture
def make_job(cluster: Cluster, make_config: Callable[..., RunConfig], tmp_path: Path) -> Iterator[Callable[[str], Job]]:
    """Make a run of two stages of different layouts, which is not submitted yet."""
    made: list[Job] = []

    def make(name: str) -> Job:
        config = make_config(name=name, train=TRAIN | {"curriculum": STAGES}, evaluation=EVALUATION)
        made.append(Job(cluster, config, tmp_path))
        return made[-1]

    yield make
    for job in made:
        if job.ids:
            subprocess.run(["scancel", *job.ids], env=cluster.env, capture_output=True)
        kill(with_variable(RUN_VARIABLE, str(job.run)))


@pytest.fixture
def undisturbed(make_config: Callable[..., RunConfig], tmp_path: Path) -> list[dict[str, float]]:
    """The curve of two local ranks that nothing happens to, within 1e-5 that of one."""
    if not _curves:
        two = make_config(name="two", train=TRAIN | {"curriculum": STAGES}, evaluation=EVALUATION)
        for _ in STAGES:
            run_ranks(2, train_here, two)
        alone = [{k: v for k, v in stage.items() if k != "parallel"} for stage in STAGES]
        one = make_config(name="one", train=TRAIN | {"curriculum": alone}, evaluation=EVALUATION)
        run_ranks(1, train_here, one)
        for a, b in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
            assert a == pytest.approx(b, rel=1e-5, abs=1e-7)
        _curves.extend(curve(tmp_path / "two"))
    return _curves


_curves: list[dict[str, float]] = []
