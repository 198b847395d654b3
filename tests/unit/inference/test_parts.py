"""Parts of a job whose processes come and go at any moment."""

import json
import shutil
import threading
from pathlib import Path

from hyena_dist.inference.parts import PartFolder
from tests.configs import refusal

JOB = {"sequences": "s", "model": "m"}


def test_a_folder_is_opened_while_others_end_the_job_and_remove_it(tmp_path: Path) -> None:
    stop = threading.Event()

    def remove() -> None:
        while not stop.is_set():
            shutil.rmtree(tmp_path / "x.zarr.partial", ignore_errors=True)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(200):
            PartFolder(tmp_path / "x.zarr", JOB)
    finally:
        stop.set()
        thread.join()


def test_parts_are_kept_and_merged_once_all_are_there(tmp_path: Path) -> None:
    def write(number: int, path: Path) -> None:
        path.write_text(f"{number} ")

    out = tmp_path / "x.csv"
    first = PartFolder(out, JOB)
    first.compute("testing", [1, 1, 1], write, rank=0, world_size=2)

    def merge(path: Path) -> None:
        path.write_text("".join(first.path(number).read_text() for number in range(3)))

    first.merge(3, merge)
    assert not out.exists()
    assert json.loads((first.folder / "job.json").read_text()) == JOB
    written = first.path(2).stat()
    second = PartFolder(out, JOB)
    second.compute("testing", [1, 1, 1], write, rank=0, world_size=1)
    assert first.path(2).stat() == written
    second.merge(3, merge)
    assert out.read_text() == "0 1 2 "
    assert not first.folder.exists()


def test_parts_of_another_job_are_refused_by_what_differs(tmp_path: Path) -> None:
    PartFolder(tmp_path / "x.csv", JOB)
    said = refusal(lambda: PartFolder(tmp_path / "x.csv", JOB | {"model": "other", "layers": [1]}))
    assert "x.csv.partial holds parts of another job with another layers, model" in said
