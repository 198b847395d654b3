"""A lock has one owner, ends with it, and survives the removal of its file."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hyena_dist.system.locks import LockedError, is_locked, lock

HOLD = (
    "import sys, time; from pathlib import Path; from hyena_dist.system.locks import lock\n"
    "with lock(Path(sys.argv[1]), note='mine'): print('held', flush=True); time.sleep(60)"
)


def test_one_owner_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "new folder/lock"
    assert not is_locked(path)
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        assert is_locked(path)
        with pytest.raises(LockedError) as caught, lock(path, wait_s=0.2):
            pass
        assert caught.value.note == "mine"
        owner.kill()
    with lock(path, wait_s=5, note="ours, which is longer"):
        assert path.read_text() == "ours, which is longer"
    with lock(path, wait_s=0, note="short"):
        assert path.read_text() == "short"
    assert not is_locked(path)


def test_it_waits_for_the_owner(tmp_path: Path) -> None:
    events = []

    def second() -> None:
        with lock(tmp_path / "lock"):
            events.append("second")

    with lock(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        events.append("first")
    thread.join(10)
    assert events == ["first", "second"]


def test_an_owner_may_remove_the_file_and_its_folder(tmp_path: Path) -> None:
    """Whoever waited does not hold a file that nobody else can find."""
    path, found = tmp_path / "folder/lock", []

    def second() -> None:
        with lock(path):
            found.append(is_locked(path))

    with lock(path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        shutil.rmtree(path.parent)
    thread.join(10)
    assert found == [True]


@pytest.mark.parametrize("required", [True, False])
def test_a_file_system_without_locks(tmp_path: Path, required: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    if required:
        with pytest.raises(OSError, match="No locks available"), lock(tmp_path / "lock"):
            pass
    else:
        with lock(tmp_path / "lock", note="mine", required=False):
            assert (tmp_path / "lock").read_text() == "mine"
    assert not is_locked(tmp_path / "lock")
