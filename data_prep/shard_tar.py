"""One tar of a store's shards: windows as WebDataset samples, each a .npy of tokens and a JSON that says whence."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from data_prep.workers import Report
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.contigs import Contigs
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.store.ranges import Ranges
from hyena_dist.data.store.tar import SAMPLE, sample_key
from hyena_dist.system.files import sync

_TAR_BLOCK = 512
"""Size of a tar's header, and what every file in it is filled up to, in bytes."""
SAMPLE_OVERHEAD = 4 * _TAR_BLOCK
"""Bytes that a sample takes besides its tokens: two tar headers, the .npy header and the JSON, each a block."""
_REPORTED = 2**20
"""Bases that are reported at once."""


class Shard(NamedTuple):
    """A tar to write."""

    number: int
    """Number of the tar among all."""
    path: str
    """Name of the tar."""
    split: str
    """Split of its windows."""
    first: int
    """Number of its first window among those of the split."""
    windows: Ranges
    """Windows that belong in it, in order, on all contigs end to end."""


def write_tar(store: GenomeStore, shard: Shard, file: Path, report: Report) -> tuple[dict[str, Any], NDArray[np.void]]:
    """Write a tar, and report the bases of some samples at a time.

    Returns:
        The tar's entry of the manifest, without path and split, and its samples, SAMPLE [samples].
    """
    digest = hashlib.sha256()
    size = waiting = 0
    contigs = store.contigs
    numbers = contigs.at(shard.windows.start)
    starts, ends = (edge - contigs.offset[numbers] for edge in shard.windows)
    samples = np.zeros(numbers.size, SAMPLE)
    with file.open("wb") as stream:

        def write(*parts: bytes | memoryview) -> None:
            """Append bytes to the tar and to its hash."""
            nonlocal size
            for part in parts:
                stream.write(part)
                digest.update(part)
                size += len(part)

        rows = zip(numbers.tolist(), starts.tolist(), ends.tolist(), strict=True)
        for row, (contig, start, end) in enumerate(rows):
            key = sample_key(shard.split, shard.first + row)
            tokens = store.read(contig, start, end)
            array = io.BytesIO()
            np.lib.format.write_array(array, tokens, version=(1, 0))
            offset = size + _TAR_BLOCK + array.tell() - tokens.size
            about = describe_sample(contigs, Interval(contigs.name(contig), start, end), contig, shard.split)
            write(*_member(f"{key}.tokens.npy", array.getbuffer()), *_member(f"{key}.json", json.dumps(about).encode()))
            samples[row] = (shard.number, google_crc32c.value(tokens), contig, start, end, offset)
            waiting += tokens.size
            if waiting >= _REPORTED:
                report(waiting)
                waiting = 0
        report(waiting)
        write(bytes(2 * _TAR_BLOCK), bytes(-(size + 2 * _TAR_BLOCK) % tarfile.RECORDSIZE))
    sync(file)
    return {"bytes": size, "sha256": digest.hexdigest(), "samples": samples.size}, samples


def describe_sample(contigs: Contigs, window: Interval, contig: int, split: str) -> dict[str, Any]:
    """Return what the JSON file of a sample says of its window on a contig of this number."""
    return {**window._asdict(), "species": contigs.species_of(contig), "split": split}


def _member(name: str, content: bytes | memoryview) -> tuple[bytes, bytes | memoryview, bytes]:
    """Return what a tar holds for one file: header, content and padding."""
    header = tarfile.TarInfo(name)  # owner, group and time are 0, so that the tar depends on its content only
    header.size = len(content)
    return header.tobuf(tarfile.USTAR_FORMAT), content, bytes(-len(content) % _TAR_BLOCK)
