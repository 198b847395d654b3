"""A launcher that dies without a word to its ranks: they save, say so, and end."""

import os
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
from hyena_dist.system.hosts import free_port
from hyena_dist.system.process_tree import kill, with_variable
from hyena_dist.train import outcome
from jobs.run_state import standing

pytestmark = pytest.mark.launcher

BIN = Path(sys.executable).parent
TRAIN = {
    "curriculum": [{"seq_length": 48, "train_iters": 100_000}],
    "global_batch_size": 4,
    "log_interval": 1,
    "save_interval": 0,
}
DEEPSPEED = ["deepspeed", "--num_accelerators", "2", "--master_port", "PORT", "--module", "hyena_dist"]
TORCHRUN = ["torchrun", "--nproc_per_node", "2", "--master_port", "PORT", "-m", "hyena_dist"]


@pytest.fixture
def start(make_config: Callable[..., RunConfig], tmp_path: Path) -> Iterator[Callable[[list[str]], psutil.Popen]]:
    """Start a run of two ranks, and return its launcher once there are steps."""
    started: list[psutil.Popen] = []

    def begin(command: list[str]) -> psutil.Popen:
        (tmp_path / "run.yaml").write_text(dump_config(make_config(train=TRAIN)))
        program, *rest = [str(free_port()) if word == "PORT" else word for word in command]
        env = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "GONE_TEST": str(tmp_path)}
        with (tmp_path / "output").open("wb") as output:
            started.append(
                psutil.Popen(
                    [str(BIN / program), *rest, "train", "run.yaml"],
                    cwd=tmp_path, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                )
            )  # fmt: skip
        wait_for(lambda: (tmp_path / "run/metrics.jsonl").exists(), tmp_path)
        return started[-1]

    yield begin
    kill(with_variable("GONE_TEST", str(tmp_path)))
    for process in started:
        process.wait()


def wait_for(what: Callable[[], object], folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline, (folder / "output").read_text()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("command", "below", "number"),
    [
        (DEEPSPEED, 0, signal.SIGTERM),
        (DEEPSPEED, 1, signal.SIGKILL),
        (TORCHRUN, 0, signal.SIGKILL),
    ],
    ids=["deepspeed", "deepspeed's launch", "torchrun"],
)
def test_ranks_save_and_end(
    command: list[str], below: int, number: signal.Signals, start: Callable[[list[str]], psutil.Popen], tmp_path: Path
) -> None:
    launcher = start(command)
    for _ in range(below):
        [launcher] = launcher.children()
    launcher.send_signal(number)
    wait_for(lambda: not with_variable("GONE_TEST", str(tmp_path)), tmp_path)
    ended = outcome.read(tmp_path / "run")
    assert ended is not None, (tmp_path / "output").read_text()
    assert ended.outcome == "stopped"
    assert ended.step == standing(tmp_path / "run").step > 0
    output = (tmp_path / "output").read_text()
    assert f"the launcher, process {launcher.pid}, is gone: this rank stops" in output
    assert "stopped and saved at step" in output
