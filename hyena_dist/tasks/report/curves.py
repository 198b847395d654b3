"""Pictures of how well classes are told apart: confusion matrix, ROC and precision-recall curves, numbers as a scatter.

Each is written with what it shows in a CSV beside it.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.tasks.predictions import Predictions
from hyena_dist.tasks.resampled import areas, confusions
from hyena_dist.tracking.figures import GREY, new_figure, save, write_csv

COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6BB1", "#7F4F24", "#B5BD00",
)  # fmt: skip
"""Colours of lines: those of Okabe and Ito, and three more."""
_DASHES = ((0, (4, 2)), (0, (1, 1.5)), (0, (4, 2, 1, 2)), (0, (8, 3)))
_MOST_POINTS = 400
_MOST_COUNTS = 15
"""Classes up to which a confusion matrix has its counts written into it."""


class Column(NamedTuple):
    """One class against all others, or one label."""

    name: str
    truth: NDArray[np.bool_]
    score: NDArray[np.float32]


def plot_confusion(predictions: Predictions, out_png: Path) -> None:
    """Draw which class was taken for which, as a share of each true class."""
    known = predictions.labels >= 0
    truth, taken = predictions.labels[known], predictions.scores[known].argmax(1)
    names, size = predictions.classes, len(predictions.classes)
    counts = confusions(truth, taken, np.ones((len(truth), 1), dtype=np.int32), size)[:, :, 0].astype(int)
    rows = [(names[t], names[p], counts[t, p]) for t in range(size) for p in range(size)]
    write_csv(out_png, ("true", "predicted", "count"), rows)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(2.6 + 0.45 * size, 8.0)
    figure, (axes,) = new_figure(side)
    figure.set_size_inches(side + 1 + 0.08 * max(map(len, names)), side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if size <= _MOST_COUNTS:
        for t, p in np.argwhere(counts):
            colour = "white" if shares[t, p] > 0.6 else "black"
            axes.text(p, t, f"{counts[t, p]:,}", ha="center", va="center", color=colour, fontsize=9 if size < 8 else 7)
    turned = size > 4 or max(map(len, names)) > 12
    axes.set_xticks(range(size), names, rotation=45 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(range(size), names)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(image, label="share of the true class", fraction=0.046)
    save(figure, out_png)


def plot_curves(predictions: Predictions, floors: Mapping[str, Predictions], roc_png: Path, pr_png: Path) -> None:
    """Draw the ROC and the precision-recall curve of each class, of at most ten, the most frequent ones.

    Args:
        predictions: what the model predicts.
        floors: what simple methods predict; drawn where the model has one curve alone.
        roc_png: The picture of true against false positive rate; its CSV gets the same stem.
        pr_png: The picture of precision against recall; its CSV gets the same stem.
    """
    drawn: list[tuple[Column, dict[str, Any]]] = [
        (column, {"color": colour}) for column, colour in zip(_columns(predictions), COLOURS, strict=False)
    ]
    if len(drawn) == 1:
        drawn = [(drawn[0][0]._replace(name="model"), drawn[0][1])]
        for (name, floor), dashes in zip(floors.items(), _DASHES, strict=False):
            column = next(iter(_columns(floor)))._replace(name=name)
            drawn.append((column, {"color": GREY, "linestyle": dashes, "zorder": 1}))
    curves = [(column, style, *_curves(column)) for column, style in drawn]
    roc = [(column, style, points, area) for column, style, points, _, area, _ in curves]
    _plot(roc_png, roc, "false positive rate", "true positive rate", chance=(0, 1))
    pr = [(column, style, points, area) for column, style, _, points, _, area in curves]
    share = float(drawn[0][0].truth.mean()) if drawn and drawn[0][0].name == "model" else math.nan
    _plot(pr_png, pr, "recall", "precision", chance=(share, share))


def plot_scatter(predictions: Predictions, out_png: Path, most: int = 4) -> None:
    """Draw what was predicted against what is true, of the first targets."""
    shown = range(min(most, len(predictions.classes)))
    figure, axes = new_figure(4.2 * len(shown), (1,) * len(shown), sharex=False)
    rows = []
    for c, each in zip(shown, axes, strict=True):
        name, truth, score = predictions.classes[c], predictions.labels[:, c], predictions.scores[:, c]
        rows += [(name, t, s) for t, s in zip(truth.tolist(), score.tolist(), strict=True)]
        each.plot(truth, score, "o", color=COLOURS[0], markersize=3, alpha=min(1, 30 / len(truth) ** 0.5), mew=0)
        ends = [np.nanmin(truth), np.nanmax(truth)]
        each.plot(ends, ends, color=GREY, linewidth=0.8, linestyle=_DASHES[0])
        each.set_xlabel(f"{name}, true")
        each.set_ylabel(f"{name}, predicted")
    write_csv(out_png, ("target", "true", "predicted"), rows)
    save(figure, out_png)


def _columns(predictions: Predictions) -> Iterator[Column]:
    """Yield the classes or labels that have a curve: both values occur."""
    labels, scores = predictions.labels, predictions.scores
    if predictions.kind == "multi_label":
        found = [Column(n, labels[:, c] > 0.5, scores[:, c]) for c, n in enumerate(predictions.classes)]
        seen = ~np.isnan(labels)
        found = [Column(each.name, each.truth[s], each.score[s]) for each, s in zip(found, seen.T, strict=True)]
    else:
        known = labels >= 0
        found = [Column(n, labels[known] == c, scores[known, c]) for c, n in enumerate(predictions.classes)]
        found = found[1:] if len(found) == 2 else found
    found = [each for each in found if 0 < each.truth.sum() < len(each.truth)]
    most = sorted(sorted(range(len(found)), key=lambda i: -found[i].truth.sum())[: len(COLOURS)])
    yield from (found[i] for i in most)


def _curves(column: Column) -> tuple[NDArray[Any], NDArray[Any], float, float]:
    """Return the points (x, y) of the ROC and of the precision-recall curve, and the areas below them."""
    order = np.argsort(-column.score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(column.score[order]) != 0, True))
    true = np.cumsum(column.truth[order])[ends]
    false = ends + 1 - true
    roc = np.stack([np.append(0, false / false[-1]), np.append(0, true / true[-1])], 1)
    pr = np.stack([true / true[-1], true / (true + false)], 1)
    once = np.ones((len(order), 1), dtype=np.int32)
    (auroc,), (auprc,) = areas(column.truth, column.score, once)
    return _thinned(roc), _thinned(pr), float(auroc), float(auprc)


def _thinned(points: NDArray[Any]) -> NDArray[Any]:
    """Return at most 2 _MOST_POINTS of the points: more of the first ones, between which precision jumps."""
    steps = (np.linspace(0, len(points) - 1, _MOST_POINTS), np.geomspace(1, len(points), _MOST_POINTS) - 1)
    return points[np.unique(np.concatenate(steps).round().astype(int))]


def _plot(
    out_png: Path,
    curves: list[tuple[Column, dict[str, Any], NDArray[Any], float]],
    x: str,
    y: str,
    chance: tuple[float, float],
) -> None:
    rows = [(column.name, *point) for column, _, points, _ in curves for point in points.tolist()]
    write_csv(out_png, ("class", x.replace(" ", "_"), y.replace(" ", "_")), rows)
    figure, (axes,) = new_figure(5)
    for column, style, points, area in curves:
        axes.plot(*points.T, label=f"{column.name}  {area:.3f}", linewidth=1.6, **style)
    axes.plot([0, 1], chance, color=GREY, linewidth=0.6, zorder=0)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel=x, ylabel=y, aspect="equal")
    legend: dict[str, Any] = {
        "title": "area below",
        "alignment": "left",
        "loc": "center left",
        "bbox_to_anchor": (1.03, 0.5),
    }
    axes.legend(frameon=False, **legend)
    save(figure, out_png)
