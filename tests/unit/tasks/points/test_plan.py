"""The points that seeds, folds and a sweep make."""

import math
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.errors import UserError
from hyena_dist.tasks.points.plan import PointsConfig, parse_points, parse_sweep, plan_points


@given(
    seeds=st.integers(0, 4),
    folds=st.sampled_from([0, 2, 5]),
    rates=st.lists(st.floats(1e-6, 1e-2).map(lambda rate: float(f"{rate:.3g}")), max_size=4, unique=True),
    poolings=st.lists(st.sampled_from(["mean", "last", "max"]), max_size=3, unique=True),
)
def test_every_combination_once(seeds: int, folds: int, rates: list[float], poolings: list[str]) -> None:
    sweep = {key: values for key, values in (("optimizer.lr", rates), ("task.pooling", poolings)) if values}
    points = plan_points(parse_points({"seeds": seeds, "folds": folds, "sweep": sweep}, "task.yaml"))
    sizes = (seeds, folds, len(rates), len(poolings))
    assert len(points) == math.prod(size or 1 for size in sizes)
    assert len({point.name for point in points}) == len(points)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", point.name) for point in points)
    assert len({(point.group, point.seed, point.fold) for point in points}) == len(points)


def test_overrides_are_what_the_run_file_takes() -> None:
    (point,) = plan_points(PointsConfig(seeds=(7,), sweep=({"optimizer.lr": 1e-5, "model": "runs/chr 20"},)))
    overrides = dict(text.split("=", 1) for text in point.overrides(0))
    values = {key: yaml.safe_load(value) for key, value in overrides.items()}
    assert values == {
        "name": "lr-1e-05_model-chr-20_seed-7",
        "optimizer.lr": "1e-05",
        "model": "runs/chr 20",
        "seed": 7,
    }
    (point, _) = plan_points(PointsConfig(folds=2))
    assert point.overrides(2) == ['name="fold-0"', "task.data.folds=2", "task.data.fold=0"]


def test_seeds_are_a_number_or_a_list() -> None:
    assert parse_points({"seeds": 3}, "").seeds == (0, 1, 2)
    assert parse_points({"seeds": [5, 9]}, "").seeds == (5, 9)


def test_sweep_on_the_command_line() -> None:
    found = parse_sweep(["optimizer.lr=0.0001,0.001", "train.curriculum=[{seq_length: 8, tokens: 80}]"])
    assert found == {"optimizer.lr": [0.0001, 0.001], "train.curriculum": [[{"seq_length": 8, "tokens": 80}]]}


@pytest.mark.parametrize("word", ["optimizer.lr", "optimizer.lr=", "=1,2", "optimizer.lr=[1"])
def test_what_is_no_sweep(word: str) -> None:
    with pytest.raises(UserError, match="is not KEY=VALUE,VALUE"):
        parse_sweep([word])


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"folds": 1}, "points.folds is 1"),
        ({"sweep": {"seed": [1, 2]}}, "a sweep over seed cannot be"),
        ({"sweep": {"task.pooling": ["mean", "mean"]}}, "two points would be called pooling-mean"),
        ({"seeds": [1, 1]}, "two points would be called seed-1"),
        ({"seed": 3}, "unknown key 'seed'; did you mean 'seeds'"),
    ],
)
def test_mistakes_are_told(tree: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        plan_points(parse_points(tree, "task.yaml"))
