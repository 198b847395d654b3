"""`bench stages`: the arithmetic of a change, and a small run from end to end."""

import csv
from pathlib import Path

import pytest

from hyena_dist.bench.stages import StagesCase, bench_stages, changes
from hyena_dist.errors import UserError


def test_what_a_change_takes() -> None:
    """Steps of 2 s, of which the first after step 4 takes 5 s and the second 3 s: 4 s on top."""
    durations = [1.0, 1.0, 1.0, 1.0, 5.0, 3.0, 2.0, 2.0, 2.0, 2.0]
    ends = {step: sum(durations[:step]) for step in range(1, 11)}
    assert changes(ends, 4, 10) == (2.0, 4.0)


def test_a_table(tmp_path: Path) -> None:
    bench_stages(StagesCase((32, 64, 128), 16, 1, "fp32", 6, 128), repeats=1, out=tmp_path)
    with open(tmp_path / "stages.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["from"], row["to"]) for row in rows] == [("32", "64"), ("64", "128")]
    for row in rows:
        assert float(row["change_in_steps"]) == pytest.approx(float(row["change_s"]) / float(row["step_s"]))


def test_too_little_to_measure() -> None:
    for lengths, steps in (((64,), 12), ((64, 128), 5)):
        with pytest.raises(UserError, match="two lengths or more, and 6 steps or more"):
            bench_stages(StagesCase(lengths, 16, 1, "fp32", steps, 128), repeats=1, out=None)
