"""Parsing of UCSC 2bit files to tokens, in blocks, so that no sequence need fit into memory.

The format (genome.ucsc.edu/FAQ/FAQformat.html#format7), all numbers uint32 in the byte order of the signature:

    header      signature 0x1A412743, version 0, number of sequences, 0
    index       for each sequence: length of its name (uint8), name, offset of its record
    record      dnaSize; nBlockCount, starts, sizes; maskBlockCount, starts, sizes; 0; packed DNA

Packed DNA has four bases in a byte, the first in the highest bits: T 0, C 1, A 2, G 3.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.text.fasta import LOWER, Record
from hyena_dist.data.text.files import BLOCK, unreadable
from hyena_dist.data.tokenizer import A, C, G, N, T
from hyena_dist.errors import UserError

_SIGNATURE = 0x1A412743
# The four tokens of each byte of packed DNA, as one number whose bytes in memory are the tokens in order; uint32 [256].
_FOUR_TOKENS = np.array([T, C, A, G], np.uint8)[np.arange(256)[:, None] >> np.arange(6, -1, -2) & 3].view(np.uint32)[
    :, 0
]


class Entry(NamedTuple):
    """A sequence in the index of a 2bit file."""

    name: str
    """Name of the sequence."""
    offset: int
    """Where its record begins in the file, in bytes."""
    bytes: int
    """Size of its record."""


def read_index(path: Path) -> list[Entry]:
    """Read which sequences a 2bit file holds.

    Args:
        path: path of the file.

    Returns:
        The sequences, in the order of the index.

    Raises:
        UserError: The file cannot be read, is of another version, or has a damaged index.
    """
    try:
        with path.open("rb") as stream:
            order = _byte_order(path, stream.read(4))
            version, count, _ = struct.unpack(f"{order}3I", _exactly(path, stream, 12))
            if version != 0:
                raise UserError(f"{path} is 2bit version {version}, and this program reads 0; convert it to FASTA")
            names = []
            offsets = []
            for _ in range(count):
                (size,) = _exactly(path, stream, 1)
                names.append(_exactly(path, stream, size).decode("utf-8", "replace"))
                offsets.append(struct.unpack(f"{order}I", _exactly(path, stream, 4))[0])
            end = stream.seek(0, 2)
    except OSError as error:
        raise unreadable(path, error) from error
    if not names:
        raise UserError(f"{path} is empty; give a 2bit file with at least one sequence")
    ends = dict(zip(sorted(offsets), [*sorted(offsets)[1:], end], strict=True))
    return [Entry(name, offset, ends[offset] - offset) for name, offset in zip(names, offsets, strict=True)]


def read_twobit(path: Path, entries: Iterable[Entry]) -> Iterator[Record]:
    """Read sequences of a 2bit file as records, just as `read_fasta` reads a FASTA file.

    Args:
        path: path of the file.
        entries: the sequences to read.

    Raises:
        UserError: The file cannot be read or is truncated, or a sequence has no bases. Errors of a sequence come while
            its blocks are read.
    """
    try:
        with path.open("rb") as stream:
            order = _byte_order(path, stream.read(4))
            for entry in entries:
                stream.seek(entry.offset)
                yield Record(entry.name, _blocks(path, stream, order, entry))
    except OSError as error:
        raise unreadable(path, error) from error


def _blocks(path: Path, stream: BinaryIO, order: str, entry: Entry) -> Iterator[bytes]:
    """Yield the codes of one sequence, one byte for each base, from a stream at the start of its record."""

    def numbers(count: int) -> NDArray[np.int64]:
        """Read the next numbers of the record."""
        return np.frombuffer(_exactly(path, stream, 4 * count), f"{order}u4").astype(np.int64)

    def ranges() -> NDArray[np.int64]:
        """Read the next list of ranges as their starts and ends, int64 [2, ranges]."""
        count = int(numbers(1)[0])
        if 8 * count > entry.bytes:
            raise _damaged(path)
        starts = numbers(count)
        sizes = numbers(count)
        ends = starts + sizes
        if count and (ends[-1] > size or (starts[1:] < ends[:-1]).any()):
            raise _damaged(path)
        return np.stack([starts, ends])

    size = int(numbers(1)[0])
    if not size:
        raise UserError(f"sequence {entry.name!r} of {path} has no bases; remove it or fetch the file again")
    unknown = ranges()
    masked = ranges()
    numbers(1)  # reserved
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        packed = np.frombuffer(_exactly(path, stream, -(-(end - start) // 4)), np.uint8)
        codes = _FOUR_TOKENS[packed].view(np.uint8)[: end - start]
        for first, last in _inside(unknown, start, end):
            codes[first:last] = N
        for first, last in _inside(masked, start, end):
            codes[first:last] |= LOWER
        yield codes.tobytes()


def _inside(ranges: NDArray[np.int64], start: int, end: int) -> list[list[int]]:
    """Return the parts of sorted ranges that lie in [start, end), as pairs of positions relative to `start`.

    Args:
        ranges: starts and ends of the ranges, int64 [2, ranges].
        start: first position.
        end: position after the last.
    """
    first = np.searchsorted(ranges[1], start, "right")
    last = np.searchsorted(ranges[0], end, "left")
    return (np.clip(ranges[:, first:last], start, end) - start).T.tolist()


def _byte_order(path: Path, signature: bytes) -> str:
    """Return the byte order of a file, "<" or ">", by its first four bytes."""
    for order in "<>":
        if len(signature) == 4 and struct.unpack(f"{order}I", signature)[0] == _SIGNATURE:
            return order
    raise UserError(f"{path} is not a 2bit file, because its signature is {signature.hex()}; give 2bit or FASTA")


def _exactly(path: Path, stream: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, and raise UserError where the file has less."""
    data = stream.read(size)
    if len(data) != size:
        raise _damaged(path)
    return data


def _damaged(path: Path) -> UserError:
    """Return the error for a file whose parts do not fit together."""
    return UserError(f"{path} is truncated or damaged, because its parts do not fit into it; fetch it again")
