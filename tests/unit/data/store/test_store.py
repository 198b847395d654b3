"""A store and its shards both return the bases of the FASTA file, and say what the manifest says."""

import hashlib
import json
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import BuildOptions, build_store
from data_prep.shards import ShardOptions, write_shards
from data_prep.splits import BedSplits
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.tokenizer import encode
from hyena_dist.errors import UserError

LENGTHS = {"big": 200_000, "small": 500}


@pytest.fixture(scope="module")
def opened(store_folder: Path, shards_folder: Path) -> tuple[GenomeStore, GenomeStore]:
    return GenomeStore.open(store_folder), GenomeStore.open(str(shards_folder))


@pytest.fixture(params=["store", "shards"])
def folder(request: pytest.FixtureRequest, store_folder: Path, shards_folder: Path) -> Path:
    return store_folder if request.param == "store" else shards_folder


def test_what_it_says(folder: Path) -> None:
    reader = GenomeStore.open(folder)
    assert reader.path == folder
    assert reader.location == str(folder)
    assert reader.contigs == LENGTHS
    assert reader.splits["valid"] == [Interval("big", 100_000, 160_000), Interval("small", 250, 400)]
    assert reader.intervals["train"] == [Interval("big", 0, 100_000), Interval("small", 0, 250)]
    assert reader.free == [Interval("big", 0, 100_000), Interval("small", 0, 250)]
    assert reader.species == []
    assert reader.species_of("big") is None


def test_species_and_free_ranges(tmp_path: Path) -> None:
    """Held-out regions of one split may touch those of the other, and the ends of contigs."""
    (tmp_path / "a.fa").write_text(">1\n" + "ACGT" * 25)
    (tmp_path / "b.fa").write_text(">1\n" + "TTTT" * 5 + "\n>2\nAC\n>3\nG\n")
    rows = ["a.1 10 20 train", "a.1 50 60 valid", "a.1 0 5 test", "a.1 60 70 test", "a.1 90 100 valid"]
    rows += ["b.1 0 20 test", "b.2 0 1 valid"]
    (tmp_path / "x.bed").write_text("\n".join(rows))
    inputs = [f"{name}={tmp_path / name}.fa" for name in "ab"]
    build_store(inputs, tmp_path / "s", BuildOptions(BedSplits(tmp_path / "x.bed")), say=lambda line: None)
    reader = GenomeStore.open(tmp_path / "s")
    assert reader.species == ["a", "b"]
    assert (reader.species_of("a.1"), reader.species_of("b.3")) == ("a", "b")
    assert reader.free == [("a.1", 5, 50), ("a.1", 70, 90), ("b.2", 1, 2), ("b.3", 0, 1)]
    assert reader.splits["test"] == [("a.1", 0, 5), ("a.1", 60, 70), ("b.1", 0, 20)]
    assert reader.intervals["test"] == [("a.1", 0, 5), ("a.1", 60, 70), ("b.1", 0, 20)]
    assert reader.splits["valid"] == [("a.1", 50, 60), ("a.1", 90, 100), ("b.2", 0, 1)]


def test_a_store_and_its_shards_have_one_fingerprint(opened: tuple[GenomeStore, ...]) -> None:
    """The fingerprint is the hash of the JSON text that it was the hash of in format 2, so that runs go on."""
    store, shards = opened
    assert store.fingerprint == shards.fingerprint
    contigs = [[name, store.contigs.sha256[i].tobytes().hex()] for i, name in enumerate(store.contigs)]
    parts = [contigs] + [{split: [*map(list, rows)] for split, rows in each.items()}
                         for each in (store.splits, store.intervals)]  # fmt: skip
    assert store.fingerprint == hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_range_equals_the_fasta(opened: tuple[GenomeStore, ...], letters: dict[str, bytes], data) -> None:
    contig = data.draw(st.sampled_from(sorted(LENGTHS)))
    start = data.draw(st.integers(0, LENGTHS[contig]))
    end = min(LENGTHS[contig], start + data.draw(st.integers(0, 9) | st.integers(0, 150_000)))
    expected = encode(letters[contig][start:end])
    for reader in opened:
        tokens = reader.read(contig, start, end)
        assert tokens.dtype == np.uint8
        np.testing.assert_array_equal(tokens, expected)


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(0, 500) | st.integers(60_000, 140_000),
    windows=st.lists(st.tuples(st.sampled_from(sorted(LENGTHS)), st.floats(0, 1)), max_size=5),
)
def test_many_windows_at_once(opened: tuple[GenomeStore, ...], size: int, windows: list[tuple[str, float]]) -> None:
    windows = [(contig, share) for contig, share in windows if size <= LENGTHS[contig]]
    contigs = [contig for contig, _ in windows]
    starts = [round(share * (LENGTHS[contig] - size)) for contig, share in windows]
    for reader in opened:
        expected = [reader.read(contig, at, at + size) for contig, at in zip(contigs, starts, strict=True)]
        tokens = reader.read_many(contigs, starts, size)
        assert tokens.shape == (len(windows), size)
        assert tokens.flags.c_contiguous
        assert tokens.flags.writeable
        assert tokens.dtype == np.uint8
        assert all(np.array_equal(row, tokens[i]) for i, row in enumerate(expected))
        numbers = np.array([sorted(LENGTHS).index(contig) for contig in contigs], dtype=np.int32)
        wide = np.zeros((len(windows), size + 3), dtype=np.uint8)
        part = wide[:, 1 : size + 1]
        assert reader.read_many(numbers, np.array(starts, dtype=np.int64), size, out=part) is part
        np.testing.assert_array_equal(part, tokens)
        assert not wide[:, [0, -2, -1]].any()


