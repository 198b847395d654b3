"""Training does not depend on whoever reads what it prints, and a terminal can end it without a loss."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.train import outcome
from hyena_dist.train.checkpoint.format import check, latest, step_of

ROOT = Path(__file__).parents[2]
Started = Callable[..., "tuple[subprocess.Popen[bytes], RunConfig]"]


@pytest.fixture
def start(make_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """Start a verb on a run, by default `train`."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def start(
        steps: int, *arguments: str, verb: str = "train", workers: int = 0, **popen: Any
    ) -> "tuple[subprocess.Popen[bytes], RunConfig]":
        stages = [{"seq_length": 32, "train_iters": steps}]
        data = make_config().data.model_dump() | {"workers": workers}
        train = {"curriculum": stages, "global_batch_size": 4, "log_interval": 1, "save_interval": 0}
        config = make_config(train=train, data=data)
        (tmp_path / "run.yaml").write_text(dump_config(config))
        command = [sys.executable, "-m", "hyena_dist", *verb.split(), str(tmp_path / "run.yaml"), *arguments]
        return subprocess.Popen(command, **popen), config

    return start


def wait_for_steps(config: RunConfig, count: int) -> None:
    deadline = time.monotonic() + 60
    metrics = config.run_dir / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ending(config: RunConfig) -> str:
    found = outcome.read(config.run_dir)
    assert found is not None
    return found.outcome


def stopped_and_saved(config: RunConfig) -> None:
    """Check that the run was stopped, and that what it had done is on the disk."""
    assert ending(config) == "stopped"
    saved = latest(config.run_dir / "checkpoints")
    assert saved is not None
    check(saved)
    assert step_of(saved) == (config.run_dir / "metrics.jsonl").read_bytes().count(b"\n")


def test_a_reader_that_leaves(start: Started) -> None:
    """As `train ... 2>&1 | head -1`."""
    process, config = start(20, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
    assert ending(config) == "finished"


def test_a_full_disk_under_the_console(start: Started) -> None:
    with open("/dev/full", "w") as full:
        process, config = start(20, stdout=full, stderr=full)
    assert process.wait(60) == 0
    assert ending(config) == "finished"


def test_submit_without_a_reader(start: Started) -> None:
    """As `jobs submit ... | head -1`: the ranks go on, and none is started twice."""
    process, config = start(20, "--ranks-per-node", "2", verb="jobs submit", stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(100) == 0
    assert ending(config) == "finished"
    log = (config.run_dir / "logs/supervisor.log").read_text()
    assert log.count("starting: ") == 1, log


def test_ctrl_c(start: Started) -> None:
    """The terminal sends it to the data workers too."""
    process, config = start(100_000, workers=1, stderr=subprocess.PIPE, process_group=0)
    wait_for_steps(config, 3)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.count(b"Ctrl-C: saving, then stopping") == 1
    assert b"interrupted; what was saved is kept, the same command continues" in said
    stopped_and_saved(config)


def test_a_terminal_that_closes(start: Started) -> None:
    """Its programs get SIGHUP, and none of them can write any more."""
    ours, theirs = pty.openpty()
    process, config = start(
        100_000,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    wait_for_steps(config, 3)
    os.close(ours)
    assert process.wait(60) == 0
    stopped_and_saved(config)


def test_the_log_of_a_rank_without_a_reader(tmp_path: Path) -> None:
    """`jobs rank` shows what rank 0 prints and keeps it, also when nobody looks any more."""
    script = "import time\nfor n in range(20): print(n, flush=True); time.sleep(0.01)\nopen('done', 'w')"
    command = [sys.executable, "-m", "hyena_dist", "jobs", "rank", str(tmp_path / "logs"), sys.executable, "-c", script]
    environment = {**os.environ, "RANK": "0", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.wait(60) == 0
    assert (tmp_path / "done").exists()
    deadline = time.monotonic() + 10
    while (tmp_path / "logs/rank-00000.log").read_text().splitlines() != [str(n) for n in range(20)]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
