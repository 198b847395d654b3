"""The files of a store or of a folder of shards: where they are on this machine, and what is said of damaged ones."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.fetch import ShardCache, join
from hyena_dist.data.store.manifest import MANIFEST, Interval
from hyena_dist.errors import UserError


class StoreFiles:
    """The files of a store or of a folder of shards, which are compared with the manifest when they are opened.

    Args:
        location: folder or URL, as the user gave it.
        manifest: content of the folder's manifest.json.
        cache: fetches the files if the folder is remote; None for a local folder.
    """

    def __init__(self, location: str, manifest: Mapping[str, Any], cache: ShardCache | None) -> None:
        self.location = location
        self._cache = cache
        self._copies: dict[str, Path] = {}  # local copy of each remote file that was used, by its path in the folder
        self._command: str = manifest["command"]
        # Size in bytes and sha256 of each file, by its path.
        self._known = {path: (size, sha256) for path, (size, sha256) in manifest["files"].items()}
        for tar in manifest.get("shards", ()):
            self._known[tar["path"]] = (tar["bytes"], tar["sha256"])

    @property
    def paths(self) -> list[str]:
        """The paths of all files that the manifest names."""
        return list(self._known)

    def knows(self, path: str) -> bool:
        """Tell whether the manifest names a file."""
        return path in self._known

    def damaged(self, path: str, reason: str, where: Interval | None = None) -> UserError:
        """Return the error for a file that is not as its writer left it.

        Args:
            path: path of the file, relative to the location.
            reason: what is wrong, such as "is missing".
            where: the positions that cannot be read; None for a file that holds none.
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
            path: path of the file, relative to the location.
            where: the positions that the file holds, for errors.

        Raises:
            UserError: The file is not there, or has another size than the manifest says.
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

    def map(self, path: str, where: Interval) -> NDArray[np.uint8]:
        """Map a file into memory.

        Returns:
            The content, uint8 [bytes of the file], read-only. It is a plain array, because slices of one cost less than
            slices of a np.memmap.

        Raises:
            UserError: The file is missing, has another size than the manifest says, or cannot be read.
        """
        file = self.local(path, where)
        try:
            return np.memmap(file, dtype=np.uint8, mode="r").view(np.ndarray)
        except (OSError, ValueError) as error:
            raise self.damaged(path, f"cannot be read ({error})", where) from error

    def checked(self, path: str) -> Path:
        """Return where a file of the index is on this machine, after checking its hash.

        Raises:
            UserError: The file is missing, cannot be read, or has another content than the manifest says.
        """
        file = self.local(path)
        try:
            with file.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise self.damaged(path, f"cannot be read ({error})") from error
        if found != self._known[path][1]:
            raise self.damaged(path, "is damaged (it has another sha256 than the manifest says)")
        return file
