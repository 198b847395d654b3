"""The report of a probe: Markdown for people, JSON for programs, and the predictions in Parquet."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyena_dist.system.files import write_atomically
from hyena_dist.tasks.bootstrap import Interval, paired_difference
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.leaks import LEAK_KINDS, SplitLeaks
from hyena_dist.tasks.metrics import measure
from hyena_dist.tasks.predictions import Predictions

METRICS = {"accuracy": "accuracy", "f1": "macro F1", "auroc": "AUC", "mcc": "MCC"}
"""The metrics of the report's first table, and how it heads them."""


@dataclass(frozen=True)
class Probed:
    """All that a probe has found."""

    name: str
    data: LabelledData
    tested: int
    """The number of sequences that are predicted."""
    predictions: Mapping[str, Predictions]
    """The predictions of each classifier of each kind of features, such as "embeddings, logistic regression"."""
    best: Mapping[str, Predictions]
    """The predictions of the best of `model` and of `floor`, chosen inside train in each fold."""
    inner: Mapping[str, Sequence[float]]
    """Macro F1 inside the training set of each fold, by the names of `predictions`."""
    settings: Mapping[str, Sequence[Mapping[str, Any]]]
    """The settings that were chosen in each fold, by the same names."""
    leaks: SplitLeaks | None
    """What test has of train, where splits were given."""
    options: Mapping[str, Any]


def write_report(folder: Path, found: Probed) -> dict[str, Any]:
    """Write report.md, probe.json and predictions in Parquet into an existing folder; return what probe.json has."""
    everything = {**found.predictions, **{f"best {kind}": each for kind, each in found.best.items()}}
    for name, predictions in everything.items():
        predictions.save(folder / f"predictions-{_file_name(name)}.parquet")
    measured = {name: measure(predictions) for name, predictions in everything.items()}
    gain = paired_difference([found.best["floor"]], [found.best["model"]])
    content: dict[str, Any] = {
        "name": found.name,
        "fingerprint": found.data.fingerprint,
        "tested": found.tested,
        "options": dict(found.options),
        "metrics": {name: _as_json(metrics) for name, metrics in measured.items()},
        "gain": _as_json(gain),
        "inner_macro_f1": {name: list(scores) for name, scores in found.inner.items()},
        "settings": {name: list(settings) for name, settings in found.settings.items()},
    }
    lines = [f"# {found.name}", "", *_about(found), "", *_overall(measured), "", _claim(gain), ""]
    lines += _by_class(found, measured)
    if found.leaks is not None:
        content["leaks"] = {kind: len(found.leaks.held_out[kind]) for kind in LEAK_KINDS}
        without = found.best["model"].without(found.leaks.all_held_out)
        content["metrics"]["best model without leaks"] = _as_json(measure(without))
        lines += ["", *_leaks(found.leaks, content["metrics"])]
    lines += ["", "![embeddings in a plane](tsne.png)", ""]
    write_atomically(folder / "probe.json", json.dumps(content, indent=2) + "\n")
    write_atomically(folder / "report.md", "\n".join(lines))
    return content


def _about(found: Probed) -> list[str]:
    options = found.options
    tested = (
        f"{options['folds']}-fold cross-validation of {found.tested:,} sequences"
        if options["folds"]
        else f"{found.tested:,} sequences of the test split"
    )
    read = f"the first {options['max_bases']:,} bases" if options["max_bases"] else "all bases"
    layers = options["layers"]
    which = "all layers" if layers == "all" else f"layers {', '.join(map(str, layers))}"
    return [
        f"{len(found.data.classes)} classes; {tested}. Embeddings are the mean over {read} of the states of {which} "
        f"(strands: {options['strands']}), of a frozen model; k-mers are counted in the same bases.",
        "Settings of each classifier, and the best classifier, are chosen by inner folds of what is trained on.",
    ]


def _overall(measured: Mapping[str, Mapping[str, Interval]]) -> list[str]:
    rows = [f"| features, classifier | {' | '.join(METRICS.values())} |", f"|---|{'---|' * len(METRICS)}"]
    return rows + [
        f"| {name} | {' | '.join(_cell(found[each]) for each in METRICS)} |" for name, found in measured.items()
    ]


def _claim(gain: Mapping[str, Interval]) -> str:
    found = gain["f1"]
    what = f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
    if not found.excludes_zero:
        return f"Macro F1 of embeddings minus that of k-mers: {what}; the interval has 0, so no difference is claimed."
    return (
        f"Macro F1 of embeddings minus that of k-mers: {what}; embeddings do {'better' if found.low > 0 else 'worse'}."
    )


def _by_class(found: Probed, measured: Mapping[str, Mapping[str, Interval]]) -> list[str]:
    labels = found.best["model"].labels
    counts = np.bincount(labels, minlength=len(found.data.classes))
    rows = ["| class | sequences | F1, embeddings | F1, k-mers |", "|---|---|---|---|"]
    for name, count in zip(found.data.classes, counts, strict=True):
        cells = (_cell(measured[f"best {kind}"][f"f1/{name}"]) for kind in ("model", "floor"))
        rows.append(f"| {name} | {count:,} | {' | '.join(cells)} |")
    return rows


def _leaks(leaks: SplitLeaks, metrics: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    counts = ", ".join(f"{len(leaks.held_out[kind]):,} {kind.replace('_', ' ')}" for kind in LEAK_KINDS)
    with_them, without = (metrics[f"best model{what}"]["accuracy"][0] for what in ("", " without leaks"))
    return [
        f"Test sequences that are in train too: {counts}, of {leaks.size:,}. Accuracy of embeddings with them "
        f"{with_them:.3f}, without them {without:.3f}."
    ]


def _cell(found: Interval) -> str:
    return "-" if np.isnan(found.value) else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _as_json(metrics: Mapping[str, Interval]) -> dict[str, list[float | None]]:
    return {name: [None if np.isnan(each) else each for each in found] for name, found in metrics.items()}


def _file_name(name: str) -> str:
    return re.sub(r"\W+", "-", name)
