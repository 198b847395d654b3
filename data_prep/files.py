"""Reading input files: plain, gzip or bgzip text in blocks of whole lines, and hashes."""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from hyena_dist.errors import UserError

BLOCK = 2**24
"""Bytes of text that are handled at once."""

# A bgzip file is many gzip members in a row and ends with this empty one; without it, a file that was cut between two
# members would look complete.
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def whole_lines(path: Path) -> Iterator[tuple[bytes, float]]:
    """Yield the text of a file, decompressed if need be, in blocks that end with a line (or with the file).

    Yields:
        A block of text, and the share of the file read so far (0 to 1).

    Raises:
        UserError: a file that cannot be read, or a truncated or corrupt gzip file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as raw:
            stream = _decompressed(path, raw)
            while block := stream.read(BLOCK):
                yield block + stream.readline(), raw.tell() / size
    except EOFError:
        raise _truncated(path) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is a corrupt gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def describe_file(path: Path, on_bytes: Callable[[int], object] = lambda count: None) -> dict[str, Any]:
    """Return {"name", "bytes", "sha256"} of a file.

    Args:
        path: the file.
        on_bytes: called with the number of bytes after each block that was read.

    Raises:
        UserError: a file that cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
                size += len(block)
                on_bytes(len(block))
    except OSError as error:
        raise _unreadable(path, error) from error
    return {"name": path.name, "bytes": size, "sha256": digest.hexdigest()}


def _decompressed(path: Path, raw: IO[bytes]) -> IO[bytes]:
    head = raw.read(18)
    raw.seek(0)
    if head[:2] != b"\x1f\x8b":
        return raw
    is_bgzip = len(head) == 18 and head[3] & 4 and head[12:14] == b"BC"
    if is_bgzip:
        raw.seek(0, 2)
        raw.seek(max(0, raw.tell() - len(_BGZIP_END)))
        if raw.read() != _BGZIP_END:
            raise _truncated(path)
        raw.seek(0)
    return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]


def _truncated(path: Path) -> UserError:
    return UserError(f"{path} is a truncated gzip file, because its end is missing; fetch it again")


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be read ({error.strerror or error}); check the path and its permissions")
