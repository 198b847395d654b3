"""The layout of one file of the Zarr store, as written by data_prep and as mapped into memory by ZarrReader.

A file is a Zarr v3 shard (codec sharding_indexed with the index at the end):

    chunk 0, chunk 1, ...       each with its crc32c at its end (4 bytes, little-endian)
    index                       offset and size of each chunk (uint64, little-endian), and the index's crc32c
"""

from typing import TypeVar

import google_crc32c
import numpy as np
from numpy.typing import NDArray

Content = TypeVar("Content", bytes, NDArray[np.uint8])

CRC_BYTES = 4
"""Size of a checksum."""
MISSING = 2**64 - 1
"""What stands in the index as offset and size of a chunk that was never written."""
_INDEX_ROW_BYTES = 16


def checksum(content: bytes) -> bytes:
    """Return the crc32c of `content` as the 4 bytes that are written after it."""
    return int(google_crc32c.value(content)).to_bytes(CRC_BYTES, "little")


def without_checksum(content: Content) -> Content | None:
    """Return `content` without the crc32c at its end, or None if that is not the crc32c of what precedes it."""
    body = content[:-CRC_BYTES]
    end = content[-CRC_BYTES:]
    return body if google_crc32c.value(body) == int.from_bytes(bytes(end), "little") else None


def read_index(content: bytes | NDArray[np.uint8], chunks: int) -> NDArray[np.uint64]:
    """Read where the chunks of a file are.

    Args:
        content: the whole file.
        chunks: how many chunks its index must name.

    Returns:
        Offset and size of each chunk with its checksum, in bytes; uint64 [chunks, 2].

    Raises:
        ValueError: The index is damaged.
    """
    data = np.frombuffer(content, np.uint8)
    index = without_checksum(data[-(_INDEX_ROW_BYTES * chunks + CRC_BYTES) :])
    if index is None or index.size != _INDEX_ROW_BYTES * chunks:
        raise ValueError("its index of chunks has another crc32c")
    return index.view("<u8").reshape(chunks, 2)
