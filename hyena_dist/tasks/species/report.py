"""The report of a finished run of species classification: summary.json, and accuracy by context as a plot and a CSV."""

import json
from collections.abc import Mapping
from pathlib import Path

from hyena_dist.system.files import write_atomically
from hyena_dist.tasks.metrics import measure
from hyena_dist.tasks.predictions import Predictions
from hyena_dist.tracking import figures
from hyena_dist.train.objective import RunRecord

_COLUMNS = ("windows", "accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "mcc")
_COLOURS = {"valid": "#0072B2", "test": "#D55E00"}
_DRAWS = 300

Contexts = Mapping[str, Mapping[str, Mapping[str, float]]]
"""What `summarize` gives, by context length and split."""


def summarize(predictions: Predictions) -> dict[str, float]:
    """Return the number of windows, and accuracy with its 95 % interval and other metrics of them."""
    found = measure(predictions, _DRAWS)
    accuracy = found["accuracy"]
    interval = {"accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
    values = {name: found[name].value for name in ("accuracy", "balanced_accuracy", "mcc")}
    return {"windows": len(predictions)} | values | interval


def write_species_report(run: RunRecord, metric: str) -> None:
    """Write summary.json, accuracy.csv and accuracy.png into a run's folder, and tell people."""
    record = dict(run.state.evaluation or {})
    best = record.pop("best")
    summary = {
        "metric": metric,
        "best_step": best["step"],
        "steps": run.state.step,
        "tokens": run.state.tokens,
        **record,
        "mlflow": run.ui_command,
    }
    write_atomically(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    picture = run.folder / "plots/accuracy.png"
    plot_accuracy(record["contexts"], picture)
    for path, place in ((run.folder / "summary.json", ""), (picture, "plots"), (picture.with_suffix(".csv"), "plots")):
        run.trackers.log_artifact(path, place)
    run.note(f"accuracy by context: {picture}")


def plot_accuracy(contexts: Contexts, out_png: Path) -> None:
    """Draw accuracy against the context length, with its 95 % interval, a line for each split.

    Args:
        contexts: what was scored.
        out_png: The picture; its CSV gets the same stem.
    """
    rows = [
        (int(length), split, *(metrics[column] for column in _COLUMNS))
        for length, splits in contexts.items()
        for split, metrics in splits.items()
    ]
    figures.write_csv(out_png, ("context_length", "split", *_COLUMNS), rows)
    figure, (axes,) = figures.new_figure(4.0)
    for split, colour in _COLOURS.items():
        of_split = [row for row in rows if row[1] == split]
        if of_split:
            length, _, _, accuracy, low, high, *_ = zip(*of_split, strict=True)
            axes.plot(length, accuracy, "o-", color=colour, markersize=4, linewidth=1.6, label=split)
            axes.fill_between(length, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks([int(length) for length in contexts], [f"{int(length):,}" for length in contexts])
    axes.set_xlabel("bases of a window")
    axes.set_ylabel("accuracy (95 % interval)")
    axes.legend(frameon=False)
    figures.save(figure, out_png)
