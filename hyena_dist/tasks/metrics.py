"""Metrics of predictions, by torchmetrics, each with its bootstrap interval."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hyena_dist.tasks.labelled import Kind
from hyena_dist.tasks.predictions import Predictions

HEADLINE: Mapping[Kind, str] = {
    "single_label": "mcc",
    "multi_label": "auroc",
    "regression": "spearman",
    "per_base": "mcc",
}
"""The one metric by which settings are chosen on valid, by kind."""


class Interval(NamedTuple):
    """A number and both ends of its 95 % interval."""

    value: float
    low: float
    high: float


def metrics(predictions: Predictions) -> dict[str, float]:
    """Return the metrics of predictions by name, NaN where one is not defined.

    single_label and per_base: accuracy, balanced_accuracy, mcc, f1 (the mean over classes), auroc and auprc (of the
    second of two classes; the mean over classes of more), and f1/CLASS. multi_label: accuracy, mcc, f1, auroc and
    auprc, means over the labels of which both values occur, and auroc/LABEL and auprc/LABEL; a label that is NaN is
    left out. regression: spearman, pearson, r2 and mse, means over targets, and of several METRIC/TARGET.
    """
    raise NotImplementedError


def measure(predictions: Predictions, draws: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Return the metrics of predictions with percentile intervals over `draws` resamples of the examples."""
    raise NotImplementedError


def paired_difference(
    first: Sequence[Predictions], second: Sequence[Predictions], draws: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Return by how much the metrics of `second` are higher than those of `first`, for the same examples.

    Args:
        first: predictions of one way for the same examples, one for each seed.
        second: predictions of the other way, its seeds in the same order.
        draws: resamples of the examples and of the pairs of seeds.
        seed: what the resamples are drawn from.
    """
    raise NotImplementedError
