"""verify finds every kind of damage; stats counts what the sequences hold."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.files import describe_file

Run = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path, genome: Path, run: Run) -> Path:
    out = tmp_path / "store"
    run("build", genome, "--out", out, "--soft-mask", "--shard-window", 65)
    return out


def test_a_good_store(store: Path, run: Run) -> None:
    lines = run("verify", store).splitlines()
    assert lines[-1].startswith("verified: ")
    assert "2 contigs, 4,000 bases" in lines[-1]
    stored = sum(file.is_file() for file in store.rglob("*")) - 1  # all but the manifest
    assert f"verified: {stored} files" in lines[-1]


def test_a_flipped_byte_anywhere_is_found(store: Path, refuse: Callable[..., str]) -> None:
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert {path.suffix for path in files} == {"", ".json", ".tar"}
    for path in files:
        good = path.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        path.write_bytes(bad)
        message = refuse("verify", store)
        assert f"{path} has another sha256" in message
        assert f"(1 of {len(files)} files are bad)" in message
        path.write_bytes(good)


def test_missing_and_truncated_files(store: Path, refuse: Callable[..., str]) -> None:
    shard, chunk = store / "shards/valid-000000.tar", store / "genome.zarr/contigs/chr1/c/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert f"{shard} has " in refuse("verify", store)
    chunk.unlink()
    message = refuse("verify", store)
    assert f"{chunk} is missing (2 of " in message
    assert "--overwrite" in message


def _edit(store: Path, change: Callable[[dict], None]) -> None:
    path = store / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def _rehash(manifest: dict, store: Path) -> None:
    for file in (manifest["shard_index"], *manifest["shards"]):
        file |= {key: value for key, value in describe_file(store / file["path"]).items() if key != "name"}


def test_wrong_content_with_right_hashes(store: Path, refuse: Callable[..., str]) -> None:
    """A tar, or a row of the index, that does not agree with the Zarr array."""
    shard, index = store / "shards/train-000000.tar", store / "shards/index.json"
    good_shard, good_index = shard.read_bytes(), index.read_text()
    offset = json.loads(good_index)["shards/train-000000.tar"][3][4]
    shard.write_bytes(good_shard[:offset] + bytes([(good_shard[offset] - 6) % 4 + 7]) + good_shard[offset + 1 :])
    _edit(store, lambda manifest: _rehash(manifest, store))
    assert f"{shard} does not hold the samples" in refuse("verify", store)

    shard.write_bytes(good_shard)
    rows = json.loads(good_index)
    rows["shards/train-000000.tar"][3][4] += 1
    index.write_text(json.dumps(rows))
    _edit(store, lambda manifest: _rehash(manifest, store))
    assert f"{shard} does not hold the samples" in refuse("verify", store)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["contigs"][0].update(length=2999), "holds other tokens"),
        (lambda m: m["contigs"][0].update(length=3001), "is damaged or incomplete"),
        (lambda m: m["contigs"][0].update(soft_masked=0), "instead of 0"),
        (lambda m: m["splits"]["test"].append(["chr2", 990, 1001]), "test interval chr2:990-1001"),
        (lambda m: m["splits"]["test"].insert(0, ["chr1", 0, 10]), "test interval chr1:0-10 overlaps train interval"),
        (lambda m: m["splits"].update(valid=[]), "the valid shards of .* do not cover"),
        (lambda m: m["splits"].pop("valid"), "manifest.json is damaged"),
        (lambda m: m["zarr"].pop("files"), "manifest.json is damaged"),
        (lambda m: m.pop("splits"), "lacks 'splits'"),
        (lambda m: m.update(version=2), "version 2"),
        (lambda m: m.update(format="x"), "not the manifest of a hyena-dist store"),
    ],
)
def test_wrong_manifest(store: Path, refuse: Callable[..., str], change: Callable[[dict], None], says: str) -> None:
    _edit(store, change)
    message = refuse("verify", store)
    assert re.search(says, message), message


def test_no_store(tmp_path: Path, refuse: Callable[..., str]) -> None:
    assert "no manifest.json" in refuse("verify", tmp_path)
    assert "no manifest.json" in refuse("stats", tmp_path / "none")


def test_stats(tmp_path: Path, run: Run, refuse: Callable[..., str]) -> None:
    fasta, out = tmp_path / "x.fa", tmp_path / "s"
    fasta.write_text(">a\nAACGTNnnac\n>b\nNN\n")
    run("build", fasta, "--out", out, "--split-fractions", "0.8,0.2")
    table = run("stats", out, "--csv", tmp_path / "x.csv")
    rows = {(row["kind"], row["name"]): row for row in csv.DictReader((tmp_path / "x.csv").open())}
    a = rows["contig", "a"]
    assert [int(a[key]) for key in ("bases", "A", "C", "G", "T", "N")] == [10, 3, 2, 1, 1, 3]
    assert float(a["gc"]) == 3 / 7
    assert float(a["soft_masked_share"]) == 0.4
    assert rows["contig", "b"]["gc"] == ""
    assert (rows["total", ""]["bases"], rows["total", ""]["N"]) == ("12", "5")
    assert (rows["split", "train"]["bases"], rows["split", "train"]["regions"]) == ("10", "2")
    lines = table.splitlines()
    assert len(lines) == 1 + len(rows)
    assert len({line.index(number) + len(number) for line, number in zip(lines[1:3], ("10", " 2"), strict=True)}) == 1
    assert "cannot be written" in refuse("stats", out, "--csv", tmp_path / "none" / "x.csv")