def test_what_is_read_is_the_callers_own(opened: tuple[GenomeStore, ...]) -> None:
    for reader in opened:
        before = reader.read("big", 10, 20)
        reader.read("big", 10, 20)[:] = 99
        np.testing.assert_array_equal(reader.read("big", 10, 20), before)


@settings(max_examples=12, deadline=None)
@given(
    genome=st.dictionaries(st.text("ab|/.:_ é-"[:9], min_size=1, max_size=5).filter(lambda name: " " not in name),
                           st.text("ACGTNacgtnRy", min_size=1, max_size=60), min_size=1, max_size=3),
    window=st.integers(2, 20),
    data=st.data(),
)  # fmt: skip
def test_any_fasta_through_a_build(
    tmp_path_factory: pytest.TempPathFactory, genome: dict[str, str], window: int, data
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "x.fa").write_text("".join(f">{name}\n{text}\n" for name, text in genome.items()), encoding="utf-8")
    rows = []
    for name, text in genome.items():
        cut = data.draw(st.integers(1, len(text)))
        rows += [f"{name}\t0\t{cut}\ttrain"] + [f"{name}\t{cut}\t{len(text)}\ttest"] * (cut < len(text))
    (folder / "x.bed").write_text("\n".join(rows), encoding="utf-8")
    build_store([folder / "x.fa"], folder / "s", BuildOptions(BedSplits(folder / "x.bed")), say=lambda line: None)
    write_shards(folder / "s", folder / "shards", ShardOptions(window), say=lambda line: None)
    for path in (folder / "s", folder / "shards"):
        reader = GenomeStore.open(path)
        for name, text in genome.items():
            np.testing.assert_array_equal(reader.read(name, 0, len(text)), encode(text))


def test_ranges_that_do_not_exist(opened: tuple[GenomeStore, ...]) -> None:
    for reader in opened:
        for start, end in ((-1, 5), (0, 501), (9, 8), (501, 501)):
            message = f"range {start}-{end} is not inside contig 'small' of 500 bases"
            with pytest.raises(UserError, match=message):
                reader.read("small", start, end)
            with pytest.raises(UserError, match=message):
                reader.read_many(np.array([1, 1]), [start, 7], end - start)
            with pytest.raises(UserError, match=message):
                reader.soft_mask("small", start, end)
        with pytest.raises(UserError, match="contig 'tiny' is not in"):
            reader.read("tiny", 0, 1)


def _read_in_child(reader: GenomeStore, queue) -> None:
    queue.put(reader.read("big", 9_000, 12_000).tobytes())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking with threads alive is what is tested
def test_survives_pickle_and_fork(folder: Path) -> None:
    reader = GenomeStore.open(folder)
    expected = reader.read("big", 9_000, 12_000).tobytes()  # opens the files before the fork
    assert pickle.loads(pickle.dumps(reader)).read("big", 9_000, 12_000).tobytes() == expected
    assert len(pickle.dumps(reader)) < 20_000
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(reader, queue))
    child.start()
    assert queue.get(timeout=30) == expected
    child.join()


def test_threads_may_share_it(folder: Path, letters: dict[str, bytes]) -> None:
    expected = encode(letters["big"])
    for _ in range(20):
        reader = GenomeStore.open(folder)
        with ThreadPoolExecutor(4) as pool:
            for tokens in pool.map(lambda _, reader=reader: reader.read("big", 0, 200_000), range(8)):
                np.testing.assert_array_equal(tokens, expected)


def test_not_a_store(tmp_path: Path, store_copy: Path) -> None:
    with pytest.raises(UserError, match="is not a hyena-dist store"):
        GenomeStore.open(tmp_path)
    file = store_copy / "manifest.json"
    manifest = json.loads(file.read_text())
    for change in ({"files": [[]]}, {"files": {"a": 1}}, {"species": 3}):
        file.write_text(json.dumps(manifest | change))
        with pytest.raises(UserError, match=r"manifest\.json is damaged .*; rebuild it with `hyena-dist data build`"):
            GenomeStore.open(store_copy)
    file.write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json cannot be read"):
        GenomeStore.open(store_copy)
