"""All records of a FASTA file with random access: tokens in memory, or in a nameless file where they are many."""

import hashlib
import mmap
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.text.fasta import TOKEN, read_fasta
from hyena_dist.data.text.files import ahead, read_text
from hyena_dist.data.tokenizer import Tokens
from hyena_dist.errors import UserError

IN_MEMORY = 2**28
"""Tokens up to which they stay in memory."""


class Contigs(NamedTuple):
    """Named sequences, one after the other."""

    source: str
    """Where they come from, for errors."""
    numbers: dict[str, int]
    """The number of each of N names, in order."""
    offsets: NDArray[np.int64]
    """The tokens of sequence i are offsets[i] to offsets[i + 1]; [N + 1]."""
    flat: Tokens
    """The tokens of all, perhaps mapped from a file."""
    fingerprint: str
    """A hash of names and tokens."""

    @property
    def names(self) -> list[str]:
        """The names in order."""
        return list(self.numbers)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence, [N]."""
        return np.diff(self.offsets)

    def tokens(self, number: int) -> Tokens:
        """Return a sequence, uint8 [L], a view."""
        return self.flat[self.offsets[number] : self.offsets[number + 1]]

    def number_of(self, name: str) -> int:
        """Return the number of a name.

        Raises:
            UserError: There is none of this name; the sentence names the one that differs by "chr" if there is one.
        """
        found = self.numbers.get(name)
        if found is None:
            other = next((n for n in (f"chr{name}", name.removeprefix("chr")) if n in self.numbers), None)
            what = f"it calls it {other!r}: use the same names in both" if other else f"it has {_some(self.names)}"
            raise UserError(f"{self.source} has no sequence {name!r}; {what}")
        return found


def read_contigs(path: Path, rename: Callable[[str], str] = str) -> Contigs:
    """Read a FASTA file, plain, gzip or bgzip, with lines of any length and letters of either case.

    Args:
        path: the file.
        rename: makes the name of a sequence from that in the file; called for each in order.

    Raises:
        UserError: The file cannot be read, is not FASTA, has a letter that no nucleotide has, a record without
            sequence, or a name twice.
    """
    if not path.exists():
        raise UserError(f"there is no file {path}; check the path")
    named = (
        (rename(record.name), (np.frombuffer(codes, np.uint8) & np.uint8(TOKEN) for codes in record.blocks))
        for record in read_fasta(path, ahead(read_text(path)))
    )
    return collect(str(path), named)


def collect(source: str, named: Iterable[tuple[str, Iterable[Tokens]]]) -> Contigs:
    """Put sequences one after the other, each given by its name and its tokens in blocks.

    Raises:
        UserError: There is none, a name comes twice, or a sequence is empty.
    """
    numbers: dict[str, int] = {}
    offsets = [0]
    digest = hashlib.sha256()
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        for name, blocks in named:
            if name in numbers:
                raise UserError(f"{source} has two sequences of the name {name!r}; give each a name of its own")
            numbers[name] = len(numbers)
            for block in blocks:
                digest.update(block.data)
                file.write(block.data)
            offsets.append(file.tell())
            if offsets[-1] == offsets[-2]:
                raise UserError(f"sequence {name!r} of {source} is empty; leave it out")
            digest.update(f"\0{name}\0{offsets[-1]}\0".encode())
        if not numbers:
            raise UserError(f"{source} has no sequence; give one at least")
        if offsets[-1] > IN_MEMORY:
            file.flush()
            content: bytes | mmap.mmap = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        else:
            file.seek(0)
            content = file.read()
    return Contigs(source, numbers, np.array(offsets, np.int64), np.frombuffer(content, np.uint8), digest.hexdigest())


def _some(names: list[str]) -> str:
    """Return the first few names for a sentence."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} others" if len(names) > 3 else "")
