"""Leaks: sequences of valid and test that train has too, by which a metric praises memory.

A leak is `exact` (the same bases), `reverse_complement` (the same on the other strand), or `near`: the sets of K-mers
of both, each k-mer and its reverse complement counted as one, have a Jaccard similarity of SIMILARITY or more. Between
sequences of the same length that means that two thirds of their k-mers are shared: one is the other moved by up to a
third, or at most about one base in 28 differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hyena_dist.tasks.labelled import LabelledData

K = 11
"""Bases of a k-mer."""
SIMILARITY = 0.5
"""Jaccard similarity of sets of k-mers from which on two sequences are near-duplicates."""

LeakKind = Literal["exact", "reverse_complement", "near"]
LEAK_KINDS: tuple[LeakKind, ...] = ("exact", "reverse_complement", "near")
"""Kinds of leaks, the worst first; a sequence counts once, as the worst."""


@dataclass(frozen=True)
class SplitLeaks:
    """The leaks of one split, valid or test, to train."""

    held_out: Mapping[LeakKind, NDArray[np.int64]]
    """Ascending indices in the split of the sequences that leak, by kind; each index in one kind alone."""
    train: Mapping[LeakKind, NDArray[np.int64]]
    """An index in train for each of `held_out`: the first exact one, or the most similar one."""
    all_train: NDArray[np.int64]
    """Ascending indices of all in train that are a leak of this split: what `on_leaks: drop` leaves out."""
    size: int
    """Number of sequences of the split."""

    @property
    def all_held_out(self) -> NDArray[np.int64]:
        """Ascending indices in the split of all that leak, of whatever kind; metrics without leaks leave them out."""
        return np.sort(np.concatenate([self.held_out[kind] for kind in LEAK_KINDS]))


Leaks = Mapping[str, SplitLeaks]
"""The leaks by split: "test", and "valid" where there is one."""


def find_leaks(data: LabelledData) -> Leaks:
    """Return the leaks of valid and test to train."""
    raise NotImplementedError
