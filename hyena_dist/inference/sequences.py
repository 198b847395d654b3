"""The sequences that people have: of a FASTA file, or of Python."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pysam
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import Tokens, encode
from hyena_dist.errors import UserError


class Sequences:
    """Named sequences with random access.

    Args:
        named: names and text.
        source: where they come from, for errors.

    Raises:
        UserError: none, an empty one, a name that comes twice, or a letter that is no nucleotide.
    """

    def __init__(self, named: Iterable[tuple[str, str]], source: str) -> None:
        self._tokens: dict[str, Tokens] = {}
        digest = hashlib.sha256()
        for name, text in named:
            if name in self._tokens:
                raise UserError(f"{source} has two sequences of the name {name!r}; give each a name of its own")
            if not text:
                raise UserError(f"sequence {name!r} of {source} is empty; leave it out")
            try:
                self._tokens[name] = encode(text)
            except UserError as error:
                raise UserError(f"sequence {name!r} of {source}: {error}") from error
            digest.update(f"{name}\0{len(text)}\0".encode())
            digest.update(self._tokens[name].data)
        if not self._tokens:
            raise UserError(f"{source} has no sequence; give one at least")
        self.names = list(self._tokens)
        self.lengths: NDArray[np.int64] = np.array([len(tokens) for tokens in self._tokens.values()], np.int64)
        self.fingerprint = digest.hexdigest()
        """A hash of names and bases."""

    def __len__(self) -> int:
        return len(self.names)

    def tokens(self, number: int) -> Tokens:
        """Return a sequence, uint8 [L]."""
        return self._tokens[self.names[number]]


def open_sequences(source: Path, genome: Path | None = None) -> Sequences:
    """Read the sequences of a FASTA file, plain or compressed by gzip.

    Raises:
        UserError: the file cannot be read, or `Sequences` refuses what it holds.
    """
    if not source.is_file():
        raise UserError(f"there is no file {source}; name a FASTA file")
    try:
        with pysam.FastxFile(str(source)) as file:
            return Sequences(((record.name or "", record.sequence or "") for record in file), str(source))
    except (OSError, ValueError) as error:
        raise UserError(f"{source} cannot be read as FASTA ({error}); check the file") from error


def as_sequences(source: str | Path | Mapping[str, str] | Iterable[str], genome: Path | None = None) -> Sequences:
    """Return the sequences of a file, of a dict from names to text, or of texts, which get their numbers as names.

    Raises:
        UserError: what `open_sequences` and `Sequences` refuse.
    """
    if isinstance(source, str | Path):
        return open_sequences(Path(source), genome)
    named = source.items() if isinstance(source, Mapping) else ((str(i), text) for i, text in enumerate(source))
    return Sequences(named, "the given sequences")
