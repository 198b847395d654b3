"""The measurement of how long a checkpoint stops training."""

import csv
from pathlib import Path

from hyena_dist.bench.checkpoint import CheckpointCase, Times, bench_checkpoint


def test_two_ranks(tmp_path: Path) -> None:
    bench_checkpoint(CheckpointCase(16, 1, 32, 2, "zero1", 2), tmp_path, tmp_path / "out")
    with open(tmp_path / "out/checkpoint-2-zero1.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows[:2]:
        assert float(row["waiting_s"]) > 0
        assert float(row["copying_s"]) > 0
        assert float(row["stop_ratio"]) == float(row["copying_s"]) / float(row["waiting_s"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "checkpoints do not stay"


def test_cost_counts_slower_steps() -> None:
    times = Times(waiting=10.0, copying=0.5, step=1.0, writing=4.5, steps=3)
    assert times.cost == 2.0
    assert times.row() == [10.0, 0.5, 0.05, 1.0, 1.5, 3, 0.2]
    assert times._replace(writing=2.9).cost == 0.5, "faster steps are noise"
