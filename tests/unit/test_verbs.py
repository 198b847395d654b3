"""Values of options are looked at before any work."""

import argparse
import os
from pathlib import Path

import pytest

from hyena_dist.errors import UserError
from hyena_dist.verbs import not_negative, output_file, output_folder, parse_lengths, positive, seconds


def test_counts() -> None:
    assert (positive("1"), positive("1000000"), not_negative("0")) == (1, 1_000_000, 0)
    for count, texts in ((positive, ["0", "-5", "1.5", "", "many"]), (not_negative, ["-1", "x"])):
        for text in texts:
            with pytest.raises(argparse.ArgumentTypeError, match=r"is not a whole number from [01] on"):
                count(text)
    assert (seconds("0"), seconds("1.5")) == (0, 1.5)
    for text in ("-1", "nan", "inf", "soon"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a number of seconds from 0 on"):
            seconds(text)
    for text in ("0", "-4,8", "1e3", ""):
        with pytest.raises(UserError, match="is not a list of numbers"):
            parse_lengths(text)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    for name in ("new.json", "old.json"):
        assert output_file(str(tmp_path / name)) == tmp_path / name
    assert (tmp_path / "old.json").read_text() == "old"
    assert not (tmp_path / "new.json").exists()
    with pytest.raises(UserError, match=r"there is no folder .*missing; make it, or name another"):
        output_file(str(tmp_path / "missing" / "x.json"))
    with pytest.raises(UserError, match="cannot be written, since it is a folder"):
        output_file(str(tmp_path))
    with pytest.raises(UserError, match="is a URL"):
        output_file("s3://bucket/x.json")


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert output_folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(UserError, match=r"cannot be a folder, since .*file is a file"):
        output_folder(str(tmp_path / "file" / "b"))


@pytest.mark.parametrize("check", [output_file, output_folder])
def test_where_nothing_can_be_written(check: object) -> None:
    """Nobody may make files in /proc, root included."""
    with pytest.raises(UserError, match=r"cannot be written: .*; name another place"):
        check("/proc/1/x")  # type: ignore[operator]
