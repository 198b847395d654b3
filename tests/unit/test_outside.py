"""Tests skip where something outside of the repository is missing, but in CI they fail."""

from pathlib import Path

import pytest

from tests.outside import outside


def test_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FOLDER", str(tmp_path))
    assert outside("SOME_FOLDER", "a folder") == tmp_path


def test_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "")
    monkeypatch.delenv("SOME_FOLDER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="SOME_FOLDER does not say where a folder is"):
        outside("SOME_FOLDER", "a folder")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="SOME_FOLDER does not say where a folder is"):
        outside("SOME_FOLDER", "a folder")


def test_the_variable_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "")
    monkeypatch.setenv("SOME_FOLDER", str(tmp_path / "nowhere"))
    with pytest.raises(pytest.fail.Exception, match="nowhere does not exist"):
        outside("SOME_FOLDER", "a folder")
