"""Parsing of FASTA text to tokens, in blocks, so that no contig need fit into memory."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from hyena_dist.data.tokenizer import ENCODE_TABLE, INVALID, N
from hyena_dist.errors import UserError

LOWER = 0x80
"""The bit of a code that marks a lower-case letter."""
AMBIGUOUS = 0x40
"""The bit of a code that marks an N which was written as the code of two or three bases, such as R for A or G."""
TOKEN = 0x3F
"""The other bits of a code, which are the token."""

_BLANKS = b"\r\n\t "
# The code of each byte of text: token, with LOWER and AMBIGUOUS where they apply, or INVALID.
_TO_CODE = bytes(
    int(token) | LOWER * (97 <= letter <= 122) | AMBIGUOUS * (letter in b"RYSWKMBDHVryswkmbdhv")
    if token != INVALID
    else INVALID
    for letter, token in enumerate(ENCODE_TABLE)
)
_LONGEST_NAME = 2**16  # bytes of a header line that are kept


class Record(NamedTuple):
    """One sequence of an input file."""

    name: str
    """Name of the sequence: in FASTA, the first word of its header line."""
    blocks: Iterator[bytes]
    """Codes of its bases in order, one byte each; they must be used up before the next record is asked for."""


def read_fasta(path: Path, text: Iterable[bytes]) -> Iterator[Record]:
    """Read the records of a FASTA file, whose lines may have any length and end in LF, CRLF or CR.

    Args:
        path: path of the file, for errors.
        text: text of the file, in blocks that may end anywhere.

    Raises:
        UserError: The text is not FASTA, a record has no name or no sequence, or a letter is in no nucleotide sequence.
            Errors of a record come while its blocks are read.
    """
    parts = groupby(_parts(path, _with_line_feeds(text)), key=lambda part: part[:2])
    for (_, name), blocks in parts:
        yield Record(name, (codes for _, _, codes in blocks if codes))


def _with_line_feeds(text: Iterable[bytes]) -> Iterator[bytes]:
    """Yield text, in blocks that are not empty, with LF in place of each CRLF and CR."""
    ended_in_cr = False  # whether the block before did, so that an LF which follows belongs to the same line end
    for block in filter(None, text):
        unified = block.removeprefix(b"\n") if ended_in_cr else block
        ended_in_cr = block.endswith(b"\r")
        if b"\r" in unified:
            unified = unified.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if unified:
            yield unified


def _parts(path: Path, text: Iterable[bytes]) -> Iterator[tuple[int, str, bytes]]:
    """Yield (number of the record, its name, its next codes), which is once at least for each record."""
    number = 0
    name = ""
    bases = 0  # of the record, so far
    line = 1
    header: bytes | None = None  # the start of a header line that goes on in the next block
    line_starts = True
    for block in text:
        at = 0
        while at < len(block):
            if header is None and line_starts and block[at] == ord(">"):
                _check_sequence(path, number, name, bases)
                header = b""
                at += 1
            elif header is not None:
                end = block.find(b"\n", at)
                header = (header + block[at : end if end >= 0 else len(block)])[:_LONGEST_NAME]
                if end >= 0:
                    number += 1
                    name = _name(path, line, header)
                    bases = 0
                    header = None
                    line += 1
                at = end + 1 or len(block)
            else:
                end = block.find(b">", at)
                if end < 0:
                    end = len(block)
                elif end == at or block[end - 1] != ord("\n"):
                    end += 1  # inside a line, '>' is a letter like others, and an invalid one
                codes = block[at:end].translate(_TO_CODE, _BLANKS)
                if codes and not number:
                    raise UserError(f"{path} has no '>' header before line {line} and is not FASTA; check the file")
                if INVALID in codes:
                    raise _invalid_letter(path, name, line, bases, block[at:end])
                bases += len(codes)
                if codes:
                    yield number, name, codes
                line += block.count(b"\n", at, end)
                at = end
            line_starts = block[at - 1] == ord("\n")
    if header is not None:
        number += 1
        name = _name(path, line, header)
        bases = 0
    if not number:
        raise UserError(f"{path} is empty; give a FASTA file with at least one record")
    _check_sequence(path, number, name, bases)


def _check_sequence(path: Path, number: int, name: str, bases: int) -> None:
    """Raise UserError if the record that ends, the `number`th (0 before the first), has no bases."""
    if number and not bases:
        raise UserError(f"record {name!r} of {path} has no sequence; remove it or fetch the file again")


def _name(path: Path, line: int, header: bytes) -> str:
    """Return the name in a header line, without its '>'."""
    words = header.split(maxsplit=1)
    if not words:
        raise UserError(f"{path} line {line} is a '>' header without a name; write a name after the '>'")
    return words[0].decode("utf-8", "replace")


def _invalid_letter(path: Path, name: str, line: int, base: int, text: bytes) -> UserError:
    """Return the error for the first invalid letter in a piece of a record.

    Args:
        path: path of the file.
        name: name of the record.
        line: line at which the piece begins.
        base: how many bases of the record precede the piece.
        text: the piece.
    """
    codes = text.translate(bytes(N if byte in _BLANKS else _TO_CODE[byte] for byte in range(256)))
    at = codes.index(INVALID)
    before = text[:at]
    base += len(before.translate(None, _BLANKS)) + 1
    return UserError(
        f"{path} line {line + before.count(10)}: base {base} of record {name!r} is {chr(text[at])!r}, which no "
        f"nucleotide sequence has (protein does); give DNA or RNA with A C G T U N or IUPAC ambiguity codes"
    )
