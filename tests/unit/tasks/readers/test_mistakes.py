"""Mistakes in labelled data are one sentence with the value, the reason and what to do, before any work begins."""

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyena_dist.config.task_data import TaskData
from hyena_dist.errors import UserError
from hyena_dist.tasks.checks import check_lengths
from hyena_dist.tasks.readers import read_labelled
from tests.unit.tasks.sets import texts, write

TEXTS = texts(12)
SPLITS = ["train"] * 4 + ["valid"] * 4 + ["test"] * 4
AB = list("abababababab")
ONE_HOT = [0, 1] * 6


def refuse(words: str, **settings: object) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as error:
        read_labelled(TaskData(**settings))
    assert "\n" not in str(error.value)


def table(folder: Path, **columns: Sequence[object]) -> str:
    """Write a table of TEXTS with splits and these columns."""
    every = {"sequence": TEXTS, "split": SPLITS, **columns}
    return write(folder / "x.csv", tuple(every), *zip(*every.values(), strict=True))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([*AB[:-1], "c"], "class 'c' has 1 in test and none in train, so it cannot be learnt; move some to train"),
        ([*"abab", "d", *AB[5:]], "class 'd' has 1 in valid and none in train"),
        (["a"] * 12, "the set has class 'a' only, and a classifier needs two at least"),
        ([0.5, *range(11)], "label '0.5' of column 'label' is a number, and a number is no class; set task.data.kind="),
        (["1.0", "0.0"] * 6, "set task.data.kind=regression, or single_label if each number is a class"),
        (["a", "", *AB[2:]], "sequence '1': the label is 'empty', which is no class; give one, or remove the row"),
        (["a", "NaN", *AB[2:]], "sequence '1': the label is 'NaN', which is no class"),
    ],
)
def test_labels_of_one_column(labels: list[object], words: str, tmp_path: Path) -> None:
    refuse(words, path=table(tmp_path, label=labels))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"a": ONE_HOT, "b": [0] * 4 + [1] * 8},
            "label 'b' is 0 for every train sequence, so there is nothing to learn",
        ),
        ({"a": ONE_HOT, "b": [""] * 4 + [1] * 8}, "label 'b' is empty for every train sequence"),
        ({"a": ONE_HOT, "b": [*ONE_HOT[:-1], 2]}, "columns a, b have other numbers than 0 and 1, which are no classes"),
        ({"a": ONE_HOT, "b": [*ONE_HOT[:-1], "x"]}, "label 'x' of column 'b' is not 0 or 1"),
        ({"a": ONE_HOT, "b": [*ONE_HOT[:-1], 0.5]}, "label '0.5' of column 'b' is a number"),
    ],
)
def test_labels_of_several_columns(columns: dict[str, list[object]], words: str, tmp_path: Path) -> None:
    refuse(words, path=table(tmp_path, **columns))


@pytest.mark.parametrize(
    ("kind", "columns", "words"),
    [
        ("regression", {"y": [*range(11), "high"]}, "sequence '11': 'y' is 'high', which is no number to learn"),
        ("regression", {"y": [*range(11), ""]}, "sequence '11': 'y' is '', which is no number to learn"),
        ("regression", {"y": [*range(11), "inf"]}, "sequence '11': 'y' is 'inf', which is no number to learn"),
        ("regression", {"y": [1] * 12}, "label 'y' is 1 for every train sequence"),
        ("multi_label", {"a": [*ONE_HOT[:-1], 2]}, "sequence '11': 'a' is '2'; write 0, 1, or nothing where it is"),
        ("single_label", {"a": AB, "b": AB}, "the labels are the columns a, b, and single_label has one"),
        ("per_base", {"mask": ["0" * 40] * 11 + ["0" * 39]}, "sequence '11': 1 labels for 40 bases"),
        ("per_base", {"mask": ["0" * 40] * 12}, "the set has class '0' only"),
        ("per_base", {"mask": ["." * 40] * 12}, "the set has no class, and a classifier needs two"),
    ],
)
def test_labels_of_a_kind_that_is_named(
    kind: str, columns: dict[str, list[object]], words: str, tmp_path: Path
) -> None:
    refuse(words, path=table(tmp_path, **columns), kind=kind)


def test_columns(tmp_path: Path) -> None:
    path = table(tmp_path, label=AB)
    refuse(
        "x.csv has no column 'y', but sequence, split, label; name the labels by one of these", path=path, labels=("y",)
    )
    refuse(
        "has no column 'dna' and no columns chrom, start and end, but sequence, split, label", path=path, sequence="dna"
    )
    refuse("x.csv has no column of labels, but sequence, split; add a column `label`", path=table(tmp_path))
    refuse(
        "row 12: 'holdout' is no split; write train, valid or test",
        path=table(tmp_path, label=AB, split=[*SPLITS[:-1], "holdout"]),
    )
    refuse("has two columns of the name 'a'", path=write(tmp_path / "y.csv", ("sequence", "a", "a"), ("ACGT", 0, 1)))
    refuse("row 2: 2 columns where the first line has 3", path=write(tmp_path / "y.csv", "abc", "ACG", "AC"))


