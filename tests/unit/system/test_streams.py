"""Output that cannot be written ends neither the work nor the process with an error."""

import os
import pty
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hyena_dist.system.streams import LossyStream, lost

BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
SCRIPT = """
import sys
from pathlib import Path
from hyena_dist.system.streams import output_may_fail

with output_may_fail():
    for number in range(100_000):
        print(number, file=getattr(sys, sys.argv[2]))
    Path(sys.argv[1]).write_text("done")
"""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_work_goes_on(tmp_path: Path, stream: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path / "file", stream],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=BUFFERED,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    reader, other = (process.stdout, process.stderr) if stream == "stdout" else (process.stderr, process.stdout)
    assert reader.readline() == b"0\n"
    reader.close()
    assert other.read() == b""
    assert process.wait(60) == 0
    assert (tmp_path / "file").read_text() == "done"


def test_a_reader_who_was_never_there(tmp_path: Path) -> None:
    """The end of the process flushes what is still in the buffer, which is no error either."""
    command = [sys.executable, "-c", SCRIPT.replace("100_000", "1"), tmp_path / "file", "stdout"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=BUFFERED)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0
    assert (tmp_path / "file").read_text() == "done"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_disk(tmp_path: Path, stream: str) -> None:
    with open("/dev/full", "w") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "file", stream], **streams, env=BUFFERED)
    assert done.returncode == 0
    assert not done.stdout
    assert not done.stderr
    assert (tmp_path / "file").read_text() == "done"


def test_a_terminal_that_is_gone(tmp_path: Path) -> None:
    """A program that does not belong to the terminal gets no signal: its output fails."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", SCRIPT, tmp_path / "file", "stdout"]
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, start_new_session=True)
    os.close(theirs)
    assert os.read(ours, 1) == b"0"
    os.close(ours)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0
    assert (tmp_path / "file").read_text() == "done"


def test_a_disk_that_has_room_again(tmp_path: Path) -> None:
    """A disk that was full loses what came meanwhile, and nothing that comes later."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "log").open("w", buffering=1) as file:
        stream = LossyStream(file)
        stream.write("first\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (6, limit[1]))
        stream.write("second\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert stream.error is not None
        stream.write("third\n")
        stream.finish()
    lines = (tmp_path / "log").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("first", "third")


def test_lost_output_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """A verb whose output is its result has failed if that is lost; nobody who reads it is no loss."""
    with open("/dev/full", "w") as full:
        stream = LossyStream(full)
        assert lost(stream) == 0
        stream.write("x")
        assert lost(stream) == 2
        assert "could not be written (No space left on device)" in capsys.readouterr().err
        stream.finish()
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        stream = LossyStream(closed)
        stream.write("x")
        assert lost(stream) == 0
