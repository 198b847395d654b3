"""The plot that answers why a run is slow: how long each phase of a step takes, and what the run's time went to."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hyena_dist.tracking import figures

# Phases in the order in which they are stacked, with colours of Okabe and Ito, which the colour-blind tell apart.
_STEP_PHASES = {
    "forward": "#0072B2",
    "backward": "#56B4E9",
    "optimizer": "#009E73",
    "reduce": "#D55E00",
    "data": "#E69F00",
    "other": "#999999",
}
_PAUSES = {"evaluation": "#CC79A7", "checkpoint": "#F0E442"}
_PHASES = _STEP_PHASES | _PAUSES
_SMALLEST_LABEL = 0.05
"""The share of a bar below which a part gets no number, since there is no room for it."""


def plot_time(metrics_rows: Sequence[Mapping[str, float]], out_png: Path) -> None:
    """Draw the seconds per step of each phase against steps and, for each stage, the shares of its time.

    The stages' bars also hold evaluation and checkpoints, as far as a later row of the run has counted them.

    Args:
        metrics_rows: rows of metrics.jsonl, in order. Those with time/forward_s are drawn: they hold time/<phase>_s in
            seconds per step since the row before, train/seq_length and, where it is known, throughput/mfu.
        out_png: the picture; its CSV gets the same stem.
    """
    rows = [row for row in metrics_rows if "time/forward_s" in row]
    steps = np.array([row["step"] for row in rows], dtype=float)
    length = [int(row.get("train/seq_length", 0)) for row in rows]
    seconds = {phase: _column(rows, f"time/{phase}_s", 0.0) for phase in _PHASES}
    utilization = _column(rows, "throughput/mfu", math.nan)
    step_s = sum((seconds[phase] for phase in _STEP_PHASES), np.zeros(len(rows)))
    figures.write_csv(
        out_png,
        ("step", "seq_length", "step_s", *(f"{phase}_s" for phase in _PHASES), "mfu"),
        zip(steps.astype(int), length, step_s, *seconds.values(), utilization, strict=True),
    )

    starts = figures.stage_starts(length)
    bar_height = 0.42 * max(1, len(starts))
    figure, (top, bottom) = figures.new_figure(4.4 + bar_height, (2.6, 0.3 + bar_height), sharex=False)
    figure.suptitle("Where the time of the run goes", fontsize=11)
    if rows:
        _stack(top, steps, seconds)
        top.set_xlim(min(0.0, steps[0]), steps[-1])
        figures.mark_stages((top,), steps, length)
        top.set_ylim(0, 1.15 * float(np.quantile(step_s, 0.98)) or 1)
    top.set_ylabel("time per step")
    top.yaxis.set_major_formatter(_seconds())
    top.set_xlabel("optimizer step")

    counts = np.diff(steps, prepend=0.0)
    bounds = [*starts, len(rows)]
    for index, (begin, end) in enumerate(pairwise(bounds)):
        stage = slice(begin, end)
        totals = {phase: float(seconds[phase][stage] @ counts[stage]) for phase in _PHASES}
        _bar(bottom, index, totals)
        steps_of_stage = max(1.0, float(counts[stage].sum()))
        label = f"{_seconds(places=1)(float(step_s[stage] @ counts[stage]) / steps_of_stage)} a step"
        if np.isfinite(utilization[stage]).any():
            label += f"\nMFU {np.nanmedian(utilization[stage]):.1%}"
        bottom.annotate(label, (1.01, index), va="center", fontsize=8, color=figures.GREY, annotation_clip=False)
    bottom.set_yticks(range(len(starts)), [f"length {figures.short_length(length[i])}" for i in starts], fontsize=8)
    bottom.set_ylim(max(1, len(starts)) - 0.5, -0.5)
    bottom.set_xlim(0, 1)
    bottom.set_xlabel("share of the stage's time")
    bottom.xaxis.set_major_formatter(_percent())
    figure.legend(*_legend(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figures.save(figure, out_png)


def _column(rows: Sequence[Mapping[str, float]], name: str, default: float) -> np.ndarray:
    return np.array([row.get(name, default) for row in rows], dtype=float)


def _stack(axes: Any, steps: np.ndarray, seconds: Mapping[str, np.ndarray]) -> None:
    """Draw the phases of a step over each other; a row holds from the step of the row before to its own."""
    below = np.zeros(len(steps))
    for phase, colour in _STEP_PHASES.items():
        above = below + seconds[phase]
        edges = np.concatenate([[min(0.0, float(steps[0]))], steps])
        axes.fill_between(edges, *(np.concatenate([y[:1], y]) for y in (below, above)), step="pre", color=colour, lw=0)
        below = above


def _bar(axes: Any, index: int, totals: Mapping[str, float]) -> None:
    """Draw the shares of one stage from left to right, with a number in each that has room for it."""
    whole = sum(totals.values()) or 1.0
    left = 0.0
    for phase, total in totals.items():
        share = total / whole
        axes.barh(index, share, left=left, height=0.7, color=_PHASES[phase])
        if share >= _SMALLEST_LABEL:
            dark = phase in ("forward", "optimizer", "reduce")
            colour = "white" if dark else "black"
            axes.text(left + share / 2, index, f"{share:.0%}", ha="center", va="center", fontsize=8, color=colour)
        left += share


def _legend() -> tuple[list[Any], list[str]]:
    from matplotlib.patches import Patch

    labels = {"data": "data (wait)", "reduce": "reduce (and wait for ranks)"}
    return [Patch(color=colour) for colour in _PHASES.values()], [labels.get(phase, phase) for phase in _PHASES]


def _seconds(places: int | None = None) -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(unit="s", places=places, sep=" ")


def _percent() -> Any:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1, decimals=0)
