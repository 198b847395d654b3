"""The file metrics.jsonl is exact, survives a SIGKILL and continues as if nothing had happened."""

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.errors import UserError
from hyena_dist.tracking import JsonlTracker, read_metrics


def write(path: Path, steps: range, resume_step: int | None = None) -> None:
    tracker = JsonlTracker(path, resume_step)
    for step in steps:
        tracker.log_metrics({"train/loss": 1 / step, "train/tokens": step * 10}, step)
    tracker.finish("FINISHED")


def steps(path: Path) -> list[float]:
    return [row["step"] for row in read_metrics(path)]


@given(value=st.floats(allow_nan=False))
def test_floats_round_trip_bit_for_bit(value: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "m.jsonl"
    tracker = JsonlTracker(path, None)
    tracker.log_metrics({"x": value}, step=1)
    assert struct.pack("d", read_metrics(path)[0]["x"]) == struct.pack("d", value)
    tracker.finish("FINISHED")


def test_non_finite_numbers_are_valid_json(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    JsonlTracker(path, None).log_metrics({"a": math.nan, "b": math.inf, "c": -math.inf, "d": np.float32(0.5)}, 3)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    raw = json.loads(path.read_text(), parse_constant=refuse)
    assert (raw["a"], raw["b"], raw["c"]) == ("NaN", "Infinity", "-Infinity")
    row = read_metrics(path)[0]
    assert math.isnan(row["a"])
    assert (row["b"], row["c"], row["d"], row["step"]) == (math.inf, -math.inf, 0.5, 3)


def test_a_row_is_readable_as_soon_as_it_is_written(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "m.jsonl", None)
    tracker.log_metrics({"train/loss": 1.0}, 1)
    assert steps(tmp_path / "m.jsonl") == [1]
    tracker.finish("FINISHED")
    tracker.log_metrics({"train/loss": 1.0}, 2)
    assert steps(tmp_path / "m.jsonl") == [1]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_line_is_dropped_by_reading_and_resuming(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "m.jsonl"
    write(path, range(1, 6))
    path.write_bytes(path.read_bytes()[:-cut])
    assert steps(path) == [1, 2, 3, 4]
    write(path, range(5, 8), resume_step=4)
    assert steps(path) == [1, 2, 3, 4, 5, 6, 7]


def test_resuming_drops_later_rows_and_keeps_earlier_ones_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write(path, range(1, 10))
    before = path.read_bytes().splitlines()
    write(path, range(5, 12), resume_step=4)
    assert path.read_bytes().splitlines()[:4] == before[:4]
    assert steps(path) == list(range(1, 12))
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_a_new_run_keeps_the_old_file_aside(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write(path, range(1, 4))
    write(path, range(7, 9))
    assert steps(path) == [7, 8]
    assert steps(tmp_path / "m.jsonl.old") == [1, 2, 3]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        JsonlTracker(tmp_path / "file" / "m.jsonl", None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "m.jsonl", None)
    tracker._file = open("/dev/full", "a", buffering=1)  # noqa: SIM115
    with pytest.raises(UserError, match=r"m.jsonl cannot be written \(No space left on device\): free space"):
        tracker.log_metrics({"train/loss": 1.0}, 1)
    tracker.finish("FAILED")
