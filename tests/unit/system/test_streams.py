"""A reader that leaves ends neither the work nor the process with an error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
SCRIPT = """
import sys
from pathlib import Path
from hyena_dist.system.streams import readers_may_leave

with readers_may_leave():
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
