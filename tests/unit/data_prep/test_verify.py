"""`data verify` finds every kind of damage, and says where it is."""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep.zarr_tokens import read_shard
from hyena_dist.data.text.files import describe_file

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
    assert re.fullmatch(r"verified: 4 files, \d+ samples, 2 contigs, 201,000 bases", line)


def test_a_flipped_byte_anywhere_is_found(store: Path, refuse: Run) -> None:
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert len(files) >= 8
    for path in files:
        good = path.read_bytes()
        flip(path, random.randrange(len(good)))
        message = refuse("verify", store)
        assert str(path) in message
        assert f"(1 of {len(files)} files are bad)" in message
        path.write_bytes(good)


def test_a_damaged_chunk_is_located(store: Path, refuse: Run, capsys: pytest.CaptureFixture[str]) -> None:
    path = store / "genome.zarr/contigs/chr1/c/0"
    size = len(next(chunk for chunk in read_shard(path.read_bytes(), 4) if chunk is not None)) + 4
    flip(path, 100)
    assert f"{path} is damaged at chr1:0-65536 (1 of" in refuse("verify", store)
    flip(path, size + 100)
    assert f"{path} is damaged at chr1:0-65536 (1 of" in refuse("verify", store)
    flip(path, 100)
    assert f"{path} is damaged at chr1:65536-131072 (1 of" in refuse("verify", store)
    flip(path, size + 100)
    flip(path, -10)
    assert "index of chunks has another crc32c), with chr1:0-200000" in refuse("verify", store)


def test_missing_and_truncated_files(store: Path, refuse: Run) -> None:
    one, two = store / "genome.zarr/contigs/chr1/c/0", store / "genome.zarr/contigs/chr2/c/0"
    good = one.read_bytes()
    one.write_bytes(good[:-1])
    assert f"{one} has {len(good) - 1} bytes instead of {len(good)}, with chr1:0-200000" in refuse("verify", store)
    two.unlink()
    message = refuse("verify", store)
    assert "(2 of " in message
    assert "--overwrite" in message
    one.write_bytes(good)
    assert f"{two} is missing, with chr2:0-1000 (1 of " in refuse("verify", store)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["contigs"][0].update(length=200_001), "is damaged at chr1:196608-200001"),
        (lambda m: m["contigs"][0].update(sha256="0"), "holds other tokens"),
        (lambda m: m["contigs"][0]["composition"].update(A=1), "holds other tokens"),
        (lambda m: m["contigs"][0].update(soft_masked=0), "instead of 0"),
        (lambda m: m["splits"]["test"].append(["chr2", 990, 1001]), "test interval chr2:990-1001 .* not inside a con"),
        (lambda m: m["intervals"]["test"].append(["chr3", 0, 1]), "test interval chr3:0-1 .* not inside a contig"),
        (lambda m: m["intervals"]["train"].pop(), "the train intervals .* do not make up the regions"),
        (lambda m: m["intervals"]["test"].append(["chr1", 0, 10]), "the test intervals .* do not make up the reg"),
        (lambda m: m["splits"].pop("valid"), "manifest.json is damaged"),
        (lambda m: m["zarr"].pop("files"), "manifest.json is damaged"),
        (lambda m: m.pop("splits"), "lacks 'splits'"),
        (lambda m: m.update(version=1), "version 1"),
        (lambda m: m.update(format="x"), "not the manifest of a hyena-dist store"),
        (lambda m: m["zarr"]["files"].pop("contigs/chr2/c/0"), "c/0 is not in the manifest"),
    ],
)
def test_wrong_manifest(store: Path, refuse: Run, change: Change, says: str) -> None:
    edit(store, change)
    message = refuse("verify", store)
    assert re.search(says, message), message


def test_splits_that_overlap(store: Path, refuse: Run) -> None:
    def change(manifest: dict) -> None:
        for key in ("splits", "intervals"):
            manifest[key]["test"].insert(0, ["chr1", 0, 10])

    edit(store, change)
    assert "test interval chr1:0-10 overlaps train interval" in refuse("verify", store)


def test_no_store(tmp_path: Path, store: Path, refuse: Run) -> None:
    assert "no manifest.json" in refuse("verify", tmp_path / "none")
    assert "error: s3://bucket/x is not on this machine; copy it here" in refuse("verify", "s3://bucket/x")
    assert "--against is for shards" in refuse("verify", store, "--against", store)


