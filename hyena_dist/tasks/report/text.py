"""The sentences and tables of a task's report."""

import math
from collections.abc import Sequence

from hyena_dist.tasks.balance import balance
from hyena_dist.tasks.bootstrap import Interval
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.leaks import LEAK_KINDS, Leaks
from hyena_dist.tasks.report.page import Table
from hyena_dist.tasks.report.results import MODEL, Results

_MOST_CLASSES = 50
"""Classes that a table shows; task.json has all."""


_ABOUT = {
    "majority": "majority, the shares of the classes in train, or the mean of numbers",
    "kmer": "kmer, logistic (of numbers ridge) regression on the frequencies of 5-mers, or of bases the shares of the "
    "classes around the same 5-mer",
    "onehot": "onehot, the same regression on the 80 bases in the middle",
    "cnn": "cnn, the small convolutional network that is the baseline of GenomicBenchmarks",
}
"""What each floor is, by name."""


def verdict(results: Results) -> list[str]:
    """Return sentences that say what the model reaches, and whether it is above each floor."""
    metric = results.headline
    found = [f"The model's {metric} of test is {_with_interval(results.test[MODEL][metric])}."]
    for name, gains in results.gains.items():
        gain = gains[metric]
        if math.isnan(gain.value):
            found.append(f"The floor {name} has no {metric}.")
            continue
        place = "above" if gain.value > 0 else "BELOW"
        if not gain.excludes_zero:
            place = f"not clearly {place}"
        found.append(f"It is {place} the floor {name}: by {_with_interval(gain, '+.3f')}.")
    if published := results.published:
        found.append(f"Published: {published.metric} {published.value:.3f} ({published.source}).")
    return found


def floors_of(results: Results) -> str:
    """Return a sentence that says what the floors are."""
    known = [_ABOUT.get(name, name) for name in results.gains]
    return f"Floors, fitted on train: {'; '.join(known)}." if known else "No floor was fitted."


def metric_table(results: Results) -> Table:
    """Return the metrics of all classes together, of each method, the metric of comparison first."""
    header = ["metric", *_methods(results), *(["model on valid"] if results.valid else [])]
    header += ["published"] if results.published else []
    rows = []
    for metric in _of_all_classes(results):
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
    if "test" not in leaks or not leaks["test"].all_held_out.size:
        return [*found, "No sequence of test leaks, so there is one figure."]
    if not results.without_leaks:
        return [*found, "All sequences of test leak, so there is no figure without them."]
    header = ["metric of test", *(f"{name}, {how}" for name in _methods(results) for how in ("all", "without leaks"))]
    sides = [(results.test[name], results.without_leaks[name]) for name in results.test]
    table = [
        [metric, *(_with_interval(measured[metric]) for pair in sides for measured in pair)]
        for metric in _of_all_classes(results)
    ]
    return [*found, "With and without the sequences of test that leak:", Table(header, table)]


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


def data_of(data: LabelledData) -> list[str | Table]:
    """Return what the data is: its kind, the size of each split, and the balance of the classes there."""
    found: list[str | Table] = [f"Labels: {data.kind.replace('_', ' ')}. Fingerprint: {data.fingerprint}."]
    for name, split in data.splits.items():
        least, most = int(split.lengths.min()), int(split.lengths.max())
        lengths = f"{most:,}" if least == most else f"{least:,} to {most:,}"
        found.append(f"{name}: {len(split):,} sequences of {lengths} bases.")
    by_split = balance(data)
    what = {"regression": "mean", "per_base": "bases"}.get(data.kind, "sequences")
    rows = []
    for name in data.classes[:_MOST_CLASSES]:
        counts = [of[name] for of in by_split.values()]
        rows.append([name, *(f"{n:,.4g}" if data.kind == "regression" else f"{n:,}" for n in counts)])
        if data.kind != "regression":
            totals = [len(data.splits[s]) if data.kind != "per_base" else sum(by_split[s].values()) for s in by_split]
            rows[-1] += [f"{n / total:.1%}" for n, total in zip(counts, totals, strict=True)]
    header = ["class", *(f"{what} of {split}" for split in by_split)]
    if data.kind != "regression":
        header += [f"share of {split}" for split in by_split]
    return [*found, Table(header, rows)]


def _of_all_classes(results: Results) -> list[str]:
    """Return the names of the metrics of all classes together, the one of comparison first."""
    found = [name for name in results.test[MODEL] if "/" not in name]
    return sorted(found, key=lambda name: name != results.headline)


def _methods(results: Results) -> Sequence[str]:
    return [name if name == MODEL else f"floor {name}" for name in results.test]


def _with_interval(interval: Interval, form: str = ".3f") -> str:
    """Return a number with both ends of its interval, if they are known."""
    value, low, high = (_number(each, form) for each in interval)
    return value if math.isnan(interval.low) else f"{value} [{low}, {high}]"


def _number(value: float, form: str = ".3f") -> str:
    return "–" if math.isnan(value) else format(value, form if abs(value) < 1000 else ".3g")
