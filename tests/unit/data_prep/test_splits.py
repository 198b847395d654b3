"""The three ways to split do what they say, and the error of a bad split says what is wrong with it."""

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.splits import BedSplits, BlockSplits, ContigSplits, assign, find_contig
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.store.ranges import Regions
from hyena_dist.errors import UserError
from tests.unit.data_prep.contigs import contigs_of

CONTIGS = contigs_of({"chr2": 1000, "chr10": 2000, "7": 300})


def test_blocks() -> None:
    splits, intervals = assign(BlockSplits((0.9, 0.1)), contigs_of({"20": 5_000_000}), 2_000_000)
    assert intervals["train"] == [("20", 0, 2_000_000), ("20", 2_000_000, 4_000_000), ("20", 4_000_000, 4_500_000)]
    assert splits == {
        "train": [Interval("20", 0, 4_500_000)],
        "valid": [Interval("20", 4_500_000, 5_000_000)],
        "test": [],
    }


@given(
    st.lists(st.integers(0, 100), min_size=2, max_size=3).filter(any),
    st.dictionaries(st.text(min_size=1), st.integers(1, 10**10), min_size=1, max_size=4),
)
def test_blocks_cover_every_base_once(weights: list[int], contigs: dict[str, int]) -> None:
    plan = BlockSplits(tuple(weight / sum(weights) for weight in weights))
    splits, intervals = assign(plan, contigs_of(contigs), 10**8)
    whole = [Interval(contig, 0, length) for contig, length in contigs.items()]
    everything = splits["train"] + splits["valid"] + splits["test"]
    assert everything.merged() == whole
    assert sum(interval.end - interval.start for interval in everything) == sum(contigs.values())
    at = dict.fromkeys(contigs, 0)
    shares = [weight / sum(weights) for weight in weights]
    for split, share in zip(splits, [sum(shares[: i + 1]) for i in range(len(shares))], strict=False):
        ends = {contig: min(length, round(length * share)) for contig, length in contigs.items()}
        assert splits[split] == [(contig, at[contig], end) for contig, end in ends.items() if at[contig] < end]
        assert intervals[split].merged() == splits[split]
        at = ends


def test_contigs() -> None:
    splits, _ = assign(ContigSplits(valid=("7",), test=("10",)), CONTIGS, 100)
    assert splits == {
        "train": [Interval("chr2", 0, 1000)],
        "valid": [Interval("7", 0, 300)],
        "test": [Interval("chr10", 0, 2000)],
    }


def test_bed(tmp_path: Path) -> None:
    bed = tmp_path / "x.bed"
    bed.write_text(
        "# comment\ntrack name=x\n"
        "chr10\t500\t900\ttrain\nchr10\t100\t500\ttrain\nchr10\t50\t200\ttrain\n"
        "chr2\t0\t1000\ttrain\textra\nchr7\t10\t20\tvalid\n\nchr10\t900\t2000\ttest\n"
    )
    splits, intervals = assign(BedSplits(bed), CONTIGS, 1)
    assert intervals["train"][:3] == [("chr10", 500, 900), ("chr10", 100, 500), ("chr10", 50, 200)]
    assert splits == {
        "train": [Interval("chr2", 0, 1000), Interval("chr10", 50, 900)],
        "valid": [Interval("7", 10, 20)],
        "test": [Interval("chr10", 900, 2000)],
    }


def test_only_the_first_word_makes_a_track_line(tmp_path: Path) -> None:
    contigs = contigs_of(dict.fromkeys(["track", "track7", "tracks", "browser", "browser.1", "x"], 100))
    bed = tmp_path / "x.bed"
    rows = "".join(f"{name}\t0\t100\t{'train' if name == 'x' else 'test'}\n" for name in contigs)
    bed.write_text(f"browser position x:1-100\nbrowser\ntrack\ttype=bed name=x\ntrack\n{rows}")
    splits, _ = assign(BedSplits(bed), contigs, 1)
    assert splits["test"] == [Interval(name, 0, 100) for name in contigs if name != "x"]
    bed.write_text("track7 name=x\n" + rows)
    with pytest.raises(UserError, match=r"line 1: 'track7 name=x' is not a row of contig, start, end and split"):
        assign(BedSplits(bed), contigs, 1)


@given(st.integers(0, 500), st.integers(1, 500), st.integers(1, 100))
def test_tiles_are_the_region_cut_up(start: int, size: int, length: int) -> None:
    region = Interval("a", start, start + size)
    contigs = contigs_of({"a": 1000})
    tiles = Regions(contigs, Regions.of(contigs, [region]).ranges.cut(length))
    assert tiles.merged() == [region]
    assert sum(each.end - each.start for each in tiles) == size
    assert all(each.end - each.start == length for each in tiles[:-1])


