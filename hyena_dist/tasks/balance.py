"""Balance of classes: the number of sequences of each, in lines for people."""

import numpy as np

from hyena_dist.tasks.checks import class_counts
from hyena_dist.tasks.labelled import Examples, LabelledData


def balance(data: LabelledData) -> dict[str, dict[str, float]]:
    """Return, by split and class, the number of sequences, or bases, or of a regression the mean of each target."""
    return {name: dict(zip(data.classes, _of(data, split), strict=True)) for name, split in data.splits.items()}


def describe_balance(data: LabelledData) -> list[str]:
    """Return a line for each split: its size, and the share of each class."""
    lines = []
    for name, split in data.splits.items():
        counts = _of(data, split)
        total = len(split) if data.kind != "per_base" else sum(counts)
        if data.kind == "regression":
            spread = np.std(split.labels, axis=0)
            parts = [f"{c} {mean:.4g} ± {sd:.4g}" for c, mean, sd in zip(data.classes, counts, spread, strict=True)]
        else:
            parts = [f"{c} {count:,} ({count / total:.1%})" for c, count in zip(data.classes, counts, strict=True)]
        lines.append(f"{name:5} {len(split):,} sequences of {_lengths(split)} bases: {', '.join(parts)}")
    return lines


def _of(data: LabelledData, split: Examples) -> list[float]:
    if data.kind == "multi_label":
        return [int(count) for count in np.nansum(split.labels, axis=0)]
    if data.kind == "regression":
        return [float(mean) for mean in np.mean(split.labels, axis=0)]
    return class_counts(split, len(data.classes)).tolist()


def _lengths(split: Examples) -> str:
    shortest, longest = int(split.lengths.min()), int(split.lengths.max())
    return f"{longest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
