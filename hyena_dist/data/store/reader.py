"""What the two back ends of a GenomeStore share: the task, the files, and how damage is reported."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.fetch import ShardCache, join
from hyena_dist.data.store.manifest import MANIFEST, ZARR, Interval
from hyena_dist.data.tokenizer import Tokens
from hyena_dist.errors import UserError


class Reader(Protocol):
    """One of the two ways to the tokens."""

    def read_into(self, contigs: NDArray[np.int64], starts: NDArray[np.int64], out: Tokens) -> None:
        """Read windows of one size.

        Args:
            contigs: int64 [n], numbers of contigs in the order of the manifest.
            starts: int64 [n], first bases; every window lies inside its contig.
            out: uint8 [n, size], which is filled.

        Raises:
            UserError: a window that is not stored, or a missing or damaged file.
        """


class Files:
    """The files of a store or of shards, and what the manifest says about them.

    Args:
        location: the folder or URL, as the user gave it.
        manifest: the content of its manifest.json.
        cache: what fetches them if they are remote.
    """

    def __init__(self, location: str, manifest: Mapping[str, Any], cache: ShardCache | None) -> None:
        self.location = location
        self._cache = cache
        self._copies: dict[str, Path] = {}  # of remote files
        self._command: str = manifest["command"]
        # path -> bytes and sha256
        self._known: dict[str, tuple[int, str]] = {}
        if "zarr" in manifest:
            for path, (size, sha256) in manifest["zarr"]["files"].items():
                self._known[f"{ZARR}/{path}"] = (size, sha256)
        else:
            for file in (*manifest["shards"], manifest["shard_index"]):
                self._known[file["path"]] = (file["bytes"], file["sha256"])

    def damaged(self, path: str, reason: str, where: Interval | None = None) -> UserError:
        """The error for a file that is not as its writer left it.

        Args:
            path: the file, relative to the location.
            reason: what is wrong, such as "is missing".
            where: the positions that cannot be read, if the file holds any.
        """
        place = f", so that {where} cannot be read" if where else ""
        if path in self._copies:
            return UserError(
                f"{self._copies[path]}, the copy of {path} of {self.location}, {reason}{place}; "
                f"delete it, and the next read fetches it again"
            )
        return UserError(
            f"{join(self.location, path)} {reason}{place}; "
            f"`hyena-dist data verify {self.location}` lists what is damaged, "
            f"and `{self._command or 'hyena-dist data build ...'} --overwrite` makes it anew"
        )

    def local(self, path: str, where: Interval | None = None) -> Path:
        """Return where a file is on this machine, after fetching it if it is remote.

        Args:
            path: relative to the location.
            where: the positions that it holds, for errors.

        Raises:
            UserError: the file is not there, or has another size than the manifest says.
        """
        if path not in self._known:
            raise self.damaged(MANIFEST, f"does not name {path}", where)
        size, sha256 = self._known[path]
        if self._cache:
            self._copies[path] = self._cache.local(path, size, sha256)
            return self._copies[path]
        file = Path(self.location) / path
        try:
            found = file.stat().st_size
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            raise self.damaged(path, "is missing" if missing else f"cannot be read ({error})", where) from error
        if found != size:
            raise self.damaged(path, f"has {found} bytes instead of {size}", where)
        return file

    def map(self, path: str, where: Interval) -> Tokens:
        """Map a file into memory.

        Returns:
            uint8 [bytes of the file], read-only; a plain array, of which slices cost less than of a np.memmap.

        Raises:
            UserError: as `local`, or the file cannot be read.
        """
        file = self.local(path, where)
        try:
            return np.memmap(file, dtype=np.uint8, mode="r").view(np.ndarray)
        except (OSError, ValueError) as error:
            raise self.damaged(path, f"cannot be read ({error})", where) from error

    def read(self, path: str) -> bytes:
        """Read a small file whole, and check its hash.

        Raises:
            UserError: as `map`, or the content is not what the manifest says.
        """
        file = self.local(path)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise self.damaged(path, f"cannot be read ({error})") from error
        if hashlib.sha256(content).hexdigest() != self._known[path][1]:
            raise self.damaged(path, "is damaged (it has another sha256 than the manifest says)")
        return content
