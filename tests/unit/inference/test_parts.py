"""Parts of a job: done once, shared, continued, merged by whoever finds all of them, refused if they are of another."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.errors import UserError
from hyena_dist.inference.parts import PartFolder, check_output

JOB = {"made_by": "a test", "sequences": "abc", "overlap": None}
SIZES = [3] * 7


class Stopped(Exception):
    """The end of a process in these tests."""


def work(out: Path, *, rank: int = 0, world_size: int = 1, last: int = 99) -> list[int]:
    """Do a process's share, but for parts after `last`, merge if all is there, and return the parts that were done."""
    done: list[int] = []

    def part(number: int, path: Path) -> None:
        if number > last:
            path.write_text("half")
            raise Stopped
        path.write_text(f"{number},")
        done.append(number)

    with patch.dict(os.environ, RANK=str(rank), WORLD_SIZE=str(world_size)):
        folder = PartFolder.of_unfinished(out, JOB)
    if folder is not None:
        try:
            folder.compute("testing", SIZES, part, rank, world_size)
        except Stopped:
            return done
        texts = (folder.path(number).read_text() for number in range(len(SIZES)))
        folder.merge(len(SIZES), lambda merged: write(merged, "".join(texts)))
    return done


def write(path: Path, text: str) -> None:
    path.write_text(text)


@settings(max_examples=30)  # which wait for the disk
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(-1, len(SIZES))), max_size=4), st.integers(1, 4))
def test_every_part_is_done_once_by_whatever_processes(
    tmp_path_factory: pytest.TempPathFactory, launches: list[tuple[int, int]], world_size: int
) -> None:
    """Launches that end early, of any number of processes, leave to those after them what they have not done."""
    out = tmp_path_factory.mktemp("job") / "x.txt"
    done: list[int] = []
    for size, last in [*launches, (world_size, 99)]:
        if not out.exists():  # else nobody would start them
            for rank in range(size):
                done += work(out, rank=rank, world_size=size, last=last)
    assert sorted(done) == list(range(len(SIZES)))
    assert out.read_text() == "0,1,2,3,4,5,6,"
    assert [path.name for path in out.parent.iterdir()] == ["x.txt"]


def test_another_job_is_refused_by_what_differs(tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    work(out, last=2)
    with pytest.raises(UserError, match="another job with another overlap, strands; remove the folder"):
        PartFolder.of_unfinished(out, {**JOB, "overlap": 7, "strands": "both"})
    assert work(out) == [3, 4, 5, 6]


def test_an_output_that_was_there_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    out.write_text("mine")
    with pytest.raises(UserError, match=r"x.csv exists and is left as it is"):
        work(out)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_process_that_starts_late_finds_the_job_done(tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    work(out)
    assert work(out, rank=1, world_size=2) == []
    before_the_launcher = time.time() - 10**8
    os.utime(out, (before_the_launcher, before_the_launcher))
    with pytest.raises(UserError, match="exists"):
        work(out, rank=1, world_size=2)


def _nothing(folder: Path) -> None:
    folder.mkdir()


def _header(folder: Path) -> None:
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps(JOB, indent=2, sort_keys=True) + "\n")
    (folder / "part-00000003").write_text("3,")


@pytest.mark.parametrize("left", [_nothing, _header])
def test_a_process_that_was_killed_after_it_made_the_output(left: Callable[[Path], None], tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    out.write_text("whole")
    left(tmp_path / "x.csv.partial")
    assert work(out) == []
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def test_a_folder_is_opened_while_others_end_the_job_and_remove_it(tmp_path: Path) -> None:
    stop = threading.Event()

    def remove() -> None:
        while not stop.is_set():
            shutil.rmtree(tmp_path / "x.csv.partial", ignore_errors=True)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(200):
            PartFolder(tmp_path / "x.csv", JOB)
    finally:
        stop.set()
        thread.join()


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    for out, words in (
        (tmp_path / "x.txt", r"ends in .txt; name a file that ends in .csv or .parquet"),
        (tmp_path / "x", r"ends in nothing"),
        (tmp_path / "none/x.csv", "there is no folder"),
        (Path("/proc/x.csv"), "cannot be written"),
    ):
        with pytest.raises(UserError, match=words):
            check_output(out, (".csv", ".parquet"))
    check_output(tmp_path / "x.csv", (".csv", ".parquet"))
    assert not list(tmp_path.iterdir())
