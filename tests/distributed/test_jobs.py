"""`jobs submit` with every launcher of this machine: the same losses, whatever happens to the processes on the way."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.system.hosts import free_port
from hyena_dist.system.launch import RUN_VARIABLE
from hyena_dist.system.process_tree import kill, with_variable
from hyena_dist.train import outcome
from jobs.run_state import standing, supervisor
from tests.distributed.training import curve, train_here
from tests.processes import run_ranks

pytestmark = pytest.mark.launcher

PROGRAM = Path(sys.executable).parent / "hyena-dist"
STEPS = 24
TRAIN: dict[str, Any] = {
    # Two stages whose layouts need processes of their own.
    "curriculum": [
        {"seq_length": 48, "train_iters": STEPS},
        {"seq_length": 64, "train_iters": STEPS, "parallel": {"context_parallel_size": 2}},
    ],
    "global_batch_size": 4,
    "micro_batch_size": 2,
    "log_interval": 1,
    "save_interval": 4,
}


class Submitted:
    """A submitted run, and the processes around it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder, folder / "run"
        self.process: subprocess.Popen[bytes] | None = None
        self.node: subprocess.Popen[bytes] | None = None

    def submit(self, launcher: str, *options: str) -> "Submitted":
        command = [PROGRAM, "jobs", "submit", "run.yaml", "--launcher", launcher]
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [*command, *(options or ["--ranks-per-node", "2"])], cwd=self.folder, stdout=output, stderr=output
            )
        return self

    def join(self) -> None:
        """Run the script of a second node."""
        script = self.run / "job/node.sh"
        self.wait_for(script.exists)
        with (self.folder / "output-of-node").open("ab") as output:
            self.node = subprocess.Popen(["bash", script], stdout=output, stderr=output)

    def code(self) -> int:
        assert self.process
        return self.process.wait(400)

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def wait_for_rows(self, rows: int) -> None:
        metrics = self.run / "metrics.jsonl"
        self.wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= rows)

    def wait_for(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 300
        while not what():
            assert time.monotonic() < deadline, self.output
            assert self.process
            assert self.process.poll() is None, self.output
            time.sleep(0.002)

    @property
    def log(self) -> str:
        return (self.run / "logs/supervisor.log").read_text()

    @property
    def supervisor(self) -> psutil.Process:
        found = supervisor(self.run)
        assert found
        assert found.alive
        return psutil.Process(found.identity.pid)

    @property
    def launcher(self) -> psutil.Process:
        return self.supervisor.children()[0]

    @property
    def ranks(self) -> list[psutil.Process]:
        """Pids of the ranks, in order."""
        return ranks_below(self.supervisor)


def ranks_below(process: psutil.Process) -> list[psutil.Process]:
    """Pids of the ranks that a process, or others below it, have started, in order."""
    below = {p: p.environ() for p in process.children(recursive=True)}
    # `tee`, and workers that ranks have started, have their variables too.
    found = {int(env["RANK"]): p for p, env in below.items() if "RANK" in env and "hyena_dist" in p.cmdline()}
    return [found[rank] for rank in sorted(found)]


@pytest.fixture
def submitted(make_config: Callable[..., RunConfig], tmp_path: Path) -> Iterator[Submitted]:
    config = make_config(train=TRAIN, output_dir=".", evaluation={"max_tokens": 512, "lengths": [64]})
    (tmp_path / "run.yaml").write_text(dump_config(config))
    it = Submitted(tmp_path)
    yield it
    if it.process:
        it.process.kill()
    kill(with_variable(RUN_VARIABLE, str(it.run)))
    if it.node and it.node.poll() is None:
        for process in [psutil.Process(it.node.pid), *psutil.Process(it.node.pid).children(recursive=True)]:
            process.kill()


@pytest.fixture(scope="module")
def curves() -> dict[str, list[dict[str, float]]]:
    """Curves of runs that nothing happened to, on one rank and on two; whichever test comes first fills them in."""
    return {}


def disturb_nothing(run: Submitted, launcher: str) -> None:
    assert run.submit(launcher).code() == 0, run.output


def kill_a_rank_and_the_supervisor(run: Submitted, launcher: str) -> None:
    run.submit(launcher).wait_for_rows(9)
    run.ranks[1].kill()
    run.wait_for_rows(STEPS + 9)
    first = run.supervisor
    first.kill()
    assert run.code() != 0
    assert standing(run.run).stage == 1
    assert run.submit(launcher).code() == 0, run.output
    assert "starting again in 1 s" in run.log


def stop_and_kill_the_launcher(run: Submitted, launcher: str) -> None:
    run.submit(launcher).wait_for_rows(7)
    run.supervisor.send_signal(signal.SIGUSR1)
    assert run.code() == 0, run.output
    ended = outcome.read(run.run)
    assert ended
    assert ended.outcome == "stopped", run.output
    assert ended.step == standing(run.run).step >= 7
    run.submit(launcher).wait_for_rows(STEPS + 9)
    run.launcher.kill()
    assert run.code() == 0, run.output
    assert "crashed, exit code 137" in run.log


def kill_a_rank_of_another_node(run: Submitted, launcher: str) -> None:
    (run.folder / "cluster.yaml").write_text(f"hosts: [127.0.0.1, localhost]\nport: {free_port()}\ngpus_per_node: 0\n")
    run.submit(launcher, "--nodes", "2", "--ranks-per-node", "1", "--cluster", "cluster.yaml").join()
    run.wait_for_rows(9)
    assert run.node
    (rank,) = ranks_below(psutil.Process(run.node.pid))
    rank.kill()
    assert run.code() == 0, run.output
    assert run.node.wait(60) == 0
    assert "starting again in 1 s" in run.log


@pytest.mark.parametrize(
    ("launcher", "disturb"),
    [
        ("local", disturb_nothing),
        ("deepspeed", stop_and_kill_the_launcher),
        ("torchrun", kill_a_rank_and_the_supervisor),
        ("torchrun", kill_a_rank_of_another_node),
    ],
)
def test_same_losses(
    launcher: str,
    disturb: Callable[[Submitted, str], None],
    submitted: Submitted,
    curves: dict[str, list[dict[str, float]]],
    make_config: Callable[..., RunConfig],
    tmp_path: Path,
) -> None:
    disturb(submitted, launcher)
    found = curve(submitted.run)
    ended = outcome.read(submitted.run)
    assert ended
    assert ended[:4] == ("finished", 2 * STEPS, 2, 2)
    assert all((submitted.run / f"logs/rank-0000{rank}.log").exists() for rank in range(2))

    if not curves:
        small = {"evaluation": {"max_tokens": 512, "lengths": [64]}}
        alone = [{k: v for k, v in stage.items() if k != "parallel"} for stage in TRAIN["curriculum"]]
        run_ranks(1, train_here, make_config(name="alone", train=TRAIN | {"curriculum": alone}, **small))
        for _ in TRAIN["curriculum"]:
            run_ranks(2, train_here, make_config(name="two", train=TRAIN, **small))
        curves |= {name: curve(tmp_path / name) for name in ("alone", "two")}
    assert found == curves["two"]
    for a, b in zip(curves["alone"], found, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-7)
