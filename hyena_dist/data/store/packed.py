"""The packed form of a chunk of tokens: four bases in a byte, without loss for any uint8 array.

    payload     ceil(n / 4) bytes: base p in bits 2 * (p % 4) and above of byte p // 4; A 0, C 1, G 2, T 3
    runs        12 bytes each: start and length (little-endian uint32), value (uint8), 3 zero bytes
    run count   little-endian uint32

Runs are the ranges whose value is not A, C, G or T (N, or the values that fill up the last chunk); their payload is 0.
They are as long as they can be, sorted, and lie at the end, so that base p is found at a known byte without reading
them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import BASES, A, Tokens

PackedChunk = bytes | bytearray | memoryview | NDArray[np.uint8]

CODEC = "hyena_dist.packed_nucleotides"
"""Name of this form as a Zarr codec, in zarr.json and in the entry point."""

_RUN = np.dtype([("start", "<u4"), ("length", "<u4"), ("value", "u1"), ("zero", "u1", 3)])
_COUNT = np.dtype("<u4")

UNPACK: NDArray[np.uint32] = (
    (A + (np.arange(256)[:, None] >> np.arange(0, 8, 2) & 3)).astype(np.uint8).view(np.uint32)[:, 0]
)
"""The four tokens of each byte of a payload, one number whose bytes in memory are the tokens in order; uint32 [256]."""


class Runs(NamedTuple):
    """The ranges of a chunk whose value is not A, C, G or T, in the order of their positions."""

    starts: NDArray[np.uint32]
    """First position of each run in the chunk, uint32 [runs]."""
    lengths: NDArray[np.uint32]
    """Number of positions in each run, uint32 [runs]."""
    values: NDArray[np.uint8]
    """Value of each run, uint8 [runs]."""


def pack(tokens: Tokens) -> bytes:
    """Pack tokens into 2 bits each.

    Args:
        tokens: any values, uint8 [n], n < 2^32.

    Returns:
        The bytes that the module's docstring describes: n / 4, and 12 more for each run of equal tokens that are not A,
        C, G or T.
    """
    codes = np.zeros(-(-tokens.size // 4) * 4, np.uint8)
    # A, C, G, T and N become 0 to 4; what is below A wraps around to large numbers.
    np.subtract(tokens, A, out=codes[: tokens.size])
    other = codes[: tokens.size] >= len(BASES)
    runs = np.empty(0, _RUN)
    if other.any():
        runs = _runs(tokens, other)
        codes[: tokens.size][other] = 0
    # The four codes of a word come together in its highest byte: code i at bit 8 i is multiplied to bit 24 + 2 i.
    words = codes.view("<u4")
    words *= np.uint32(1 << 24 | 1 << 18 | 1 << 12 | 1 << 6)
    payload = words.view(np.uint8)[3::4]
    return payload.tobytes() + runs.tobytes() + np.array(runs.size, _COUNT).tobytes()


def unpack(chunk: PackedChunk, n: int) -> Tokens:
    """Return the tokens that `pack` made a chunk of.

    Args:
        chunk: bytes that `pack` returned.
        n: how many tokens they were made of.

    Returns:
        A new array, uint8 [n].

    Raises:
        ValueError: The chunk was not made of n tokens.
    """
    runs = parse_runs(chunk, n)
    tokens = unpack_range(np.frombuffer(chunk, np.uint8, -(-n // 4)), 0, n)
    for start, length, value in zip(*runs, strict=True):
        tokens[start : start + length] = value
    return tokens


def unpack_range(payload: NDArray[np.uint8], start: int, end: int) -> Tokens:
    """Unpack positions [start, end) of a chunk; where a run lies, which `parse_runs` tells, the result holds A.

    Args:
        payload: bytes that begin with the chunk, uint8; only those that hold the range are read.
        start: first position in the chunk.
        end: position after the last.

    Returns:
        A new array, uint8 [end - start].
    """
    first = start // 4
    tokens = UNPACK.take(payload[first : -(-end // 4)], mode="clip").view(np.uint8)  # "clip" checks no bounds
    return tokens[start - 4 * first : end - 4 * first]


def parse_runs(chunk: PackedChunk, n: int) -> Runs:
    """Read the runs of a chunk that was made of n tokens.

    Raises:
        ValueError: The chunk was not made of n tokens, or its runs overlap or leave it.
    """
    data = np.frombuffer(chunk, np.uint8)
    payload = -(-n // 4)
    count = int(np.frombuffer(data[-_COUNT.itemsize :], _COUNT)[0]) if len(data) >= payload + _COUNT.itemsize else 0
    if len(data) != payload + count * _RUN.itemsize + _COUNT.itemsize:
        raise ValueError(f"{len(data)} bytes are no packed chunk of {n} tokens and {count} runs")
    runs = np.frombuffer(data, _RUN, count, payload)
    ends = runs["start"].astype(np.uint64) + runs["length"]
    if count and (ends[-1] > n or (runs["start"][1:] < ends[:-1]).any()):
        raise ValueError("runs of a packed chunk overlap or leave it")
    return Runs(runs["start"], runs["length"], runs["value"])


def _runs(tokens: Tokens, other: NDArray[np.bool_]) -> NDArray[np.void]:
    """Find the runs of equal values where `other` is true.

    Args:
        tokens: uint8 [n].
        other: which tokens are not A, C, G or T, bool [n].

    Returns:
        The runs in order, _RUN [runs].
    """
    starts = np.concatenate([[0], np.flatnonzero(tokens[1:] != tokens[:-1]) + 1])
    lengths = np.diff(starts, append=tokens.size)
    kept = other[starts]
    runs = np.zeros(np.count_nonzero(kept), _RUN)
    runs["start"] = starts[kept]
    runs["length"] = lengths[kept]
    runs["value"] = tokens[starts[kept]]
    return runs
