"""A file is whole or as it was, also when its writer is killed or the disk is full."""

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.system.files import replace_atomically, sync, write_atomically

OLD, NEW = b"old" * 1000, b"new" * 2000


def test_text_and_bytes(tmp_path: Path) -> None:
    for content in (NEW, "Ä\n"):
        write_atomically(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_killed_at_every_point(tmp_path: Path) -> None:
    """The writer dies at its n-th call of the system; the reader finds the old content or the new one."""
    path = tmp_path / "file"
    seen, point, survived = set(), 0, False
    while not survived:
        path.write_bytes(OLD)
        child = os.fork()
        if child == 0:
            left = point

            def hook(event: str, _: tuple[Any, ...]) -> None:
                nonlocal left
                if event in {"open", "os.rename"}:
                    left -= 1
                    if left < 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            write_atomically(path, NEW)
            os._exit(0)
        survived = os.waitpid(child, 0)[1] == 0
        assert path.read_bytes() in (OLD, NEW), point
        seen.add(path.read_bytes())
        point += 1
    assert seen == {OLD, NEW}
    assert point > 3


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path) -> None:
    """The limit on the size of a file stands for the end of the disk."""
    path = tmp_path / "file"
    path.write_bytes(OLD)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(OLD), len(OLD)))
        try:
            write_atomically(path, NEW)
        except OSError as error:
            os._exit(7 if error.strerror == "File too large" else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert path.read_bytes() == OLD
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_folder_takes_another_name(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/file").write_bytes(NEW)
    sync(tmp_path / "new/file")
    replace_atomically(tmp_path / "new", tmp_path / "there")
    assert (tmp_path / "there/file").read_bytes() == NEW
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "new")
