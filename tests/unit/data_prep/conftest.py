"""Small FASTA files, and the command line as a user meets it."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep.cli import main

Refuse = Callable[..., str]


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    """A FASTA file of two contigs, 3,000 and 1,000 bases, some lower-case and N."""
    letters = np.frombuffer(b"ACGTacgtN", np.uint8)
    draw = np.random.default_rng(0)
    path = tmp_path / "genome.fa"
    with path.open("wb") as stream:
        for name, length in (("chr1", 3000), ("chr2", 1000)):
            sequence = draw.choice(letters, length).tobytes()
            stream.write(b">%s a comment\n" % name.encode())
            stream.writelines(sequence[at : at + 60] + b"\n" for at in range(0, length, 60))
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `python -m data_prep ...`, expect success, return its standard output."""

    def call(*words: object) -> str:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return call


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Refuse:
    """Run `python -m data_prep ...`, expect exit code 2, one sentence and no change on disk; return the sentence.

    An unfinished folder is no change, since it only saves work for the next try.
    """

    def call(*words: object) -> str:
        before = finished(tmp_path)
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        message = capsys.readouterr().err
        assert re.fullmatch(r"error: [^\n]+\n", message), message
        assert not re.search(r"\. [A-Z]", message), "more than one sentence"
        assert "; " in message, "no fix"
        assert finished(tmp_path) == before
        return message

    return call


@pytest.fixture(name="content")
def content_fixture() -> Callable[[Path], dict[str, bytes]]:
    """Return a function that reads every file under a folder."""
    return content


def content(folder: Path) -> dict[str, bytes]:
    """Return the content of every file under a folder, by its path."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def finished(folder: Path) -> dict[str, bytes]:
    """Return every file under a folder that is not in the folder of an unfinished build."""
    return {path: data for path, data in content(folder).items() if ".partial/" not in path}
