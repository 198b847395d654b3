"""Reading of files in blocks: plain, gzip or bgzip text, work that is done ahead in a thread, and hashes."""

import hashlib
import queue
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hyena_dist.data.text.formats import BYTE_ORDER_MARK, check_file, check_text
from hyena_dist.errors import UserError

Item = TypeVar("Item")

BLOCK = 2**20
"""About how many bytes of text are handled at once."""
# Blocks of compressed bytes are small, because what follows a gzip member in its block is copied for the next member.
_COMPRESSED_BLOCK = 2**17
_GZIP = b"\x1f\x8b"
# A bgzip file is many gzip members in a row and ends with this empty one; without it, a file that was cut between two
# members would look complete.
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def ignore(data: bytes) -> None:
    """Do nothing with the bytes of a file, where nobody wants to see them."""


def read_text(path: Path, on_raw: Callable[[bytes], object] = ignore) -> Iterator[bytes]:
    """Yield the text of a file, decompressed if need be, in blocks of bounded size that may end anywhere.

    A byte-order mark is left out.

    Args:
        path: a plain, gzip or bgzip file.
        on_raw: called with the file's bytes as they are read, in order, before decompression.

    Raises:
        UserError: The file cannot be read, is of another format, or is a truncated or corrupt gzip file.
    """
    blocks = _read(path, on_raw)
    start = next(blocks, b"")
    check_text(path, start)
    yield start.removeprefix(BYTE_ORDER_MARK)
    yield from blocks


def read_lines(path: Path, errors: str = "replace") -> Iterator[str]:
    """Yield the lines of a text file as `read_text` reads it, without their ends.

    Args:
        path: a plain, gzip or bgzip file.
        errors: what becomes of bytes that are not UTF-8, as for bytes.decode.

    Raises:
        UserError: what `read_text` refuses.
    """
    rest = b""
    for block in read_text(path):
        *lines, rest = (rest + block).split(b"\n")
        yield from (line.decode("utf-8", errors).removesuffix("\r") for line in lines)
    if rest:
        yield rest.decode("utf-8", errors).removesuffix("\r")


def _read(path: Path, on_raw: Callable[[bytes], object]) -> Iterator[bytes]:
    """Yield the text of a file as `read_text` does, whatever it is; the first block has BLOCK bytes or all."""
    try:
        check_file(path)
        with path.open("rb") as raw:
            head = raw.read(18)
            is_gzip = head[:2] == _GZIP
            if len(head) == 18 and is_gzip and head[3] & 4 and head[12:14] == b"BC":
                raw.seek(-min(path.stat().st_size, len(_BGZIP_END)), 2)
                if raw.read() != _BGZIP_END:
                    raise _truncated(path)
            raw.seek(0)
            size = _COMPRESSED_BLOCK if is_gzip else BLOCK

            def pieces() -> Iterator[bytes]:
                """Yield the file's bytes."""
                while piece := raw.read(size):
                    on_raw(piece)
                    yield piece

            yield from _joined(_decompressed(path, pieces())) if is_gzip else pieces()
    except zlib.error as error:
        raise UserError(f"{path} is a corrupt gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise unreadable(path, error) from error


def ahead(blocks: Iterable[Item], depth: int = 4) -> Iterator[Item]:
    """Yield the items of an iterable, which a thread takes from it up to `depth` items ahead.

    An error of the iterable is raised here after the items that came before it.
    """
    # Pairs of whether this is an item, and the item; at the end, False and the error, or None if there was none.
    made: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def hand_over(item: tuple[bool, Any]) -> None:
        """Put a pair into the queue, unless nobody wants it any more."""
        while not stop.is_set():
            try:
                return made.put(item, timeout=0.1)
            except queue.Full:
                pass

    def make() -> None:
        """Take all items from the iterable, in the thread."""
        try:
            for block in blocks:
                hand_over((True, block))
                if stop.is_set():
                    return
            hand_over((False, None))
        except BaseException as error:
            hand_over((False, error))

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            is_item, content = made.get()
            if not is_item:
                break
            yield content
        if content is not None:
            raise content
    finally:
        stop.set()
        thread.join()


def describe_file(path: Path, on_bytes: Callable[[int], object] = lambda count: None) -> dict[str, Any]:
    """Return the "name", "bytes" (its size) and "sha256" of a file.

    Args:
        path: path of the file.
        on_bytes: called with the number of bytes after each block that was read.

    Raises:
        UserError: The file cannot be read.
    """
    digest = hashlib.sha256()
    size = 0
    try:
        check_file(path)
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
                size += len(block)
                on_bytes(len(block))
    except OSError as error:
        raise unreadable(path, error) from error
    return {"name": path.name, "bytes": size, "sha256": digest.hexdigest()}


def unreadable(path: Path, error: OSError) -> UserError:
    """Return the error for an input file that the system does not let us read."""
    return UserError(f"{path} cannot be read ({error.strerror or error}); check the path and its permissions")


def _decompressed(path: Path, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text of gzip members in a row, in blocks of at most BLOCK bytes.

    Args:
        path: path of the file, for errors.
        pieces: the file's bytes, in pieces that may end anywhere.

    Raises:
        UserError: The last member is not complete.
        zlib.error: A member is corrupt.
    """
    member = None
    for piece in pieces:
        while piece:
            if member is None:
                piece = piece.lstrip(b"\0")  # gzip lets zeros fill up a file, as tapes need
                if not piece:
                    break
                member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            text = member.decompress(piece, BLOCK)
            # A full block may leave more text inside the decompressor, even when it has taken the whole piece.
            while len(text) == BLOCK and not member.eof and not member.unconsumed_tail:
                yield text
                text = member.decompress(b"", BLOCK)
            yield text
            piece = member.unconsumed_tail
            if member.eof:
                piece = member.unused_data
                member = None
    if member is not None:
        raise _truncated(path)


def _joined(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Join blocks of at most BLOCK bytes, which are small in bgzip files, to blocks of BLOCK to 2 * BLOCK bytes."""
    parts: list[bytes] = []
    size = 0
    for block in blocks:
        parts.append(block)
        size += len(block)
        if size >= BLOCK:
            yield b"".join(parts)
            parts = []
            size = 0
    yield b"".join(parts)


def _truncated(path: Path) -> UserError:
    """Return the error for a gzip file whose end is missing."""
    return UserError(f"{path} is a truncated gzip file, because its end is missing; fetch it again")
