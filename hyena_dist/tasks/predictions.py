"""Predictions of a model, or of a simple method beside it, for the examples of one split.

Shapes: N examples, C classes (or targets of a regression).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dist.tasks.labelled import Kind


@dataclass(frozen=True)
class Predictions:
    """The predictions for N examples in the order of their split."""

    kind: Kind
    classes: tuple[str, ...]
    names: Sequence[str]
    labels: NDArray[Any]
    """Labels, those of Examples.labels; of per_base, the labels of all bases behind each other, int64 [bases]."""
    scores: NDArray[np.float32]
    """By kind: probabilities of the classes, [N, C]; of each label, [N, C]; numbers, [N, C]; [bases, C]."""
