"""Checks fail in one line and within their time."""

import os
import time
from pathlib import Path

import pytest

from hyena_dist.doctor import checks as module
from hyena_dist.doctor.checks import (
    CheckFailed,
    CheckUnfinishedError,
    check_collectives,
    check_imports,
    check_temporary_folder,
)


def test_processes_that_do_not_answer_are_ended_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)  # Spawning a process that imports torch takes longer.
    began = time.monotonic()
    with pytest.raises(CheckUnfinishedError, match="GLOO_SOCKET_IFNAME"):
        check_collectives("gloo", 2)
    assert time.monotonic() - began < 5


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(CheckFailed, match=r"rank 0: .*no-such-backend"):
        check_collectives("no-such-backend", 1)


def test_a_module_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MODULES", ("json", "no_such_module"))
    with pytest.raises(CheckFailed, match="No module named 'no_such_module'"):
        check_imports()


def test_imports_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.01)
    with pytest.raises(CheckUnfinishedError, match="file system slow; try again"):
        check_imports()


def test_a_temporary_folder_that_cannot_be_written_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", os.fspath(tmp_path / "none"))
    with pytest.raises(CheckFailed, match="set TMPDIR"):
        check_temporary_folder()
