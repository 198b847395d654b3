"""Predictions and labelled sequences that tests of tasks are made with."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import A
from hyena_dist.tasks.labelled import Examples, Kind, LabelledData
from hyena_dist.tasks.predictions import Predictions


def predicted(kind: Kind, examples: int, classes: int, seed: int = 0, levels: int | None = None) -> Predictions:
    """Random labels and scores that know something of them, in `levels` values if given, so that some are equal."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 5, examples) if kind == "per_base" else None
    rows = examples if lengths is None else int(lengths.sum())
    scores = random.random((rows, classes))
    labels: NDArray[Any]
    if kind in ("single_label", "per_base"):
        labels = random.integers(classes, size=rows)
        scores[np.arange(rows), labels] += 0.5
        if kind == "per_base":
            labels[random.random(rows) < 0.2] = -100
    elif kind == "multi_label":
        labels = (random.random((rows, classes)) < 0.4).astype(np.float32)
        scores = (scores + 0.5 * labels) / 1.5
        labels[random.random((rows, classes)) < 0.2] = np.nan
    else:
        labels = random.normal(size=(rows, classes)).round(1).astype(np.float32)
        scores = scores + labels
    if levels:
        scores = np.ceil(scores * levels) / levels
    if kind in ("single_label", "per_base"):
        scores /= scores.sum(1, keepdims=True)
    names = [f"seq{i}" for i in range(examples)]
    return Predictions(kind, names_of(classes), names, labels, scores.astype(np.float32), lengths)


def names_of(classes: int) -> tuple[str, ...]:
    return tuple(f"class{c}" for c in range(classes))


def labelled(kind: Kind, sequences: list[NDArray[np.uint8]], labels: NDArray[Any], sizes: dict[str, int]) -> Any:
    """Data of tokens and labels, cut into splits of `sizes` in order."""
    classes = labels.shape[1] if labels.ndim > 1 else int(max(np.max(each) for each in labels)) + 1
    lengths = np.array([len(each) for each in sequences])
    every = Examples([f"seq{i}" for i in range(len(sequences))], lengths, labels, lambda i: sequences[i])
    splits, start = {}, 0
    for name, size in sizes.items():
        splits[name] = every.take(np.arange(start, start + size))
        start += size
    return LabelledData(kind, names_of(classes), splits, fingerprint="made by a test")


def random_tokens(random: np.random.Generator, count: int, length: int) -> list[NDArray[np.uint8]]:
    return list((A + random.integers(4, size=(count, length))).astype(np.uint8))
