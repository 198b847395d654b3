"""The fingerprint of a store: a hash of all that training samples depend on."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from hyena_dist.data.store.contigs import Contigs
from hyena_dist.data.store.ranges import Regions

_ROWS = 2**14
"""Rows that are written as JSON at a time."""


def fingerprint(contigs: Contigs, splits: Mapping[str, Regions], intervals: Mapping[str, Regions]) -> str:
    """Hash the contigs' names and tokens, the splits and the intervals.

    It is the hash of a JSON text of names, sha256s and rows of contig, start and end, as it always was, so that a store
    that is built anew or converted has the fingerprint that runs have noted.

    Returns:
        16 hexadecimal digits, the same for a store and the shards made from it.
    """
    digest = hashlib.sha256()
    hashes = contigs.sha256
    for text in _list([_rows([name, hashes[i].tobytes().hex()] for i, name in enumerate(contigs)),
                       _dict(splits), _dict(intervals)]):  # fmt: skip
        digest.update(text.encode())
    return digest.hexdigest()[:16]


def _dict(rows: Mapping[str, Regions]) -> Iterator[str]:
    """Yield the JSON text of rows by split."""
    for number, split in enumerate(sorted(rows)):
        yield f'{", " if number else "{"}"{split}": '
        yield from _rows(rows[split])
    yield "}"


def _rows(rows: Iterable[Any]) -> Iterator[str]:
    """Yield the JSON text of a list of rows, some at a time."""
    rows = iter(rows)
    yield "["
    separator = ""
    while some := list(islice(rows, _ROWS)):
        yield separator + json.dumps(some)[1:-1]
        separator = ", "
    yield "]"


def _list(items: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the JSON text of a list of items whose texts are given."""
    for number, item in enumerate(items):
        yield ", " if number else "["
        yield from item
    yield "]"
