"""Metrics of predictions, by torchmetrics, each with its bootstrap interval.

Shapes: R rows, C classes or targets.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional import classification, regression

from hyena_dist.tasks.bootstrap import Interval, interval_of, resample
from hyena_dist.tasks.labelled import Kind
from hyena_dist.tasks.predictions import Predictions

HEADLINE: Mapping[Kind, str] = {
    "single_label": "mcc",
    "multi_label": "auroc",
    "regression": "spearman",
    "per_base": "mcc",
}
"""The one metric by which settings are chosen on valid, by kind."""
_CLASS_METRICS = ("accuracy", "balanced_accuracy", "mcc", "f1", "auroc", "auprc")


def measure(predictions: Predictions, draws: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Return the metrics of predictions, each with its percentile interval over `draws` resamples of the examples."""
    resampled = resample(predictions, draws, seed)
    return {name: interval_of(value, resampled[name]) for name, value in metrics(predictions).items()}


def metrics(predictions: Predictions) -> dict[str, float]:
    """Return the metrics of predictions by name, NaN where one is not defined.

    single_label and per_base: accuracy, balanced_accuracy, mcc, f1 (the mean over classes), auroc and auprc (of the
    second of two classes; the mean over classes of more), and f1/CLASS. multi_label: accuracy, mcc, f1, auroc and
    auprc, means over the labels of which both values occur, and auroc/LABEL and auprc/LABEL; a label that is NaN is
    left out. regression: spearman, pearson, r2 and mse, means over targets, and of several METRIC/TARGET.
    """
    labels, scores = torch.as_tensor(predictions.labels), torch.as_tensor(predictions.scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what torchmetrics warns of is NaN here
        if predictions.kind == "multi_label":
            return _label_metrics(labels, scores, predictions.classes)
        if predictions.kind == "regression":
            return _target_metrics(labels, scores, predictions.classes)
        return _class_metrics(labels[labels >= 0].long(), scores[labels >= 0], predictions.classes)


def _class_metrics(labels: Tensor, scores: Tensor, classes: Sequence[str]) -> dict[str, float]:
    if not len(labels):
        return dict.fromkeys((*_CLASS_METRICS, *(f"f1/{name}" for name in classes)), math.nan)
    count = len(classes)
    predicted = scores.argmax(1)
    size: dict[str, Any] = {"num_classes": count, "average": "none"}
    true, taken = (torch.bincount(each, minlength=count) for each in (labels, predicted))
    recall = _where(true > 0, classification.multiclass_recall(predicted, labels, **size))
    f1 = _where(true + taken > 0, classification.multiclass_f1_score(predicted, labels, **size))
    if count == 2:
        auroc, auprc = _areas(labels, scores[:, 1])
    else:
        both = (true > 0) & (true < len(labels))
        auroc = _mean(_where(both, classification.multiclass_auroc(scores, labels, **size)))
        auprc = _mean(_where(both, classification.multiclass_average_precision(scores, labels, **size)))
    values = (_share(predicted == labels), _mean(recall), _matthews(predicted, labels, count), _mean(f1), auroc, auprc)
    by_class = {f"f1/{name}": value for name, value in zip(classes, f1, strict=True)}
    return dict(zip(_CLASS_METRICS, values, strict=True)) | by_class


def _label_metrics(labels: Tensor, scores: Tensor, classes: Sequence[str]) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in ("accuracy", "mcc", "f1", "auroc", "auprc")}
    for truth, score in _columns(labels, scores):
        truth, predicted = truth.long(), (score > 0.5).long()
        values = (math.nan,) * len(found)
        if len(truth.unique()) == 2:
            f1 = float(classification.binary_f1_score(predicted, truth))
            values = (_share(predicted == truth), _matthews(predicted, truth, 2), f1, *_areas(truth, score))
        for name, value in zip(found, values, strict=True):
            found[name].append(value)
    by_label = {f"{n}/{label}": v for n in ("auroc", "auprc") for label, v in zip(classes, found[n], strict=True)}
    return {name: _mean(values) for name, values in found.items()} | by_label


def _target_metrics(labels: Tensor, scores: Tensor, classes: Sequence[str]) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in ("spearman", "pearson", "r2", "mse")}
    for truth, score in _columns(labels.double(), scores.double()):
        varies = len(truth.unique()) > 1
        correlates = varies and len(score.unique()) > 1
        found["spearman"].append(float(regression.spearman_corrcoef(score, truth)) if correlates else math.nan)
        found["pearson"].append(float(regression.pearson_corrcoef(score, truth)) if correlates else math.nan)
        found["r2"].append(float(regression.r2_score(score, truth)) if varies else math.nan)
        found["mse"].append(float(regression.mean_squared_error(score, truth)) if len(truth) else math.nan)
    by_target = {f"{name}/{target}": v for name in found for target, v in zip(classes, found[name], strict=True)}
    return {name: _mean(values) for name, values in found.items()} | (by_target if len(classes) > 1 else {})


def _columns(labels: Tensor, scores: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield what is true and what is predicted of each column, where it is known."""
    for truth, score in zip(labels.T, scores.T, strict=True):
        known = ~truth.isnan()
        yield truth[known], score[known]


def _areas(truth: Tensor, score: Tensor) -> tuple[float, float]:
    """Return AUROC and AUPRC, NaN where all rows are of one class."""
    if len(truth.unique()) < 2:
        return math.nan, math.nan
    return float(classification.binary_auroc(score, truth)), float(
        classification.binary_average_precision(score, truth)
    )


def _matthews(predicted: Tensor, truth: Tensor, classes: int) -> float:
    """Return the coefficient, 0 where all is one class or is taken for one: torchmetrics gives a small number there."""
    if min(len(predicted.unique()), len(truth.unique())) < 2:
        return 0.0
    return float(classification.multiclass_matthews_corrcoef(predicted, truth, num_classes=classes))


def _share(right: Tensor) -> float:
    return float(right.double().mean())


def _where(defined: Tensor, values: Tensor) -> list[float]:
    return [float(value) if ok else math.nan for ok, value in zip(defined, values, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).nanmean())
