"""The measurement behind how context ranks share the filter."""

import csv
import json
from pathlib import Path

from hyena_dist.bench.context import bench_context
from tests.processes import run_ranks


def test_two_ranks(tmp_path: Path) -> None:
    """The ways agree before they are timed, which the measurement checks; bytes are those of the formulas."""
    run_ranks(2, bench_context, 16, 256, 2, tmp_path)
    with open(tmp_path / "context-2.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows] == ["filter"] * 3 + ["convolution"] * 4
    assert [float(row["ratio"]) for row in rows if row is rows[0] or row is rows[3]] == [1, 1]
    unit = 16 * 256 * 4 // 4  # D L s (P - 1) / P^2
    assert [float(row["bytes_sent"]) for row in rows] == [0, 0, 2 * unit, *[4 * unit] * 4]
    assert json.loads((tmp_path / "context-2.json").read_text())["ranks"] == 2
