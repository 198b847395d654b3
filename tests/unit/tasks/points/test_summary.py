"""The summary of points: means with intervals over seeds and folds, and the best setting by valid alone."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from hyena_dist.tasks.points.plan import Point, PointsConfig, plan_points
from hyena_dist.tasks.points.summary import best_setting, mean_interval, read_points, summarize, write_summary
from hyena_dist.tasks.predictions import Predictions

RIGHT = {"valid": {("mean", 0): 30, ("mean", 1): 34, ("last", 0): 36, ("last", 1): 38},
         "test": {("mean", 0): 40, ("mean", 1): 38, ("last", 0): 26, ("last", 1): 22}}  # fmt: skip
"""How many of 40 examples each point gets right: `last` is better on valid, `mean` on test."""


def predictions(right: int, count: int = 40) -> Predictions:
    labels = np.arange(count) % 2
    predicted = np.where(np.arange(count) < right, labels, 1 - labels)
    scores = np.eye(2, dtype=np.float32)[predicted] * 0.8 + 0.1
    return Predictions("single_label", ("no", "yes"), [str(i) for i in range(count)], labels, scores)


@pytest.fixture
def points(tmp_path: Path) -> list[Point]:
    found = plan_points(PointsConfig(seeds=(0, 1), sweep={"task.pooling": ("mean", "last")}))
    for point in found:
        (tmp_path / point.name).mkdir()
        for split, right in RIGHT.items():
            file = tmp_path / point.name / f"predictions-{split}.parquet"
            predictions(right[point.setting["task.pooling"], point.seed]).save(file)
    return found


def test_means_and_deviations(tmp_path: Path, points: list[Point]) -> None:
    mean, last = summarize(read_points(tmp_path, points)[0])
    assert (mean.name, mean.points, last.points) == ("task.pooling=mean", 2, 2)
    assert mean.means["test/accuracy"].value == pytest.approx(39 / 40)
    assert mean.deviations["test/accuracy"] == pytest.approx(2 / 40 / math.sqrt(2))
    low, high = mean.means["test/accuracy"][1:]
    assert high - low == pytest.approx(2 * 12.7062 * 2 / 40 / 2, rel=1e-4)  # t of 1 degree of freedom


def test_valid_chooses_and_test_does_not(tmp_path: Path, points: list[Point]) -> None:
    found, headline = read_points(tmp_path, points)
    assert headline == "mcc"
    assert best_setting(summarize(found), "accuracy").name == "task.pooling=last"
    lines = write_summary(tmp_path, points)
    assert lines[-1].startswith("best by valid: task.pooling=last; test 0.2")
    assert "(best by valid)" in next(line for line in lines if line.startswith("| task.pooling=last"))


def test_files(tmp_path: Path, points: list[Point]) -> None:
    lines = write_summary(tmp_path, points, best_by="accuracy")
    rows = list(csv.DictReader((tmp_path / "points.csv").open()))
    assert [row["point"] for row in rows] == [point.name for point in points]
    assert {row["task.pooling"]: row["seed"] for row in rows} == {"mean": "1", "last": "1"}
    assert float(rows[0]["test/accuracy"]) == 1.0
    table = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert {row["metric"] for row in table} >= {"valid/accuracy", "test/mcc", "test/auroc"}
    assert (tmp_path / "points.md").read_text().splitlines() == lines


def test_one_point_has_no_interval(tmp_path: Path, points: list[Point]) -> None:
    write_summary(tmp_path, points[:1])
    (row,) = [row for row in csv.DictReader((tmp_path / "summary.csv").open()) if row["metric"] == "test/mcc"]
    assert (row["points"], row["low"], row["deviation"]) == ("1", "nan", "nan")


def test_mean_interval_covers_the_mean() -> None:
    draws = np.random.default_rng(0).normal(3.0, 1.0, (2000, 4))
    found = [mean_interval(row.tolist()) for row in draws]
    assert np.mean([each.low < 3.0 < each.high for each in found]) == pytest.approx(0.95, abs=0.02)
