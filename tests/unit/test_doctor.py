"""doctor's checks pass on a sound machine, and fail in one line within their time on others."""

import os
import time
from pathlib import Path

import pytest
import torch

from hyena_dist import doctor as module
from hyena_dist.doctor import CheckFailed, check_collectives, check_imports, check_temporary_folder, doctor


def test_doctor_passes_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor() == 0
    out = capsys.readouterr().out
    for expected in ("all-reduce ok", "all-to-all ok", "The main job can run here.", torch.__version__):
        assert expected in out
    assert "FAILED" not in out
    titles = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert titles[:5] == ["versions", "devices", "back ends", "checks", "what is missing for what"]


def test_doctor_fails_when_a_check_does(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*arguments: object) -> str:
        raise CheckFailed("processes cannot talk")

    monkeypatch.setattr(module, "check_collectives", fail)
    monkeypatch.setattr(module, "check_imports", lambda: "fine")
    assert doctor() == 1
    out = capsys.readouterr().out
    assert "FAILED: processes cannot talk" in out
    assert "The main job cannot run here" in out


def test_doctor_fails_without_a_package_that_the_main_job_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "package_version", lambda name: None if name in ("zarr", "flash-attn") else "1.0")
    monkeypatch.setattr(module, "check_collectives", lambda *arguments: "fine")
    monkeypatch.setattr(module, "check_imports", lambda: "fine")
    assert doctor() == 1
    assert "pip install zarr" in capsys.readouterr().out


def test_processes_that_do_not_answer_are_ended_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)  # Spawning a process that imports torch takes longer.
    began = time.monotonic()
    with pytest.raises(CheckFailed, match="GLOO_SOCKET_IFNAME"):
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
    with pytest.raises(CheckFailed, match="is the file system slow"):
        check_imports()


def test_a_temporary_folder_that_cannot_be_written_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", os.fspath(tmp_path / "none"))
    with pytest.raises(CheckFailed, match="set TMPDIR"):
        check_temporary_folder()
