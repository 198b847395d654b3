"""Readers of what people have: tables, FASTA, folders of classes, and intervals of a genome."""

import hashlib
from dataclasses import replace

import numpy as np

from hyena_dist.config.task_data import TaskData
from hyena_dist.data.tokenizer import Tokens
from hyena_dist.errors import UserError
from hyena_dist.tasks.checks import check_classes
from hyena_dist.tasks.labelled import Examples, LabelledData
from hyena_dist.tasks.labels import labels_of
from hyena_dist.tasks.leaks import settle_leaks
from hyena_dist.tasks.readers.files import read_rows
from hyena_dist.tasks.readers.rows import Rows, distinct
from hyena_dist.tasks.splits import cut, indices
from hyena_dist.tasks.strands import strand_hash
from hyena_dist.tracking.work_progress import Say


def read_labelled(settings: TaskData, say: Say = print) -> LabelledData:
    """Return the labelled sequences that settings name, with the splits train, valid and test.

    Args:
        settings: the files, and what they are.
        say: receives lines of text for the user: names of contigs that differ, and what was left out.

    Raises:
        UserError: The files cannot be read, a label is missing or of another kind, train lacks what test has, or
            splits leak and `on_leaks` is refuse.
    """
    data = read_unchecked(settings, say)
    check_classes(data)
    if settings.on_leaks == "warn":  # the report finds them, and gives the metrics without them as well
        return data
    kept = settle_leaks(data, settings.on_leaks, say)
    check_classes(kept)
    return kept


def read_unchecked(settings: TaskData, say: Say = print) -> LabelledData:
    """Return the same as `read_labelled` before it is asked whether this is a task, and whether splits leak.

    Raises:
        UserError: The files cannot be read, or a label is missing or of another kind.
    """
    rows = read_rows(settings, say)
    columns = _columns(rows)
    every = _joined(rows)

    def where(number: int) -> str:
        for each in rows:
            if number < len(each.sequences.names):
                return f"{each.source}, sequence {each.sequences.names[number]!r}"
            number -= len(each.sequences.names)
        raise IndexError(number)

    labels = labels_of(columns, every.lengths, settings.kind, where)
    given = [split for each in rows for split in each.splits or ()]
    hashes = np.array([strand_hash(every.read(i)) for i in range(len(every))], np.uint64)
    strata = labels.values if labels.kind == "single_label" else None
    splits = cut(hashes, given or None, settings, strata)
    every = Examples(every.names, every.lengths, labels.values, every.read)
    digest = hashlib.sha256(repr((labels.kind, labels.classes, columns, splits.tolist())).encode())
    for each in rows:
        digest.update(each.sequences.fingerprint.encode())
    by_split = {name: _named(every.take(found)) for name, found in indices(splits).items()}
    return LabelledData(labels.kind, labels.classes, by_split, digest.hexdigest(), "valid" not in given)


def _columns(rows: list[Rows]) -> dict[str, list[object]]:
    """Return the columns of labels of all files, one behind the other."""
    first = rows[0]
    for each in rows[1:]:
        if set(each.labels) != set(first.labels):
            raise UserError(
                f"{each.source} has the labels {', '.join(each.labels)}, and {first.source} has "
                f"{', '.join(first.labels)}; give all files the same columns, or name some with task.data.labels"
            )
    return {name: [value for each in rows for value in each.labels[name]] for name in first.labels}


def _joined(rows: list[Rows]) -> Examples:
    """Return the sequences of all files, one behind the other, without labels."""
    starts = np.cumsum([0, *(len(each.sequences.names) for each in rows)])

    def read(number: int) -> Tokens:
        file = int(np.searchsorted(starts, number, "right")) - 1
        return rows[file].sequences.tokens(number - int(starts[file]))

    names = [name for each in rows for name in each.sequences.names]
    lengths = np.concatenate([each.sequences.lengths for each in rows])
    return Examples(names, lengths, np.empty(0), read)


def _named(examples: Examples) -> Examples:
    """Return examples with distinct names, which those of several files may lack."""
    return replace(examples, names=distinct(examples.names))
