"""The zarr.json files of a store's groups and arrays, and what the writers of its arrays share.

Files are written directly: zarr-python would need a contig's length before its first base, and the time to import it in
every process. A test compares the bytes with zarr-python's.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from hyena_dist.data.store.manifest import STORE_FORMAT, VERSION
from hyena_dist.data.tokenizer import VOCAB

CRC32C: dict[str, Any] = {"name": "crc32c"}
"""The codec that appends a checksum to a chunk."""
LITTLE: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
"""The codec that turns an array into little-endian bytes."""
_GROUPS: dict[str, dict[str, Any]] = {
    "": {"format": STORE_FORMAT, "version": VERSION, "tokenizer": VOCAB},
    "tokens/": {"description": "tokens, one per base, of contigs end to end; the index says which lies where"},
}

FileTable = dict[str, tuple[int, str]]
"""Size in bytes and sha256 of files, by their paths relative to the folder that was written."""


def write_groups(folder: Path) -> FileTable:
    """Write the metadata of the groups of a Zarr store, whose arrays are there already, and return the files."""
    return {
        f"{group}zarr.json": write_node(folder / group, {"attributes": attributes} | _node("group"))
        for group, attributes in _GROUPS.items()
    }


def _node(kind: str) -> dict[str, Any]:
    """Return what zarr.json says of every node, a "group" or an "array"."""
    return {"zarr_format": 3, "node_type": kind}


def array_metadata(
    shape: list[int], data_type: str, chunk: list[int], fill: int, codecs: list[dict[str, Any]], attributes: Any
) -> dict[str, Any]:
    """Return the content of an array's zarr.json."""
    return {
        "shape": shape,
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": attributes,
        **_node("array"),
        "storage_transformers": [],
    }


def write_node(folder: Path, content: dict[str, Any]) -> tuple[int, str]:
    """Write the zarr.json of a node, and return its size in bytes and its sha256."""
    return write_file(folder / "zarr.json", json.dumps(content, indent=2).encode())


def write_file(path: Path, data: bytes) -> tuple[int, str]:
    """Write a file, and return its size in bytes and its sha256."""
    path.write_bytes(data)
    return len(data), hashlib.sha256(data).hexdigest()
