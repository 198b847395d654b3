"""Files from elsewhere, brought by http(s) or through a command.

`fetch` brings one file: it resumes what was interrupted, tries again a limited number of times, checks the content, and
gives the file its name only when it is whole. A ShardCache brings files of remote shards as they are read, once for a
machine. transfer.py makes the single attempts.
"""

import hashlib
import shlex
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from hyena_dist.data.store.transfer import (
    PIPE,
    Limits,
    NotThereError,
    Part,
    TryAgainError,
    WrongContentError,
    receive_http,
    receive_pipe,
)
from hyena_dist.errors import UserError
from hyena_dist.system.locks import lock

__all__ = ["PIPE", "Limits", "NotThereError", "ShardCache", "fetch", "is_remote", "join"]

_MEBIBYTE = 2**20


def is_remote(place: str) -> bool:
    """Tell whether `place` is an http(s) URL or a pipe:COMMAND, and not a path."""
    return place.startswith(("http://", "https://", PIPE))


def join(base: str, path: str) -> str:
    """Return the path, URL or pipe:COMMAND of a file below a base.

    Args:
        base: a folder, an http(s) URL (a query stays at its end), or pipe:COMMAND with {} in place of the path.
        path: path of the file, relative to the base, with "/".

    Raises:
        UserError: The base is a command without {}.
    """
    if base.startswith(PIPE):
        if "{}" not in base:
            raise UserError(
                f"{base} names one file for every path; write {{}} where the path belongs, "
                f"such as 'pipe:aws s3 cp s3://bucket/{{}} -'"
            )
        return base.replace("{}", shlex.quote(path))
    if is_remote(base):
        url = urlsplit(base)
        return urlunsplit(url._replace(path=f"{url.path.rstrip('/')}/{quote(path)}"))
    return str(Path(base) / path)


def fetch(
    source: str,
    file: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    md5: str | None = None,
    limits: Limits | None = None,
    on_bytes: Callable[[int], object] = lambda count: None,
) -> None:
    """Bring `source` to `file`, unless `file` is there already.

    Only one process at a time brings a file; the others wait for it. A file of another size than `size`, which a crash
    or a full disk cut short, is brought anew. The bytes that have come so far lie in
    `file`.part, with a note beside it of what they are a part of. A later call goes on there if the server knows ranges
    and the source has not changed; otherwise it starts again.

    Args:
        source: an http(s) URL, or pipe:COMMAND, whose output is the file. A command is not resumed but run again.
        file: path to bring the file to; its folder is made if need be.
        size: size of the file in bytes; None checks none.
        sha256: hexadecimal digest of the file; None checks none.
        md5: hexadecimal digest of the file; None checks none.
        limits: how long to go on trying; None takes the defaults.
        on_bytes: called with the number of bytes that came, which is negative where an attempt had to start again.

    Raises:
        UserError: The source cannot be had or is not what was expected, or the file cannot be written.
    """
    limits = limits or Limits()
    try:
        with lock(file.with_name(f".{file.name}.lock")):
            if not _is_there(file, size):
                _fetch(source, Part(file, on_bytes), {"sha256": sha256, "md5": md5}, size, limits)
    except OSError as error:  # the disk's, since those of the network have become other errors
        raise UserError(
            f"{file} cannot be written ({error.strerror or error}); free some space or choose another folder"
        ) from error


class ShardCache:
    """Keeps files of a remote folder whole on this machine.

    A cached file is named by its hash, so that folders of shards may share a cache, and a hash is checked once, when
    the file arrives. Nothing is ever removed: the cache grows to the size of the shards that are read.

    Args:
        base: a local folder (whose files are used where they are), an http(s) URL or pipe:COMMAND, as for `join`.
        folder: folder of the cache, which several processes may share.
        limits: how long to go on trying; None takes the defaults.

    Raises:
        UserError: `base` is a command without {}.
    """

    def __init__(self, base: str, folder: Path, limits: Limits | None = None) -> None:
        self.base = base
        self.folder = folder
        self.limits = limits or Limits()
        join(base, "")  # refuses a command without {} now, and not at the first read

    def local(self, path: str, size: int, sha256: str) -> Path:
        """Return a local file with the content of a file of the folder, after fetching it if need be.

        Args:
            path: path of the file, relative to the base.
            size: its size in bytes, as the manifest says.
            sha256: its hexadecimal digest, as the manifest says.

        Raises:
            UserError: The file cannot be had, is not what the manifest says, or cannot be written.
        """
        source = join(self.base, path)
        if not is_remote(source):
            return Path(source)
        file = self.folder / f"{sha256[:16]}-{Path(path).name}"
        if not _is_there(file, size):
            fetch(source, file, size=size, sha256=sha256, limits=self.limits)
        return file

    def read(self, path: str) -> bytes:
        """Return the present content of a small file, such as the manifest, without keeping it in the cache.

        Raises:
            UserError: The file cannot be had.
        """
        source = join(self.base, path)
        try:
            if not is_remote(source):
                return Path(source).read_bytes()
        except OSError as error:
            raise UserError(f"{source} cannot be read ({error.strerror or error}); check the path") from error
        with tempfile.TemporaryDirectory() as folder:
            fetch(source, Path(folder) / "file", limits=self.limits)
            return (Path(folder) / "file").read_bytes()


def _is_there(file: Path, size: int | None) -> bool:
    """Tell whether a file is there, with its size if that is known."""
    try:
        found = file.stat().st_size
    except FileNotFoundError:
        return False
    return size in (None, found)


def _fetch(source: str, part: Part, hashes: dict[str, str | None], size: int | None, limits: Limits) -> None:
    """Make attempts until the file is whole and right, or until patience ends."""
    receive = receive_pipe if source.startswith(PIPE) else receive_http
    failures = 0  # attempts in a row that brought less than a mebibyte
    times_wrong = 0  # attempts that brought all bytes, and not the expected ones
    furthest = part.size
    while True:
        try:
            receive(source, part, size, limits)
            _check(part, size, hashes)
            part.finish()
            return
        except TryAgainError as error:
            failures += 1
            if part.size >= furthest + _MEBIBYTE:
                failures = 1
                furthest = part.size
            if isinstance(error, WrongContentError):
                part.restart()
                times_wrong += 1
            # Wrong content that comes twice is no accident, and files are big.
            if times_wrong == 2 or failures >= limits.attempts:
                tries = "twice" if times_wrong == 2 else f"{failures} times in a row"
                raise UserError(
                    f"{source} cannot be fetched ({error}, {tries}); "
                    f"try again later, which goes on where this ended if it can, or check the source"
                ) from error
        time.sleep(min(60.0, limits.wait_s * 2 ** (failures - 1)))


def _check(part: Part, size: int | None, hashes: dict[str, str | None]) -> None:
    """Raise WrongContentError if what came has another size or another hash than was expected."""
    if size is not None and part.size != size:
        raise WrongContentError(f"it has {part.size} bytes instead of {size}")
    for name, expected in hashes.items():
        if expected:
            with part.path.open("rb") as stream:
                found = hashlib.file_digest(stream, name).hexdigest()
            if found != expected.lower():
                raise WrongContentError(f"its {name} is {found} instead of {expected}")
