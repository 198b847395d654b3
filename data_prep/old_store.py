"""Reading of stores of format 2, which had an array and a file for each contig, so that they can be converted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.store.manifest import MANIFEST, STORE_FORMAT, ZARR, ZARR_CHUNK, zarr_shard_length
from hyena_dist.data.store.packed import unpack
from hyena_dist.data.store.shard_file import read_index, without_checksum
from hyena_dist.data.store.soft_mask import soft_mask
from hyena_dist.data.text.fasta import LOWER
from hyena_dist.errors import UserError

OLD_VERSION = 2
_SHARD = 2**24
"""Most tokens in a file."""
_MASK_CHUNK = 2**16
"""Lower-case ranges in a file of a soft mask."""


class OldStore:
    """A store of format 2.

    Attributes:
        manifest: content of its manifest.

    Args:
        folder: folder of the store.

    Raises:
        UserError: There is no such store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self.manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
            found = (self.manifest["format"], self.manifest["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder} has no {MANIFEST} that can be read ({error}); give a store of format 2"
            ) from error
        if found != (STORE_FORMAT, OLD_VERSION):
            raise UserError(
                f"{folder} has format {found[0]!r} of version {found[1]!r}, and stores of version {OLD_VERSION} can be "
                f"converted; use it as it is, or write shards anew from a converted store"
            )
        self.has_soft_mask: bool = self.manifest["options"]["soft_mask"]

    def blocks(self, contig: dict[str, Any]) -> Iterator[bytes]:
        """Yield the codes of a contig, given by its entry in the manifest, as `read_fasta` does.

        Raises:
            UserError: A file is missing or damaged.
        """
        edges = self._edges(contig) if self.has_soft_mask else np.empty(0, np.int64)
        at = 0
        for tokens in self._tokens(contig):
            if self.has_soft_mask:
                tokens |= np.uint8(LOWER) * soft_mask(edges, at, at + tokens.size)
            at += tokens.size
            yield tokens.tobytes()

    def _tokens(self, contig: dict[str, Any]) -> Iterator[NDArray[np.uint8]]:
        """Yield the tokens of a contig, chunk by chunk."""
        length = contig["length"]
        per_file = zarr_shard_length(length, _SHARD)
        for number, start in enumerate(range(0, length, per_file)):
            path = self._path("contigs", contig["name"]) / f"c/{number}"
            data = self._read(path)
            try:
                for row, (offset, size) in enumerate(read_index(data, per_file // ZARR_CHUNK).tolist()):
                    bases = min(ZARR_CHUNK, length - start - row * ZARR_CHUNK)
                    if bases <= 0:
                        break
                    chunk = without_checksum(data[offset : offset + size])
                    if chunk is None:
                        raise ValueError("a chunk has another crc32c")
                    yield unpack(chunk, ZARR_CHUNK)[:bases]
            except ValueError as error:
                raise _damaged(path, str(error)) from error

    def _edges(self, contig: dict[str, Any]) -> NDArray[np.int64]:
        """Read where lower case begins and ends on a contig, int64 [2 * ranges]."""
        from numcodecs.zstd import Zstd

        folder = self._path("soft_mask", contig["name"])
        parts = [np.empty((0, 2), np.int64)]
        try:
            rows = json.loads(self._read(folder / "zarr.json"))["shape"][0]
            for number in range(-(-rows // _MASK_CHUNK)):
                chunk = without_checksum(self._read(folder / f"c/{number}/0"))
                if chunk is None:
                    raise ValueError(f"c/{number}/0 has another crc32c")
                parts.append(np.frombuffer(Zstd().decode(chunk), "<i8").reshape(-1, 2))
        except (ValueError, KeyError, RuntimeError) as error:
            raise _damaged(folder, str(error)) from error
        edges: NDArray[np.int64] = np.concatenate(parts)[:rows].ravel()
        return edges

    def _path(self, kind: str, name: str) -> Path:
        """Return the folder of a contig's array."""
        encoded = quote(name, safe="")
        if encoded[0] in "._" or encoded == "zarr.json":
            encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
        return self._folder / ZARR / kind / encoded

    def _read(self, path: Path) -> bytes:
        """Read a file."""
        try:
            return path.read_bytes()
        except OSError as error:
            raise _damaged(path, error.strerror or str(error)) from error


def _damaged(path: Path, reason: str) -> UserError:
    """Return the error for a file that cannot be converted."""
    return UserError(f"{path} is damaged ({reason}); build the store anew from its sequences")
