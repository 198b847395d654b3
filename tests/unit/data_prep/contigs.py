"""Contigs without a store, and changes of the index of one."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np

from hyena_dist.data.store.contigs import Contigs


def contigs_of(lengths: Mapping[str, int], hashes: bytes | None = None) -> Contigs:
    """Return contigs of these names and lengths; all have one sequence unless hashes of 32 bytes each are given."""
    names = [name.encode() for name in lengths]
    n = len(names)
    columns = {
        "names": np.frombuffer(b"".join(names), np.uint8),
        "name_end": np.cumsum([len(name) for name in names]),
        "by_name": np.array(sorted(range(n), key=names.__getitem__)),
        "end": np.cumsum(list(lengths.values())),
        "composition": np.zeros((n, 5), np.int64),
        "sha256": np.frombuffer(hashes or bytes(32 * n), np.uint8).reshape(n, 32),
    }
    return Contigs(columns, [])


def reindex(folder: Path, column: str, change: Callable[[np.ndarray], np.ndarray | None]) -> None:
    """Change an array of an index, in place or by what `change` returns, and its hash in the manifest."""
    path = folder / f"index/{column}.npy"
    array = np.load(path)
    changed = change(array)
    np.save(path, array if changed is None else changed)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][f"index/{column}.npy"] = [path.stat().st_size, sha256(path.read_bytes()).hexdigest()]
    (folder / "manifest.json").write_text(json.dumps(manifest))
