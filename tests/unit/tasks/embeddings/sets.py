"""Labelled sequences that are easy to tell apart, made from a seed."""

from collections.abc import Sequence

import numpy as np

from hyena_dist.data.tokenizer import A, Tokens
from hyena_dist.tasks.labelled import Examples, LabelledData

SHARES = {"at": (0.4, 0.1, 0.1, 0.4), "gc": (0.1, 0.4, 0.4, 0.1), "purine": (0.4, 0.1, 0.4, 0.1)}
"""How often A, C, G and T come in sequences of each class."""


def examples(counts: Sequence[int], seed: int = 0, shortest: int = 30, longest: int = 90) -> Examples:
    """Examples of the first classes of SHARES, in an order that is drawn."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    shares = list(SHARES.values())
    sequences: list[Tokens] = [
        random.choice(4, random.integers(shortest, longest), p=shares[label]).astype(np.uint8) + np.uint8(A)
        for label in labels
    ]
    lengths = np.array([len(tokens) for tokens in sequences])
    return Examples([f"s{seed}-{i}" for i in range(len(labels))], lengths, labels, sequences.__getitem__)


def labelled(**splits: Examples) -> LabelledData:
    """A set of single labels, whose classes are as many as the first split has."""
    classes = tuple(SHARES)[: int(next(iter(splits.values())).labels.max()) + 1]
    return LabelledData("single_label", classes, splits, "made in a test")