def test_sequences(tmp_path: Path) -> None:
    refuse("sequence '11' of", path=table(tmp_path, label=AB, sequence=[*TEXTS[:-1], ""]))
    refuse("is empty; leave it out", path=table(tmp_path, label=AB, sequence=[*TEXTS[:-1], ""]))
    refuse(
        "letter 'J' at position 2 is not a nucleotide", path=table(tmp_path, label=AB, sequence=[*TEXTS[:-1], "ACJ"])
    )
    for rows in ([("sequence", "label")], []):
        refuse("x.csv has no row of labelled sequences", path=write(tmp_path / "x.csv", *rows))
    pq.write_table(pa.table({"sequence": [], "label": []}), tmp_path / "x.parquet")
    refuse("x.parquet has no row of labelled sequences", path=str(tmp_path / "x.parquet"))
    refuse("is no Parquet file that can be read", path=write(tmp_path / "y.parquet", ("sequence",)))


def test_splits(tmp_path: Path) -> None:
    refuse("train has no sequence", path=table(tmp_path, label=AB, split=["test"] * 12))
    few = write(tmp_path / "y.csv", ("sequence", "label"), ("ACGT", 0), ("TT", 1))
    refuse("train has no sequence; give it some, or more sequences in all to cut it from", path=few)


def test_intervals(tmp_path: Path) -> None:
    write(tmp_path / "g.fa", (">20",), texts(1, 400))
    places = {"chrom": ["chr20"] * 12, "start": range(0, 240, 20), "end": range(30, 270, 20), "label": AB}
    here = {"genome": str(tmp_path / "g.fa")}

    def place(row: int = 0, **changed: object) -> str:
        columns = {
            name: [changed.get(name, v) if i == row else v for i, v in enumerate(values)]
            for name, values in places.items()
        }
        return write(tmp_path / "p.csv", tuple(columns), *zip(*columns.values(), strict=True))

    assert read_labelled(TaskData(path=place(), **here), say=lambda _: None).classes == ("a", "b")
    refuse("p.csv has intervals; name the FASTA file that they are of with task.data.genome", path=place())
    refuse("there is no file nowhere.fa", path=place(), genome="nowhere.fa")
    refuse("row 4: 20:60-401 is not inside '20' of", path=place(3, end=401), **here)
    refuse("row 4: 20:60-60 is not inside '20'", path=place(3, end=60), **here)
    refuse("row 4: '6e1' to '90' is no interval; write whole numbers from 0 on", path=place(3, start="6e1"), **here)
    refuse("has no sequence 'chr21'; it has 20", path=place(3, chrom="chr21"), **here)


def test_files(tmp_path: Path) -> None:
    refuse("there is no nowhere.csv; check the path of the labelled sequences", path="nowhere.csv")
    refuse("x.doc is of no known format; name it .csv", path=write(tmp_path / "x.doc", ("x",)))
    refuse("has no files called train and test, nor folders, but x.doc; name one file with", path=str(tmp_path))
    refuse("record 's1' of", path=write(tmp_path / "x.fa", (">s1",), ("ACGT",)))
    refuse("has no label; write >name|label or >name label", path=str(tmp_path / "x.fa"))
    train, test = (
        write(tmp_path / name, ("sequence", label), ("ACGT", 1)) for name, label in (("a.csv", "y"), ("b.csv", "z"))
    )
    refuse("b.csv has the labels z, and", train=train, test=test)


def test_class_folders(tmp_path: Path) -> None:
    for i, (text, label) in enumerate(zip(TEXTS, AB, strict=True)):
        write(tmp_path / ("train" if i < 8 else "test") / label / f"{i}.txt", (text,))
    (tmp_path / "train" / "c").mkdir()
    refuse("class 'c' has no file in", path=str(tmp_path))
    (tmp_path / "train" / "c").rmdir()
    write(tmp_path / "train" / "a" / "0.txt", ("",))
    refuse("sequence 'train/a/0.txt' of", path=str(tmp_path))


def test_lengths(tmp_path: Path) -> None:
    longer = [*TEXTS[:-1], "ACGT" * 30]
    data = read_labelled(TaskData(path=table(tmp_path, label=AB, sequence=longer)))
    check_lengths(data, 121, special=1)
    with pytest.raises(UserError, match="sequence '11' of test has 120 bases and the model takes 119 at most") as error:
        check_lengths(data, 120, special=1)
    assert (
        "(as 1 of 4 there); set task.max_length=119 to take their middle, or take a model with a longer l_max"
        in str(error.value)
    )


def test_leaks(tmp_path: Path) -> None:
    path = table(tmp_path, label=AB, sequence=[*TEXTS[:-1], TEXTS[0]])
    assert len(read_labelled(TaskData(path=path)).splits["train"]) == 4
    refuse("1 of 4 test sequences are in train: 1 exact", path=path, on_leaks="refuse")
    said: list[str] = []
    assert len(read_labelled(TaskData(path=path, on_leaks="drop"), said.append).splits["train"]) == 3
    assert "left 1 sequences out of train" in said[0]
    every = table(tmp_path, label=AB, sequence=[*TEXTS[:8], *TEXTS[:4:2], *TEXTS[:4:2]])
    refuse("class 'a' has 2 in test and none in train", path=every, on_leaks="drop")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({}, "name the labelled sequences by `path`, or by a file of each split in `train` and `test`"),
        ({"path": "x", "train": "y"}, "name the labelled sequences by `path`, or"),
        ({"path": "x", "test": "y"}, "path is 'x', which has all splits"),
        ({"path": "x", "folds": 1}, "fold 0 of 1 is none"),
        ({"path": "x", "folds": 5, "fold": 5}, "fold 5 of 5 is none; choose 2 folds or more, and one from 0 on"),
        ({"path": "x", "fold": 1}, "fold 1 of 0 is none"),
    ],
)
def test_settings(section: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        TaskData(**section)
