"""A store of format 2 becomes one of the present format, letter for letter, with the same splits and fingerprint."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import convert
from data_prep.cli import main
from data_prep.convert import convert_store
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.codec import PackedNucleotides
from hyena_dist.data.tokenizer import VOCAB, encode

Run = Callable[..., str]
CHUNK = 2**16
NAMES = st.text("ab./|_é", min_size=1, max_size=4)


def write_old(folder: Path, genome: Mapping[str, str], *, soft_mask: bool, species: bool = False) -> None:
    """Write a store of format 2 with zarr-python, by its specification; all but the last base of a contig train."""
    group = zarr.open_group(str(folder / "genome.zarr"), mode="w", zarr_format=3)
    group.create_group("contigs")
    contigs: list[dict[str, Any]] = []
    splits: dict[str, list[list[Any]]] = {"train": [], "valid": [], "test": []}
    for number, (name, text) in enumerate(genome.items()):
        tokens = encode(text.encode())
        encoded = quote(name, safe="")
        if encoded[0] in "._":
            encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
        group.create_array(
            f"contigs/{encoded}", shape=tokens.shape, dtype="uint8", chunks=(CHUNK,),
            shards=(-(-tokens.size // CHUNK) * CHUNK,), serializer=PackedNucleotides(),
            compressors=zarr.codecs.Crc32cCodec(), fill_value=255,
        )[:] = tokens  # fmt: skip
        lower = np.array([letter.islower() for letter in text])
        if soft_mask:
            edges = np.flatnonzero(np.diff(lower, prepend=False, append=False)).reshape(-1, 2)
            group.create_array(
                f"soft_mask/{encoded}", shape=edges.shape, dtype="int64", chunks=(CHUNK, 2), fill_value=0,
                compressors=[zarr.codecs.ZstdCodec(level=3), zarr.codecs.Crc32cCodec()],
            )[:] = edges  # fmt: skip
        contigs.append({
            "name": name, "species": f"s{number % 2}" if species else None, "length": tokens.size,
            "sha256": sha256(tokens.tobytes()).hexdigest(), "soft_masked": int(lower.sum()),
            "composition": {letter: int((tokens == VOCAB[letter]).sum()) for letter in "ACGTN"},
        })  # fmt: skip
        splits["train"] += [[name, 0, len(text) - 1]] * (len(text) > 1)
        splits["test"].append([name, len(text) - 1, len(text)])
    manifest = {
        "format": "hyena-dist-store", "version": 2, "tokenizer": VOCAB, "command": "hyena-dist data build x",
        "created": "2026-01-01T00:00:00+00:00", "sources": [{"name": "x", "bytes": 1, "sha256": "0", "species": None}],
        "options": {"splits": {"by": "bed"}, "soft_mask": soft_mask, "interval_length": 2**17, "rename": None},
        "species": ["s0", "s1"][: len(contigs)] if species else [], "contigs": contigs, "splits": splits,
        "intervals": splits, "zarr": {"path": "genome.zarr", "files": {}},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))


@settings(max_examples=15, deadline=None)
@given(
    st.dictionaries(NAMES, st.text("ACGTNacgtn", min_size=1, max_size=60), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_any_store(
    tmp_path_factory: pytest.TempPathFactory, genome: dict[str, str], soft_mask: bool, species: bool
) -> None:
    folder = tmp_path_factory.mktemp("convert")
    write_old(folder / "old", genome, soft_mask=soft_mask, species=species)
    convert_store(folder / "old", folder / "new", processes=1, say=lambda _: None)
    old, store = json.loads((folder / "old/manifest.json").read_text()), GenomeStore.open(folder / "new")
    assert store.contigs == {name: len(text) for name, text in genome.items()}
    for entry, text in zip(old["contigs"], genome.values(), strict=True):
        name = entry["name"]
        assert np.array_equal(store.read(name, 0, len(text)), encode(text.encode()))
        assert store.species_of(name) == entry["species"]
        if soft_mask:
            assert store.soft_mask(name, 0, len(text)).tolist() == [letter.islower() for letter in text]
    assert store.has_soft_mask == soft_mask
    for split, rows in old["splits"].items():
        assert store.splits[split] == [tuple(row) for row in rows]
        assert store.intervals[split] == [tuple(row) for row in rows]
    parts = [[[c["name"], c["sha256"]] for c in old["contigs"]], old["splits"], old["intervals"]]
    assert store.fingerprint == sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    assert {key: store.manifest[key] for key in ("sources", "command", "species")} == {
        key: old[key] for key in ("sources", "command", "species")
    }
    assert main(["verify", str(folder / "new")]) == 0


@pytest.fixture
def old(tmp_path: Path) -> Path:
    letters = np.random.default_rng(0).choice(list("ACGTNacgt"), 150_000)
    write_old(tmp_path / "old", {"a": "".join(letters), "b": "ACGT"}, soft_mask=True)
    return tmp_path / "old"


def test_an_old_store_is_refused_with_the_command_that_converts_it(tmp_path: Path, old: Path, run: Run, refuse: Run):
    message = refuse("stats", old)
    assert f"reads version 3; convert it with `hyena-dist data convert {old} --out NEW`" in message
    assert "converted" in run("convert", old, "--out", tmp_path / "new")
    assert "verified" in run("verify", tmp_path / "new")
    assert "kept" in run("convert", old, "--out", tmp_path / "new")
    assert "stores of version 2 can be converted" in refuse("convert", tmp_path / "new", "--out", tmp_path / "other")
    assert "has no manifest.json" in refuse("convert", tmp_path, "--out", tmp_path / "other")
    write_old(tmp_path / "another", {"a": "ACGT"}, soft_mask=False)
    assert "holds another store than" in refuse("convert", tmp_path / "another", "--out", tmp_path / "new")


def test_damage_of_the_old_store_is_found(tmp_path: Path, old: Path, refuse: Run) -> None:
    file = old / "genome.zarr/contigs/a/c/0"
    good = file.read_bytes()
    file.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    assert "contigs/a/c/0 is damaged (a chunk has another crc32c)" in refuse("convert", old, "--out", tmp_path / "new")
    file.write_bytes(good)
    manifest = json.loads((old / "manifest.json").read_text())
    manifest["contigs"][1]["sha256"] = "0"
    (old / "manifest.json").write_text(json.dumps(manifest))
    assert "contig 'b' holds other bases than the manifest" in refuse("convert", old, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["_write", "assemble", "finish"])
def test_an_interrupted_conversion_goes_on(
    tmp_path: Path, old: Path, run: Run, content: Callable[[Path], dict[str, bytes]], name: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert_store(old, tmp_path / "new", say=lambda _: None)
    for out in ("new", "whole"):
        run("convert", old, "--out", tmp_path / out)
    one, other = content(tmp_path / "new"), content(tmp_path / "whole")
    del one["manifest.json"], other["manifest.json"]
    assert one == other
