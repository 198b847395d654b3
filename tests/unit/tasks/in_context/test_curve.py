"""Curves: each point a run, kept by the next command; and what the command refuses."""

import csv
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.cli import main
from hyena_dist.parallel.world import World, join_world
from hyena_dist.tasks.in_context.curve import Point, measure_curve, plot
from hyena_dist.tasks.predictions import Predictions
from tests.configs import refusal
from tests.labelled import write_classes
from tests.processes import run_ranks


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    return {
        "architecture": {"d_model": 8, "n_layer": 1, "l_max": 160, "filter_order": 8, "embed_dropout": 0.0},
        "task": {"data": {"path": str(write_classes(tmp_path / "set.csv"))}, "report": False},
    }


def measured(tree: dict[str, Any], shots: list[int], out: Path) -> tuple[list[Point], list[str]]:
    said: list[str] = []
    points = measure_curve(tree, [], shots, out, join_world(), said.append, methods=("few_shot",))
    assert points is not None
    return points, said


def few_shot(tree: dict[str, Any], shots: list[int], out: Path) -> tuple[list[Point], list[str]]:
    found: tuple[list[Point], list[str]] = run_ranks(1, measured, tree, shots, out)[0]
    return found


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "in_context.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_points_are_runs_that_later_commands_keep(tree: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    (first,), said = few_shot(tree, [1], out)
    assert said[-1] == f"few_shot-1: accuracy {first.accuracy:.3f} ({first.low:.3f} to {first.high:.3f})"
    predictions = Predictions.load(out / "few_shot-1/predictions-test.parquet")
    assert first.accuracy == pytest.approx((predictions.scores.argmax(1) == predictions.labels).mean())
    assert first.queries == len(predictions) == 24
    assert first.majority == pytest.approx(1 / 3)
    assert first.kmer > 0.4
    (second,), _ = few_shot(tree, [0], out)
    assert [(row["method"], row["shots"]) for row in rows_of(out)] == [("few_shot", "0"), ("few_shot", "1")]
    assert rows_of(out)[1] == {name: str(value) for name, value in first._asdict().items()}
    assert (out / "in_context.png").read_bytes()[:4] == b"\x89PNG"
    assert few_shot(tree, [1], out)[0] == [first], "the same contexts, the same answers"
    assert second.shots == 0


def test_a_picture_of_both_kinds(tmp_path: Path) -> None:
    points = [
        Point("soft_prompt", 2, 0, 100, 0.5, 0.45, 0.55, 0.0, 0.5, 0.6),
        Point("soft_prompt", 1024, 0, 100, 0.6, 0.6, 0.6, 0.2, 0.5, 0.6),
        Point("instruction", 0, 1, 100, 0.7, 0.65, 0.75, 0.4, 0.5, 0.6),
        Point("few_shot", 0, 0, 100, 0.5, 0.45, 0.55, 0.0, 0.5, 0.6),
    ]
    plot(points, tmp_path / "all.png")
    plot(points[:2], tmp_path / "prompts.png")
    sizes = [(tmp_path / f"{name}.png").read_bytes()[20:24] for name in ("all", "prompts")]
    assert sizes[0] > sizes[1], "two axes are higher than one"


def test_a_point_that_does_not_fit_is_found_before_any_runs(tree: dict[str, Any], tmp_path: Path) -> None:
    message = refusal(lambda: measure_curve(tree, [2], [0, 3], tmp_path / "out", World()))
    assert "3 demonstrations" in message
    assert "at most 2 shots" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "in-context needs --prompts or --shots"),
        (["--shots", "x"], "--shots x is not a list of numbers; try 0,1,2"),
        (["--prompts", "0"], "--prompts 0 is not a list of numbers"),
    ],
)
def test_options_are_refused(options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["in-context", "task.yaml", "--out", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err
