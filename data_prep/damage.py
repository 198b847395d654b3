"""Comparison of files with the manifest, and the errors that name what is wrong, for all that looks for damage."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hyena_dist.data.text.files import describe_file
from hyena_dist.errors import UserError


class StoreFile(NamedTuple):
    """A file of a store or of shards, as the manifest says it must be."""

    path: str
    """Path of the file, relative to the folder."""
    bytes: int
    """Size of the file."""
    sha256: str
    """Hexadecimal digest of the file."""


class Bad(NamedTuple):
    """A bad file or part of a folder."""

    what: str
    """The file or part, by its path relative to the folder."""
    reason: str
    """A predicate that says what is wrong, such as "is missing"."""


def check_sizes(path: Path, manifest: dict[str, Any]) -> None:
    """Look quickly whether every file of a store is there with its size.

    Args:
        path: folder of the store.
        manifest: its manifest.

    Raises:
        UserError: A file is missing or has another size.
    """
    files = list(known_files(manifest))
    wrong = [wrong_size(path, file) for file in files]
    report_bad(path, manifest, [bad for bad in wrong if bad], len(files))


def known_files(manifest: Mapping[str, Any]) -> Iterator[StoreFile]:
    """Yield the files that a manifest names, but for tars."""
    for path, (size, sha256) in manifest["files"].items():
        yield StoreFile(path, size, sha256)


def known_tars(manifest: Mapping[str, Any]) -> Iterator[StoreFile]:
    """Yield the tars of shards."""
    for tar in manifest["shards"]:
        yield StoreFile(tar["path"], tar["bytes"], tar["sha256"])


def wrong_size(folder: Path, file: StoreFile) -> Bad | None:
    """Return what is wrong if a file is missing or has another size than the manifest says."""
    try:
        size = (folder / file.path).stat().st_size
    except OSError:
        return Bad(file.path, "is missing")
    return None if size == file.bytes else Bad(file.path, f"has {size} bytes instead of {file.bytes}")


def check_file(folder: Path, file: StoreFile, on_bytes: Callable[[int], object] = lambda count: None) -> Bad | None:
    """Compare the size and the sha256 of a file with the manifest.

    Args:
        folder: folder of the store or shards.
        file: what the manifest says of the file.
        on_bytes: called with the number of bytes after each block that was read.

    Returns:
        What is wrong with the file, or None.
    """
    bad = wrong_size(folder, file)
    if not bad and describe_file(folder / file.path, on_bytes)["sha256"] != file.sha256:
        bad = Bad(file.path, "has another sha256 than the manifest says")
    return bad


def check_files(folder: Path, files: Sequence[StoreFile]) -> list[Bad]:
    """Compare files with the manifest, and return what is wrong with those that are bad."""
    found = [check_file(folder, file) for file in files]
    return [bad for bad in found if bad]


def report_bad(folder: Path, manifest: Mapping[str, Any], bad: Sequence[Bad], total: int) -> None:
    """Raise UserError that names the first bad file, if there is one.

    Args:
        folder: folder of the store or shards.
        manifest: its manifest.
        bad: what is wrong; several entries may be of one file.
        total: how many files were checked.
    """
    if bad:
        count = len({each.what for each in bad})
        raise bad_part(manifest, folder / bad[0].what, f"{bad[0].reason} ({count} of {total} files are bad)")


def bad_part(manifest: Mapping[str, Any], what: Path | str, reason: str) -> UserError:
    """Return the error for a bad part of a folder, with the command that makes the folder anew."""
    return UserError(f"{what} {reason}; rebuild it with `{manifest['command']} --overwrite`")
