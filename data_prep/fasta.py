"""FASTA files to tokens, one record at a time."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.files import whole_lines
from hyena_dist.data.tokenizer import ENCODE_TABLE, INVALID, N, Tokens
from hyena_dist.errors import UserError

_BLANKS = b"\r\n\t "
_TO_TOKEN = ENCODE_TABLE.tobytes()
_TO_CASE = bytes(chr(byte).islower() and byte < 128 for byte in range(256))


class Record(NamedTuple):
    """One sequence of L bases.

    Attributes:
        name: the first word of its header line.
        tokens: uint8 [L].
        lower_case: uint8 [L], 1 where the letter was lower-case.
    """

    name: str
    tokens: Tokens
    lower_case: NDArray[np.uint8]


def _ignore(bases: int, share: float) -> None:
    """Report no progress."""


def read_fasta(paths: Sequence[Path], on_progress: Callable[[int, float], object] = _ignore) -> Iterator[Record]:
    """Read all records of FASTA files (plain, gzip or bgzip).

    Lines may have any length and end in LF or CRLF. One record is in memory at a time.

    Args:
        paths: the files, in order.
        on_progress: called after each block of text with the bases in it and the share of all files read so far.

    Raises:
        UserError: an unreadable, truncated or empty file; text that is not FASTA; a record without a name or a
            sequence; a letter that no nucleotide sequence has; a name that occurs twice.
    """
    origin: dict[str, Path] = {}
    sizes = [path.stat().st_size if path.exists() else 0 for path in paths]
    for number, path in enumerate(paths):
        before, size, total = sum(sizes[:number]), sizes[number], max(1, sum(sizes))

        def report(bases: int, share: float, before: int = before, size: int = size, total: int = total) -> None:
            on_progress(bases, (before + share * size) / total)

        for record in _read_file(path, report):
            if record.name in origin:
                raise UserError(
                    f"record name {record.name!r} of {path} occurs a second time (first in {origin[record.name]}), "
                    f"and names must be unique; rename or remove one of the two"
                )
            origin[record.name] = path
            yield record


def _read_file(path: Path, on_progress: Callable[[int, float], object]) -> Iterator[Record]:
    name = ""
    tokens, lower_case = bytearray(), bytearray()
    line = 1
    for block, share in whole_lines(path):
        bases = len(tokens)
        at = 0
        while at < len(block):
            if block[at] == ord(">"):
                if name:
                    yield _record(path, name, tokens, lower_case)
                    bases -= len(tokens)
                end = block.find(b"\n", at) + 1 or len(block)
                name = _name(path, line, block[at + 1 : end])
                tokens, lower_case = bytearray(), bytearray()
            else:
                end = block.find(b"\n>", at) + 1 or len(block)
                text = block[at:end]
                codes = text.translate(_TO_TOKEN, _BLANKS)
                if codes and not name:
                    raise UserError(f"{path} has no '>' header before line {line} and is not FASTA; check the file")
                if INVALID in codes:
                    raise _invalid_letter(path, name, line, text)
                tokens += codes
                lower_case += text.translate(_TO_CASE, _BLANKS)
            line += block.count(b"\n", at, end)
            at = end
        on_progress(len(tokens) - bases, share)
    if not name:
        raise UserError(f"{path} is empty; give a FASTA file with at least one record")
    yield _record(path, name, tokens, lower_case)


def _name(path: Path, line: int, header: bytes) -> str:
    words = header.split(maxsplit=1)
    if not words:
        raise UserError(f"{path} line {line} is a '>' header without a name; write a name after the '>'")
    return words[0].decode("utf-8", "replace")


def _record(path: Path, name: str, tokens: bytearray, lower_case: bytearray) -> Record:
    if not tokens:
        raise UserError(f"record {name!r} of {path} has no sequence; remove it or fetch the file again")
    return Record(name, np.frombuffer(tokens, np.uint8), np.frombuffer(lower_case, np.uint8))


def _invalid_letter(path: Path, name: str, first_line: int, text: bytes) -> UserError:
    codes = text.translate(bytes(N if byte in _BLANKS else _TO_TOKEN[byte] for byte in range(256)))
    at = codes.index(INVALID)
    line = first_line + text.count(b"\n", 0, at)
    column = at - text.rfind(b"\n", 0, at)
    return UserError(
        f"{path} line {line} column {column}: record {name!r} has letter {chr(text[at])!r}, which no nucleotide "
        f"sequence has (protein does); give DNA or RNA with A C G T U N or IUPAC ambiguity codes"
    )
