"""Files of embeddings that others read: a Zarr 3 group, and a Parquet table of a row for each vector.

Shapes: N sequences, R rows of all of them together, W numbers of a row (D d_model, or 2 D of two strands side by side).
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from hyena_dist.errors import UserError
from hyena_dist.inference.hidden import Rows

STORED: dict[str, Any] = {"fp32": np.float32, "bf16": np.float32, "fp16": np.float16}
"""Types that values can be stored in; bf16 are numbers of 8 significant bits in fp32, which everyone reads, and whose
zeros compression takes away: no format has a type of that name that all readers know."""
SUFFIXES = (".zarr", ".parquet")
CHUNK_BYTES = 2**22


class EmbeddingTable(NamedTuple):
    """Embeddings as they are written, in the order of the input, rows of a sequence one after the other."""

    names: list[str]
    lengths: NDArray[np.int64]
    """Bases of each sequence, [N]."""
    rows: Rows
    layers: tuple[int, ...]
    width: int
    """Numbers of a row, W."""
    read: Callable[[int, int, int], NDArray[np.float32]]
    """Returns rows of a layer by its number, the first row and the one after the last, fp32 [r, W]."""
    attributes: dict[str, Any]
    """Where the numbers come from; JSON."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """The first row of each sequence and, at the end, R; int64 [N + 1]."""
        return self.rows.offsets(self.lengths)

    def blocks(self, store: str) -> Iterator[tuple[int, int]]:
        """Yield ranges of rows that fill a chunk."""
        size, total = self.chunk_rows(store), int(self.offsets[-1])
        for start in range(0, total, size):
            yield start, min(start + size, total)

    def chunk_rows(self, store: str) -> int:
        """Return the rows of a chunk of the file."""
        return max(1, CHUNK_BYTES // (self.width * np.dtype(STORED[store]).itemsize))

    def read_as(self, store: str, layer: int, start: int, end: int) -> NDArray[Any]:
        """Return rows as they are stored, [r, W].

        Raises:
            UserError: fp16 cannot hold a number.
        """
        values = self.read(layer, start, end)
        if store == "bf16":
            return torch.from_numpy(values).bfloat16().float().numpy()
        with np.errstate(over="ignore"):
            stored = values.astype(STORED[store])
        if not np.isfinite(stored).all():
            most = float(np.abs(values).max())
            raise UserError(f"layer {layer} has numbers up to {most:,.0f}, which fp16 cannot hold; store fp32 or bf16")
        return stored


def write_zarr(path: Path, table: EmbeddingTable, store: str) -> None:
    """Write a new Zarr 3 group: names [N], lengths [N], offsets [N + 1] and, in the group layers, [R, W] of each.

    Raises:
        UserError: fp16 cannot hold a number.
    """
    root = zarr.create_group(path, zarr_format=3, attributes=table.attributes)
    names = root.create_array("names", shape=(len(table.names),), dtype=str)
    names[:] = np.array(table.names, dtype=object)
    for name, values in (("lengths", table.lengths), ("offsets", table.offsets)):
        root.create_array(name, data=values)
    group = root.create_group("layers")
    shape = (int(table.offsets[-1]), table.width)
    for layer in table.layers:
        array = group.create_array(
            str(layer),
            shape=shape,
            chunks=(min(shape[0], table.chunk_rows(store)), table.width),
            dtype=STORED[store],
            compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
            dimension_names=("row", "channel"),
        )
        for start, end in table.blocks(store):
            array[start:end] = table.read_as(store, layer, start, end)


def write_parquet(path: Path, table: EmbeddingTable, store: str) -> None:
    """Write a table of R rows: name, start and end in the sequence, and layer_i, a list of W numbers, of each layer.

    Raises:
        UserError: fp16 cannot hold a number.
    """
    value = pa.from_numpy_dtype(STORED[store])
    fields = [("name", pa.string()), ("start", pa.int64()), ("end", pa.int64())]
    fields += [(f"layer_{layer}", pa.list_(value, table.width)) for layer in table.layers]
    schema = pa.schema(fields, metadata={"hyena_dist": json.dumps(table.attributes)})
    names, offsets = pa.array(table.names, pa.string()), table.offsets
    # Dictionaries of numbers that are all different, and their statistics, would only take time.
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["name"], write_statistics=False) as file:
        for start, end in table.blocks(store):
            row = np.arange(start, end)
            sequence = np.searchsorted(offsets, row, side="right") - 1
            lengths = table.lengths[sequence]
            size = table.rows.bin_size
            first = np.zeros_like(row) if size is None else (row - offsets[sequence]) * size
            last = lengths if size is None else np.minimum(first + size, lengths)
            columns = [names.take(pa.array(sequence)), pa.array(first), pa.array(last)]
            for layer in table.layers:
                flat = pa.array(table.read_as(store, layer, start, end).ravel())
                columns.append(pa.FixedSizeListArray.from_arrays(flat, table.width))
            file.write_batch(pa.record_batch(columns, schema=schema), row_group_size=end - start)


def read_attributes(path: Path) -> dict[str, Any] | None:
    """Return the attributes of a file of embeddings; None of anything else."""
    try:
        if path.suffix == ".zarr":
            return dict(zarr.open_group(path, mode="r").attrs)
        found: dict[str, Any] = json.loads(pq.read_schema(path).metadata[b"hyena_dist"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found
