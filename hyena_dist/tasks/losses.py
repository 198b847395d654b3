"""The summed loss of each kind of task, and the scores that people read.

Shapes: B batch, S positions, C classes or targets.
"""

import torch.nn.functional as F
from torch import Tensor

from hyena_dist.data.batches import IGNORE_INDEX
from hyena_dist.tasks.labelled import Kind


def loss_sum(outputs: Tensor, labels: Tensor, kind: Kind, class_weights: Tensor | None = None) -> Tensor:
    """Return the summed loss in nats, or of squares; a number with gradient, of which unknown labels are no part.

    Args:
        outputs: [B, C], or of bases [B, S, C]; fp32 or fp64.
        labels: as `Examples.labels` has them: int64 [B]; float32 [B, C], NaN where nobody looked; of bases int64
            [B, S], negative where not known.
        kind: what the labels say.
        class_weights: the weight of each class, [C]; all 1 if not given.
    """
    if kind in ("single_label", "per_base"):
        return F.cross_entropy(
            outputs.flatten(0, -2), labels.flatten(), class_weights, ignore_index=IGNORE_INDEX, reduction="sum"
        )
    known = ~labels.isnan()
    targets = labels.nan_to_num().to(outputs.dtype)
    if kind == "multi_label":
        losses = F.binary_cross_entropy_with_logits(outputs, targets, pos_weight=class_weights, reduction="none")
    else:
        losses = (outputs - targets).square()
    return losses.where(known, 0.0).sum()


def weight_sum(labels: Tensor, kind: Kind, class_weights: Tensor | None = None) -> float:
    """Return what a summed loss is divided by to be a mean: the known labels, by the weights of their classes."""
    if kind in ("multi_label", "regression"):
        return float((~labels.isnan()).sum())
    known = labels[labels >= 0]
    return float(len(known) if class_weights is None else class_weights[known].double().sum())


def scores(outputs: Tensor, kind: Kind) -> Tensor:
    """Return probabilities of the classes, of each label, or the numbers themselves; the shape of `outputs`."""
    if kind == "regression":
        return outputs
    return outputs.softmax(-1) if kind != "multi_label" else outputs.sigmoid()
