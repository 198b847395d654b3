"""Several trackers are used as one."""

from pathlib import Path
from typing import Any

from hyena_dist.tracking import JsonlTracker, Tracker, Trackers, read_metrics


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))


def test_every_call_reaches_every_tracker() -> None:
    first, second = Recorder(), Recorder()
    trackers = Trackers([first, second])
    trackers.log_params({"a": 1})
    trackers.log_metrics({"b": 2.0}, 3)
    trackers.log_artifact(Path("c"), "d")
    trackers.log_text("e", "f")
    trackers.finish("FINISHED")
    assert first.calls == second.calls
    assert first.calls == [
        ("log_params", {"a": 1}),
        ("log_metrics", {"b": 2.0}, 3),
        ("log_artifact", Path("c"), "d"),
        ("log_text", "e", "f"),
        ("finish", "FINISHED"),
    ]


def test_trackers_are_a_tracker_and_may_be_empty(tmp_path: Path) -> None:
    nothing: Tracker = Trackers()
    nothing.log_metrics({"a": 1.0}, 1)
    tracker: Tracker = Trackers([JsonlTracker(tmp_path / "m.jsonl", None)])
    tracker.log_params({"a": 1})
    tracker.log_text("text", "name")
    tracker.log_metrics({"a": 1.0}, 1)
    tracker.finish("FINISHED")
    assert [row["a"] for row in read_metrics(tmp_path / "m.jsonl")] == [1.0]
