"""The sentences and tables of a task's report."""

import math
from collections.abc import Sequence

from hyena_dist.tasks.balance import describe_balance
from hyena_dist.tasks.bootstrap import Interval
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.leaks import LEAK_KINDS, Leaks
from hyena_dist.tasks.report.page import Table
from hyena_dist.tasks.report.results import MODEL, Results

_MOST_CLASSES = 50
"""Classes that a table shows; task.json has all."""


def verdict(results: Results) -> list[str]:
    """Return sentences that say what the model reaches, and whether it is above each floor."""
    metric = results.headline
    found = [f"The model's {metric} of test is {_with_interval(results.test[MODEL][metric])}."]
    for name, gains in results.gains.items():
        gain = gains[metric]
        place = "not told from" if not gain.excludes_zero else "above" if gain.value > 0 else "BELOW"
        found.append(f"It is {place} the floor {name}: the difference is {_with_interval(gain, '+.3f')}.")
    if published := results.published:
        found.append(f"Published: {metric} {published.value:.3f} ({published.source}).")
    return found


def metric_table(results: Results) -> Table:
    """Return the metrics of all classes together, of each method, the metric of comparison first."""
    metrics = [name for name in results.test[MODEL] if "/" not in name]
    metrics.sort(key=lambda name: name != results.headline)
    header = ["metric", *_methods(results), *(["model on valid"] if results.valid else [])]
    header += ["published"] if results.published else []
    rows = []
    for metric in metrics:
        row = [metric, *(_with_interval(measured[metric]) for measured in results.test.values())]
        row += [_number(results.valid[metric])] if results.valid else []
        if results.published:
            row.append(_number(results.published.value) if metric == results.published.metric else "")
        rows.append(row)
    return Table(header, rows)


def leaks_of(results: Results, leaks: Leaks) -> list[str | Table]:
    """Return how many examples leak, by split, and the metric of comparison with and without them."""
    rows = [
        [
            split,
            f"{each.size:,}",
            *(f"{len(each.held_out[kind]):,}" for kind in LEAK_KINDS),
            f"{each.all_held_out.size:,}",
        ]
        for split, each in leaks.items()
    ]
    kinds = [kind.replace("_", " ") for kind in LEAK_KINDS]
    found: list[str | Table] = [
        "Sequences of a held-out split that train has too: the same bases, the same on the other strand, or nearly so.",
        Table(["split", "sequences", *kinds, "together"], rows),
    ]
    if not results.without_leaks:
        return found if rows and rows[-1][-1] != "0" else [*found, "No example of test leaks, so there is one figure."]
    header = ["metric of test", *(f"{name}, {how}" for name in _methods(results) for how in ("all", "without leaks"))]
    metrics = [name for name in results.test[MODEL] if "/" not in name]
    metrics.sort(key=lambda name: name != results.headline)
    both = [
        [
            metric,
            *(
                _with_interval(of[name][metric])
                for name in results.test
                for of in (results.test, results.without_leaks)
            ),
        ]
        for metric in metrics
    ]
    return [*found, "With and without the examples of test that leak:", Table(header, both)]


def class_table(results: Results, data: LabelledData) -> Table | None:
    """Return the metrics of each class, label or target, of each method; None where there is one target."""
    metrics = list(dict.fromkeys(name.split("/")[0] for name in results.test[MODEL] if "/" in name))
    if not metrics:
        return None
    header = ["class", *(f"{metric}, {name}" for metric in metrics for name in _methods(results))]
    rows = [
        [name, *(_with_interval(of[f"{metric}/{name}"]) for metric in metrics for of in results.test.values())]
        for name in data.classes[:_MOST_CLASSES]
    ]
    return Table(header, rows)


def data_of(data: LabelledData) -> list[str]:
    """Return sentences that say what the data is: its kind, and the size and balance of each split."""
    labels = "targets" if data.kind == "regression" else "classes"
    return [
        f"{data.kind.replace('_', ' ')}, {len(data.classes)} {labels}; fingerprint {data.fingerprint}.",
        *describe_balance(data),
    ]


def _methods(results: Results) -> Sequence[str]:
    return [name if name == MODEL else f"floor {name}" for name in results.test]


def _with_interval(interval: Interval, form: str = ".3f") -> str:
    """Return a number with both ends of its interval, if they are known."""
    value, low, high = (_number(each, form) for each in interval)
    return value if math.isnan(interval.low) else f"{value} [{low}, {high}]"


def _number(value: float, form: str = ".3f") -> str:
    return "–" if math.isnan(value) else format(value, form if abs(value) < 1000 else ".3g")
