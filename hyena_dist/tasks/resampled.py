"""Metrics of many resamples of the same predictions at once, which the bootstrap needs.

A resample is given by how often it has each row, so that rows are sorted once for all resamples. The tests hold these
formulas to torchmetrics' on rows that are repeated in truth.

Shapes: R rows, C classes or targets, D resamples, G groups of equal scores.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dist.tasks.labelled import Kind

Counts = NDArray[np.int32]
"""How often each resample has each row, [R, D]."""
Values = NDArray[np.float64]
"""A number for each resample, [D]."""


def class_metrics(
    labels: NDArray[Any], scores: NDArray[np.float32], counts: Counts, classes: Sequence[str]
) -> dict[str, Values]:
    """Return the metrics of single_label and per_base of each resample; see `metrics.metrics`."""
    known = labels >= 0
    labels, scores, counts = labels[known].astype(np.int64), scores[known], counts[known]
    confusion = confusions(labels, scores.argmax(1), counts, len(classes))
    hits = np.diagonal(confusion, axis1=0, axis2=1).T
    true, predicted = confusion.sum(1), confusion.sum(0)
    f1 = _ratio(2 * hits, true + predicted)
    positive = range(1, 2) if len(classes) == 2 else range(len(classes))
    curves = [areas(labels == c, scores[:, c], counts) for c in positive]
    return {
        "accuracy": _ratio(hits.sum(0), true.sum(0)),
        "balanced_accuracy": mean(_ratio(hits, true)),
        "mcc": matthews(confusion),
        "f1": mean(f1),
        "auroc": mean([auroc for auroc, _ in curves]),
        "auprc": mean([auprc for _, auprc in curves]),
        **{f"f1/{name}": values for name, values in zip(classes, f1, strict=True)},
    }


def label_metrics(
    labels: NDArray[Any], scores: NDArray[np.float32], counts: Counts, classes: Sequence[str]
) -> dict[str, Values]:
    """Return the metrics of multi_label of each resample; see `metrics.metrics`."""
    found: dict[str, list[Values]] = {name: [] for name in ("accuracy", "mcc", "f1", "auroc", "auprc")}
    for c in range(len(classes)):
        seen = ~np.isnan(labels[:, c])
        truth, score, times = labels[seen, c] > 0.5, scores[seen, c], counts[seen]
        confusion = confusions(truth.astype(np.int64), (score > 0.5).astype(np.int64), times, 2)
        both = np.where(confusion.sum(1).all(0), 1.0, np.nan)
        (right_no, wrong_yes), (wrong_no, right_yes) = confusion
        found["accuracy"].append(both * _ratio(right_no + right_yes, confusion.sum((0, 1))))
        found["mcc"].append(both * matthews(confusion))
        found["f1"].append(both * _ratio(2 * right_yes, 2 * right_yes + wrong_yes + wrong_no))
        for name, area in zip(("auroc", "auprc"), areas(truth, score, times), strict=True):
            found[name].append(area)
    by_label = {
        f"{name}/{label}": values
        for name in ("auroc", "auprc")
        for label, values in zip(classes, found[name], strict=True)
    }
    return {name: mean(values) for name, values in found.items()} | by_label


def target_metrics(
    labels: NDArray[Any], scores: NDArray[np.float32], counts: Counts, classes: Sequence[str]
) -> dict[str, Values]:
    """Return the metrics of regression of each resample; see `metrics.metrics`."""
    found: dict[str, list[Values]] = {name: [] for name in ("spearman", "pearson", "r2", "mse")}
    for c in range(len(classes)):
        seen = ~np.isnan(labels[:, c])
        truth, score, times = labels[seen, c].astype(float), scores[seen, c].astype(float), counts[seen]
        error = ((truth - score) ** 2) @ times
        total = times.sum(0)
        spread = (truth**2) @ times - _ratio((truth @ times) ** 2, total)
        found["spearman"].append(correlation(ranks(truth, times), ranks(score, times), times))
        found["pearson"].append(correlation(truth[:, None], score[:, None], times))
        found["r2"].append(1 - _ratio(error, spread))
        found["mse"].append(_ratio(error, total))
    several = {f"{name}/{target}": v for name in found for target, v in zip(classes, found[name], strict=True)}
    return {name: mean(values) for name, values in found.items()} | (several if len(classes) > 1 else {})


METRICS: Mapping[Kind, Callable[[NDArray[Any], NDArray[np.float32], Counts, Sequence[str]], dict[str, Values]]] = {
    "single_label": class_metrics,
    "per_base": class_metrics,
    "multi_label": label_metrics,
    "regression": target_metrics,
}
"""The function that measures resamples, by kind."""


def confusions(truth: NDArray[np.int64], predicted: NDArray[np.int64], counts: Counts, classes: int) -> Values:
    """Return how often each class was taken for each, [C true, C predicted, D]."""
    cell = truth * classes + predicted
    order = np.argsort(cell, kind="stable")
    cells, starts = np.unique(cell[order], return_index=True)
    table = np.zeros((classes**2, counts.shape[1]))
    if cells.size:
        table[cells] = np.add.reduceat(counts[order], starts, axis=0)
    return table.reshape(classes, classes, -1)


def matthews(confusion: Values) -> Values:
    """Return the correlation coefficient of Matthews, 0 where all is one class or taken for one; [C, C, D] -> [D]."""
    true, predicted, total = confusion.sum(1), confusion.sum(0), confusion.sum((0, 1))
    hits = np.trace(confusion)
    spread = (total**2 - (true**2).sum(0)) * (total**2 - (predicted**2).sum(0))
    return np.where(
        spread > 0, _ratio(hits * total - (true * predicted).sum(0), np.sqrt(spread)), np.where(total, 0.0, np.nan)
    )


def areas(truth: NDArray[np.bool_], score: NDArray[np.floating], counts: Counts) -> tuple[Values, Values]:
    """Return the areas under the ROC and the precision-recall curve, NaN where all rows are of one class."""
    if not len(truth):
        return np.full(counts.shape[1], np.nan), np.full(counts.shape[1], np.nan)
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    counts, truth = counts[order], truth[order, None]
    true = np.cumsum(counts * truth, axis=0)[ends].astype(float)  # of the rows down to each score, [G, D]
    false = np.cumsum(counts * ~truth, axis=0)[ends].astype(float)
    positives, negatives = true[-1], false[-1]
    more_true, more_false = np.diff(true, axis=0, prepend=0), np.diff(false, axis=0, prepend=0)
    auroc = _ratio((more_false * (true - more_true / 2)).sum(0), positives * negatives)
    precision = np.divide(true, true + false, out=np.zeros_like(true), where=more_true > 0)
    auprc = np.where(negatives > 0, _ratio((more_true * precision).sum(0), positives), np.nan)
    return auroc, auprc


def ranks(values: NDArray[np.floating], counts: Counts) -> Values:
    """Return the rank of each row's value in each resample, equal values sharing the mean of theirs; [R, D]."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    size = np.add.reduceat(counts[order], starts, axis=0)
    return (np.cumsum(size, axis=0) - (size - 1) / 2)[group]


def correlation(first: Values, second: Values, counts: Counts) -> Values:
    """Return Pearson's correlation in each resample of numbers [R, D] or [R, 1], NaN where one is constant."""
    total = counts.sum(0)
    first = first - (first * counts).sum(0) / total
    second = second - (second * counts).sum(0) / total
    together = np.einsum("rd,rd,rd->d", first, second, counts)
    return _ratio(together, np.sqrt(((first**2) * counts).sum(0) * ((second**2) * counts).sum(0)))


def mean(values: Sequence[Values] | Values) -> Values:
    """Return the mean over classes, in each resample of those that are defined there; [C, D] -> [D]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where none is defined, neither is the mean
        return np.nanmean(np.asarray(values), axis=0)


def _ratio(part: Any, whole: Any) -> Values:
    """Return part / whole, NaN where the whole is 0."""
    whole = np.asarray(whole, dtype=float)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole != 0)
