"""Accuracy against the length of a soft prompt and against the number of demonstrations, each point a run."""

import copy
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hyena_dist.parallel.world import World
from hyena_dist.tasks.finished import predictions_file
from hyena_dist.tasks.floors.run import run_floors
from hyena_dist.tasks.in_context.few_shot import evaluate_few_shot
from hyena_dist.tasks.in_context.objective import InContext
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.labelled_data import labelled_data
from hyena_dist.tasks.metrics import measure, metrics
from hyena_dist.tasks.predictions import Predictions
from hyena_dist.tasks.resolve import complete
from hyena_dist.tracking import figures
from hyena_dist.tracking.work_progress import Say
from hyena_dist.train.run import train

_COLOURS = {"soft_prompt": "#0072B2", "instruction": "#D55E00", "few_shot": "#009E73"}


class Point(NamedTuple):
    """The accuracy on the test split of one way to ask."""

    method: str
    soft_tokens: int
    shots: int
    queries: int
    accuracy: float
    low: float
    high: float
    """Ends of the 95 % bootstrap interval of the accuracy."""
    mcc: float
    majority: float
    """The share of the most frequent class."""
    kmer: float
    """The accuracy of a logistic regression on k-mers of the same data, which a method must beat."""


def measure_curve(
    tree: Mapping[str, Any],
    prompts: Sequence[int],
    shots: Sequence[int],
    out: Path,
    world: World,
    say: Say = print,
    methods: Sequence[str] = ("few_shot", "instruction"),
) -> list[Point] | None:
    """Tune and evaluate every point, each in `out`/METHOD-NUMBER, and write in_context.png and .csv; all ranks call it.

    The same call again keeps the points that are finished, and continues the one that is not. Points of other calls in
    the same folder, perhaps with other settings of training, are in the picture too.

    Args:
        tree: a task file; its `task.in_context` may set what points have in common.
        prompts: numbers of soft tokens.
        shots: numbers of demonstrations.
        out: the folder of all points.
        world: all ranks.
        say: receives lines of text for the user, on the main process.
        methods: which of the two the demonstrations are for.

    Returns:
        The points; None if a signal asked to stop, after which the same call continues.

    Raises:
        UserError: what InContext refuses; that of every point is found before the first is tuned.
    """
    configs = [complete(each, each["name"]) for each in _trees(tree, prompts, shots, methods, out)]
    for config in configs:
        InContext(config)
    points = []
    for config in configs:
        assert config.task is not None
        settings = config.task.in_context
        assert settings is not None
        if settings.method == "few_shot":
            evaluate_few_shot(config, world)
        elif train(config, world, objective=InContext).outcome != "finished":
            return None
        floors = world.on_main(lambda of=config.task: _floors(labelled_data(of), out, say))  # type: ignore[misc]
        predictions = Predictions.load(predictions_file(config.run_dir, "test"))
        found = measure(predictions)
        point = Point(
            settings.method,
            settings.soft_tokens,
            settings.shots,
            len(predictions),
            *found["accuracy"],
            found["mcc"].value,
            **floors,
        )
        points.append(point)
        if world.is_main:
            say(f"{config.name}: accuracy {point.accuracy:.3f} ({point.low:.3f} to {point.high:.3f})")
            plot(_with_known(points, out / "in_context.csv"), out / "in_context.png")
    return points


def _with_known(points: Sequence[Point], file: Path) -> list[Point]:
    """Return points with those that an earlier command has left in the folder, sorted."""
    known = {}
    if file.exists():
        with file.open(newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                kinds = Point.__annotations__
                found = Point(**{name: kinds[name](value) for name, value in row.items()})
                known[found[:3]] = found
    return sorted({**known, **{point[:3]: point for point in points}}.values())


def plot(points: Sequence[Point], out_png: Path) -> None:
    """Draw accuracy by soft tokens, and by demonstrations; the numbers go into a CSV of the same stem."""
    figures.write_csv(out_png, Point._fields, points)
    prompts = [p for p in points if p.method == "soft_prompt"]
    shown = [p for p in points if p.method != "soft_prompt"]
    drawn = [group for group in (prompts, shown) if group]
    figure, axes = figures.new_figure(3.2 * len(drawn) + 0.4, [1] * len(drawn), sharex=False)
    for group, each in zip(drawn, axes, strict=True):
        for method in dict.fromkeys(p.method for p in group):
            _draw(each, [p for p in group if p.method == method], method)
        for label, value, dashes in (("majority", group[0].majority, (4, 3)), ("k-mers", group[0].kmer, (1, 2))):
            each.axhline(value, color=figures.GREY, linewidth=1, linestyle=(0, dashes), label=label)
        each.set_ylabel("accuracy (95 % interval)")
        each.legend(frameon=False, fontsize=8)
    if prompts:
        axes[0].set_xscale("log", base=2)
        lengths = sorted({p.soft_tokens for p in prompts})
        axes[0].set_xticks(lengths, [f"{n:,}" for n in lengths])
        axes[0].minorticks_off()
        axes[0].set_xlabel("soft tokens tuned before the frozen model")
    if shown:
        axes[-1].set_xticks(sorted({p.shots for p in shown}))
        axes[-1].set_xlabel("demonstrations in the context")
    figures.save(figure, out_png)


def _draw(axes: Any, points: Sequence[Point], method: str) -> None:
    points = sorted(points, key=lambda p: p.soft_tokens or p.shots)
    bars = [[max(0.0, p.accuracy - p.low) for p in points], [max(0.0, p.high - p.accuracy) for p in points]]
    places = [p.soft_tokens or p.shots for p in points]
    style = {"color": _COLOURS[method], "marker": "o", "markersize": 5, "linewidth": 1.8, "capsize": 3}
    axes.errorbar(places, [p.accuracy for p in points], yerr=bars, label=method.replace("_", " "), **style)


def _trees(
    tree: Mapping[str, Any], prompts: Sequence[int], shots: Sequence[int], methods: Sequence[str], out: Path
) -> Iterator[dict[str, Any]]:
    """Yield the task file of each point."""
    ways = [("soft_prompt", {"prompt_tokens": n}, n) for n in prompts]
    ways += [(method, {"shots": n}, n) for method in methods for n in shots]
    for method, chosen, number in ways:
        point = copy.deepcopy(dict(tree))
        task = point["task"] = dict(point.get("task") or {})
        task["in_context"] = {**(task.get("in_context") or {}), "method": method, **chosen}
        if not task["in_context"].get("shots"):
            task["in_context"].pop("all_answers", None)
        yield point | {"name": f"{method}-{number}", "output_dir": str(out)}


def _floors(data: LabelledData, out: Path, say: Say) -> dict[str, float]:
    """Return the accuracy on test of simple methods on the same data; they are fitted once for all points."""
    found = run_floors(data, ("majority", "kmer"), out / "floors", say=say)
    return {name: metrics(predictions)["accuracy"] for name, predictions in found.items()}
