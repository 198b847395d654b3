"""The parts that plots share: figures without a display, CSV files, and labels that do not overlap."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

GREY = "#767676"
"""The colour of what explains a picture: labels, stage boundaries, reference lines."""


def new_figure(height: float, height_ratios: Sequence[float] = (1,), sharex: bool = True) -> tuple[Any, Any]:
    """Return a figure that no display is needed for, and its axes, one below the other.

    Args:
        height: inches, title and labels included.
        height_ratios: one number for each axes, in proportion to its height.
        sharex: whether all axes have the same horizontal axis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(height_ratios), 1, squeeze=False, sharex=sharex, height_ratios=height_ratios)[:, 0]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Any, out_png: Path) -> None:
    """Write the picture, in a folder that is created if need be."""
    out_png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out_png)


def write_csv(out_png: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write what the picture shows beside it, under the same stem."""
    out_png.parent.mkdir(parents=True, exist_ok=True)
    with out_png.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def stage_starts(length: Sequence[int]) -> list[int]:
    """Return the indices at which the sequence length is not that of the row before, 0 first."""
    return [i for i in range(len(length)) if i == 0 or length[i] != length[i - 1]]


def mark_stages(axes: Sequence[Any], places: np.ndarray, length: Sequence[int]) -> None:
    """Draw a line where the sequence length changes and write each stage's length above the first axes.

    Args:
        axes: what the lines are drawn in, the topmost first.
        places: [rows], where each row ends on the horizontal axis: tokens or steps.
        length: [rows], the sequence length of each row.
    """
    starts = stage_starts(length)
    if len(starts) < 2:
        return
    top = axes[0]
    left = min(0.0, float(places[0]))
    right = float(places[-1])
    top.set_xlim(left, right)
    row_ends = [-math.inf] * 5  # Where the last label of each row ends: short stages move up a row.
    for i in starts:
        # The row that ends at places[i] began at places[i - 1], and the stage with it.
        at = float(places[i - 1]) if i else left
        for each in axes if i else ():
            each.axvline(at, color=GREY, linewidth=0.8, zorder=0)
        text = ("length " if i == 0 else "") + short_length(length[i])
        x = (at - left) / (right - left)
        row = next((row for row, end in enumerate(row_ends) if x > end), None)
        if row is None:  # No room at all; the line stands without a label, and the CSV has the length.
            continue
        row_ends[row] = x + 0.01 + 0.01 * len(text)
        top.annotate(
            text,
            (x, 1),
            (2, 3 + 11 * row),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8,
            color=GREY,
        )


def label_lines(axes: Any, lines: list[tuple[float, str]], title: str) -> None:
    """Write the label of each horizontal line right of the axes, moved apart where lines are close."""
    if not lines:
        return
    axes.figure.canvas.draw()  # Only now is the size of the axes known.
    low, high = axes.get_ylim()
    gap = 11 / (axes.get_window_extent().height * 72 / axes.figure.dpi) * (high - low)
    lines = sorted(lines)
    places = _spread([value for value, _ in lines], gap)
    for (value, text), place in zip(lines, places, strict=True):
        axes.annotate(
            text,
            xy=(1, value),
            xytext=(1.05, place),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=GREY,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0},
            annotation_clip=False,
        )
    axes.annotate(
        title, xy=(1.05, max(places) + 1.2 * gap), xycoords=axes.get_yaxis_transform(), va="center", fontsize=8,
        color=GREY, annotation_clip=False,
    )  # fmt: skip


def _spread(places: list[float], gap: float) -> list[float]:
    """Move sorted numbers at least ``gap`` apart, as little as possible: close ones share their mean as centre."""
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _end(groups[-2], gap) + gap > _start(groups[-1], gap):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_start(group, gap) + i * gap for group in groups for i in range(len(group))]


def _start(group: list[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def _end(group: list[float], gap: float) -> float:
    return sum(group) / len(group) + gap * (len(group) - 1) / 2


def short_length(length: int) -> str:
    """Return a sequence length as the papers write it: 512, 1k, 32k, 1M, for exact multiples of 1,024."""
    for size, unit in ((2**20, "M"), (2**10, "k")):
        if length and length % size == 0:
            return f"{length // size}{unit}"
    return f"{length:,}"
