"""The summed loss of each kind of task, and the scores that people read.

Shapes: B batch, S positions, C classes or targets.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hyena_dist.data.batches import IGNORE_INDEX
from hyena_dist.tasks.labelled import Examples, Kind


@dataclass(frozen=True)
class Criterion:
    """The loss of a kind of labels: cross-entropy of classes, in nats, or squared errors of regression.

    What a model gives for a regression is in units of the targets' standard deviations, from their means.
    """

    kind: Kind
    class_weights: tuple[float, ...] | None = None
    """The weight of each class, or of a label that is there against one that is not; all 1 if None."""
    means: tuple[float, ...] = ()
    """The mean of each target of a regression in train."""
    deviations: tuple[float, ...] = ()
    """The standard deviation of each target of a regression in train, 1 for one that does not vary."""

    def loss_sum(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the summed loss, a number with gradient, of which unknown labels are no part.

        Args:
            outputs: [B, C], or of bases [B, S, C]; fp32 or fp64.
            labels: the labels, by kind as `Examples.labels` has them: int64 [B]; float32 [B, C], NaN where nobody
                looked; of bases int64 [B, S], negative where not known.
        """
        weights = None if self.class_weights is None else outputs.new_tensor(self.class_weights)
        if self.kind in ("single_label", "per_base"):
            rows = outputs.flatten(0, -2)
            return F.cross_entropy(rows, labels.flatten(), weights, ignore_index=IGNORE_INDEX, reduction="sum")
        known = ~labels.isnan()
        targets = labels.nan_to_num().to(outputs.dtype)
        if self.kind == "multi_label":
            losses = F.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weights, reduction="none")
        else:
            losses = (outputs - (targets - outputs.new_tensor(self.means)) / outputs.new_tensor(self.deviations)) ** 2
        return losses.where(known, 0.0).sum()

    def weight_sum(self, labels: Tensor) -> float:
        """Return what a summed loss is divided by: the number of known labels, of classes by their weights."""
        if self.kind in ("multi_label", "regression"):
            return float((~labels.isnan()).sum())
        known = labels[labels >= 0]
        if self.class_weights is None:
            return float(len(known))
        return float(torch.tensor(self.class_weights, dtype=torch.float64)[known].sum())

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the probability of each class, or of each label, or the numbers themselves; shaped as the outputs."""
        if self.kind == "regression":
            return outputs * outputs.new_tensor(self.deviations) + outputs.new_tensor(self.means)
        return outputs.sigmoid() if self.kind == "multi_label" else outputs.softmax(-1)


def criterion_of(kind: Kind, train: Examples, classes: int, balanced: bool) -> Criterion:
    """Return the loss for labels like those of train.

    Args:
        kind: what the labels say.
        train: gives the means of targets and the shares of classes.
        classes: C.
        balanced: whether all classes shall have the same weight in sum, and each label as much where it is there as
            where it is not.
    """
    if kind == "regression":
        means, deviations = np.nanmean(train.labels, 0), np.nanstd(train.labels, 0)
        deviations = np.where(deviations > 0, deviations, 1)
        return Criterion(kind, None, _numbers(means), _numbers(deviations))
    if not balanced:
        return Criterion(kind)
    if kind == "multi_label":
        there = np.nansum(train.labels, 0)
        weights = (np.isfinite(train.labels).sum(0) - there) / np.maximum(there, 1)
    else:
        labels = np.concatenate(train.labels) if kind == "per_base" else train.labels
        counts = np.bincount(labels[labels >= 0], minlength=classes)
        weights = counts.sum() / (classes * np.maximum(counts, 1))
    return Criterion(kind, _numbers(weights))


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
