"""The steps, tokens and seconds that runs took to the same value of a metric."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hyena_dist.bench.record import record
from hyena_dist.config.file import load_config
from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from hyena_dist.tracking import figures, read_metrics
from hyena_dist.train.checkpoint.format import latest

COLUMNS = ("run", "lengths", "best", "target", "steps", "tokens", "seconds")
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


class Point(NamedTuple):
    """An evaluation of a run."""

    step: int
    tokens: int
    seconds: float
    """Seconds since the first row of metrics, evaluations included."""
    value: float


def bench_reached(runs: Sequence[Path], metric: str, out: Path | None) -> None:
    """Print, and write to `out`, what each run took until its metric was the highest that all of them reach.

    Args:
        runs: folders of runs; seconds compare where they had the same machine to themselves, or shared it alike.
        metric: a name in metrics.jsonl of which more is better, such as valid/accuracy.
        out: gets reached.csv, reached.json and reached.png.

    Raises:
        UserError: a folder is no run, or has no such metric.
    """
    curves = {run: evaluations(run, metric) for run in runs}
    target = min(max(point.value for point in curve) for curve in curves.values())
    rows: list[list[object]] = []
    for run, curve in curves.items():
        first = next(point for point in curve if point.value >= target)
        lengths = " ".join(str(stage.seq_length) for stage in _config(run).train.curriculum)
        best = max(point.value for point in curve)
        rows.append([run.name, lengths, best, target, first.step, first.tokens, round(first.seconds, 1)])
        print(
            f"{run.name}: {metric} {target:.4g} after {first.step:,} steps, {first.tokens:,} tokens, "
            f"{first.seconds:,.0f} s; at best {best:.4g} (lengths {lengths})"
        )
    if out is not None:
        record(out, "reached", COLUMNS, rows, {"metric": metric})
        _plot(curves, metric, target, out / "reached.png")


def evaluations(run: Path, metric: str) -> list[Point]:
    """Return the evaluations of a run in the order of their steps.

    Raises:
        UserError: the folder is no run, or has no such metric.
    """
    train = _config(run).train
    rows = read_metrics(run / "metrics.jsonl")
    points = []
    for row in rows:
        if metric in row:
            step = int(row["step"])
            points.append(Point(step, train.tokens_at(step), row["time"] - rows[0]["time"], row[metric]))
    if not points:
        known = sorted({key for row in rows for key in row if key.startswith("valid/")})
        raise UserError(f"{run} has no {metric}; it has {', '.join(known) or 'not been evaluated'}")
    return points


def _config(run: Path) -> RunConfig:
    """Return a run as its newest checkpoint has it."""
    planned = latest(run / "checkpoints")
    if planned is None:
        raise UserError(f"{run} is no run with a checkpoint; name the folder of a run, such as runs/first")
    return load_config(planned / "run.yaml")


def _plot(curves: Mapping[Path, Sequence[Point]], metric: str, target: float, out_png: Path) -> None:
    rows = [(run.name, *point) for run, curve in curves.items() for point in curve]
    figures.write_csv(out_png.with_stem("reached-curves"), ("run", "step", "tokens", "seconds", metric), rows)
    figure, axes = figures.new_figure(6.4, (1, 1), sharex=False)
    for colour, (run, curve) in zip(_COLOURS * len(curves), curves.items(), strict=False):
        for each, places in zip(axes, ([p.tokens / 1e6 for p in curve], [p.seconds for p in curve]), strict=True):
            each.plot(places, [p.value for p in curve], "o-", color=colour, markersize=3, linewidth=1.6, label=run.name)
    for each, name in zip(axes, ("million tokens", "seconds"), strict=True):
        each.axhline(target, color="#888888", linewidth=0.8)
        each.set_xlabel(name)
        each.set_ylabel(metric)
    axes[0].legend(frameon=False)
    figures.save(figure, out_png)
