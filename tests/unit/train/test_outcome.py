"""The file outcome.json is whole or not there."""

from pathlib import Path

import pytest

from hyena_dist.errors import TemporaryError, UserError
from hyena_dist.system.launch import RUN_VARIABLE
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


@pytest.mark.parametrize(("error", "ending"), [(UserError, "failed"), (TemporaryError, "fault")])
def test_what_a_supervisor_hears(
    error: type[Exception], ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error before training is told to the supervisor, if there is one and nobody has said something."""
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    for _ in range(2):
        with pytest.raises(error, match="a sentence"), outcome.told_to_supervisor():
            raise error("a sentence")
        found = outcome.read(tmp_path)
        monkeypatch.setenv(RUN_VARIABLE, str(tmp_path))
    assert found is None or found.outcome == ending
    assert found is not None
    assert found.message == "a sentence"
    with pytest.raises(error), outcome.told_to_supervisor():
        raise error("a later sentence")
    assert outcome.read(tmp_path) == found
