"""The labelled sets at hand are read as their description says, with the leaks that they are known for."""

from collections import Counter
from pathlib import Path

import pytest

from hyena_dist.config.task_data import TaskData
from hyena_dist.data.tokenizer import decode
from hyena_dist.errors import UserError
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.leaks import find_leaks
from hyena_dist.tasks.readers import read_labelled, read_unchecked
from tests.outside import outside

CHR20 = "human_chr20_GRCh37"


@pytest.fixture
def shared() -> Path:
    return outside("HYENA_DIST_SHARED_DATA", "the shared data")


def task(shared: Path, name: str, genome: str | None = None, **settings: object) -> TaskData:
    given = {"genome": str(shared / f"genomes/{genome}.fa.gz")} if genome else {}
    return TaskData(path=str(shared / "labelled" / name), **given, **settings)


def rna(shared: Path) -> TaskData:
    files = [f"labelled/nrc/dataset_Rfam_{name}_13classes.fasta.gz" for name in ("6320", "validated_2600")]
    return TaskData(train=str(shared / files[0]), test=str(shared / files[1]))


def sizes(data: LabelledData) -> tuple[int, ...]:
    return tuple(len(split) for split in data.splits.values())


@pytest.mark.parametrize(
    ("name", "expected", "classes"),
    [
        ("human_chr20_splice.csv.gz", (10_379, 940, 1_905), ("acceptor", "donor", "neither")),
        ("genomic_benchmarks_chr20", (2_693, 300, 804), ("negative", "positive")),
        ("gue_prom_300_tata", (4_904, 613, 613), ("0", "1")),
        ("gue_tf_0", (32_378, 1_000, 1_000), ("0", "1")),
        ("gue_mouse_0", (6_478, 810, 810), ("0", "1")),
        ("nt_histone/H3.csv.gz", (2_419, 269, 1_497), ("0", "1")),
        ("nt_histone/H4.csv.gz", (2_384, 265, 1_461), ("0", "1")),
        ("nt_histone/H3K36me3.csv.gz", (5_652, 628, 3_488), ("0", "1")),
        ("nt_histone/H3K4me3.csv.gz", (5_957, 662, 3_680), ("0", "1")),
    ],
)
def test_sizes_and_classes(name: str, expected: tuple[int, ...], classes: tuple[str, ...], shared: Path) -> None:
    data = read_labelled(task(shared, name))
    assert data.classes == classes
    assert sizes(data) == pytest.approx(expected, abs=1)  # where valid is cut, duplicates count as one


@pytest.mark.parametrize(
    ("name", "genome", "expected", "first", "words"),
    [
        (
            "umaydis_multilabel_coords.csv.gz",
            "ustilago_maydis",
            (15_265, 1_351, 2_353),
            1_024,
            "chr01 is Umaydis:chr01",
        ),
        ("chr20_multilabel_coords.hg19.csv.gz", CHR20, (28_119, 1_251, 3_479), 1_000, "chr20 is 20"),
    ],
)
def test_windows_with_several_labels(
    name: str, genome: str, expected: tuple[int, ...], first: int, words: str, shared: Path
) -> None:
    said: list[str] = []
    data = read_labelled(task(shared, name, genome), said.append)
    assert data.kind == "multi_label"
    assert sizes(data) == expected
    assert {split.read(0).size for split in data.splits.values()} == {first}
    assert words in said[0]


def test_biotypes_in_five_folds(shared: Path) -> None:
    folds = [read_labelled(task(shared, "chr20_biotypes.hg19.csv.gz", CHR20, folds=5, fold=k)) for k in range(5)]
    held_out = Counter(name for data in folds for name in data.splits["test"].names)
    assert set(held_out.values()) == {1}
    assert sum(held_out.values()) == 1_296
    assert len(folds[0].classes) == 9


def test_leaks_of_promoters(shared: Path) -> None:
    data = read_labelled(task(shared, "gue_prom_core_all"))
    assert sizes(data) == (47_356, 5_920, 5_920)
    leaks = find_leaks(data)
    found = {split: tuple(each.size for each in of.held_out.values()) for split, of in leaks.items()}
    assert found == {"test": (43, 0, 90), "valid": (54, 0, 98)}


def test_leaks_of_non_coding_rna(shared: Path) -> None:
    """Some of the 347 that train has are in the part of it that became valid."""
    data = read_labelled(rna(shared))
    train, valid, test = data.splits.values()
    leaks = find_leaks(data)["test"]
    assert leaks.held_out["exact"].size == 347
    assert 0 < (leaks.train["exact"] >= len(train)).sum() < 70
    for i, j in zip(leaks.held_out["exact"], leaks.train["exact"], strict=True):
        there = train.read(j) if j < len(train) else valid.read(j - len(train))
        assert decode(test.read(i)) == decode(there)


def test_half_of_the_independent_enhancers_are_in_train(shared: Path) -> None:
    """The files have the enhancers alone: 1,484 and 200 records, one class, which is no task; leaks are found."""
    settings = task(shared, "ienhancer")
    with pytest.raises(UserError, match="the set has class 'enhancer' only"):
        read_labelled(settings)
    data = read_unchecked(settings)
    assert sizes(data) == (1_335, 149, 200)
    assert find_leaks(data)["test"].held_out["exact"].size == 100
