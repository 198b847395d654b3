"""Predictions of a model, or of a simple method beside it, for the examples of one split, and their Parquet files.

Shapes: N examples, C classes (or targets of a regression), R rows: examples, of per_base the bases of all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dist.errors import UserError
from hyena_dist.system.files import write_atomically
from hyena_dist.tasks.labelled import Kind

FORMAT = "hyena_dist.predictions"
"""The key of the file's metadata that holds kind and classes."""


@dataclass(frozen=True)
class Predictions:
    """The predictions for N examples in the order of their split."""

    kind: Kind
    classes: tuple[str, ...]
    names: Sequence[str]
    labels: NDArray[Any]
    """As in Examples.labels; of per_base, the labels of all bases behind each other, int64 [bases]."""
    scores: NDArray[np.float32]
    """By kind: probabilities of the classes, [N, C]; of each label, [N, C]; numbers, [N, C]; [bases, C]."""
    lengths: NDArray[np.int64] | None = None
    """The number of bases of each example, [N]; of per_base alone."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def example_of_row(self) -> NDArray[np.int64]:
        """The index of the example that each row is of, [R]."""
        examples = np.arange(len(self))
        return examples if self.lengths is None else np.repeat(examples, self.lengths)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> "Predictions":
        """Return the predictions for some of the examples, in the order of `indices`, which may repeat."""
        kept = np.asarray(indices, dtype=np.int64)
        rows, lengths = kept, None
        if self.lengths is not None:
            lengths = self.lengths[kept]
            ends = np.cumsum(lengths)
            starts = np.cumsum(self.lengths)[kept] - lengths
            rows = np.repeat(starts - (ends - lengths), lengths) + np.arange(lengths.sum())
        names = [self.names[i] for i in kept]
        return replace(self, names=names, labels=self.labels[rows], scores=self.scores[rows], lengths=lengths)

    def without(self, indices: Sequence[int] | NDArray[np.int64]) -> "Predictions":
        """Return the predictions for all examples but some."""
        return self.take(np.delete(np.arange(len(self)), np.asarray(indices, dtype=np.int64)))
