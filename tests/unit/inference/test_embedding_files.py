"""Files of embeddings, read back with what others use."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import zarr

from hyena_dist.inference import embedding_files
from hyena_dist.inference.embedding_files import EmbeddingTable, write_parquet, write_zarr
from hyena_dist.inference.hidden import Rows
from tests.configs import refusal

LENGTHS = np.array([5, 4, 1])


def table(rows: Rows, scale: float = 1.0) -> EmbeddingTable:
    total = int(rows.per_sequence(LENGTHS).sum())
    values = {layer: np.random.default_rng(layer).normal(0, scale, (total, 8)).astype(np.float32) for layer in (0, 2)}
    return EmbeddingTable(
        names=["a", "chr1:1-5(-)", "ż"],
        lengths=LENGTHS,
        rows=rows,
        layers=(0, 2),
        width=8,
        read=lambda layer, start, end: values[layer][start:end],
        attributes={"model": "m", "layers": [0, 2]},
    )


@pytest.fixture(params=[2**22, 3 * 8 * 4], ids=["one chunk", "chunks of 3 rows"], autouse=True)
def chunk_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_files, "CHUNK_BYTES", request.param)


@pytest.mark.parametrize("rows", [Rows("mean"), Rows("mean", 2), Rows("mean", 1)])
def test_zarr_holds_names_offsets_lengths_and_an_array_for_each_layer(tmp_path: Path, rows: Rows) -> None:
    given = table(rows)
    write_zarr(tmp_path / "x.zarr", given, "fp32")
    root = zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert root.metadata.zarr_format == 3
    assert dict(root.attrs) == given.attributes
    assert root["names"][:].tolist() == given.names
    assert root["lengths"][:].tolist() == [5, 4, 1]
    assert root["offsets"][:].tolist() == given.offsets.tolist()
    assert sorted(root["layers"]) == ["0", "2"]
    for layer in (0, 2):
        np.testing.assert_array_equal(root[f"layers/{layer}"][:], given.read(layer, 0, 99))


def test_parquet_holds_a_row_for_each_vector(tmp_path: Path) -> None:
    given = table(Rows("mean", 2))
    write_parquet(tmp_path / "x.parquet", given, "fp32")
    read = pq.read_table(tmp_path / "x.parquet")
    assert read.column_names == ["name", "start", "end", "layer_0", "layer_2"]
    places = list(zip(*(read[name].to_pylist() for name in ("name", "start", "end")), strict=True))
    a, b, c = given.names
    assert places == [(a, 0, 2), (a, 2, 4), (a, 4, 5), (b, 0, 2), (b, 2, 4), (c, 0, 1)]
    np.testing.assert_array_equal(np.stack(read["layer_2"].to_pandas()), given.read(2, 0, 99))
    assert json.loads(read.schema.metadata[b"hyena_dist"]) == given.attributes


def test_a_pooled_row_spans_its_sequence(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", table(Rows("last")), "fp32")
    read = pq.read_table(tmp_path / "x.parquet")
    assert (read["start"].to_pylist(), read["end"].to_pylist()) == ([0, 0, 0], [5, 4, 1])


def test_16_bits_round_to_the_nearest(tmp_path: Path) -> None:
    given = table(Rows("mean"))
    values = given.read(2, 0, 99)
    for store, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        expected = torch.from_numpy(values).to(dtype).float().numpy()
        write_zarr(tmp_path / f"{store}.zarr", given, store)
        write_parquet(tmp_path / f"{store}.parquet", given, store)
        np.testing.assert_array_equal(zarr.open_group(tmp_path / f"{store}.zarr", mode="r")["layers/2"][:], expected)
        column = pq.read_table(tmp_path / f"{store}.parquet")["layer_2"]
        np.testing.assert_array_equal(np.array(column.to_pylist(), np.float32), expected)


def test_numbers_beyond_fp16_are_refused(tmp_path: Path) -> None:
    said = refusal(lambda: write_zarr(tmp_path / "x.zarr", table(Rows("mean"), scale=1e6), "fp16"))
    assert "which fp16 cannot hold; store fp32 or bf16" in said
