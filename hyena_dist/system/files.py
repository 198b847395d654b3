"""Files that are either whole or as they were before, also after a crash or a power cut."""

import contextlib
import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader finds the old content or the whole new one; returns when it is on the disk.

    The content goes to a hidden file beside `path` first, which takes its place.

    Raises:
        OSError: the file could not be written; the old one is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # processes may write at once
    try:
        partial.write_bytes(data)
        sync(partial)
        replace_atomically(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def remove_unwritten(folder: Path) -> None:
    """Remove, from a folder and those in it, what processes that were killed in `write_atomically` have left.

    The caller keeps other writers out.
    """
    for partial in folder.rglob(".*.partial"):
        if partial.is_file():
            partial.unlink()


def replace_atomically(new: Path, path: Path) -> None:
    """Give a file or folder the name of another, which it replaces, and wait until the disk knows the new name.

    What `new` contains is not waited for: `sync` does that. A folder can replace an empty folder alone.

    Raises:
        OSError: the rename failed, and nothing has changed.
    """
    os.replace(new, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the list of a folder's names, is on the disk.

    Raises:
        OSError: there is no such path, or the disk failed.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
