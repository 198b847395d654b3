"""Reading a store: both sources return the bases of the FASTA file, and damage is never silent."""

import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.build import BuildOptions, build_store
from data_prep.splits import BedSplits, BlockSplits
from hyena_dist.data import GenomeStore, Interval
from hyena_dist.data.tokenizer import encode
from hyena_dist.errors import UserError

SOURCES = ("zarr", "webdataset")
LENGTHS = {"big": 200_000, "small": 500}  # big has several Zarr chunks and several shard windows


@pytest.fixture(scope="module")
def letters() -> dict[str, bytes]:
    draw = np.random.default_rng(1)
    return {name: draw.choice(np.frombuffer(b"ACGTNacgt", np.uint8), size).tobytes() for name, size in LENGTHS.items()}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, letters: dict[str, bytes]) -> Path:
    folder = tmp_path_factory.mktemp("store")
    (folder / "x.fa").write_bytes(b"".join(b">%s\n%s\n" % (name.encode(), text) for name, text in letters.items()))
    options = BuildOptions(BlockSplits((0.5, 0.3, 0.2)), soft_mask=True, shard_window=10_001, shard_megabytes=1)
    build_store([folder / "x.fa"], folder / "s", options, say=lambda line: None)
    return folder / "s"


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    """A store that a test may damage."""
    return Path(shutil.copytree(store, tmp_path / "copy"))


@pytest.fixture(scope="module")
def opened(store: Path) -> dict[str, GenomeStore]:
    return {source: GenomeStore.open(store, source) for source in SOURCES}


def test_what_it_says(opened: dict[str, GenomeStore], store: Path) -> None:
    for reader in opened.values():
        assert reader.path == store
        assert reader.contigs == LENGTHS
        assert reader.splits["valid"] == [Interval("big", 100_000, 160_000), Interval("small", 250, 400)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_range_equals_the_fasta(opened: dict[str, GenomeStore], letters: dict[str, bytes], data) -> None:
    contig = data.draw(st.sampled_from(sorted(LENGTHS)))
    start = data.draw(st.integers(0, LENGTHS[contig]))
    end = min(LENGTHS[contig], start + data.draw(st.integers(0, 30_000)))
    expected = encode(letters[contig][start:end])
    for reader in opened.values():
        tokens = reader.read(contig, start, end)
        assert tokens.dtype == np.uint8
        np.testing.assert_array_equal(tokens, expected)
        mask = reader.soft_mask(contig, start, end)
        assert mask.dtype == np.bool_
        assert mask.tolist() == [letter > 96 for letter in letters[contig][start:end]]


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
    options = BuildOptions(BedSplits(folder / "x.bed"), shard_window=window)
    build_store([folder / "x.fa"], folder / "s", options, say=lambda line: None)
    for source in SOURCES:
        reader = GenomeStore.open(folder / "s", source)
        for name, text in genome.items():
            np.testing.assert_array_equal(reader.read(name, 0, len(text)), encode(text))


def test_shards_hold_the_splits_only(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(">a\n" + "ACGT" * 100 + "\n>b\nACGT\n")
    (tmp_path / "x.bed").write_text("a 100 200 train\na 300 400 test\n")
    options = BuildOptions(BedSplits(tmp_path / "x.bed"), shard_window=30)
    build_store([tmp_path / "x.fa"], tmp_path / "s", options, say=lambda line: None)
    reader = GenomeStore.open(tmp_path / "s", "webdataset")
    assert reader.read("a", 100, 200).size == 100
    for contig, start, end in (("a", 99, 110), ("a", 190, 201), ("a", 150, 350), ("b", 0, 1)):
        with pytest.raises(UserError, match=r"leaves the regions of the splits at .* read it with source zarr"):
            reader.read(contig, start, end)
    with pytest.raises(UserError, match="rebuild it with --soft-mask"):
        reader.soft_mask("a", 100, 200)


@pytest.mark.parametrize("source", SOURCES)
def test_ranges_that_do_not_exist(opened: dict[str, GenomeStore], source: str) -> None:
    for start, end in ((-1, 5), (0, 501), (9, 8)):
        with pytest.raises(UserError, match=f"range {start}-{end} is not inside contig 'small' of 500 bases"):
            opened[source].read("small", start, end)
    with pytest.raises(UserError, match="contig 'tiny' is not in"):
        opened[source].read("tiny", 0, 1)


def _read_in_child(reader: GenomeStore, queue) -> None:
    queue.put(reader.read("big", 9_000, 12_000).tobytes())


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking with threads alive is what is tested
def test_survives_pickle_and_fork(store: Path, source: str) -> None:
    reader = GenomeStore.open(store, source)  # type: ignore[arg-type]
    expected = reader.read("big", 9_000, 12_000).tobytes()  # opens the files before the fork
    assert pickle.loads(pickle.dumps(reader)).read("big", 9_000, 12_000).tobytes() == expected
    assert len(pickle.dumps(reader)) < 20_000
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(reader, queue))
    child.start()
    assert queue.get(timeout=30) == expected
    child.join()


def test_not_a_store(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(UserError, match="is not a hyena-dist store"):
        GenomeStore.open(tmp_path)
    with pytest.raises(UserError, match="source 'tar' is not a way"):
        GenomeStore.open(copy, "tar")  # type: ignore[arg-type]
    (copy / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json cannot be read"):
        GenomeStore.open(copy)


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("zarr", "genome.zarr/contigs/big/c/0"),
        ("zarr", "genome.zarr/contigs/big/zarr.json"),
        ("webdataset", "shards/train-000000.tar"),
        ("webdataset", "shards/index.json"),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_missing_and_damaged_files(copy: Path, source: str, file: str, damage: str) -> None:
    path = copy / file
    good = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif path.suffix == ".tar":
        # A byte that is no token. Other flips are left to verify: the tars are plain bytes without a checksum.
        path.write_bytes(good[:1000] + b"\xff" * 100 + good[1100:])
    else:
        path.write_bytes(good[:100] + bytes([good[100] ^ 0xFF]) + good[101:])
    with pytest.raises(UserError, match=f"{file}.*`hyena-dist data verify"):
        GenomeStore.open(copy, source).read("big", 0, 100_000)  # type: ignore[arg-type]


def test_a_missing_mask_file_is_not_read_as_unmasked(copy: Path) -> None:
    (copy / "genome.zarr/soft_mask/big/c/0").unlink()
    with pytest.raises(UserError, match="soft_mask/big/c/0 is missing"):
        GenomeStore.open(copy).soft_mask("big", 0, 10)
