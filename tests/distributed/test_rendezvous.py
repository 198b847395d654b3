"""Ranks that meet, or do not: who is missing is said, and every wait ends when its user wants it to."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import TemporaryError
from hyena_dist.parallel import rendezvous, world
from hyena_dist.system.hosts import free_port
from hyena_dist.train import outcome
from tests.processes import SERVER, run_cli


def join(rank: int, port: int, output: Path, timeout_s: float = 60, first_word_s: float = 0.2) -> None:
    """Join a world of three ranks as one of them; what it says goes to `output`."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    rendezvous._FIRST_WORD_S = first_word_s
    try:
        world.join_world(timeout_s).barrier()
    except (TemporaryError, KeyboardInterrupt) as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(75)
    os.write(2, b"joined\n")
    os._exit(0)


class Joining:
    """Ranks of a world of three that join it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.processes: list = []

    def start(self, rank: int, **settings: float) -> None:
        self.processes.append(
            SERVER.Process(target=join, args=(rank, self.port, self.folder / f"{rank}"), kwargs=settings)
        )
        self.processes[-1].start()

    def wait_for(self, rank: int, pattern: str) -> None:
        deadline = time.monotonic() + 30
        path = self.folder / f"{rank}"
        while not (path.exists() and re.search(pattern, path.read_text())):
            assert time.monotonic() < deadline, path.read_text() if path.exists() else "it said nothing"
            time.sleep(0.02)


@pytest.fixture
def joining(tmp_path: Path):
    it = Joining(tmp_path)
    yield it
    for process in it.processes:
        process.kill()
        process.join()


def test_who_is_missing_is_said(joining: Joining) -> None:
    joining.start(1)
    joining.wait_for(1, rf"rank 1 waits for rank 0 at 127.0.0.1:{joining.port}\n")
    joining.start(0)
    joining.wait_for(0, rf"waiting for 1 of 3 ranks at 127.0.0.1:{joining.port}: 2\n")
    joining.start(2)
    for rank in range(3):
        joining.wait_for(rank, "joined")


def test_ranks_that_never_come(joining: Joining) -> None:
    for rank in (0, 2):
        joining.start(rank, timeout_s=1)
    joining.wait_for(
        0, rf"TemporaryError: waiting for 1 of 3 ranks at 127.0.0.1:{joining.port}: 1: they did not come in"
    )
    joining.wait_for(2, "TemporaryError: ")


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGUSR1, "TemporaryError: asked to stop while")]
)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_ends_the_wait(number: signal.Signals, said: str, rank: int, joining: Joining) -> None:
    joining.start(rank)
    joining.wait_for(rank, "wait")
    os.kill(joining.processes[0].pid, number)
    joining.wait_for(rank, said)


def test_two_runs_at_one_port(joining: Joining) -> None:
    joining.start(0)
    joining.start(1)
    joining.wait_for(0, ": 2\n")
    joining.start(1)
    joining.wait_for(1, rf"rank 1 is at 127.0.0.1:{joining.port} already: another run meets there")


def test_a_port_that_is_taken(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """Exit code 75 and a sentence, which a supervisor hears too, and other processes' folders are left alone."""
    (tmp_path / "run.yaml").write_text(dump_config(make_config()))
    (tmp_path / "run").mkdir()
    with socket.socket() as s:
        s.bind(("", 0))
        s.listen()
        env = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(s.getsockname()[1])}
        done = run_cli("train", "run.yaml", cwd=tmp_path, env=env)
        assert done.returncode == 75, done.stderr
        sentence = (
            f"port {env['MASTER_PORT']} of 127.0.0.1, where ranks meet, is taken by another program; choose another"
        )
        assert done.stderr.startswith(f"error: {sentence}")
        assert "Traceback" not in done.stderr
        assert outcome.read(tmp_path / "run") is None
        run_cli("train", "run.yaml", cwd=tmp_path, env=env | {"HYENA_DIST_RUN": str(tmp_path / "run")})
        told = outcome.read(tmp_path / "run")
        assert told is not None
        assert told.outcome == "fault"
        assert told.message.startswith(sentence)
