"""Rows: what a reader makes of one file, before anybody asks what its labels mean."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hyena_dist.errors import UserError
from hyena_dist.inference.sequences import Sequences

_SPLITS = {
    "train": "train",
    "training": "train",
    "cv": "train",  # of iEnhancer: cross-validation, and an independent test
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
    "ind": "test",
}


@dataclass(frozen=True)
class Rows:
    """The sequences of a file, with what stands beside them."""

    source: str
    """The file, for errors."""
    sequences: Sequences
    """The N sequences of the file."""
    labels: dict[str, list[Any]]
    """Columns of labels as they are in the file, N values each: texts, or lists in Parquet."""
    splits: list[str] | None
    """The split of each sequence, of SPLITS, or None where the file does not say."""


def split_named(word: str) -> str | None:
    """Return the split that a word means, such as valid for Dev; None if it means none."""
    return _SPLITS.get(word.strip().lower())


def splits_in(source: str, words: Iterable[str]) -> list[str]:
    """Return the splits that a column names.

    Raises:
        UserError: A word means no split.
    """
    found = []
    for number, word in enumerate(words, 1):
        split = split_named(word)
        if split is None:
            raise UserError(f"{source}, row {number}: {word!r} is no split; write train, valid or test")
        found.append(split)
    return found


def distinct(names: Iterable[str]) -> list[str]:
    """Return names of which each comes once: the second x becomes x#2."""
    seen: Counter[str] = Counter()
    taken: set[str] = set()
    made = []
    for name in names:
        seen[name] += 1
        own = name if seen[name] == 1 else f"{name}#{seen[name]}"
        while own in taken:
            seen[name] += 1
            own = f"{name}#{seen[name]}"
        taken.add(own)
        made.append(own)
    return made
