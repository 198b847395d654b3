"""A process that needs its parent dies with it, and orphans find a new one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hyena_dist.system.processes import usable_cores

PARENT = """
import multiprocessing, os, sys, time
from hyena_dist.system.processes import die_with_parent

def child(path, late):
    time.sleep(late)
    die_with_parent()
    open(path, "w").write("alive")
    time.sleep(60)

if __name__ == "__main__":
    late = float(sys.argv[3])
    process = multiprocessing.get_context("spawn" if sys.argv[2] == "spawn" else "fork").Process(
        target=child, args=(sys.argv[1], late)
    )
    process.start()
    print(process.pid, flush=True)
    while not late and not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    os.kill(os.getpid(), 9)
"""


def ends(pid: int, within_s: float = 10) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("late", [0, 1], ids=["in time", "after the parent's death"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_dies_with_its_parent(tmp_path: Path, method: str, late: int) -> None:
    (tmp_path / "script.py").write_text(PARENT)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "alive", method, str(late)]
    with (tmp_path / "out").open("w") as out:  # not a pipe, which the child would hold open
        done = subprocess.run(command, stdout=out, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert ends(int((tmp_path / "out").read_text()))
    assert (tmp_path / "alive").exists() == (not late)


def test_orphans_are_adopted() -> None:
    script = (
        "import os, subprocess, sys\n"
        "from hyena_dist.system.processes import adopt_orphans\n"
        "adopt_orphans(True)\n"
        "out = subprocess.run(['sh', '-c', 'sleep 60 >&- 2>&- & echo $!'], stdout=subprocess.PIPE).stdout\n"
        "pid = int(out)\n"
        "import psutil\n"
        "print(psutil.Process(pid).ppid() == os.getpid())\n"
        "os.kill(pid, 9)\n"
        "print(os.waitpid(pid, 0)[0] == pid)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_usable_cores() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
