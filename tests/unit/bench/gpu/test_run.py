"""The measurement goes on whatever a case does, keeps what it found, and ends in time."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.bench.gpu import run
from hyena_dist.bench.gpu.plan import TOY, Step
from hyena_dist.bench.gpu.run import measure
from hyena_dist.bench.gpu.worker import Request, answer


class Fake(Step):
    """A step whose name is that of a module of these tests."""

    @property
    def module(self) -> str:
        """The full name of the module."""
        return f"tests.unit.bench.gpu.{self.name}"


class NothingToCompile:
    """A stand-in for the processes that compile."""

    def __init__(self, sizes: object) -> None:
        pass

    def end(self) -> list[dict[str, Any]]:
        return []


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, started_at_once: None) -> None:
    monkeypatch.setattr(run, "Compiling", NothingToCompile)
    monkeypatch.setattr(run, "REPORT_S", 0.0)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_cases_fail_for_themselves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "STEPS", (Fake("nowhere", 1), Fake("steps", 1)))
    assert measure(TOY, 5, tmp_path) == 2, "steps with failures"
    rows = lines(tmp_path)
    assert [(row["step"], row.get("what")) for row in rows] == [
        ("nowhere", None), ("steps", "fine"), ("steps", "wrong"), ("steps", "missing"), ("steps", "dies"),
        ("steps", "fine again"),
    ]  # fmt: skip
    assert rows[0]["outcome"].startswith("failed: ModuleNotFoundError: No module named 'tests.unit.bench.gpu.nowhere'")
    assert rows[1]["ms"] == 1.5
    assert rows[1]["outcome"] == rows[5]["outcome"] == ""
    assert rows[2]["outcome"] == "failed: ValueError: the kernel is wrong"
    assert "in wrong" in rows[2]["traceback"]
    assert rows[3]["outcome"] == "left out: triton is not there"
    assert rows[4]["outcome"] == "failed: its process ended (exit code 3)"
    report = (tmp_path / "REPORT.md").read_text()
    assert "- steps, dies: failed: its process ended (exit code 3)" in report
    assert "| fine again | 2.5 |" in report


def test_a_case_that_hangs_is_ended_and_its_time_is_not_that_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "STEPS", (Fake("hanging", 1), Fake("steps", 30)))
    begin = time.monotonic()
    assert measure(TOY, 1, tmp_path) == 2
    assert time.monotonic() - begin < 60
    rows = lines(tmp_path)
    assert rows[0]["outcome"] == "failed: it was still running when its time was over"
    assert [row["step"] for row in rows[1:]] == ["steps"] * 5


def test_without_time_cases_are_named_and_not_measured() -> None:
    sent: list[Any] = []
    answer(Request(Fake("steps", 1), seconds=-1, skip=3), TOY, sent.append)
    assert [message.case["what"] for message in sent[::2]] == ["dies", "fine again"], "the first three are skipped"
    assert [message.figures for message in sent[1::2]] == [{"outcome": "no time was left"}] * 2
