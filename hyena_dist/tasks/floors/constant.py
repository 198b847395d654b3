"""Floors that need no sequence, or next to none: shares of the classes, and their shares around the same few bases.

Shapes: N examples, R rows, C classes or targets.
"""

import numpy as np
from numpy.typing import NDArray

from hyena_dist.tasks.floors.features import kmers_of
from hyena_dist.tasks.labelled import Examples, Kind


def constant_scores(kind: Kind, classes: int, train: Examples, rows: int) -> NDArray[np.float32]:
    """Return the shares of the classes in train, of each label, or the mean of each target, for each row; [R, C]."""
    if kind in ("single_label", "per_base"):
        labels = train.labels if kind == "single_label" else np.concatenate(list(train.labels))
        shares = np.bincount(labels[labels >= 0], minlength=classes) / max(1, (labels >= 0).sum())
    else:
        shares = np.nanmean(train.labels, axis=0)
    return np.tile(shares.astype(np.float32), (rows, 1))


def context_scores(classes: int, train: Examples, test: Examples, k: int = 5) -> NDArray[np.float32]:
    """Return the shares in train of the classes of bases in the middle of the same k-mer; of per_base, [R, C].

    Args:
        classes: number of classes.
        train: what is counted.
        test: what is predicted.
        k: bases of a k-mer, an odd number; at the ends, and around N, all k-mers together are one more.
    """
    table = np.zeros((4**k + 1, classes))
    for i in range(len(train)):
        labels = train.labels[i]
        known = labels >= 0
        np.add.at(table, (_around(train.read(i), k)[known], labels[known]), 1)
    share = table.sum(0) / max(1, table.sum())
    table = (table + share) / (table.sum(1, keepdims=True) + 1)  # as if each k-mer had been seen once more
    return np.concatenate([table[_around(test.read(i), k)] for i in range(len(test))]).astype(np.float32)


def _around(tokens: NDArray[np.uint8], k: int) -> NDArray[np.int64]:
    """Return the number of the k-mer around each base, 4^k where there is none, [L]."""
    found = np.full(len(tokens), -1)
    if len(tokens) >= k:
        found[k // 2 : len(tokens) - k // 2] = kmers_of(tokens, k)
    return np.where(found < 0, 4**k, found)
