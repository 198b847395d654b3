"""Ranks as plain processes: what they are told, where they write, and that none outlives the others."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hyena_dist.system.process_tree import kill, with_variable

Start = Callable[..., "subprocess.Popen[str]"]
READY = "open(f'ready-{rank}', 'w').close()"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `program` (Python; `rank` is set) on some ranks by spawn or relay."""
    started = []

    def begin(program: str, ranks: int = 2, how: str = "", **env: str) -> "subprocess.Popen[str]":
        code = f"import os, signal, sys, time; rank = int(os.environ.get('RANK', 0)); {program}"
        call = how or f"spawn(command, {ranks}, Path('logs'), patience_s=0.5, grace_s=5)"
        main = (
            f"import sys; from pathlib import Path; from jobs.spawn import *; command = {[sys.executable, '-uc', code]}"
        )
        marked = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | env | {"SPAWN_TEST": str(tmp_path)}
        process = subprocess.Popen(
            [sys.executable, "-c", f"{main}; sys.exit({call})"],
            cwd=tmp_path,
            env=marked | {"PYTHONPATH": os.getcwd()},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield begin
    kill(with_variable("SPAWN_TEST", str(tmp_path)))
    for process in started:
        process.communicate()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)


def test_what_ranks_are_told(start: Start, tmp_path: Path) -> None:
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS", "MASTER_ADDR", "MASTER_PORT"]
    program = f"print(*[os.environ[n] for n in {names}]); print('error', file=sys.stderr)"
    logs = [tmp_path / f"logs/rank-0000{rank}.log" for rank in range(3)]
    for _ in range(2):  # logs are appended to, and only what is new is shown
        process = start(program, 3, MASTER_ADDR="127.0.0.2", MASTER_PORT="1234")
        assert process.communicate(timeout=30)[0] == "0 0 3 3 1 127.0.0.2 1234\nerror\n"
        assert process.returncode == 0
    for rank, log in enumerate(logs):
        assert log.read_text() == f"{rank} {rank} 3 3 1 127.0.0.2 1234\nerror\n" * 2
    process = start(program, 1, OMP_NUM_THREADS="4")
    words = process.communicate(timeout=30)[0].split()
    assert words[4:6] == ["4", "127.0.0.1"]
    assert int(words[6]) > 1023


def test_nobody_looks(start: Start, tmp_path: Path) -> None:
    """A reader that leaves, such as head, ends no rank."""
    process = start("print('first'); [(time.sleep(0.3), print(n, flush=True)) for n in range(6)]", 1)
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    assert process.wait(30) == 0
    assert (tmp_path / "logs/rank-00000.log").read_text().split() == ["first", *"012345"]
    process.stdout = None  # for the fixture, which would read it


@pytest.mark.parametrize(("failing", "code", "said"), [
    ("sys.exit('what is wrong')", 1, "ended with exit code 1"),
    ("sys.exit(75)", 75, "ended with exit code 75"),
    ("os.kill(os.getpid(), signal.SIGKILL)", 137, "ended by SIGKILL"),
])  # fmt: skip
def test_one_fails(failing: str, code: int, said: str, start: Start, tmp_path: Path) -> None:
    begin = time.monotonic()
    process = start(f"print('hello', rank); (time.sleep(60) if rank != 1 else {failing})", 3)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == code
    assert f"rank 1 {said}; its log is logs/rank-00001.log" in output
    assert "hello 0\n" in output
    assert "rank 1: hello 1\n" in output
    assert time.monotonic() - begin < 30  # not the minute that the others would take
    assert not with_variable("SPAWN_TEST", str(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
@pytest.mark.parametrize("how", ["", "relay(command)"])
def test_signals(number: signal.Signals, how: str, start: Start, tmp_path: Path) -> None:
    """Ranks hear SIGUSR1 alone, whatever the signal was."""
    program = f"signal.signal(signal.SIGUSR1, lambda *_: [print('saved'), sys.exit(0)]); {READY}; time.sleep(60)"
    process = start(program, 2, how)
    for rank in range(1 if how else 2):
        wait_for(tmp_path / f"ready-{rank}")
    process.send_signal(number)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    assert sorted(output.split("\n")) == ["", f"{number.name}: asking the ranks to save and stop", "saved"]


def test_what_launchers_below_a_relay_do(start: Start, tmp_path: Path) -> None:
    """Launchers may start sessions of their own, as torchrun does, and would die of SIGUSR1."""
    handler = "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(3))"
    rank = f"import signal, sys, time; rank = 0; {handler}; {READY}; time.sleep(60)"
    popen = f"subprocess.Popen([sys.executable, '-c', {rank!r}], start_new_session=True)"
    program = f"import subprocess; sys.exit({popen}.wait())"
    process = start(program, how="relay(command)")
    wait_for(tmp_path / "ready-0")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 3


def test_spawn_is_killed(start: Start, tmp_path: Path) -> None:
    process = start(f"{READY}; time.sleep(60)")
    for rank in range(2):
        wait_for(tmp_path / f"ready-{rank}")
    ranks = [p for p in with_variable("SPAWN_TEST", str(tmp_path)) if p.pid != process.pid]
    assert len(ranks) == 2
    process.kill()
    gone, left = psutil.wait_procs(ranks, timeout=10)
    assert len(gone) == 2, left


def test_mistakes(start: Start) -> None:
    process = start("", how="spawn(['no-such-program'], 1, Path('logs'))")
    output = process.communicate(timeout=30)[0]
    assert "UserError: cannot start no-such-program with logs in logs: [Errno 2]" in output
