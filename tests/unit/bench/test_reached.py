"""The time to the same value of a metric, from what runs have logged."""

import csv
import json
from pathlib import Path

import pytest

from hyena_dist.bench.reached import bench_reached, evaluations
from tests.checkpoints import write_checkpoint
from tests.configs import config_with, refusal


def write_run(folder: Path, values: dict[int, float], lengths: tuple[int, ...]) -> Path:
    """A run of 10 steps at each length, batch 8, a step in 2 seconds, that logged some values of the metric."""
    config = config_with(curriculum=[{"seq_length": n, "train_iters": 10} for n in lengths])
    config = config.model_copy(update={"output_dir": folder.parent, "name": folder.name})
    write_checkpoint(folder / "checkpoints", 20, config)
    rows = [{"step": step, "time": 100.0 + 2 * step, "train/loss": 1.0} for step in range(1, 21)]
    rows += [{"step": step, "time": 100.0 + 2 * step, "valid/accuracy": value} for step, value in values.items()]
    rows.sort(key=lambda row: row["step"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The target is the best of the worst; tokens are those of the stages so far."""
    warm = write_run(tmp_path / "warm", {5: 0.5, 10: 0.8, 20: 0.9}, (32, 128))
    none = write_run(tmp_path / "none", {5: 0.4, 20: 0.7}, (128, 128))
    bench_reached([warm, none], "valid/accuracy", tmp_path / "out")
    with (tmp_path / "out/reached.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["target"], row["steps"], row["tokens"], row["seconds"]) for row in rows] == [
        ("warm", "0.7", "10", str(10 * 8 * 32), "18.0"),
        ("none", "0.7", "20", str(20 * 8 * 128), "38.0"),
    ]
    assert (tmp_path / "out/reached.png").read_bytes().startswith(b"\x89PNG")
    assert "none: valid/accuracy 0.7 after 20 steps, 20,480 tokens, 38 s" in capsys.readouterr().out


def test_no_run_and_no_metric(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {5: 0.5}, (32,))
    assert "has no valid/mcc; it has valid/accuracy" in refusal(lambda: evaluations(run, "valid/mcc"))
    assert "is no run with a checkpoint" in refusal(lambda: evaluations(tmp_path, "valid/mcc"))
