"""The table: on every set the pretrained model, the same one from scratch, their difference and the floors."""

import time
from pathlib import Path
from typing import Any

from hyena_dist.bench.finetune.sets import FinetuneCase, Set, load_predictions, load_sets
from hyena_dist.bench.record import record
from hyena_dist.config.task_data import TaskData
from hyena_dist.tasks.comparison import Comparison, compare
from hyena_dist.tasks.floors.run import run_floors
from hyena_dist.tasks.leaks import find_leaks
from hyena_dist.tasks.points.plan import PointsConfig
from hyena_dist.tasks.points.run import run_points
from hyena_dist.tasks.readers import read_labelled

COLUMNS = (
    "set", "metric", "examples", "pretrained", "scratch", "gain", "gain_low", "gain_high",
    "floor", "floor_value", "margin", "margin_low", "margin_high", "seconds",
)  # fmt: skip
"""Columns of the CSV, a row for each floor of a set; `gain` is pretrained less scratch, `margin` pretrained less the
floor, both with the ends of their 95 % intervals."""
_WIDTHS = (34, 8, 10, 7, 26, 15, 26)


def bench_finetune(case: FinetuneCase, out: Path | None) -> None:
    """Train on every set what has not been trained yet, and print its rows; with `out`, write the table there.

    Raises:
        UserError: a set or file that there is not, or a run that failed.
    """
    rows: list[list[Any]] = []
    print(_line("set", "metric", "pretrained", "scratch", "gain", "floor", "margin over it"))
    for each in load_sets(case):
        begin = time.monotonic()
        for name, found in _compare_on(each, case).items():
            seconds = round(time.monotonic() - begin)
            for floor, beaten in found.floors.items():
                models = (each.metric, found.examples, found.after, found.before, *found.gain)
                rows.append([name, *models, floor, beaten.value, *beaten.margin, seconds])
            print("\n".join(_describe(name, each.metric, found)), flush=True)
        if out is not None:
            record(out, "finetune-quick" if case.quick else "finetune", COLUMNS, rows, case._asdict())


def _compare_on(each: Set, case: FinetuneCase) -> dict[str, Comparison]:
    """Return the comparison on a set, and once more without what train has too, by the name of the row."""
    folder = case.runs / each.name
    config = PointsConfig(seeds=tuple(range(case.seeds)), sweep=(case.pretrained, case.scratch), at_once=case.at_once)
    points = run_points(each.tree, folder, config, say=lambda line: print(f"  {each.name}: {line}", flush=True))
    before, after = (
        [load_predictions(folder, point) for point in points if point.setting == way]
        for way in (case.scratch, case.pretrained)
    )
    data = read_labelled(TaskData.model_validate(each.tree["task"]["data"]))
    floors = run_floors(data, each.floors, cache=case.runs / "floors")
    found = {each.name: compare(before, after, floors, each.metric)}
    leaks = find_leaks(data)["test"].all_held_out
    if len(leaks):
        before, after = ([predictions.without(leaks) for predictions in way] for way in (before, after))
        clean = {name: floor.without(leaks) for name, floor in floors.items()}
        found[f"{each.name} without {len(leaks)} leaks"] = compare(before, after, clean, each.metric)
    return found


def _describe(name: str, metric: str, found: Comparison) -> list[str]:
    """Return a line for each floor, and one that says what can be claimed."""
    lines = []
    for floor, beaten in found.floors.items():
        figures = f"{found.after:.3f}", f"{found.before:.3f}", _signed(*found.gain)
        lines.append(_line(name, metric, *figures, f"{floor} {beaten.value:.3f}", _signed(*beaten.margin)))
    low, high = found.gain.low, found.gain.high
    gain = "pretraining helps" if low > 0 else "pretraining harms" if high < 0 else "no gain of pretraining is shown"
    return [*lines, f"  {gain}; {'above every floor' if found.beaten else 'NOT surely above every floor'}"]


def _signed(value: float, low: float, high: float) -> str:
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def _line(*cells: str) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()
