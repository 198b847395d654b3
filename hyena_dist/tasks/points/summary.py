"""The summary of points: a table of all, mean, deviation and interval of each setting, and the best one by valid."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from hyena_dist.system.files import write_atomically
from hyena_dist.tasks.bootstrap import Interval
from hyena_dist.tasks.metrics import HEADLINE, metrics
from hyena_dist.tasks.points.plan import Point
from hyena_dist.tasks.predictions import Predictions

SPLITS = ("valid", "test")
_LOWER = {"mse"}
"""Metrics of which less is better."""


class Found(NamedTuple):
    """The metrics that a point has come to."""

    point: Point
    metrics: Mapping[str, float]
    """The metrics by SPLIT/NAME, such as test/mcc; those of single classes are left out."""


class Setting(NamedTuple):
    """A setting of the sweep, over its seeds and folds."""

    name: str
    """The setting as text; empty if there is no sweep."""
    points: int
    means: Mapping[str, Interval]
    """The mean of each metric by SPLIT/NAME, with the 95 % interval of Student's t; NaN as ends of a single point."""
    deviations: Mapping[str, float]
    """The standard deviation between points; NaN of a single one."""


def read_points(folder: Path, points: Sequence[Point]) -> tuple[list[Found], str]:
    """Return what finished points have found, from their predictions, and the one metric that counts for their kind."""
    found, headline = [], ""
    for point in points:
        values: dict[str, float] = {}
        for split in SPLITS:
            file = folder / point.name / f"predictions-{split}.parquet"
            if file.exists():
                predictions = Predictions.load(file)
                headline = HEADLINE[predictions.kind]
                values |= {f"{split}/{name}": v for name, v in metrics(predictions).items() if "/" not in name}
        found.append(Found(point, values))
    return found, headline


def summarize(found: Sequence[Found]) -> list[Setting]:
    """Return the settings in the order of the points."""
    settings = []
    for name in dict.fromkeys(each.point.group for each in found):
        members = [each.metrics for each in found if each.point.group == name]
        columns = {key: [member[key] for member in members] for key in members[0]}
        deviations = {key: stdev(column) if len(column) > 1 else math.nan for key, column in columns.items()}
        means = {key: mean_interval(column) for key, column in columns.items()}
        settings.append(Setting(name, len(members), means, deviations))
    return settings


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean of independent values with its 95 % interval by Student's t; NaN as ends of a single value."""
    from scipy.stats import t

    mean, count = fmean(values), len(values)
    if count < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(t.ppf(0.975, count - 1)) * stdev(values) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def best_setting(settings: Sequence[Setting], metric: str) -> Setting:
    """Return the setting with the best mean of a metric of valid; what it does on test plays no part."""
    sign = -1 if metric in _LOWER else 1
    return max(settings, key=lambda setting: sign * setting.means[f"valid/{metric}"].value)


def write_summary(folder: Path, points: Sequence[Point], best_by: str | None = None) -> list[str]:
    """Write points.csv, summary.csv and points.md into the folder of the points.

    Args:
        folder: the folder of all points, which have finished.
        points: the points.
        best_by: the metric that chooses a setting; the headline of the kind if not given, or not a metric.

    Returns:
        Lines for people: the content of points.md.
    """
    found, headline = read_points(folder, points)
    metric = best_by if f"valid/{best_by}" in found[0].metrics else headline
    assert metric is not None
    settings = summarize(found)
    keys = list(dict.fromkeys(key for each in found for key in each.point.setting))
    columns = list(dict.fromkeys(key for each in found for key in each.metrics))
    rows = [
        [p.name, *(p.setting.get(key, "") for key in keys), p.seed, p.fold, *(values.get(c, "") for c in columns)]
        for p, values in found
    ]
    _write_csv(folder / "points.csv", ["point", *keys, "seed", "fold", *columns], rows)
    table = [
        [setting.name, setting.points, key, *setting.means[key], setting.deviations[key]]
        for setting in settings
        for key in columns
    ]
    _write_csv(folder / "summary.csv", ["setting", "points", "metric", "mean", "low", "high", "deviation"], table)
    lines = _report(folder.name, settings, metric)
    write_atomically(folder / "points.md", "\n".join(lines) + "\n")
    return lines


def _report(name: str, settings: Sequence[Setting], metric: str) -> list[str]:
    lines = [f"# {name}", "", f"{metric}, mean of points and 95 % interval (Student's t), deviation between points", ""]
    lines += ["| setting | points | valid | test |", "|---|---|---|---|"]
    best = best_setting(settings, metric)
    for setting in settings:
        cells = [_cell(setting, f"{split}/{metric}") for split in SPLITS]
        mark = " (best by valid)" if setting is best and len(settings) > 1 else ""
        lines.append(f"| {setting.name or 'as the task says'}{mark} | {setting.points} | {' | '.join(cells)} |")
    if len(settings) > 1:
        lines += ["", f"best by valid: {best.name}; test {_cell(best, f'test/{metric}')}"]
    return lines


def _cell(setting: Setting, key: str) -> str:
    if key not in setting.means:
        return "-"
    value, low, high = setting.means[key]
    if setting.points < 2:
        return f"{value:.4f}"
    return f"{value:.4f} ({low:.4f} to {high:.4f}), {setting.deviations[key]:.4f}"


def _write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_atomically(file, text.getvalue())
