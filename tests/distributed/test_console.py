"""Training does not depend on whoever reads what it prints, and a terminal can end it without a loss."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.train import outcome
from hyena_dist.train.checkpoint.format import check, latest, step_of
from tests.processes import SERVER, cli_main

ROOT = Path(__file__).parents[2]
Configure = Callable[..., RunConfig]


@pytest.fixture
def run_of(make_config: Callable[..., RunConfig], tmp_path: Path) -> Configure:
    """Write run.yaml of a run of so many steps, which saves at its end alone."""

    def configure(steps: int, workers: int = 0) -> RunConfig:
        stages = [{"seq_length": 32, "train_iters": steps}]
        data = make_config().data.model_dump() | {"workers": workers}
        train = {"curriculum": stages, "global_batch_size": 4, "log_interval": 1, "save_interval": 0}
        config = make_config(train=train, data=data)
        (tmp_path / "run.yaml").write_text(dump_config(config))
        return config

    return configure


def train(folder: Path, output: str | Path, errors: str | Path) -> Any:
    """Start `hyena-dist train run.yaml` in a session of its own, so that a terminal as its output is its terminal."""
    arguments = ("train", "run.yaml")
    process = SERVER.Process(
        target=_in_a_session, args=(arguments, folder, dict(os.environ), Path(output), Path(errors))
    )
    process.start()
    return process


def _in_a_session(arguments: tuple[str, ...], folder: Path, env: dict[str, str], output: Path, errors: Path) -> None:
    os.setsid()
    if output.is_char_device():
        os.open(output, os.O_RDWR)  # for Linux, what can be written alone is nobody's terminal
    cli_main(arguments, folder, env, output, errors)


def exit_code(process: Any) -> int | None:
    process.join(60)
    code: int | None = process.exitcode
    return code


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


def test_a_reader_that_leaves(run_of: Configure, tmp_path: Path) -> None:
    """The pipe of `train ... 2>&1 | head -1` breaks, and the run does not."""
    config, pipe = run_of(20), tmp_path / "pipe"
    os.mkfifo(pipe)
    process = train(tmp_path, pipe, pipe)
    with pipe.open() as reader:
        assert reader.readline()
    assert exit_code(process) == 0
    assert ending(config) == "finished"


def test_a_full_disk_under_the_console(run_of: Configure, tmp_path: Path) -> None:
    config = run_of(20)
    assert exit_code(train(tmp_path, "/dev/full", "/dev/full")) == 0
    assert ending(config) == "finished"


def test_a_result_on_a_full_disk(run_of: Configure, tmp_path: Path) -> None:
    """A dry run is for what it prints alone, so that it has failed if that is lost."""
    run_of(20)
    arguments, errors = ("train", "run.yaml", "--dry-run"), tmp_path / "errors"
    process = SERVER.Process(target=cli_main, args=(arguments, tmp_path, dict(os.environ), Path("/dev/full"), errors))
    process.start()
    assert exit_code(process) == 2
    assert errors.read_text().startswith("error: the output could not be written (No space left on device)")


def test_submit_without_a_reader(run_of: Configure, tmp_path: Path) -> None:
    """The ranks of `jobs submit ... | head -1` go on, and none is started twice."""
    config = run_of(20)
    command = [
        sys.executable,
        "-m",
        "hyena_dist",
        "jobs",
        "submit",
        str(tmp_path / "run.yaml"),
        "--ranks-per-node",
        "2",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(100) == 0
    assert ending(config) == "finished"
    log = (config.run_dir / "logs/supervisor.log").read_text()
    assert log.count("starting: ") == 1, log


def test_ctrl_c(run_of: Configure, tmp_path: Path) -> None:
    """The terminal sends it to the data workers too."""
    config, errors = run_of(100_000, workers=1), tmp_path / "errors"
    process = train(tmp_path, os.devnull, errors)
    wait_for_steps(config, 3)
    os.killpg(process.pid, signal.SIGINT)
    assert exit_code(process) == 130
    said = errors.read_text()
    assert said.count("Ctrl-C: saving, then stopping") == 1
    assert "interrupted; what was saved is kept, the same command continues" in said
    assert "Traceback" not in said
    stopped_and_saved(config)


def test_a_terminal_that_closes(run_of: Configure, tmp_path: Path) -> None:
    """Programs of a terminal that closes get SIGHUP, and none of them can write any more."""
    config = run_of(100_000)
    ours, theirs = pty.openpty()
    process = train(tmp_path, os.ttyname(theirs), os.ttyname(theirs))
    wait_for_steps(config, 3)
    os.close(theirs)
    os.close(ours)
    assert exit_code(process) == 0
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
