"""The file outcome.json is whole or not there."""

from pathlib import Path

from hyena_dist.train import outcome
from hyena_dist.train.outcome import Outcome


def test_there_and_back(tmp_path: Path) -> None:
    assert outcome.read(tmp_path) is None
    outcome.clear(tmp_path)
    for ending in (Outcome("stage", 7, 1, 3, "stage 1 is done"), Outcome("finished", 9, 3, 3, "")):
        outcome.write(tmp_path, ending)
        assert outcome.read(tmp_path) == ending
    outcome.clear(tmp_path)
    assert outcome.read(tmp_path) is None


def test_what_is_no_outcome(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"outcome": "finished"}', '{"other": 1}'):
        (tmp_path / "outcome.json").write_text(text)
        assert outcome.read(tmp_path) is None
    outcome.write(tmp_path / "absent", Outcome("failed", 0, 0, 1, "a full disk"))  # says nothing, breaks nothing
