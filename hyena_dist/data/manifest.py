"""Where things are in a store folder: the names shared by its writer (data_prep) and its reader (store.py).

data_prep/README.md is the specification.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from hyena_dist.errors import UserError

FORMAT = "hyena-dist-store"
VERSION = 1
MANIFEST = "manifest.json"
ZARR = "genome.zarr"
SHARDS = "shards"
SHARD_INDEX = "shards/index.json"
SPLITS = ("train", "valid", "test")

ZARR_CHUNK = 2**16
"""Tokens that are compressed together; what one small random read decompresses."""
ZARR_SHARD = 2**24
"""Tokens in one file of the Zarr store, at most."""
ZARR_FILL = 255
"""What Zarr returns for missing chunks. No token and no mask has this value, so that a hole is noticed."""

_KEYS = ("tokenizer", "command", "created", "options", "sources", "contigs", "splits", "zarr", "shards", "shard_index")


class Interval(NamedTuple):
    """A half-open range of positions on one contig, in bases, counted from 0."""

    contig: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.contig}:{self.start}-{self.end}"


def array_path(kind: str, contig: str) -> str:
    """Path of a contig's array inside the Zarr group, such as "contigs/chr20".

    Names are percent-encoded, since a contig name may hold '/', '|' or ':', and Zarr reserves '.', '..' and '__*'.

    Args:
        kind: "contigs" or "soft_mask".
        contig: the contig's name, as in the FASTA file.
    """
    encoded = quote(contig, safe="")
    if encoded[0] in "._":
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    return f"{kind}/{encoded}"


def zarr_shard_length(length: int) -> int:
    """Tokens in one Zarr shard file of a contig of `length` bases: whole chunks, no more than are needed."""
    return min(ZARR_SHARD, -(-length // ZARR_CHUNK) * ZARR_CHUNK)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check the manifest of the store at `path`.

    Raises:
        UserError: no store there, a damaged manifest, or a version that this program does not know.
    """
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path} is not a hyena-dist store, because it has no {MANIFEST}; "
            f"make one with `hyena-dist data build FASTA... --out {path}`"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); rebuild the store with `hyena-dist data build`") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(
            f"{file} is not the manifest of a hyena-dist store, because its format is not {FORMAT!r}; "
            f"give the folder that `hyena-dist data build` made"
        )
    if manifest.get("version") != VERSION:
        raise UserError(
            f"{file} has format version {manifest.get('version')!r}, and this program reads version {VERSION}; "
            f"rebuild the store with `hyena-dist data build`"
        )
    missing = [key for key in _KEYS if key not in manifest]
    if missing:
        raise UserError(f"{file} lacks {missing[0]!r}; rebuild the store with `hyena-dist data build`")
    return manifest
