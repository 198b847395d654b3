"""Without a terminal, long work says where it is every few seconds at most, and short work nothing."""

import pytest

from hyena_dist.tracking.work_progress import WorkProgress


def test_lines_are_seconds_apart(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with WorkProgress("reading", 10_000) as progress:
        for _ in range(100):  # 100 bases each, in a fifth of a second: 20 s in all
            now += 0.2
            progress.advance(100)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0] == "reading: 2,500 bases, 500 bases/s, 25%, 15 s left"


def test_all_but_one_of_several_processes_are_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with WorkProgress("reading", 10, enabled=False) as progress:
        now += 60
        progress.advance(10)
    assert capsys.readouterr() == ("", "")


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with WorkProgress("reading", 10) as progress:
        progress.advance(10)
    assert capsys.readouterr() == ("", "")
