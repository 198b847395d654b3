"""`data verify` finds every kind of damage, and says where it is."""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.shard_file import read_index
from hyena_dist.data.text.files import describe_file
from tests.unit.data_prep.contigs import reindex

Run = Callable[..., str]
Change = Callable[[dict], None]
CHUNK = 2**16


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two contigs, the first of 4 chunks, and its shards."""
    from data_prep.cli import main

    folder = tmp_path_factory.mktemp("built")
    draw = np.random.default_rng(0)
    with (folder / "x.fa").open("wb") as stream:
        for name, size in (("chr1", 200_000), ("chr2", 1000)):
            text = draw.choice(np.frombuffer(b"ACGTacgtN", np.uint8), size).tobytes()
            stream.write(b">%s\n%s\n" % (name.encode(), text))
    assert main(["build", str(folder / "x.fa"), "--out", str(folder / "store"), "--soft-mask"]) == 0
    words = ["shards", folder / "store", "--out", folder / "shards", "--window", 10_001, "--megabytes", 1]
    assert main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built / "store", tmp_path / "store"))


@pytest.fixture
def shards(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built / "shards", tmp_path / "shards"))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def edit(folder: Path, change: Change) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_good_store(store: Path, run: Run) -> None:
    lines = run("verify", store, "--processes", 2).splitlines()
    stored = sum(file.is_file() for file in store.rglob("*")) - 1  # all but the manifest
    assert re.fullmatch(rf"verified: {stored} files, [\d,]+ bytes, 2 contigs, 201,000 bases", lines[-1])
    assert sorted(lines[:-1]) == ["ok contig chr1", "ok contig chr2"]


def test_good_shards(shards: Path, store: Path, run: Run) -> None:
    line = run("verify", shards, "--against", store, "--processes", 2).splitlines()[-1]
    assert re.fullmatch(r"verified: 14 files, \d+ samples, 2 contigs, 201,000 bases", line)


def test_a_flipped_byte_anywhere_is_found(store: Path, refuse: Run) -> None:
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert len(files) >= 8
    for path in files:
        good = path.read_bytes()
        flip(path, random.randrange(len(good)))
        message = refuse("verify", store)
        assert str(path) in message, message
        assert f"(1 of {len(files)} files are bad)" in message
        path.write_bytes(good)


def test_a_damaged_chunk_is_located(store: Path, refuse: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = store / "genome.zarr/tokens/0/c/0"
    size = int(read_index(path.read_bytes(), 4)[0, 1])
    flip(path, 100)
    assert f"{path} is damaged at chr1:0-65536 (1 of" in refuse("verify", store)
    flip(path, size + 100)
    assert f"{path} is damaged at chr1:0-65536 (1 of" in refuse("verify", store)
    flip(path, 100)
    assert f"{path} is damaged at chr1:65536-131072 (1 of" in refuse("verify", store)
    flip(path, size + 100)
    flip(path, 3 * size + 4000)  # the last chunk, of both contigs
    message = refuse("verify", store)
    assert f"{path} is damaged at chr1:196608-200000 (1 of" in message
    flip(path, 3 * size + 4000)
    flip(path, -10)
    assert "index of chunks has another crc32c), with chr1:0-65536 (1 of" in refuse("verify", store)


def test_missing_and_truncated_files(store: Path, refuse: Run) -> None:
    one, two = store / "genome.zarr/tokens/0/c/0", store / "index/end.npy"
    good = one.read_bytes()
    one.write_bytes(good[:-1])
    assert f"{one} has {len(good) - 1} bytes instead of {len(good)}, with chr1:0-65536 (1 of" in refuse("verify", store)
    one.unlink()
    message = refuse("verify", store)
    assert f"{one} is missing, with chr1:0-65536 (1 of" in message
    assert "--overwrite" in message
    two.unlink()
    assert f"{two} is missing (1 of " in refuse("verify", store)


def set_at(row: int, value: Any) -> Callable[[np.ndarray], None]:
    """Return a change of an array at one place."""

    def change(array: np.ndarray) -> None:
        array[row] = value

    return change


@pytest.mark.parametrize(
    ("column", "change", "says"),
    [
        ("sha256", set_at(0, 0), "contig 'chr1' holds other tokens"),
        ("composition", set_at(0, 1), "contig 'chr1' holds other tokens"),
        ("place", set_at(1, 7), "contig 'chr2' holds other tokens"),
        ("soft_masked", set_at(0, 0), "instead of 0"),
        ("soft_mask", lambda edges: edges[::-1].copy(), "ranges that are empty, overlap or are not sorted"),
        ("soft_mask", lambda edges: edges[2:], "marks .* bases of chr1 instead of"),
        ("test", lambda rows: np.append(rows, [[200_990, 201_001]], 0), "test interval .* not inside a contig"),
        ("train", set_at(1, (199_990, 200_100)), "train interval .* not inside a contig"),
        ("train", lambda rows: rows[1:], "has the fingerprint of other content"),
        (
            "test",
            lambda rows: np.append([[0, 10]], rows, 0),
            "train interval chr1:0-180000 overlaps test interval chr1:0",
        ),
        ("names", set_at(0, ord("C")), "has the fingerprint of other content"),
    ],
)
def test_wrong_index_with_the_right_hash(
    store: Path, refuse: Run, column: str, change: Callable[[np.ndarray], np.ndarray | None], says: str
) -> None:
    reindex(store, column, change)
    message = refuse("verify", store)
    assert re.search(says, message), message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["zarr"].pop("arrays"), "manifest.json is damaged"),
        (lambda m: m.pop("splits"), "lacks 'splits'"),
        (lambda m: m.update(version=1), "version 1"),
        (
            lambda m: m.update(version=2),
            "format version 2, .*; convert it with `hyena-dist data convert .*/store --out",
        ),
        (lambda m: m.update(format="x"), "not the manifest of a hyena-dist store"),
        (lambda m: m.update(fingerprint="0"), "has the fingerprint of other content"),
        (lambda m: m["files"].pop("index/end.npy"), "does not name index/end.npy"),
    ],
)
def test_wrong_manifest(store: Path, refuse: Run, change: Change, says: str) -> None:
    edit(store, change)
    message = refuse("verify", store)
    assert re.search(says, message), message


def test_no_store(tmp_path: Path, store: Path, refuse: Run) -> None:
    assert "no manifest.json" in refuse("verify", tmp_path / "none")
    assert "error: s3://bucket/x is not on this machine; copy it here" in refuse("verify", "s3://bucket/x")
    assert "--against is for shards" in refuse("verify", store, "--against", store)


def test_a_flipped_byte_in_any_tar_is_found(shards: Path, refuse: Run) -> None:
    opened = GenomeStore.open(shards)
    for path in [*shards.glob("*.tar"), *shards.glob("index/*.npy")]:
        good = path.read_bytes()
        flip(path, random.randrange(len(good)))
        message = refuse("verify", shards)
        assert f"{path} has another sha256" in message
        assert "(1 of 14 files are bad)" in message
        path.write_bytes(good)
    _tar, _crc, contig, start, end, offset = opened.index["samples"][3].item()
    flip(shards / "train-000000.tar", offset + 7)
    where = f"{opened.contigs.name(contig)}:{start}-{end}"
    assert f"at sample train-00000003 with {where} (1 of 14" in refuse("verify", shards)
    (shards / "train-000000.tar").unlink()
    assert "train-000000.tar is missing" in refuse("verify", shards)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("contig", lambda contig: 1, "is not inside a contig"),
        ("end", lambda end: end - 1, "do not cover the regions of that split"),
        ("offset", lambda offset: offset + 1, "has tokens in another place"),
        ("crc32c", lambda crc: crc ^ 1, "has tokens of another crc32c"),
    ],
)
def test_a_wrong_index_of_samples(shards: Path, refuse: Run, field: str, value: Callable, says: str) -> None:
    def change(samples: np.ndarray) -> None:
        # The last sample of chr1 has no neighbour that shares its last base, so that a shorter one leaves a hole.
        row = 0 if field != "end" else int(np.flatnonzero((samples["tar"] == 0) & (samples["contig"] == 0))[-1])
        samples[field][row] = value(samples[field][row])

    reindex(shards, "samples", change)
    assert says in refuse("verify", shards)


def test_samples_that_are_no_part_of_the_split(shards: Path, refuse: Run) -> None:
    reindex(shards, "valid", lambda rows: rows[:0])
    assert "samples of" in refuse("verify", shards)


def test_tokens_of_another_store(shards: Path, store: Path, refuse: Run) -> None:
    """A base was changed with all its hashes, and shards are those of another store."""
    from google_crc32c import value

    opened = GenomeStore.open(shards)
    number = [tar["path"] for tar in opened.manifest["shards"]].index("valid-000000.tar")
    row = int(np.flatnonzero(opened.index["samples"]["tar"] == number)[0])
    _tar, _crc, contig, start, end, offset = opened.index["samples"][row].item()
    path = shards / "valid-000000.tar"
    data = bytearray(path.read_bytes())
    data[offset] = 7 if data[offset] != 7 else 8
    path.write_bytes(data)

    def change(samples: np.ndarray) -> None:
        samples["crc32c"][row] = value(bytes(data[offset : offset + end - start]))

    reindex(shards, "samples", change)
    described = {key: value for key, value in describe_file(path).items() if key != "name"}
    edit(shards, lambda manifest: manifest["shards"][number].update(described))
    message = refuse("verify", shards, "--against", store)
    assert f"has other tokens than {store} at sample" in message
    assert f"{opened.contigs.name(contig)}:{start}-{end}" in message
    edit(store, lambda manifest: manifest.update(fingerprint="0"))
    assert "holds other contigs or splits" in refuse("verify", shards, "--against", store)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("column", "change", "says"),
    [
        ("composition", set_at((0, 0), 1), "contig 'chr1' of .* has another composition than the"),
        ("composition", set_at((1, 4), 1), "contig 'chr2' of .* has another composition than the"),
        ("sha256", set_at(1, 0), "contig 'chr2' of .* holds other tokens than the index says"),
    ],
)
def test_shards_whose_index_says_other_things_of_a_contig(
    shards: Path, refuse: Run, column: str, change: Callable[[np.ndarray], None], says: str, processes: int
) -> None:
    reindex(shards, column, change)
    message = refuse("verify", shards, "--processes", processes)
    assert re.search(says, message), message
