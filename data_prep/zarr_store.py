"""The Zarr half of a store: one sharded uint8 array per contig."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from hyena_dist.data.manifest import ZARR_CHUNK, ZARR_FILL, Interval, array_path, zarr_shard_length
from hyena_dist.data.tokenizer import VOCAB, Tokens

_DESCRIPTIONS = {
    "contigs": "tokens of the contig, one per base; the group's attribute 'tokenizer' says which",
    "soft_mask": "1 where the base was lower-case in the FASTA file, else 0",
}


class ZarrWriter:
    """Writes a Zarr v3 group with the arrays contigs/<name> and, if asked, soft_mask/<name>."""

    def __init__(self, path: Path) -> None:
        self._group: Any = zarr.open_group(str(path), mode="w-", zarr_format=3)
        self._group.attrs["tokenizer"] = VOCAB

    def write(self, kind: str, contig: str, values: NDArray[np.uint8]) -> None:
        """Write the values of one contig.

        Args:
            kind: "contigs" or "soft_mask".
            contig: its name.
            values: uint8 [L].
        """
        array = self._group.create_array(
            array_path(kind, contig),
            shape=values.shape,
            dtype="uint8",
            chunks=(ZARR_CHUNK,),
            shards=(zarr_shard_length(values.size),),
            # The checksum lets a read notice bytes that changed on the disk.
            compressors=(ZstdCodec(level=3), Crc32cCodec()),
            fill_value=ZARR_FILL,
            attributes={"contig": contig, "description": _DESCRIPTIONS[kind]},
        )
        array[:] = values

    def read_tokens(self, interval: Interval) -> Tokens:
        """Read back the tokens of a range, uint8 [end - start]."""
        contig, start, end = interval
        return np.asarray(self._group[array_path("contigs", contig)][start:end])
