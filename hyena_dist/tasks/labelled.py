"""Labelled sequences: what each reader returns, and each task takes.

Shapes: N examples, C classes (or targets of a regression), L bases of one sequence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import Tokens

Kind = Literal["single_label", "multi_label", "regression", "per_base"]
"""What is said of a sequence: its one class, each class that it has, numbers, or the class of each of its bases."""

SPLITS = ("train", "valid", "test")
"""The names of splits; valid may be missing, and is then cut from train."""


@dataclass(frozen=True)
class Examples:
    """One split of a set: sequences, read one at a time, and their labels."""

    names: Sequence[str]
    """The name of each sequence in its file, or its number there; N of them."""
    lengths: NDArray[np.int64]
    """The number of bases of each sequence, [N]."""
    labels: NDArray[Any]
    """By kind: index of the class, int64 [N]; 0 and 1, or NaN where nobody looked, float32 [N, C]; numbers, float32
    [N, C]; index of the class of each base, or -100 where it is not known, N arrays int64 [L] in an array of objects.
    """
    read: Callable[[int], Tokens]
    """Returns the tokens of a sequence by its index, uint8 [L], without special tokens."""

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> "Examples":
        """Return some of the examples, in the order of `indices`."""
        kept = np.asarray(indices, dtype=np.int64)
        read = self.read
        return Examples([self.names[i] for i in kept], self.lengths[kept], self.labels[kept], lambda i: read(kept[i]))


@dataclass(frozen=True)
class LabelledData:
    """A set of labelled sequences."""

    kind: Kind
    classes: tuple[str, ...]
    """The names of classes, sorted, or of targets in the order of the file; C of them."""
    splits: Mapping[str, Examples]
    """Examples by name of the split, of SPLITS."""
    fingerprint: str
    """The hash of all that was read: sequences, labels and splits."""
    valid_from_train: bool = False
    """Whether valid was cut from what the data has as train, so that test leaks to it as it does to train."""