@pytest.mark.parametrize(
    ("name", "species", "found"),
    [
        ("20", None, "chr20"),
        ("chrMT", None, "MT"),
        ("chr20", "human", "human.chr20"),
        ("20", "human", "human.chr20"),
        ("human.20", "human", "human.chr20"),
        ("human.20", None, "human.chr20"),
        ("human.chrKI27.1", None, "human.KI27.1"),
        ("KI27.1", "human", "human.KI27.1"),
    ],
)
def test_names_of_contigs(name: str, species: str | None, found: str) -> None:
    contigs = dict.fromkeys(["chr20", "MT", "human.chr20", "human.KI27.1"], 1)
    assert find_contig(name, contigs, "here", species) == found


def test_species_of_a_bed_file_is_not_another(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"contig '20' is not in"):
        find_contig("20", {"mouse.20": 1, "20": 1}, "here", "human")


intervals = st.builds(
    lambda contig, start, size: Interval(contig, start, start + size),
    st.sampled_from(["b", "a"]),
    st.integers(0, 60),
    st.integers(1, 10),
)


@given(st.lists(intervals))
def test_merge_keeps_the_same_bases(given_intervals: list[Interval]) -> None:
    def bases(of: Iterable[Interval]) -> list[tuple[str, int]]:
        return [(interval.contig, at) for interval in of for at in range(interval.start, interval.end)]

    merged = Regions.of(contigs_of({"b": 70, "a": 70}), given_intervals).merged()
    assert sorted(bases(merged)) == sorted(set(bases(given_intervals)))
    for before, after in pairwise(merged):
        assert (before.contig, after.contig) == ("b", "a") or before.end < after.start


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("chr1\t2900\t3001\ttest", "line 2: interval 2900-3001 is not inside contig 'chr1' of 3000 bases"),
        ("chr1\t50\t50\ttest", "line 2: interval 50-50 has no base"),
        ("chrX\t0\t10\ttest", "line 2: contig 'chrX' is not in the FASTA files, where the nearest name is 'chr[12]'"),
        ("chr1\t200\t300\tdev", "line 2: split 'dev' is not one of train, valid, test"),
        ("chr1\t200\ttest", "line 2: 'chr1.*test' is not a row"),
        ("chr1\t-5\t100\ttest", "line 2: 'chr1.*test' is not a row"),
        ("chr1,200,300,test", "line 2: 'chr1,200,300,test' is not a row"),
        ("chr1\t99\t300\ttest", "train interval chr1:0-100 overlaps test interval chr1:99-300"),
    ],
)
def test_bad_bed(tmp_path: Path, genome: Path, refuse: Callable[..., str], row: str, says: str) -> None:
    bed = tmp_path / "x.bed"
    bed.write_text(f"1\t0\t100\ttrain\n{row}\n")
    message = refuse("build", genome, "--out", tmp_path / "out", "--bed", bed)
    assert re.search(says, message), message


def test_bed_without_intervals(tmp_path: Path, genome: Path, refuse: Callable[..., str]) -> None:
    bed = tmp_path / "x.bed"
    bed.write_text("# nothing\n")
    assert "no intervals" in refuse("build", genome, "--out", tmp_path / "out", "--bed", bed)
    assert "No such file" in refuse("build", genome, "--out", tmp_path / "out", "--bed", tmp_path / "none.bed")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--split-fractions 0.9,0.2", "0.9,0.2 add up to 1.1"),
        ("--split-fractions 0.9,nan", "add up to nan"),
        ("--split-fractions 1", "not two or three"),
        ("--split-fractions 1.1,-0.1", "not two or three"),
        ("--split-fractions a,b", "a,b is not a list of numbers"),
        ("--split-fractions 0.9,0.1 --bed x.bed", "--bed and --split-fractions are two ways"),
        ("--test-contigs chr2 --bed x.bed", "--bed and --valid-contigs/--test-contigs are two ways"),
        ("--valid-contigs chrm2", "--valid-contigs: contig 'chrm2' .* nearest name is 'chr2'"),
        ("--valid-contigs chr1 --test-contigs 1", "'chr1' is in --valid-contigs and in --test-contigs"),
        ("--interval-length 1", "interval length 1 has no next token"),
    ],
)
def test_bad_split_flags(tmp_path: Path, genome: Path, refuse: Callable[..., str], flags: str, says: str) -> None:
    message = refuse("build", genome, "--out", tmp_path / "out", *flags.split())
    assert re.search(says, message), message


def test_error_of_a_plan_made_in_python() -> None:
    with pytest.raises(UserError, match="add up to"):
        BlockSplits((0.5, 0.4))
