"""Sets that are no task: what is wrong with them, before any work begins."""

import numpy as np
from numpy.typing import NDArray

from hyena_dist.errors import UserError
from hyena_dist.tasks.labelled import Examples, LabelledData


def check_classes(data: LabelledData) -> None:
    """Check that train has something to learn, of each class, and what valid and test ask for.

    Raises:
        UserError: A split is empty, there is one class only, train lacks a class, or a label or target never changes.
    """
    for name, split in data.splits.items():
        if not len(split):
            raise UserError(f"{name} has no sequence; give it some, or more sequences in all to cut it from")
    train = data.splits["train"]
    if data.kind in ("single_label", "per_base"):
        _check_single(data)
        return
    for number, name in enumerate(data.classes):
        known = train.labels[:, number][~np.isnan(train.labels[:, number])]
        if not known.size or (known == known[0]).all():
            value = f"{known[0]:g}" if known.size else "empty"
            raise UserError(
                f"label {name!r} is {value} for every train sequence, so there is nothing to learn; "
                f"leave it out of task.data.labels, or add sequences where it differs"
            )


def _check_single(data: LabelledData) -> None:
    if len(data.classes) < 2:
        there = f"class {data.classes[0]!r} only" if data.classes else "no class"
        raise UserError(f"the set has {there}, and a classifier needs two at least; add sequences of another")
    counts = {name: class_counts(split, len(data.classes)) for name, split in data.splits.items()}
    for name in ("test", "valid"):
        for number in np.flatnonzero((counts["train"] == 0) & (counts[name] > 0)):
            raise UserError(
                f"class {data.classes[number]!r} has {counts[name][number]:,} in {name} and none in train, "
                f"so it cannot be learnt; move some to train, or leave the class out"
            )


def class_counts(split: Examples, classes: int) -> NDArray[np.int64]:
    """Return how many sequences (or bases, where these have labels) of a split are of each class, [C]."""
    labels = split.labels if split.labels.dtype != object else np.concatenate([*split.labels, np.empty(0, np.int64)])
    return np.bincount(labels[labels >= 0].astype(np.int64), minlength=classes)


def check_lengths(data: LabelledData, l_max: int, special: int = 0) -> None:
    """Check that a model takes each sequence whole.

    Args:
        data: the set.
        l_max: tokens that the model takes at most.
        special: tokens of them that are put around each sequence.

    Raises:
        UserError: A sequence is longer.
    """
    longest = l_max - special
    for name, split in data.splits.items():
        too_long = np.flatnonzero(split.lengths > longest).tolist()
        if too_long:
            number = too_long[0]
            raise UserError(
                f"sequence {split.names[number]!r} of {name} has {split.lengths[number]:,} bases and the model takes "
                f"{longest:,} at most (as {len(too_long):,} of {len(split):,} there); set task.max_length={longest} "
                f"to take their middle, or take a model with a longer l_max"
            )
