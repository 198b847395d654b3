"""Four bases in a byte, lossless for any uint8 array: the bytes of a chunk of the Zarr store.

    payload     ceil(n / 4) bytes: base p in bits 2 * (p % 4) and above of byte p // 4; A 0, C 1, G 2, T 3
    runs        12 bytes each: start and length (little-endian uint32), value (uint8), 3 zero bytes
    run count   little-endian uint32

Runs are the ranges whose value is not A, C, G or T (N, or what fills up the last chunk); their payload is 0. They are
as long as they can be, sorted, and lie at the end, so that base p is found at a known byte without reading them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import BASES, A, Tokens

Bytes = bytes | bytearray | memoryview | NDArray[np.uint8]

_RUN = np.dtype([("start", "<u4"), ("length", "<u4"), ("value", "u1"), ("zero", "u1", 3)])
_COUNT = np.dtype("<u4")

UNPACK: NDArray[np.uint32] = (
    (A + (np.arange(256)[:, None] >> np.arange(0, 8, 2) & 3)).astype(np.uint8).view(np.uint32)[:, 0]
)
"""uint32 [256]: byte of a payload -> its four tokens, which lie in memory in their order."""


class Runs(NamedTuple):
    """The ranges of a chunk that are not A, C, G or T, sorted; k runs.

    Attributes:
        starts: uint32 [k], first position in the chunk.
        lengths: uint32 [k].
        values: uint8 [k].
    """

    starts: NDArray[np.uint32]
    lengths: NDArray[np.uint32]
    values: NDArray[np.uint8]


def pack(tokens: Tokens) -> bytes:
    """Pack any values; tokens that are not A, C, G or T cost 12 bytes for each run of equal ones.

    Args:
        tokens: uint8 [n], n < 2^32.
    """
    codes = np.zeros(-(-tokens.size // 4) * 4, np.uint8)
    # A wraps to 0: A, C, G, T and N become 0, 1, 2, 3 and 4 modulo 4.
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


def unpack(chunk: Bytes, n: int) -> Tokens:
    """Undo `pack`.

    Args:
        chunk: what `pack` returned.
        n: how many tokens it was made from.

    Returns:
        A new array, uint8 [n].

    Raises:
        ValueError: a chunk that is not of n tokens.
    """
    runs = parse_runs(chunk, n)
    tokens = unpack_range(np.frombuffer(chunk, np.uint8, -(-n // 4)), 0, n)
    for start, length, value in zip(*runs, strict=True):
        tokens[start : start + length] = value
    return tokens


def unpack_range(payload: NDArray[np.uint8], start: int, end: int) -> Tokens:
    """Return the tokens of [start, end), with A where a run lies (`parse_runs` says where).

    Args:
        payload: uint8, the chunk's bytes from its first on; read only where the range is.
        start: first position.
        end: position after the last.

    Returns:
        A new array, uint8 [end - start].
    """
    first = start // 4
    tokens = UNPACK.take(payload[first : -(-end // 4)], mode="clip").view(np.uint8)  # clip: without a check of bounds
    return tokens[start - 4 * first : end - 4 * first]


def parse_runs(chunk: Bytes, n: int) -> Runs:
    """Read the runs of a chunk of n tokens.

    Raises:
        ValueError: a chunk that is not of n tokens.
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
    """The runs of equal values where `other` is true, as an array of _RUN."""
    starts = np.concatenate([[0], np.flatnonzero(tokens[1:] != tokens[:-1]) + 1])
    lengths = np.diff(starts, append=tokens.size)
    kept = other[starts]
    runs = np.zeros(np.count_nonzero(kept), _RUN)
    runs["start"], runs["length"], runs["value"] = starts[kept], lengths[kept], tokens[starts[kept]]
    return runs
