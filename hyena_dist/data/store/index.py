"""The index of a store: arrays in files of the form .npy, which are mapped and not parsed."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.files import StoreFiles
from hyena_dist.data.store.manifest import INDEX, index_path

_SMALL = 2**16
"""Bytes up to which an array is read, which takes no descriptor, instead of mapped."""


class Index:
    """The arrays of the index by name, each checked by its hash and mapped when it is first asked for.

    Args:
        files: the files of the store or the folder of shards.
    """

    def __init__(self, files: StoreFiles) -> None:
        self._files = files
        self._arrays: dict[str, NDArray[np.generic]] = {}

    @property
    def names(self) -> list[str]:
        """The names of all arrays."""
        return [Path(path).stem for path in self._files.paths if Path(path).parent.name == INDEX]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._files.knows(index_path(name))

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        """Return an array, read-only.

        Raises:
            UserError: Its file is missing or damaged.
        """
        found = self._arrays.get(name)
        if found is None:
            path = index_path(name)
            file = self._files.checked(path)
            try:
                if file.stat().st_size <= _SMALL:
                    found = np.load(io.BytesIO(file.read_bytes()), allow_pickle=False)
                else:
                    found = np.load(file, mmap_mode="r", allow_pickle=False).view(np.ndarray)
            except (OSError, ValueError, EOFError) as error:
                raise self._files.damaged(path, f"cannot be read ({error})") from error
            self._arrays[name] = found
        return found
