"""Programs that behave like the ranks of a run, and a supervisor around them, all as real processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyena_dist.system.launch import RUN_VARIABLE
from hyena_dist.system.process_tree import kill, with_variable

RANK = """
import json, os, signal, sys, time
from pathlib import Path
from hyena_dist.train.outcome import Outcome, write

run, actions = Path(sys.argv[1]), sys.argv[2].split(",")
starts = run / "starts"
number = len(starts.read_text().split()) if starts.exists() else 0
with starts.open("a") as file:
    file.write(os.environ.get("MASTER_PORT", "?") + "\\n")

def save(step, stage):
    folder = run / f"checkpoints/step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"step": step, "stage": stage, "stages": 3}))
    (folder / "files.json").write_text("{}")

def end(kind, code=0, stage=0):
    write(run, Outcome(kind, 0, stage, 3, f"it is {kind}"))
    sys.exit(code)

def stop(*_):
    (run / "asked").write_text("yes")
    end("stopped")

(run / f"pid-{number}").write_text(str(os.getpid()))
for action in actions[min(number, len(actions) - 1)].split("+"):
    name, *numbers = action.split(":")
    if name == "save":
        save(*map(int, numbers))
    elif name == "crash":
        os._exit(7)
    elif name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "child":  # left over, in a session of its own
        if os.fork() == 0:
            os.setsid()
            time.sleep(100)
            os._exit(0)
    elif name == "import":  # for a while nothing is heard
        time.sleep(1)
    elif name == "run":
        signal.signal(signal.SIGUSR1, stop)
        (run / "running").write_text("yes")
        time.sleep(100)
    elif name == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (run / "running").write_text("yes")
        time.sleep(100)
    elif name == "stage":
        end("stage", stage=int(numbers[0]))
    else:
        end(name, {"failed": 2, "fault": 75}.get(name, 0))
"""


class Supervised:
    """A supervisor of one rank, as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.run.mkdir()
        self.rank = folder / "rank.py"
        self.rank.write_text(RANK)
        self.processes: list[subprocess.Popen[str]] = []

    def start(
        self, actions: str, *, command: list[str] | None = None, slurm: dict[str, str] | None = None, **settings: object
    ) -> subprocess.Popen[str]:
        command = command or [sys.executable, str(self.rank), str(self.run), actions]
        main = (
            "import sys; from pathlib import Path; from jobs.supervise import Supervision\n"
            f"sys.exit(Supervision(Path({str(self.run)!r}), {command!r}, **{dict(pause_s=0.01) | settings!r}).run())"
        )
        env = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")} | (slurm or {})
        process = subprocess.Popen(
            [sys.executable, "-c", main], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.processes.append(process)
        return process

    def end(self, actions: str, **settings: object) -> tuple[int, str]:
        """Start a supervisor that ends by itself, and return its exit code and output."""
        process = self.start(actions, **settings)
        output = process.communicate(timeout=60)[0]
        return process.returncode, output

    @property
    def starts(self) -> list[str]:
        """The port that each attempt was given."""
        return (self.run / "starts").read_text().split()

    def wait_for(self, name: str) -> Path:
        deadline = time.monotonic() + 30
        while not (path := self.run / name).exists() or not path.read_text():
            assert time.monotonic() < deadline, f"no {name}"
            time.sleep(0.01)
        return path

    def pid(self, attempt: int = 0) -> int:
        return int(self.wait_for(f"pid-{attempt}").read_text())


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    it = Supervised(tmp_path)
    yield it
    for process in it.processes:
        process.kill()
    kill(with_variable(RUN_VARIABLE, str(it.run)))
    for process in it.processes:
        process.communicate()