def test_a_flipped_byte_in_any_tar_is_found(shards: Path, refuse: Run) -> None:
    index = json.loads((shards / "index.json").read_text())
    for path in [*shards.glob("*.tar"), shards / "index.json"]:
        good = path.read_bytes()
        flip(path, random.randrange(len(good)))
        message = refuse("verify", shards)
        assert f"{path} has another sha256" in message
        assert "(1 of 4 files are bad)" in message
        path.write_bytes(good)
    key, contig, start, end, offset, _ = index["train-000000.tar"][3]
    flip(shards / "train-000000.tar", offset + 7)
    assert f"at sample {key} with {contig}:{start}-{end} (1 of 4" in refuse("verify", shards)
    (shards / "train-000000.tar").unlink()
    assert "train-000000.tar is missing" in refuse("verify", shards)


def rehash(shards: Path) -> None:
    """Let the manifest have the hashes of the files as they are."""

    def change(manifest: dict) -> None:
        for file in (manifest["shard_index"], *manifest["shards"]):
            file |= {key: value for key, value in describe_file(shards / file["path"]).items() if key != "name"}

    edit(shards, change)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        (0, lambda key: "train-00000099", "holds other files than its index says"),
        (1, lambda contig: "chr2", "is not inside a contig"),
        (3, lambda end: end - 1, "do not cover the regions of that split"),
        (4, lambda offset: offset + 1, "has tokens in another place"),
        (5, lambda crc: crc ^ 1, "has tokens of another crc32c"),
    ],
)
def test_a_wrong_index_with_the_right_hash(shards: Path, refuse: Run, column: int, value: Callable, says: str) -> None:
    path = shards / "index.json"
    index = json.loads(path.read_text())
    rows = index["train-000000.tar"]
    # The last of chr1's sample has a neighbour that shares its last base, so that only a shorter one leaves a hole.
    row = rows[0] if column != 3 else max((row for row in rows if row[1] == "chr1"), key=lambda row: row[3])
    row[column] = value(row[column])
    path.write_text(json.dumps(index))
    rehash(shards)
    assert says in refuse("verify", shards)


def test_samples_that_are_no_part_of_the_split(shards: Path, refuse: Run) -> None:
    def change(manifest: dict) -> None:
        for key in ("splits", "intervals"):
            manifest[key]["valid"] = []

    edit(shards, change)
    assert "samples of" in refuse("verify", shards)


def test_tokens_of_another_store(shards: Path, store: Path, refuse: Run) -> None:
    """A base was changed with all its hashes, and shards are those of another store."""
    from google_crc32c import value

    index = json.loads((shards / "index.json").read_text())
    row = index["valid-000000.tar"][0]
    _, contig, start, end, offset, _ = row
    path = shards / "valid-000000.tar"
    data = bytearray(path.read_bytes())
    data[offset] = 7 if data[offset] != 7 else 8
    path.write_bytes(data)
    row[5] = value(bytes(data[offset : offset + end - start]))
    (shards / "index.json").write_text(json.dumps(index))
    rehash(shards)
    message = refuse("verify", shards, "--against", store)
    assert f"has other tokens than {store} at sample" in message
    assert f"{contig}:{start}-{end}" in message
    edit(store, lambda manifest: manifest["contigs"][0].update(sha256="0"))
    assert "holds other contigs or splits" in refuse("verify", shards, "--against", store)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["contigs"][0]["composition"].update(A=1), "contig 'chr1' of .* has another composition than the"),
        (lambda m: m["contigs"][1]["composition"].update(N=1), "contig 'chr2' of .* has another composition than the"),
        (lambda m: m["contigs"][1].update(sha256="0"), "contig 'chr2' of .* holds other tokens than the manifest says"),
    ],
)
def test_shards_whose_manifest_says_other_things_of_a_contig(
    shards: Path, refuse: Run, change: Change, says: str, processes: int
) -> None:
    edit(shards, change)
    message = refuse("verify", shards, "--processes", processes)
    assert re.search(says, message), message


def test_a_soft_mask_that_the_store_of_the_shards_does_not_have(shards: Path, store: Path, refuse: Run) -> None:
    edit(shards, lambda manifest: manifest["contigs"][0].update(soft_masked=0))
    assert "holds other contigs or splits than" in refuse("verify", shards, "--against", store)
