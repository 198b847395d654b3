"""The report that a task leaves for its reader: HTML, Markdown, JSON, and pictures with their CSV."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hyena_dist.system.files import write_atomically
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.leaks import Leaks
from hyena_dist.tasks.predictions import Predictions
from hyena_dist.tasks.report import text
from hyena_dist.tasks.report.curves import plot_confusion, plot_curves, plot_scatter
from hyena_dist.tasks.report.learning import plot_comparison, plot_learning
from hyena_dist.tasks.report.page import Picture, Section, to_html, to_markdown
from hyena_dist.tasks.report.results import Published, Results, measure_all

__all__ = ["Published", "write_task_report"]


def write_task_report(
    folder: Path,
    name: str,
    data: LabelledData,
    predictions: Mapping[str, Predictions],
    floors: Mapping[str, Predictions],
    leaks: Leaks,
    history: Sequence[Mapping[str, float]] = (),
    published: Published | None = None,
    notes: Sequence[str] = (),
    draws: int = 1000,
) -> dict[str, Any]:
    """Write report.html, report.md, task.json and plots/ (PNG with CSV) into `folder`.

    Args:
        folder: the run's folder, or any other that exists.
        name: the task's name.
        data: what the model was trained on.
        predictions: what the model predicts, by split: test, and valid where there is one.
        floors: what `run_floors` returns.
        leaks: what `find_leaks` has found; the metric is given with and without the examples that leak.
        history: rows of metrics.jsonl: train/loss and valid/METRIC by step.
        published: the paper's figure.
        notes: sentences that explain what was done, such as the model's file.
        draws: resamples of the examples for each interval.

    Returns:
        The content of task.json: name, kind, classes, headline (the metric of comparison), test, without_leaks, valid,
        gains, published, leaks, verdict (sentences) and metrics (task/NAME/METRIC, as MLflow takes them).
    """
    results = measure_all(predictions, floors, leaks, published, draws)
    plots = folder / "plots"
    pictures = _draw(plots, predictions["test"], floors, history, results)
    verdict = text.verdict(results)
    sections = [
        Section("Result", [*verdict, pictures.pop("comparison"), text.metric_table(results), text.floors_of(results)]),
        Section("Leaks between splits", text.leaks_of(results, leaks)),
        *([Section("By class", [table])] if (table := text.class_table(results, data)) else []),
        *(Section(title, [picture]) for title, picture in pictures.items()),
        Section("Data", [*text.data_of(data), *notes]),
    ]
    content = {"name": name, "kind": data.kind, "classes": list(data.classes), **results.to_json(leaks)}
    content |= {"verdict": verdict, "metrics": results.for_mlflow(name)}
    write_atomically(folder / "report.md", to_markdown(name, sections, folder))
    write_atomically(folder / "report.html", to_html(name, sections))
    write_atomically(folder / "task.json", json.dumps(content, indent=2) + "\n")
    return content


def _draw(
    plots: Path,
    test: Predictions,
    floors: Mapping[str, Predictions],
    history: Sequence[Mapping[str, float]],
    results: Results,
) -> dict[str, Picture]:
    """Draw what the kind of labels allows, and return the pictures by title."""
    metric, published = results.headline, results.published
    compared = {name: measured[metric] for name, measured in results.test.items()}
    plot_comparison(compared, metric, plots / "comparison.png", published.value if published else None)
    found = {"comparison": Picture(plots / "comparison.png", f"{metric} of the model and of simple methods")}
    if test.kind == "regression":
        plot_scatter(test, plots / "scatter.png")
        found["Predicted against true"] = Picture(plots / "scatter.png", "predicted against true numbers")
    else:
        plot_curves(test, floors, plots / "roc.png", plots / "pr.png")
        found["ROC curves"] = Picture(plots / "roc.png", "true against false positive rate")
        found["Precision-recall curves"] = Picture(plots / "pr.png", "precision against recall")
    if test.kind in ("single_label", "per_base"):
        plot_confusion(test, plots / "confusion.png")
        found["Confusion matrix"] = Picture(plots / "confusion.png", "which class was taken for which")
    if history:
        plot_learning(history, metric, plots / "learning.png")
        found["Learning curves"] = Picture(plots / "learning.png", "loss and metrics of valid by step")
    return found
