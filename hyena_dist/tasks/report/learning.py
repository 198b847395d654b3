"""Pictures of the whole: how a model learned, and how it compares with simple methods.

Each is written with what it shows in a CSV beside it.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from hyena_dist.tasks.bootstrap import Interval
from hyena_dist.tasks.report.curves import COLOURS
from hyena_dist.tracking.figures import GREY, new_figure, save, write_csv

Points = list[tuple[float, float]]
"""Steps and what was measured there."""


def plot_learning(history: Sequence[Mapping[str, float]], metric: str, out_png: Path) -> None:
    """Draw the losses of train and valid, and below them the metrics of valid, against steps.

    Args:
        history: rows of metrics.jsonl: step, with train/loss or valid/METRIC.
        metric: what is drawn in the foreground.
        out_png: The picture; its CSV gets the same stem.
    """
    series: dict[str, Points] = {}
    for row in history:
        for name, value in row.items():
            if (name == "train/loss" or name.startswith("valid/")) and isinstance(value, int | float):
                series.setdefault(name, []).append((row["step"], value))
    rows = [(name, step, value) for name, points in series.items() for step, value in points]
    write_csv(out_png, ("series", "step", "value"), rows)
    figure, (top, bottom) = new_figure(5.6, (1, 1))
    for name, colour in (("train/loss", COLOURS[0]), ("valid/loss", COLOURS[1])):
        if points := series.get(name):
            marker = {"marker": "o", "markersize": 4} if name == "valid/loss" else {"alpha": 0.8}
            top.plot(*zip(*points, strict=True), color=colour, linewidth=1.4, label=name.split("/")[0], **marker)
    measured = {name.removeprefix("valid/"): points for name, points in series.items() if name.startswith("valid/")}
    measured.pop("loss", None)
    for (name, points), colour in zip(measured.items(), COLOURS[1:], strict=False):
        strong = name == metric
        style = (
            {"linewidth": 2.0, "marker": "o", "markersize": 4}
            if strong
            else {"linewidth": 1.0, "alpha": 0.7, "marker": "o", "markersize": 2}
        )
        bottom.plot(*zip(*points, strict=True), color=COLOURS[0] if strong else colour, label=name, **style)
    top.set_ylabel("loss")
    bottom.set_ylabel("metrics of valid")
    bottom.set_xlabel("optimizer steps")
    for axes in (top, bottom):
        if axes.lines:
            axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    save(figure, out_png)


def plot_comparison(
    measured: Mapping[str, Interval], metric: str, out_png: Path, published: float | None = None
) -> None:
    """Draw a metric of the model and of simple methods with 95 % intervals, one below the other.

    Args:
        measured: the metric by the name of the method, the model first.
        metric: its name.
        out_png: The picture; its CSV gets the same stem.
        published: the paper's figure.
    """
    rows = [(name, *interval) for name, interval in measured.items()]
    write_csv(out_png, ("method", metric, "low", "high"), [*rows, *([("published", published)] if published else [])])
    figure, (axes,) = new_figure(1.3 + 0.4 * len(measured))
    for place, (value, low, high) in enumerate(measured.values()):
        if not math.isnan(value):
            ends = [[max(0, value - low)], [max(0, high - value)]] if not math.isnan(low) else None
            axes.errorbar(
                value, place, xerr=ends, fmt="o", color=GREY if place else COLOURS[0], capsize=3, markersize=6
            )
            label = {"textcoords": "offset points", "ha": "center", "fontsize": 8, "color": GREY}
            axes.annotate(f"{value:.3f}", (value, place), (0, 6), **label)
    if published is not None:
        axes.axvline(published, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.set_yticks(range(len(measured)), list(measured))
    axes.set_ylim(len(measured) - 0.5, -0.7)
    axes.set_xlabel(f"{metric} of test (95 % interval{'; dashed: published' if published is not None else ''})")
    save(figure, out_png)
